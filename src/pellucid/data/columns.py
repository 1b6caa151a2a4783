"""The type of a column, found from its cells, and the cells turned into numbers or text of that type."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from pellucid.core.errors import InputError

from .cells import Cells

NUMERIC, BOOLEAN, DATE, CATEGORICAL = "numeric", "boolean", "date", "categorical"
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?")
OTHER_DATE = re.compile(r"(\d{1,2}[/.]\d{1,2}[/.](\d{4}|\d{2})|\d{4}[/.]\d{1,2}[/.]\d{1,2})( \d{1,2}:\d{2}(:\d{2})?)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)+")
# A column with this share of numbers, and more than this many different ones, is numbers with errors in it, not words.
MOSTLY, MANY = 0.9, 20


def column_type(cells: Cells, name: str) -> str:
    """``numeric``, ``boolean``, ``date`` or ``categorical``.

    Raises ``InputError`` where a guess would be wrong silently: dates whose day and month cannot be told apart,
    decimal commas, a few words in a column of numbers, cells that are neither numbers nor text.
    """
    column = cells.frame[name]
    if pd.api.types.is_bool_dtype(column):
        return BOOLEAN
    if pd.api.types.is_numeric_dtype(column):
        return NUMERIC
    if pd.api.types.is_datetime64_any_dtype(column):
        return DATE
    values = _texts(cells, name).dropna()
    distinct = pd.Series(values.unique(), dtype=object)
    if len(distinct) and set(distinct.str.lower()) <= {"true", "false"}:
        return BOOLEAN
    numbers = pd.to_numeric(distinct, errors="coerce").notna()
    if numbers.all() and not distinct.str.fullmatch(r"[+-]?0\d+").any():
        return NUMERIC
    if distinct.map(lambda text: ISO_DATE.fullmatch(text) is not None).all():
        return DATE
    _refuse_traps(cells, name, values, distinct, numbers)
    return CATEGORICAL


def _refuse_traps(cells: Cells, name: str, values: pd.Series, distinct: pd.Series, numbers: pd.Series) -> None:
    first = str(distinct.iloc[0])
    if distinct.map(lambda text: OTHER_DATE.fullmatch(text) is not None).mean() >= MOSTLY:
        raise InputError(
            f"column '{name}' holds dates like '{first}', whose parts cannot be told apart safely",
            where=cells.where(int(values.index[0])),
            cure=f"Write them as 2024-12-31, or leave the column out with drop: [{name}].",
        )
    if (
        distinct.map(lambda text: DECIMAL_COMMA.fullmatch(text) is not None).sum() + numbers.sum() == len(distinct)
        and not numbers.all()
    ):
        raise InputError(
            f"column '{name}' holds numbers with a comma such as '{distinct[~numbers].iloc[0]}'",
            where=cells.where(int(values.index[values == distinct[~numbers].iloc[0]][0])),
            cure="Write a decimal point and no thousands separator.",
        )
    if numbers.mean() >= MOSTLY and numbers.sum() > MANY:
        odd = values[values.isin(distinct[~numbers])]
        raise InputError(
            f"column '{name}' holds numbers except for {len(odd):,} of {len(values):,} values, such as '{odd.iloc[0]}'",
            where=cells.where(int(odd.index[0])),
            cure=f"Correct them or leave them empty, or leave the column out with drop: [{name}].",
        )


def converted(cells: Cells, name: str, type_: str) -> pd.Series:
    """The cells as float64 (a date as days since 1970-01-01, true as 1) or as text; missing ones are NaN.

    Raises ``InputError`` with the place of the first cell that is not of the type, and for infinities.
    """
    if type_ == CATEGORICAL:
        return _texts(cells, name)
    column = cells.frame[name]
    if pd.api.types.is_datetime64_any_dtype(column) or type_ == DATE:
        values = _days(cells, name, type_)
    elif pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        texts = _texts(cells, name)
        if type_ == BOOLEAN:
            texts = texts.str.lower().replace({"true": "1", "false": "0"})
        values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        _refuse_first(cells, name, np.isnan(values) & texts.notna().to_numpy(), f"is not {type_}")
    _refuse_first(cells, name, np.isinf(values), "is infinite")
    return pd.Series(values, name=name)


def _days(cells: Cells, name: str, type_: str) -> np.ndarray:
    column = cells.frame[name]
    _refuse_first(cells, name, np.full(len(column), type_ != DATE), f"is a date, not {type_}")
    if not pd.api.types.is_datetime64_any_dtype(column):
        texts = _texts(cells, name)
        wrong = ~texts.fillna("2000-01-01").map(lambda text: ISO_DATE.fullmatch(text) is not None).to_numpy(bool)
        _refuse_first(cells, name, wrong, "is not a date like 2024-12-31")
        column = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        _refuse_first(cells, name, (column.isna() & texts.notna()).to_numpy(), "is not a date of the calendar")
    elif column.dt.tz is not None:
        column = column.dt.tz_convert("UTC")
    stamps = column.dt.tz_localize(None)
    days: np.ndarray = ((stamps - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)).to_numpy(np.float64)
    return days


def _refuse_first(cells: Cells, name: str, wrong: np.ndarray, why: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        more = f" (and {int(wrong.sum()) - 1:,} more)" if wrong.sum() > 1 else ""
        raise InputError(
            f"'{cells.frame[name].iloc[row]}' in column '{name}' {why}{more}",
            where=cells.where(row),
            cure="Correct it, or leave it empty.",
        )


def number_text(value: float) -> str:
    """A number as a person would write it: no decimal point on a whole one."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _texts(cells: Cells, name: str) -> pd.Series:
    """The cells as text, missing ones NaN."""
    column = cells.frame[name]
    present = column.notna()
    if pd.api.types.is_float_dtype(column):
        return column.map(number_text, na_action="ignore").astype(object)
    texts = column.astype(object).where(present, np.nan)
    if not pd.api.types.is_string_dtype(column):
        plain = texts.map(
            lambda v: isinstance(v, str | bool | int | np.generic) or not hasattr(v, "__len__"), na_action="ignore"
        )
        _refuse_first(cells, name, ~plain.where(present, True).to_numpy(bool), "is neither a number nor text")
        texts = texts.map(str, na_action="ignore")
    return texts.rename(name)
