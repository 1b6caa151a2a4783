"""Maps of the same samples and the same targets, for any state of a model: what the randomisation checks compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pellucid.explanation.borrowing import Model
from pellucid.explanation.method import explain
from pellucid.explanation.result import Explanation


class Maps:
    """``maps(other)`` explains the same samples with another state of the model, ``maps(other, x)`` other inputs.

    model, x, methods and the rest: as for ``explain``. The targets are those of the model itself: what another state, or a
    noisy input, would be taken for is not asked. ``explanations`` are the model's own, ``original`` their maps, made once.
    Options that were made with the model's activations (a reference library) stay as they are.
    """

    def __init__(
        self, model: Model, x: Any, methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | str, **shared: Any
    ) -> None:
        self.x, self.methods, self.shared = x, methods, shared
        self.explanations: dict[str, Explanation] = explain(model, x, methods, **shared)
        known = [e.target for e in self.explanations.values() if e.target is not None]
        if known and not callable(shared.get("target")):
            self.shared = shared | {"target": known[0]}

    @property
    def original(self) -> dict[str, Tensor]:
        """Method -> (N, *spatial) maps of the model itself, with their sign."""
        return {name: explanation.map() for name, explanation in self.explanations.items()}

    def __call__(self, model: Model, x: Any = None) -> dict[str, Tensor]:
        """Method -> (N, *spatial) maps of this model, with their sign; x: in the place of the samples, as many of them."""
        found = explain(model, self.x if x is None else x, self.methods, **self.shared)
        return {name: explanation.map() for name, explanation in found.items()}
