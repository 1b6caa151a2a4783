"""Tables to tensors: missing values filled, categories one-hot, numbers scaled, all with what the training rows show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from pellucid.core import checks
from pellucid.core.errors import InputError

from .cells import read_cells
from .columns import CATEGORICAL, converted
from .preparation import Preparation

MISSING_CATEGORY = "missing"


@dataclass
class Column:
    """One column of the table and what was measured on its training rows.

    ``fill``: the median, for missing numbers; ``mean`` and ``std`` after filling; ``categories`` in sorted order, ``missing``
    among them when training rows lack a value; ``indicator``: whether a 0/1 column tells where a number was missing.
    """

    name: str
    type: str
    fill: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The encoded columns' names."""
        if self.type == CATEGORICAL:
            return tuple(f"{self.name}={category}" for category in self.categories)
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    def fit(self, values: pd.Series, indicate: bool) -> None:
        """Measure on training values."""
        if self.type == CATEGORICAL:
            self.categories = tuple(sorted(values.fillna(MISSING_CATEGORY).unique()))
            return
        known = values.dropna().to_numpy()
        missing = len(known) < len(values)
        self.fill = float(np.median(known)) if len(known) else 0.0
        filled = np.append(known, np.full(len(values) - len(known), self.fill))
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(filled.std()) if filled.min() < filled.max() else 1.0
        if not 0 < spread < np.inf:
            raise InputError(
                f"the numbers in column '{self.name}' are too large or too close together to be scaled",
                cure="Rescale it first.",
            )
        self.mean, self.std, self.indicator = float(filled.mean()), spread, missing and indicate

    def encode(self, values: pd.Series) -> np.ndarray:
        """(N, features) float32."""
        if self.type == CATEGORICAL:
            return np.asarray(self._codes(values)[:, None] == np.arange(len(self.categories)), np.float32)
        numbers = values.to_numpy(np.float64)
        missing = np.isnan(numbers)
        scaled = (np.where(missing, self.fill, numbers) - self.mean) / self.std
        with np.errstate(over="ignore"):
            return np.column_stack([scaled, missing] if self.indicator else [scaled]).astype(np.float32)

    def remarks(self, values: pd.Series) -> list[str]:
        """How many values were filled or are unknown."""
        missing = int(values.isna().sum())
        if self.type != CATEGORICAL:
            how = f"filled with the training median {self.fill:.6g}"
            return [f"column '{self.name}', missing values {how}: {missing:,}"] if missing else []
        unknown = values.notna().to_numpy() & (self._codes(values) < 0)
        said = []
        if missing:
            own = MISSING_CATEGORY in self.categories
            how = f"as a category of their own, '{MISSING_CATEGORY}'" if own else "not met in training, so all zeros"
            said.append(f"column '{self.name}', missing values {how}: {missing:,}")
        if unknown.any():
            shown = ", ".join(f"'{v}'" for v in sorted(values[unknown].unique())[:3])
            said.append(
                f"column '{self.name}', values not met in training, so all zeros: {int(unknown.sum()):,}, such as {shown}"
            )
        return said

    def _codes(self, values: pd.Series) -> np.ndarray:
        codes: np.ndarray = pd.Index(self.categories, dtype=object).get_indexer(
            pd.Index(values.fillna(MISSING_CATEGORY), dtype=object)
        )
        return codes


@dataclass
class TablePreparation(Preparation):
    """Raw rows are a table of the columns named here, numbers as float64; prepared ones are (N, D).

    A number becomes ``(x - mean) / std``; a category one column per category seen in training (one that was not: all zeros).
    ``rows``: how many training rows it was fitted on; ``indicate``: whether missing numbers get a 0/1 column.
    """

    columns: tuple[Column, ...]
    indicate: bool = False
    rows: int = 0
    kind: ClassVar[str] = "table"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(D,), known after fitting."""
        self._check_fitted()
        return (len(self.features),)

    @property
    def features(self) -> tuple[str, ...]:
        """The encoded columns: ``age``, ``age missing``, ``colour=red``."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def sources(self) -> list[int]:
        """For each encoded column the index in ``columns`` of the one that it comes from."""
        return [i for i, column in enumerate(self.columns) for _ in column.features]

    @property
    def fitted(self) -> bool:
        """Whether it has seen training rows."""
        return self.rows > 0

    def fit(self, chunks: Iterable[pd.DataFrame]) -> Self:
        """Medians, means, deviations and categories of the training rows."""
        frame = pd.concat(list(chunks) or [pd.DataFrame()])
        if not len(frame):
            raise InputError("no rows to fit the table's preparation on", cure="Give the training part at least one row.")
        for column in self.columns:
            column.fit(frame[column.name], self.indicate)
        self.rows = len(frame)
        return self

    def apply(self, raw: pd.DataFrame) -> torch.Tensor:
        """Float32 (N, D). Raises ``InputError`` where a number is too large for it once scaled."""
        self._check_fitted()
        encoded = torch.from_numpy(np.concatenate([c.encode(raw[c.name]) for c in self.columns], axis=1))
        return checks.finite("the prepared table", encoded)

    def read(self, paths: Sequence[str | Path]) -> tuple[pd.DataFrame, list[str]]:
        """CSV or Parquet files with at least these columns, in any order; others, the target too, are not looked at."""
        frames, names = [], []
        for path in paths:
            cells = read_cells(path)
            frames.append(pd.concat([self._column(c, cells) for c in self.columns], axis=1))
            names += [f"{Path(path).name} {place}" for place in cells.places()]
        return pd.concat(frames, ignore_index=True), names

    def _column(self, column: Column, cells: Any) -> pd.Series:
        cells.column(column.name, "the model's input")
        return converted(cells, column.name, column.type)

    def remarks(self, raw: pd.DataFrame) -> list[str]:
        """Missing and unknown values, per column."""
        return [remark for column in self.columns for remark in column.remarks(raw[column.name])]

    def facts(self) -> list[tuple[str, str]]:
        """The columns by type."""
        types = sorted({column.type for column in self.columns})
        return [(f"{type_} columns", ", ".join(self._shown(c) for c in self.columns if c.type == type_)) for type_ in types]

    @staticmethod
    def _shown(column: Column) -> str:
        return f"{column.name} ({len(column.categories)})" if column.categories else column.name

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From ``to_json``."""
        columns = tuple(Column(**{**c, "categories": tuple(map(str, c["categories"]))}) for c in stored["columns"])
        for column in columns:
            checks.positive(f"deviation of column '{column.name}'", column.std)
        return cls(columns, bool(stored["indicate"]), int(stored["rows"]))
