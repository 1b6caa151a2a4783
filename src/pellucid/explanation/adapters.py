"""The interfaces of other packages, so that code written for them can use these methods: captum's class, Quantus' function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import METHODS

from .baselines import PerSample
from .borrowing import Model
from .layers import Layer
from .method import explain
from .result import Explanation
from .targets import Target

# What Quantus hands to every explain_func beside the options of the method.
_OF_QUANTUS = ("device",)


class Attribution:
    """Any method under captum's interface: ``Attribution("integrated_gradients", model).attribute(inputs, target=3)``.

    method: the name of a method, or the method itself. layer: for methods that look at one. options: of the method.
    ``explanation`` is what the last call found, with everything beside the relevance.
    """

    def __init__(self, method: str | Callable[..., Any], model: Model, layer: Layer = None, **options: Any) -> None:
        self.method = method if isinstance(method, str) else getattr(method, "__name__", repr(method))
        METHODS[self.method].check_options(options)
        self.model, self.layer, self.options = model, layer, options
        self.explanation: Explanation | None = None

    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Any = None,
        target: Any = None,
        *,
        return_convergence_delta: bool = False,
        seed: int = 0,
    ) -> Any:
        """Relevance in the structure of ``inputs``: a tensor for a tensor, a tuple for a tuple (zeros for what is held).

        baselines: a number or a tensor, (1, ...) or one per sample, or a tuple of these for several inputs; the
        distribution of references for ``expected_gradients``. target: a class index, one per sample, a tuple of indices
        into an answer with more axes, or a function of the answer. With ``return_convergence_delta`` also
        sum(relevance) - (score - base), (B,).

        Raises InputError where the method knows no baselines, UnsupportedError where it makes no claim that a delta tests.
        """
        options = dict(self.options)
        if baselines is not None:
            options |= self._baselines(baselines, inputs)
        asked = {self.method: options}
        found = explain(self.model, inputs, asked, target=_indexed(target), layer=self.layer, seed=seed)[self.method]
        self.explanation = found
        relevance: Any = found.relevance
        if isinstance(inputs, tuple):
            relevance = tuple(torch.zeros_like(x) if r is None else r for r, x in zip(found.parts, inputs))
        if not return_convergence_delta:
            return relevance
        if found.gap is None:
            raise UnsupportedError(f"{self.method} has no convergence delta", cure="Use integrated_gradients or guided_ig.")
        return relevance, -found.gap

    def _baselines(self, baselines: Any, inputs: Any) -> dict[str, Any]:
        known = METHODS[self.method].options()
        if "references" in known:
            return {"references": baselines}
        if "baseline" not in known:
            raise InputError(f"{self.method} compares with no baseline", cure="Leave baselines= out.")
        several = baselines if isinstance(baselines, tuple) else (baselines,)
        n = len(inputs[0] if isinstance(inputs, tuple) else inputs)
        if isinstance(inputs, tuple) and len(several) == len(inputs):  # what has no gradient has no baseline
            several = tuple(b for b, x in zip(several, inputs) if torch.as_tensor(x).is_floating_point())
        if n > 1 and any(isinstance(b, Tensor) and b.ndim > 0 and len(b) == n for b in several):
            return {"baseline": PerSample(several)}
        single = tuple(b[0] if isinstance(b, Tensor) and b.ndim > 0 and len(b) == 1 else b for b in several)
        return {"baseline": single if len(single) > 1 else single[0]}


def _indexed(target: Any) -> Target:
    """captum's tuple of indices as a function of the answer."""
    if not isinstance(target, tuple):
        return target  # type: ignore[no-any-return]

    def chosen(answer: Any) -> Tensor:
        try:
            return answer[(slice(None), *target)]  # type: ignore[no-any-return]
        except (IndexError, TypeError, KeyError) as error:
            shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise InputError(f"target {target} does not exist", cure=f"The model answers with {shape}.") from error

    return chosen


def explain_func(
    model: nn.Module, inputs: Any, targets: Any, *, method: str = "integrated_gradients", **options: Any
) -> NDArray[Any]:
    """Relevance as an array of the shape of ``inputs``, in the way that Quantus calls: ``explain_func=pellucid.explain_func``.

    Hand ``method`` and its options over as ``explain_func_kwargs={"method": "grad_cam", "layer": "layer4"}``.
    """
    options = {key: value for key, value in options.items() if key not in _OF_QUANTUS}
    shared = {key: options.pop(key) for key in ("layer", "of", "seed", "batch") if key in options}
    target = None if targets is None else torch.as_tensor(targets)
    found = explain(model, inputs, {method: options}, target=target, **shared)[method].to_numpy()
    assert isinstance(found, np.ndarray)
    return found
