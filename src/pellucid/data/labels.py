"""A column of labels to a task, a tensor and class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from pellucid.core import checks
from pellucid.core.errors import InputError

from .cells import Cells
from .columns import BOOLEAN, CATEGORICAL, DATE, NUMERIC, column_type, converted, number_text

TASKS = ("classification", "multilabel", "regression")
SEPARATOR = "|"
MOST_NUMBERED_CLASSES = 20


@dataclass
class Labels:
    """``y`` is (N,) int64 with its classes, (N, K) float32 of 0 and 1 with its classes, or (N,) float32 without."""

    task: str
    y: torch.Tensor
    classes: tuple[str, ...]
    notes: list[str]


def encode(cells: Cells, name: str, task: str | None = None, *, most_classes: int | None = MOST_NUMBERED_CLASSES) -> Labels:
    """Infer the task, unless it is given, and encode the column.

    Labels joined by ``|`` are multilabel. Numbers with a fraction, or more than ``most_classes`` different whole numbers, are
    regression; all else is classification. Raises ``InputError`` for missing or infinite labels, for a target with one value
    only, for text where numbers are needed, and for a class per row.
    """
    if task is not None:
        checks.one_of("task", task, TASKS)
    column = cells.column(name, "the target")
    if task == "multilabel" or (task is None and _joined(column)):
        return _multilabel(column, name)
    missing = column.isna().to_numpy()
    if missing.any():
        raise InputError(
            f"the target '{name}' is missing in {int(missing.sum()):,} of {len(missing):,} rows",
            where=f"first in {cells.where(int(np.flatnonzero(missing)[0]))}",
            cure="Fill the values in or remove these rows.",
        )
    if task == "regression":
        type_ = column_type(cells, name)
        if type_ not in (NUMERIC, BOOLEAN):
            return _regression(cells, name, [])  # names the first cell that is no number
    elif (type_ := column_type(cells, name)) == DATE:
        raise InputError(
            f"the target '{name}' holds dates", where=cells.where(0), cure="Turn them into a number or a class first."
        )
    if type_ != NUMERIC or task == "classification":
        return _classes(cells, name, type_, [])
    values = converted(cells, name, NUMERIC).to_numpy()
    distinct = len(np.unique(values))
    how = "give task='classification' or task='regression' to change this"
    if task is None and (values % 1 == 0).all() and (most_classes is None or distinct <= most_classes):
        return _classes(cells, name, type_, [f"target '{name}' has {distinct} different whole numbers: classification ({how})"])
    why = "numbers with a fraction" if (values % 1 != 0).any() else f"{distinct:,} different whole numbers"
    return _regression(cells, name, [] if task else [f"target '{name}' has {why}: regression ({how})"])


def _joined(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column) and bool(
        column.dropna().astype(str).str.contains(SEPARATOR, regex=False).any()
    )


def _regression(cells: Cells, name: str, notes: list[str]) -> Labels:
    values = converted(cells, name, NUMERIC).to_numpy()
    if values.min() == values.max():
        raise InputError(
            f"the target '{name}' is {values[0]:g} in every row", where=cells.path, cure="Choose a target that varies."
        )
    y = torch.from_numpy(values.astype(np.float32))
    return Labels("regression", checks.finite(f"the target '{name}' as float32", y), (), notes)


def _classes(cells: Cells, name: str, type_: str, notes: list[str]) -> Labels:
    numbers = type_ == NUMERIC
    column = converted(cells, name, NUMERIC).map(number_text) if numbers else converted(cells, name, CATEGORICAL)
    classes = in_order(column.unique().tolist())
    if len(classes) == 1:
        raise InputError(
            f"the target '{name}' has one class only, '{classes[0]}'",
            where=cells.path,
            cure="Choose a target with two or more.",
        )
    if len(classes) == len(column) > 2:
        raise InputError(
            f"the target '{name}' has a class of its own for each of {len(column):,} rows",
            where=cells.path,
            cure="Choose a target whose values repeat, or task='regression' for numbers.",
        )
    y = pd.Index(classes).get_indexer(pd.Index(column))
    return Labels("classification", torch.from_numpy(y.astype(np.int64)), tuple(classes), notes)


def _multilabel(column: pd.Series, name: str) -> Labels:
    texts = column.astype(object).where(column.notna(), "").map(str)
    table = texts.str.replace(rf"\s*\{SEPARATOR}\s*", SEPARATOR, regex=True).str.strip().str.get_dummies(SEPARATOR)
    classes = in_order([str(c) for c in table if str(c).strip()])
    if not classes:
        raise InputError(f"the target '{name}' holds no label", cure=f"Join the labels of a row with '{SEPARATOR}'.")
    y = torch.from_numpy(np.array(table[classes], np.float32))
    none = int((y.sum(1) == 0).sum())
    notes = [f"target '{name}' holds several labels joined by '{SEPARATOR}': multilabel"]
    return Labels("multilabel", y, tuple(classes), notes + ([f"rows without any label: {none:,}"] if none else []))


def in_order(names: Sequence[str]) -> list[str]:
    """Class names sorted: by value when all are numbers, else as text."""
    numbers = pd.to_numeric(pd.Series(names, dtype=object), errors="coerce")
    return sorted(names, key=float) if len(names) and numbers.notna().all() else sorted(names)
