"""A data frame as one tensor of numbers (B, D), and back to a frame with the types that a model was fitted on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.core.errors import InputError, nearest

Floats = NDArray[np.float64]


def is_frame(x: object) -> bool:
    """Whether this is a data frame of pandas, without importing it."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(x, pandas.DataFrame)


@dataclass(frozen=True)
class Column:
    """One column: its label and type, for categories and text the values that its whole numbers stand for, and what is missing.

    categories: None for a column of numbers. missing: the object that stands for a missing value (None, NaN, NA).
    """

    label: Any
    dtype: Any
    categories: tuple[Any, ...] | None = None
    missing: Any = float("nan")

    def numbers(self, series: Any) -> Floats:
        """(B,) the values as they are, or the places of the values among the categories; NaN where they are missing."""
        if self.categories is None:
            return np.asarray(series.to_numpy(dtype="float64", na_value=np.nan), dtype=np.float64)
        place = {value: float(i) for i, value in enumerate(self.categories)}
        return np.array([place.get(value, np.nan) for value in series.array], dtype=np.float64)

    def values(self, numbers: Floats) -> Any:
        """The column again, in its own type. Whole numbers and truth values that became fractions or missing stay real numbers.

        Raises InputError for a number between two categories, which stands for nothing.
        """
        if self.categories is None:
            return _restored(numbers, self.dtype)
        absent = np.isnan(numbers)
        codes = np.where(absent, -1, numbers)
        wrong = (codes != np.round(codes)) | (codes < -1) | (codes >= len(self.categories)) | ((codes == -1) & ~absent)
        if wrong.any():
            raise InputError(
                f"{numbers[wrong][0]:g} is no category of column '{self.label}'",
                cure="Give a baseline as a frame of rows, and a method that leaves values whole (kernel_shap, occlusion).",
            )
        import pandas

        whole = codes.astype(np.int64)
        if isinstance(self.dtype, pandas.CategoricalDtype):
            return pandas.Categorical.from_codes(whole, dtype=self.dtype)
        choices = np.empty(len(self.categories) + 1, dtype=object)
        choices[:-1], choices[-1] = self.categories, self.missing  # a code of -1 takes the last
        return pandas.Series(choices[whole], dtype=self.dtype)


def _restored(numbers: Floats, dtype: Any) -> Any:
    import pandas

    plain = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    kind = plain.kind
    absent = np.isnan(numbers)
    present = numbers[~absent]
    exact = kind == "f"
    if not exact:
        least, most = (0, 1) if kind == "b" else (int(np.iinfo(plain).min), int(np.iinfo(plain).max))
        exact = bool(((present == np.round(present)) & (present >= least) & (present <= most)).all())
    if isinstance(dtype, np.dtype):
        return numbers.astype(dtype if exact and (kind == "f" or not absent.any()) else np.float64)
    held: Any = pandas.Series(numbers).astype("Float64").mask(absent)
    if not exact:
        return held
    return held.astype({"b": "boolean", "i": "Int64", "u": "UInt64"}.get(kind, "Float64")).astype(dtype)


@dataclass(frozen=True)
class Columns:
    """The columns of the frames of one call."""

    columns: tuple[Column, ...]
    labels: Any

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def names(self) -> list[str]:
        """The labels as words."""
        return [str(column.label) for column in self.columns]

    @property
    def coded(self) -> list[str]:
        """The names of the columns whose numbers stand for categories."""
        return [str(column.label) for column in self.columns if column.categories is not None]

    @property
    def codes(self) -> Tensor:
        """(D,) which columns these are."""
        return torch.tensor([column.categories is not None for column in self.columns])

    def encode(self, frame: Any, name: str = "the frame") -> Tensor:
        """(B, D) a frame as numbers. Raises InputError where a column is not there."""
        absent = [label for label in self.labels if label not in frame.columns]
        if absent:
            raise InputError(f"{name} has no column '{absent[0]}'", cure=nearest(absent[0], map(str, frame.columns)))
        parts = [column.numbers(frame[column.label]) for column in self.columns]
        return torch.from_numpy(np.stack(parts, 1) if parts else np.zeros((len(frame), 0)))

    def frame(self, x: Tensor) -> Any:
        """The frame again from (B, D)."""
        import pandas

        numbers = x.detach().double().cpu().numpy()
        if numbers.ndim != 2 or numbers.shape[1] != len(self):
            raise ValueError(f"{numbers.shape[1:]} values for {len(self)} columns")
        if all(column.categories is None and column.dtype == np.float64 for column in self.columns):
            return pandas.DataFrame(numbers, columns=self.labels)
        made = pandas.DataFrame({i: column.values(numbers[:, i]) for i, column in enumerate(self.columns)})
        made.columns = self.labels
        return made


def columns_of(frames: Sequence[Any], known: Sequence[Sequence[Any]] | None = None) -> Columns:
    """The columns of the first frame; categories are those found in all of them.

    Numbers, truth values and whole numbers that may be missing are taken as they are. Categories keep the order of their type,
    text and other objects are sorted. known: the categories of the category columns, in order, where the model tells them.
    Raises InputError for times and dates, for a column label given twice, for values that cannot be compared.
    """
    import pandas

    first = frames[0]
    twice = first.columns[first.columns.duplicated()]
    if len(twice):
        raise InputError(f"two columns are named '{twice[0]}'", cure="Give every column a name of its own.")
    kinds = [isinstance(first[label].dtype, pandas.CategoricalDtype) for label in first.columns]
    told = iter(known if known is not None and len(known) == sum(kinds) else [()] * sum(kinds))
    columns = []
    for label, category in zip(first.columns, kinds):
        series = [frame[label] for frame in frames if label in frame.columns]
        columns.append(_categories(label, series, next(told)) if category else _column(label, series))
    return Columns(tuple(columns), first.columns)


def plain_columns(names: Iterable[Any]) -> Columns:
    """Columns of real numbers with these labels, for arrays given to a model that was fitted on a frame."""
    import pandas

    labels = pandas.Index(list(names))
    return Columns(tuple(Column(label, np.dtype(np.float64)) for label in labels), labels)


def _categories(label: Any, series: list[Any], told: Sequence[Any]) -> Column:
    import pandas

    found = dict.fromkeys(told)
    for one in series:
        found.update(dict.fromkeys(one.dtype.categories if isinstance(one.dtype, pandas.CategoricalDtype) else _values(one)))
    dtype = series[0].dtype
    same = list(found) == list(dtype.categories)
    return Column(label, dtype if same else pandas.CategoricalDtype(list(found), ordered=dtype.ordered), tuple(found))


def _column(label: Any, series: list[Any]) -> Column:
    from pandas.api import types

    dtype = series[0].dtype
    if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
        try:
            found = {value for one in series for value in _values(one)}
        except TypeError as error:
            raise InputError(f"column '{label}' holds values that cannot be told apart", where=error) from error
        try:
            ordered = sorted(found)
        except TypeError:  # words beside numbers
            ordered = sorted(found, key=lambda value: (type(value).__name__, repr(value)))
        return Column(label, dtype, tuple(ordered), _missing(label, series))
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype) and not _sparse(dtype):
        other = next((one.dtype for one in series if not types.is_numeric_dtype(one.dtype)), None)
        if other is not None:
            raise InputError(f"column '{label}' holds {dtype} in one frame and {other} in another", cure="Give one type.")
        return Column(label, dtype)
    raise InputError(
        f"column '{label}' is of type {dtype}, which is no number and no category",
        cure="Make it a number first, such as days since a date, and fit the model on that.",
    )


def _sparse(dtype: Any) -> bool:
    import pandas

    return isinstance(dtype, pandas.SparseDtype)


def _values(series: Any) -> list[Any]:
    return list(series.dropna().unique())


def _missing(label: Any, series: list[Any]) -> Any:
    """The one object that stands for missing values."""
    absent = [value for one in series for value in one[one.isna()].array]
    if len({type(value) for value in absent}) > 1:
        raise InputError(f"column '{label}' has None beside NaN", cure="Use one of them for missing values.")
    return absent[0] if absent else float("nan")
