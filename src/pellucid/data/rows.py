"""Rows as they were read, before any preparation: arrays and tables in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

# What raw images, or the prepared tensors of a data set, may fill before they are made on demand instead.
MEMORY_BUDGET = 1 << 30

Indices = np.ndarray | torch.Tensor | Sequence[int]


class Rows(Protocol):
    """What a data set needs of its raw rows."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> Any:
        """The raw rows with these indices, in this order."""

    def identical(self) -> np.ndarray:
        """One number per row; rows with the same number hold the same bytes."""

    def digest(self) -> bytes:
        """SHA-256 of everything that the rows hold."""


class ArrayRows:
    """Rows of one array: images (N, H, W) or (N, H, W, C) of unsigned bytes, sequences (N, L) of letter codes."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of these rows."""
        taken: np.ndarray = self.values[rows]
        return taken

    def identical(self) -> np.ndarray:
        """Exact: whole rows are compared as bytes."""
        return same_bytes(self.values)

    def digest(self) -> bytes:
        """Over the bytes and their shape."""
        return hashlib.sha256(repr((self.values.shape, self.values.dtype.str)).encode() + self.values.tobytes()).digest()


class FrameRows:
    """Rows of a table whose columns are float64 (numbers, truth values, dates as days) or text."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray) -> pd.DataFrame:
        """These rows as a table of their own."""
        return self.frame.iloc[rows]

    def identical(self) -> np.ndarray:
        """Exact; two missing values count as the same."""
        if not len(self.frame.columns):
            return np.zeros(len(self), np.int64)
        return same_bytes(np.column_stack([pd.factorize(self.frame[name])[0] for name in self.frame]))

    def missing(self) -> str:
        """Which columns lack how many values."""
        lacking = self.frame.isna().sum()
        return ", ".join(f"{name} {count:,}" for name, count in lacking[lacking > 0].items()) or "none"

    def digest(self) -> bytes:
        """Over the column names, the numbers' bytes and the texts."""
        total = hashlib.sha256(repr(list(self.frame.columns)).encode())
        for name in self.frame:
            column = self.frame[name]
            if column.dtype == np.float64:
                total.update(column.to_numpy().tobytes())
            else:
                total.update("\x1f".join(column.fillna("\x1e")).encode())
        return total.digest()


def same_bytes(values: np.ndarray) -> np.ndarray:
    """(N,) int64: rows with the same number hold the same bytes."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    width = flat.shape[1] * flat.dtype.itemsize
    if not len(flat) or not width:
        return np.zeros(len(flat), np.int64)
    return np.unique(flat.view(np.dtype((np.void, width))).ravel(), return_inverse=True)[1].astype(np.int64).ravel()
