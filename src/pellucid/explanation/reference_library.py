"""References for Libra-CAM: activations of training samples that the model is sure are something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pellucid.core import checks
from pellucid.core.errors import InputError

from .borrowing import Model
from .inputs import prepare
from .layers import find_layer
from .score import Score, over_batches
from .targets import logits

FORMAT = "1"


class Samples(Protocol):
    """Samples that are read by row numbers, for training data that does not fit the memory."""

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(x, y) of these rows."""
        ...


@dataclass
class _InMemory:
    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[rows], self.y[rows]


@dataclass(frozen=True)
class ReferenceLibrary:
    """activations (M, K, *spatial) of the references; index (classes, R) the rows that are contrastive to each class.

    probability (classes, R): p_c of those references for that class, ascending. rows (M,): their training rows.
    """

    activations: Tensor
    index: Tensor
    probability: Tensor
    rows: Tensor
    layer: str

    def of(self, target: int) -> Tensor:
        """(R, K, *spatial) activations of the references contrastive to this class."""
        if target >= len(self.index):
            raise InputError(
                f"the library has no references for class {target}",
                cure=f"It was built for classes 0 to {len(self.index) - 1}.",
            )
        return self.activations[self.index[target]]

    def seen_by(self, model: Model, samples: Samples) -> ReferenceLibrary:
        """The same references as another state of the model sees them; ``samples`` are those that it was built from."""
        _, module = find_layer(model, self.layer, prepare(model, samples.batch(torch.arange(1))[0]))
        return replace(self, activations=_scan(model, samples, self.rows, _activations, layers=[module])[0])

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(self, name).contiguous() for name in ("activations", "index", "probability", "rows")}
        save_file(tensors, path, metadata={"pellucid.references": FORMAT, "layer": self.layer})
        return path

    @classmethod
    def load(cls, path: str | Path) -> ReferenceLibrary:
        """Read what ``save`` wrote."""
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header["pellucid.references"] != FORMAT:
                    raise InputError(
                        "the library was written by another version of pellucid", where=path, cure="Build it again."
                    )
                return cls(**{name: file.get_tensor(name) for name in file.keys()}, layer=header["layer"])  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise InputError("not a reference library", where=path, cure="Build one with reference_library().") from error


def reference_library(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    layer: str | nn.Module | None = None,
    references: int = 30,
    batch: int | None = None,
) -> ReferenceLibrary:
    """For each class c the correctly classified samples of other classes with the lowest p_c (METHODS A.2).

    x, y: training samples (N, ...) and their labels, or an object with ``len`` and ``batch(rows) -> (x, y)``.
    Never hand in test samples. Where a class has fewer than ``references`` candidates, all classes get that many.
    Two scans: N forwards for the probabilities, then one for each sample that is kept. Ties go to the earlier row.
    """
    checks.count("references", references)
    samples = _InMemory(prepare(model, x), torch.as_tensor(y)) if y is not None else x
    if not hasattr(samples, "batch") or len(samples) == 0:
        raise InputError("no labelled training samples", cure="Give x and y, or an object with len and batch(rows).")
    first = prepare(model, samples.batch(torch.arange(1))[0])
    place, module = find_layer(model, layer, first)

    def probabilities(score: Score) -> Tensor:
        with torch.no_grad():
            found = logits(score.model(score.x), len(score))
        return found.sigmoid() if found.shape[1] == 1 else found.softmax(1)

    index, low = _lowest(*_scan(model, samples, torch.arange(len(samples)), probabilities, batch=batch), references)
    rows = torch.unique(index)
    place_of = torch.zeros(len(samples), dtype=torch.long).scatter_(0, rows, torch.arange(len(rows)))
    activations, _ = _scan(model, samples, rows, _activations, layers=[module], batch=batch)
    return ReferenceLibrary(activations, place_of[index], low, rows, place)


def _activations(score: Score) -> Tensor:
    with torch.no_grad():
        return score.maps()


def _scan(model: Model, samples: Samples, rows: Tensor, run: Callable[[Score], Tensor], **more: Any) -> tuple[Tensor, Tensor]:
    """One answer per row, and the labels, 1024 rows of the samples at a time."""
    answers, labels = [], []
    for part in torch.split(rows, 1024):
        xs, ys = samples.batch(part)
        answers += over_batches(model, prepare(model, xs), run, **more)
        labels.append(torch.as_tensor(ys))
        if labels[-1].ndim != 1 or labels[-1].is_floating_point():
            raise InputError(f"labels of shape {tuple(labels[-1].shape)}", cure="Give one class index per sample.")
    return torch.cat(answers).cpu(), torch.cat(labels).cpu()


def _lowest(p: Tensor, label: Tensor, references: int) -> tuple[Tensor, Tensor]:
    """(classes, R) rows and probabilities: per class the correctly classified others with the lowest probability of it."""
    single = p.shape[1] == 1  # one logit: its only score is that of class 1
    predicted = (p[:, 0] > 0.5).long() if single else p.argmax(1)
    candidates = []
    for c in range(p.shape[1]):
        others = ((predicted == label) & (label != (1 if single else c))).nonzero()[:, 0]
        candidates.append(others[p[others, c].argsort(stable=True)[:references]])
        if len(others) == 0:
            raise InputError(
                f"no reference for class {c}: no sample of another class is classified correctly",
                cure="Train the model further, or give more training samples.",
            )
    index = torch.stack([rows[: min(map(len, candidates))] for rows in candidates])
    return index, torch.stack([p[rows, c] for c, rows in enumerate(index)])
