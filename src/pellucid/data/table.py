"""CSV and Parquet tables with a target column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pellucid.core.errors import InputError
from pellucid.core.table import DATA

from .cells import Cells, counts_rows, read_cells
from .columns import CATEGORICAL, DATE, NUMERIC, column_type, converted
from .dataset import Data
from .labels import encode
from .rows import FrameRows
from .table_preparation import Column, TablePreparation

MANY_CATEGORIES = 50
COUNTER_NAMES = frozenset({"id", "index", "idx", "row", "rowid", "row_id", "no", "nr", "number", "#"})


@DATA.add("files", kind="table")
def table(
    path: str | Path,
    *,
    target: str,
    task: str | None = None,
    drop: Sequence[str] | str = (),
    group: str | None = None,
    time: str | None = None,
    indicator: bool = False,
) -> Data:
    """Rows of a CSV or Parquet file, with one column as target.

    ``task`` is inferred unless given (and the notes say how); ``drop`` names columns to leave out; ``group`` one whose equal
    values must stay in one part of a split; ``time`` one (numbers, or dates like 2024-12-31) that orders the rows; neither of
    the two is an input. ``indicator`` adds a 0/1 column beside every number that is missing in training rows. Types are
    inferred: numbers, true/false, ISO dates (as days since 1970), else categories. Columns with one value, without values, or
    with a different text in every row are left out, with a note. Raises ``InputError`` with file and line for all that cannot
    be used.
    """
    drop = [drop] if isinstance(drop, str) else list(drop)
    options = {
        "path": str(path),
        "target": target,
        "task": task,
        "drop": drop,
        "group": group,
        "time": time,
        "indicator": indicator,
    }
    return from_cells(read_cells(path), "table", options, source=str(path))


def from_cells(cells: Cells, reader: str, options: dict[str, Any], *, source: str, licence: str = "") -> Data:
    """The data set of a table that has been read, with the options of ``table``."""
    chosen = {"task": None, "drop": (), "group": None, "time": None, "indicator": False, **options}
    target, group, time = chosen["target"], chosen["group"], chosen["time"]
    for name in chosen["drop"]:
        cells.column(name, "drop")
    labels = encode(cells, target, chosen["task"])
    groups = _grouping(cells, group) if group is not None else None
    order = _ordering(cells, time) if time is not None else None
    notes = cells.notes + labels.notes
    inputs = [name for name in cells.names if name not in {target, group, time, *chosen["drop"]}]
    columns, values = [], []
    for name in inputs:
        column, series = _input(cells, name, chosen["indicator"], notes)
        if column is not None:
            columns.append(column)
            values.append(series)
    if not columns:
        raise InputError("no column is left as input", where=cells.path, cure=_why_none(notes, inputs))
    return Data(
        reader=reader,
        options=options if reader == "table" else {},
        kind="table",
        task=labels.task,
        rows=FrameRows(pd.concat(values, axis=1)),
        y=labels.y,
        classes=labels.classes,
        preparation=TablePreparation(tuple(columns), chosen["indicator"]),
        names=cells.places(),
        target=target,
        groups=groups,
        order=order,
        notes=notes,
        licence=licence,
        source=source,
    )


def _input(cells: Cells, name: str, indicator: bool, notes: list[str]) -> tuple[Column | None, pd.Series]:
    """The column with its values, or None when it cannot inform; ``notes`` gets what a person should know."""
    raw = cells.frame[name]
    if raw.isna().all():
        notes.append(f"column '{name}' is empty: not used")
        return None, raw
    type_ = column_type(cells, name)
    values = converted(cells, name, type_)
    distinct, missing = values.nunique(), int(values.isna().sum())
    informative_gap = missing and (type_ == CATEGORICAL or indicator)
    if distinct == 1 and not informative_gap:
        notes.append(f"column '{name}' holds one value only, {values.dropna().iloc[0]!r}: not used")
        return None, values
    if type_ == CATEGORICAL and distinct == len(values) > 2:
        notes.append(f"column '{name}' has a different text in every row, like an identifier ('{values.iloc[0]}'): not used")
        return None, values
    if type_ == NUMERIC and counts_rows(values):
        if name.strip().lower() in COUNTER_NAMES:
            notes.append(f"column '{name}' only counts the rows: not used")
            return None, values
        notes.append(f"column '{name}' rises by one from row to row; leave it out with drop: [{name}] if it only counts")
    if type_ == CATEGORICAL and distinct > MANY_CATEGORIES:
        notes.append(
            f"column '{name}' has {distinct:,} categories, each an input; leave it out with drop: [{name}] if they are names"
        )
    if type_ == DATE:
        notes.append(f"column '{name}' holds dates: taken as days since 1970-01-01")
    return Column(name, type_), values


def _why_none(notes: list[str], inputs: list[str]) -> str:
    if not inputs:
        return "Give a file with columns beside target, group, time and dropped ones."
    return "; ".join(note for note in notes if note.endswith("not used")) + "."


def _grouping(cells: Cells, name: str) -> np.ndarray:
    column = cells.column(name, "group")
    _complete(cells, column, "group")
    return np.asarray(column.astype(str), dtype=str)


def _ordering(cells: Cells, name: str) -> np.ndarray:
    column = cells.column(name, "time")
    _complete(cells, column, "time")
    type_ = column_type(cells, name)
    if type_ not in (NUMERIC, DATE):
        raise InputError(
            f"time column '{name}' holds neither numbers nor dates, such as '{column.iloc[0]}'",
            where=cells.where(0),
            cure="Write the times as numbers or like 2024-12-31 23:59.",
        )
    return converted(cells, name, type_).to_numpy()


def _complete(cells: Cells, column: pd.Series, use: str) -> None:
    missing = column.isna().to_numpy()
    if missing.any():
        raise InputError(
            f"{use} column '{column.name}' lacks a value in {int(missing.sum()):,} of {len(missing):,} rows",
            where=f"first in {cells.where(int(np.flatnonzero(missing)[0]))}",
            cure="Fill them in or remove these rows.",
        )
