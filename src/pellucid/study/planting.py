"""The rows of a study with a shortcut put into them: which are used, who has it, and the data sets that come of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pellucid.core import seeds
from pellucid.core.errors import InputError, UnsupportedError, nearest
from pellucid.data.columns import NUMERIC
from pellucid.data.dataset import Data
from pellucid.data.planted import plant_leak, plant_shortcut
from pellucid.data.reading import read
from pellucid.data.rows import MEMORY_BUDGET, ArrayRows, FrameRows
from pellucid.data.table_preparation import Column, TablePreparation

from .recall import PARTS
from .specification import Study

# What can be planted in which kind of data; the first is what is planted when nothing is said.
KINDS = {"image": ("mark", "snow", "colour_cast"), "table": ("leak",)}
LEAK = "leak"


@dataclass
class Planter:
    """The rows that are used, in memory, and what is put into them. parts: their places by part; label: the marked class.

    A row has its own form of the shortcut, the same in every set that it is put into.
    """

    data: Data
    raw: Any
    parts: dict[str, np.ndarray]
    label: int
    kind: str
    agreement: float
    seed: int

    @property
    def marked(self) -> np.ndarray:
        """(N,) whether a row is of the marked class."""
        return np.asarray(self.data.y.numpy() == self.label)

    @property
    def leak(self) -> str:
        """The leaking column's name, which no other column has."""
        taken = self.raw.columns
        return next(name for name in (LEAK, *(f"{LEAK} {i}" for i in range(2, len(taken) + 3))) if name not in taken)

    def raw_with(self, where: np.ndarray | None, agreement: float | None = None) -> tuple[Any, np.ndarray | None]:
        """All rows, those of ``where`` with the shortcut, and its mask; None: rows in which nothing tells of the class.

        A leaking column is always there; where it shall tell nothing it is drawn regardless of the class, as often one.
        """
        if self.kind != LEAK:
            return (self.raw, None) if where is None else plant_shortcut(self.raw, where, kind=self.kind, seed=self.seed)
        if where is None:
            rate = float(self.marked[self.parts["train"]].mean())
            draws = [np.random.default_rng(seeds.derive(self.seed, "no leak", i)).random() for i in range(len(self.raw))]
            where, agreement = np.array(draws) < rate, 1.0
        share = self.agreement if agreement is None else agreement
        return plant_leak(self.raw, where, agreement=share, name=self.leak, seed=self.seed)

    def dataset(self, raw: Any) -> Data:
        """The data with these rows in place of its own, not prepared yet."""
        more: dict[str, Any] = {"rows": ArrayRows(raw), "preparation": dataclasses.replace(self.data.preparation)}  # type: ignore[type-var]
        if isinstance(self.data.preparation, TablePreparation):
            columns = [dataclasses.replace(column) for column in self.data.preparation.columns]
            made = TablePreparation((*columns, Column(self.leak, NUMERIC)), self.data.preparation.indicate)
            more = {"rows": FrameRows(raw), "preparation": made}
        return dataclasses.replace(self.data, notes=list(self.data.notes), **more)


def planter_of(study: Study, marked: str | int, kind: str | None, rows: int, agreement: float) -> Planter:
    """Read the data, share it out, keep at most so many rows of each part in memory."""
    data = read(study.data.name, **study.data.options)
    if data.kind not in KINDS:
        raise UnsupportedError(f"a shortcut in {data.kind} data", cure="It can be planted in images and in tables.")
    if data.task != "classification":
        raise UnsupportedError(f"a shortcut for {data.task}", cure="Take data with one class per row.")
    kind = KINDS[data.kind][0] if kind is None else kind
    if kind not in KINDS[data.kind]:
        known = " or ".join(KINDS[data.kind])
        raise InputError(f"a shortcut of kind '{kind}' in {data.kind} data", cure=f"Take {known}.")
    label = _label(data, marked)
    shared = data.split(by=study.split.by, test=study.split.test, validation=study.split.validation, seed=study.seed)
    chosen = {}
    for part in PARTS:
        all_rows = np.asarray(getattr(shared, part))
        drawn = torch.randperm(len(all_rows), generator=seeds.generator(study.seed, "rows", part)).numpy()[:rows]
        chosen[part] = all_rows[np.sort(drawn)]
        _check_classes(part, data.y.numpy()[chosen[part]] == label, data.classes[label])
    places = np.concatenate(list(chosen.values()))
    if isinstance(data.rows, FrameRows):
        raw: Any = data.rows.take(places).reset_index(drop=True)
    else:
        if len(places) * int(np.prod(data.input_shape)) > MEMORY_BUDGET // 2:
            raise InputError("the pictures do not fit into memory", cure="Take fewer rows, or smaller pictures (size).")
        raw = data.rows.take(places)
    ends = np.cumsum([len(chosen[part]) for part in PARTS])
    parts = {part: np.arange(end - len(chosen[part]), end) for part, end in zip(PARTS, ends)}
    used = dataclasses.replace(
        data,
        rows=FrameRows(raw) if isinstance(data.rows, FrameRows) else ArrayRows(raw),
        y=data.y[torch.from_numpy(places)],
        names=[data.names[i] for i in places],
        groups=None,
        order=None,
        truth=None,
        parts={},
    )
    return Planter(used, raw, parts, label, kind, agreement, study.seed)


def _check_classes(part: str, own: np.ndarray, name: str) -> None:
    """Training and test need rows of the marked class and of others."""
    if part != "validation" and (not own.any() or own.all()):
        lacking = f"no row of '{name}'" if not own.any() else f"only rows of '{name}'"
        raise InputError(f"the {part} part has {lacking}", cure="Allow more rows, or choose another class.")


def _label(data: Data, marked: str | int) -> int:
    """The number of a class, given by its name or its number."""
    if str(marked) in data.classes:
        return data.classes.index(str(marked))
    number = int(marked) if str(marked).isdigit() else -1
    if not 0 <= number < len(data.classes):
        raise InputError(f"no class '{marked}'", cure=nearest(marked, data.classes))
    return number
