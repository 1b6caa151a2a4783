"""A data set: raw rows, labels, and the preparation that turns rows into tensors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pellucid.core import checks
from pellucid.core.errors import InputError

from .preparation import Preparation
from .rows import MEMORY_BUDGET, FrameRows, Indices, Rows
from .splits import Split, split

CHUNK_BYTES = 1 << 26


@dataclass(eq=False)
class Data:
    """Raw rows with labels. ``reader`` and ``options`` say how to read it again: ``read(data.reader, **data.options)``.

    ``y`` is (N,) int64 for classification, (N,) float32 for regression, (N, K) float32 of 0 and 1 for multilabel.
    ``parts`` are those that the data set itself fixes; ``unreadable`` lists files with the reason why they are no rows.
    ``truth``, of generated data, is (N, *spatial) of the prepared samples: 1 on what the label was made from, 0 elsewhere, NaN
    where either answer is right (``known_truth``).
    """

    reader: str
    options: dict[str, Any]
    kind: str
    task: str
    rows: Rows
    y: torch.Tensor
    classes: tuple[str, ...]
    preparation: Preparation
    names: Sequence[str]
    target: str = "class"
    groups: np.ndarray | None = None
    order: np.ndarray | None = None
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    licence: str = ""
    source: str = ""
    truth: np.ndarray | None = None
    _remarks: list[str] = field(default_factory=list, init=False, repr=False)
    _identical: np.ndarray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Everything has one entry per row."""
        checks.one_of("task", self.task, ("classification", "multilabel", "regression"))
        given = {"groups": self.groups, "order": self.order, "truth": self.truth}
        checks.same_length(rows=self.rows, y=self.y, names=self.names, **{k: v for k, v in given.items() if v is not None})

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one prepared sample: (C, H, W), (D,) or (4, L)."""
        return self.preparation.input_shape

    def fit(self, rows: Indices | None = None) -> Data:
        """Fit the preparation on these rows (the training part; all when not given) and return self.

        What the preparation has to say about filled or unknown values of the whole set is added to ``notes``.
        """
        indices = self._indices(rows)
        self.preparation.fit([self.rows.take(indices)] if isinstance(self.rows, FrameRows) else self._pieces(indices))
        self.notes = [note for note in self.notes if note not in self._remarks]
        if isinstance(self.rows, FrameRows):
            self._remarks = self.preparation.remarks(self.rows.frame)
        self.notes += self._remarks
        return self

    def batch(self, rows: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        """Prepared float32 ``x`` and ``y`` of these rows."""
        indices = self._indices(rows)
        return self.preparation.apply(self.rows.take(indices)), self.y[torch.from_numpy(indices)]

    def raw(self, rows: Indices) -> Any:
        """These rows for drawing: images as unsigned bytes (n, H, W) or (n, H, W, C), a table as a DataFrame, DNA as text."""
        return self.preparation.show(self.rows.take(self._indices(rows)))

    def fits_in_memory(self) -> bool:
        """Whether all rows, prepared, stay below 1 GiB."""
        return len(self) * self._bytes_each() <= MEMORY_BUDGET

    def tensors(self, rows: Indices | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Like ``batch`` for many rows (all when not given): prepared piece by piece into one tensor."""
        indices = self._indices(rows)
        x = torch.empty(len(indices), *self.input_shape)
        start = 0
        for piece in self._pieces(indices):
            x[start : start + len(piece)] = self.preparation.apply(piece)
            start += len(piece)
        return x, self.y[torch.from_numpy(indices)]

    def identical(self) -> np.ndarray:
        """(N,) int64; rows with the same number hold the same bytes.

        Labels do not count. Where rows have a time (``order``), it counts: the same values at another time are another
        observation.
        """
        if self._identical is None:
            same = self.rows.identical()
            if self.order is not None:
                pairs = np.column_stack([same, np.unique(self.order, return_inverse=True)[1]])
                same = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
            self._identical = same.astype(np.int64)
        return self._identical

    def split(self, *, by: str = "auto", test: float = 0.2, validation: float = 0.1, seed: int = 0) -> Split:
        """``splits.split`` with everything this data set knows: labels, groups, times, identical rows, fixed parts."""
        return split(
            len(self),
            y=self.y.numpy(),
            groups=self.groups,
            order=self.order,
            identical=self.identical(),
            parts=self.parts,
            by=by,
            test=test,
            validation=validation,
            seed=seed,
            classes=self.classes,
        )

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over raw rows (files: digests of their decoded pixels), labels, classes and target."""
        total = hashlib.sha256(self.rows.digest())
        total.update(self.y.numpy().tobytes())
        total.update(repr((self.kind, self.task, self.classes, self.target)).encode())
        return total.hexdigest()

    def summary(self) -> list[tuple[str, str]]:
        """(fact, value) pairs for a report."""
        repeated = len(self) - len(np.unique(self.identical()))
        lines = [("kind", self.kind), ("task", f"{self.task} of '{self.target}'"), ("rows", f"{len(self):,}")]
        lines += [("part", f"{name}: {len(rows):,}") for name, rows in self.parts.items()]
        lines += self._target_facts()
        if self.preparation.fitted:
            lines.append(("prepared shape", " x ".join(map(str, self.input_shape))))
        lines += self.preparation.facts()
        lines += [
            ("repeated rows", f"{repeated:,} of {len(self):,} are an exact repeat of another row" if repeated else "none")
        ]
        if isinstance(self.rows, FrameRows):
            lines.append(("missing values", self.rows.missing()))
        if self.groups is not None:
            lines.append(("groups", f"{len(np.unique(self.groups)):,}"))
        if self.unreadable:
            lines.append(("unreadable files", f"{len(self.unreadable):,}, not among the rows"))
        return lines + [(fact, value) for fact, value in (("source", self.source), ("licence", self.licence)) if value]

    def _target_facts(self) -> list[tuple[str, str]]:
        if self.task == "regression":
            y = self.y.double()
            return [
                (
                    self.target,
                    f"{y.min():.6g} to {y.max():.6g}, mean {y.mean():.6g}, standard deviation {y.std(correction=0):.6g}",
                )
            ]
        counts = torch.bincount(self.y, minlength=len(self.classes)) if self.task == "classification" else self.y.sum(0).long()
        shown = ", ".join(f"{name} {count:,}" for name, count in zip(self.classes[:20], counts.tolist()))
        return [("classes", f"{len(self.classes)}: {shown}{', ...' if len(self.classes) > 20 else ''}")]

    def _indices(self, rows: Indices | None) -> np.ndarray:
        if rows is None:
            return np.arange(len(self))
        indices = np.asarray(rows)
        if indices.size and (
            indices.dtype.kind not in "iu" or indices.ndim != 1 or indices.min() < 0 or indices.max() >= len(self)
        ):
            raise InputError(f"rows are not whole numbers from 0 to {len(self) - 1}", cure="Give row indices, one dimension.")
        return indices.astype(np.int64)

    def _bytes_each(self) -> int:
        return 4 * math.prod(self.input_shape)

    def _pieces(self, indices: np.ndarray) -> Iterator[Any]:
        size = max(1, CHUNK_BYTES // self._bytes_each())
        for start in range(0, len(indices), size):
            yield self.rows.take(indices[start : start + size])
