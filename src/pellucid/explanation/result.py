"""What a method answers: relevance, and everything needed to judge and repeat it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, MissingExtraError
from pellucid.core.table import FIGURES, METHODS

from . import masks

FORMAT = 1
_HEADER = ("method", "of", "layer", "seed", "counts", "passes", "notes", "shapes", "channels_last", "steps", "removal", "names")
PLOTS = ("waterfall", "force", "beeswarm", "importance", "dependence")
_TENSORS = ("relevance", "raw", "target", "score", "base", "gap", "ledger")


@dataclass
class Found:
    """What the body of a method returns; the decorator makes an ``Explanation`` of it.

    ``raw`` is the map before any clipping or resizing, ``base`` the score of the baseline, ``counts`` numbers that only the
    run knows (windows, references kept) and that the method's cost is stated in, ``details`` values per sample. ``steps``:
    names of steps of the network, ``ledger`` (B, steps, 3): the relevance that reached each, what its bias took, what else was
    lost. ``notes`` what a reader must know to trust it, ``removal`` what stood in the place of removed features.
    """

    relevance: Tensor
    raw: Tensor | None = None
    base: Tensor | None = None
    gap: Tensor | None = None
    counts: dict[str, float] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    ledger: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    removal: str = ""


@dataclass
class Explanation:
    """Relevance of the inputs for one score, with its origin.

    relevance: the input's shape. raw: the method's own map (a CAM at its layer's resolution, with its sign), else None.
    target: (B,) class indices, None for a target function. score: (B,) the explained number (``of``: logit or probability).
    base: (B,) score of the baseline; gap: (B,) score - base - sum(relevance), where the method claims completeness or may lose
    relevance (``ledger``, ``conservation()``). passes: rows through the network per sample for this method beyond what it
    shared with others. shapes: of a model with several inputs the shape of each that is explained; ``relevance`` then holds
    them side by side, see ``parts``. removal: what stood in the place of the features that a method took away. names: of the
    columns of a table that was given as a data frame, which is kept as ``frame`` beside the encoded samples ``x``.
    """

    method: str
    relevance: Tensor
    raw: Tensor | None
    target: Tensor | None
    score: Tensor | None
    of: str
    base: Tensor | None = None
    gap: Tensor | None = None
    layer: str | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)
    passes: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shapes: list[list[int] | None] | None = None
    channels_last: bool = False
    steps: list[str] = field(default_factory=list)
    removal: str = ""
    names: list[str] | None = None
    ledger: Tensor | None = field(default=None, repr=False)
    x: Tensor | None = field(default=None, repr=False)
    frame: Any = field(default=None, repr=False)

    @property
    def signed(self) -> bool:
        """Whether negative relevance means evidence against the target; also where an option let negative values through."""
        return "signed" in METHODS[self.method].facts["claims"] or bool((self.relevance < 0).any())

    @property
    def parts(self) -> tuple[Tensor | None, ...]:
        """The relevance of each input of the model, in its shape; None for an input that was held as it is."""
        if self.shapes is None:
            return (self.relevance,)
        several = sum(shape is not None for shape in self.shapes) > 1
        sizes = [0 if shape is None else math.prod(shape) for shape in self.shapes]
        pieces = torch.split(self.relevance, sizes, 1) if several else [self.relevance] * len(sizes)
        found = [None if s is None else piece.reshape(-1, *s) for piece, s in zip(pieces, self.shapes)]
        return tuple(p.movedim(1, -1) if p is not None and self.channels_last and p.ndim > 2 else p for p in found)

    def conservation(self) -> list[dict[str, Any]]:
        """Where relevance was lost: a row for each step that can lose any, from the score to the input, means over the samples.

        step: the module and the operation; arrived: the relevance that reached it; to_bias: what biases and constants took;
        otherwise: lost to stabilisers and to units that nothing contributes to. Empty where a method keeps no ledger.
        """
        if self.ledger is None:
            return []
        rows = self.ledger.double().mean(0).tolist()
        return [dict(zip(("step", "arrived", "to_bias", "otherwise"), (step, *row))) for step, row in zip(self.steps, rows)]

    @property
    def positive(self) -> Tensor:
        """(B,) whether the map has any positive value; where not, ``evidence`` is all zeros."""
        return self.map().flatten(1).amax(1) > 0

    def __len__(self) -> int:
        return len(self.relevance)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return array(self.relevance).astype(dtype) if dtype else array(self.relevance)

    def to_numpy(self) -> NDArray[Any] | tuple[NDArray[Any] | None, ...]:
        """The relevance as an array of the samples' shape; of a model with several inputs one array for each, or None."""
        arrays = tuple(None if part is None else array(part) for part in self.parts)
        return arrays if self.shapes is not None else arrays[0]  # type: ignore[return-value]

    def to_shap(self, feature_names: Sequence[str] | None = None) -> Any:
        """A ``shap.Explanation`` for shap's plots: values, the samples as data, and the score that the values start from.

        The base value is ``base`` where the method has one, else the score less the sum of the values, so that they add up.
        Raises MissingExtraError where shap is not installed.
        """
        try:
            import shap
        except ImportError as error:
            raise MissingExtraError("to_shap needs shap", cure="pip install shap") from error
        values = array(self.relevance)
        data = None if self.x is None else self._values() if self.x.ndim == 2 else array(self.x)
        names = self.names if feature_names is None else list(feature_names)
        return shap.Explanation(values, base_values=array(self._base()), data=data, feature_names=names)

    def map(self) -> Tensor:
        """(B, *spatial): relevance summed over channels, with its sign; for saliency the maximum over channels."""
        first = self._channels_first(self.relevance)
        if METHODS[self.method].facts["channels"] == "max" and first.ndim > 2:
            return first.amax(1)
        return masks.collect(first)

    def _channels_first(self, tensor: Tensor) -> Tensor:
        """The relevance or the samples, which have the model's layout, as maps are made and drawn of them."""
        return tensor.movedim(-1, 1) if self.channels_last and self.shapes is None and tensor.ndim > 2 else tensor

    def evidence(self) -> Tensor:
        """(B, *spatial) in [0, 1]: the positive part of the map over its maximum; all zeros where nothing is positive."""
        return masks.positive_share(self.map())

    def show(self) -> Any:
        """A figure of the samples beside their maps."""
        if self.x is None:
            raise InputError("the explanation was loaded without its samples", cure="Set .x to them, then call show().")
        maps, x = {self.method: array(self.map())}, self._channels_first(self.x)
        titles = [self._title(i) for i in range(len(self))]
        if x.ndim == 4 and x.shape[1] in (1, 3):
            shown = array(masks.unit(x).movedim(1, -1))
            shown = shown[..., 0] if shown.shape[-1] == 1 else shown
            if "segments" in self.details and self.raw is not None:
                whole = {self.method: array(self.raw)}
                return FIGURES["superpixel_sheet"].value(shown, array(self.details["segments"]), whole, titles=titles)
            return FIGURES["heatmap_sheet"].value(shown, maps, signed={self.method: self.signed}, titles=titles)
        if x.ndim == 2:
            return FIGURES["table_sheet"].value(self._values(), maps, self._features(), titles=titles)
        raise InputError(f"there is no figure for samples of shape {tuple(x.shape[1:])}", cure="Draw .map() yourself.")

    def plot(self, kind: str, sample: int = 0, **options: Any) -> Any:
        """A figure of the relevance of a table's columns.

        kind: "waterfall" or "force" of one ``sample``; "beeswarm", "importance" or ``"dependence", feature="age"`` of all.
        options: of that figure (``pellucid list figures``). Raises InputError for anything but a table, and for another kind.
        """
        checks.one_of("kind", kind, PLOTS)
        if self.relevance.ndim != 2:
            raise InputError(f"a {kind} of samples of shape {tuple(self.relevance.shape[1:])}", cure="Call show().")
        if self.x is None and kind != "importance":
            raise InputError("the explanation was loaded without its samples", cure="Set .x to them first.")
        draw, r, names = FIGURES[kind].value, array(self.relevance), self._features()
        if kind == "importance":
            return draw(r, names, **options)
        if kind == "beeswarm":
            return draw(self._values(), r, names, **options)
        if kind == "dependence":
            return draw(self._values(), r, options.pop("feature", 0), names, **options)
        checks.one_of("sample", sample, range(len(self)))
        options.setdefault("title", self._title(sample).split("\n")[0])
        if self.score is not None:
            options.setdefault("output", float(self.score[sample]))
        return draw(self._values()[sample], float(self._base()[sample]), r[sample], names, **options)

    def _base(self) -> Tensor:
        """(B,) where the values start from: the score of the baseline, else the score less their sum."""
        if self.base is not None:
            return self.base
        return torch.zeros(len(self)) if self.score is None else self.score - self.relevance.flatten(1).sum(1)

    def _values(self) -> NDArray[Any]:
        """(B, D) of a table as it was given: words where it has words."""
        if self.frame is not None:
            return np.asarray(self.frame.to_numpy(dtype=object))
        assert self.x is not None
        return array(self.x)

    def _features(self) -> list[str]:
        return self.names or [f"x{i}" for i in range(self.relevance.shape[1])]

    def _title(self, i: int) -> str:
        score = "" if self.score is None else f"{self.of} {self.score[i].item():.3g}"
        said = score if self.target is None else f"class {self.target[i].item()}, {score}"
        return said if bool(self.positive[i]) else f"{said}\nno positive evidence"

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.show().savefig(buffer, format="png")
        picture = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="{self.method}" src="data:image/png;base64,{picture}">'

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, what is no tensor as JSON in its header; of the options plain values only."""
        path = Path(path)
        tensors = {name: getattr(self, name) for name in _TENSORS if getattr(self, name) is not None}
        tensors |= {f"details.{name}": value for name, value in self.details.items()}
        rest = {name: getattr(self, name) for name in _HEADER}
        rest["options"] = {
            key: value for key, value in self.options.items() if isinstance(value, str | int | float | bool | None)
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"pellucid.explanation": json.dumps({"format": FORMAT, **rest})}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=header)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read what ``save`` wrote (without the samples)."""
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()["pellucid.explanation"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError("not a saved explanation", where=path, cure="Give a file that Explanation.save wrote.") from error
        if header.pop("format", FORMAT) > FORMAT:
            raise InputError("the explanation was written by a newer pellucid", where=path, cure="Upgrade pellucid to read it.")
        details = {name.removeprefix("details."): t for name, t in tensors.items() if name.startswith("details.")}
        known = {name: tensors.get(name) for name in _TENSORS}
        if not {"method", "of"} <= header.keys() <= {f.name for f in fields(cls)} or known["relevance"] is None:
            raise InputError("not a saved explanation", where=path, cure="Give a file that Explanation.save wrote.")
        return cls(**known, details=details, **header)  # type: ignore[arg-type]


def array(tensor: Tensor) -> NDArray[Any]:
    """A tensor for numpy, which has no bfloat16."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).cpu().numpy()


def joined(parts: list[Tensor | None]) -> Tensor | None:
    """Batches one after another; None where a method gave none."""
    kept = [part for part in parts if part is not None]
    return torch.cat(kept) if len(kept) == len(parts) and kept else None
