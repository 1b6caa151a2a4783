"""One validator per kind of value, each with one wording. All raise ``InputError``."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pellucid.core.errors import InputError, nearest


def one_of(name: str, value: Any, options: Iterable[Any]) -> Any:
    """``value`` is one of ``options``."""
    options = list(options)
    if value not in options:
        raise InputError(f"{name} is {value!r}", cure=nearest(value, map(str, options)))
    return value


def count(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InputError(f"{name} is {value!r}", cure=f"Give a whole number of at least {least}.")
    return int(value)


def positive(name: str, value: Any, *, zero: bool = False) -> float:
    """A finite number above zero (or from zero)."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not math.isfinite(value)
        or value < 0
        or (value == 0 and not zero)
    ):
        raise InputError(f"{name} is {value!r}", cure=f"Give a finite number {'of at least' if zero else 'above'} 0.")
    return float(value)


def fraction(name: str, value: Any, *, ends: bool = True) -> float:
    """A number from 0 to 1, with or without the ends."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (0 <= value <= 1 if ends else 0 < value < 1):
        raise InputError(f"{name} is {value!r}", cure=f"Give a number between 0 and 1{'' if ends else ', ends excluded'}.")
    return float(value)


def finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """No NaN and no infinity; the message names the first offending sample."""
    if tensor.is_floating_point() and tensor.numel() and not bool(torch.stack(torch.aminmax(tensor)).isfinite().all()):
        bad = (~torch.isfinite(tensor)).nonzero()[0].tolist()
        raise InputError(
            f"{name} holds {tensor[tuple(bad)].item()}",
            where=f"sample {bad[0]}, position {bad[1:]}",
            cure="Remove or fill the value first.",
        )
    return tensor


def same_length(**parts: Any) -> int:
    """All arguments have the same first size."""
    sizes = {name: len(value) for name, value in parts.items()}
    if len(set(sizes.values())) > 1:
        raise InputError("different lengths: " + ", ".join(f"{k} {v}" for k, v in sizes.items()), cure="Give one row each.")
    return next(iter(sizes.values()))


def existing(path: str | Path, *, kind: str = "file or folder") -> Path:
    """A path that exists; the message names the nearest entry of its folder."""
    path = Path(path).expanduser()
    right = path.is_file() if kind == "file" else path.is_dir() if kind == "folder" else path.exists()
    if not right:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"no {kind} '{path}'", cure=nearest(path.name, siblings) if siblings else "Check the path.")
    return path
