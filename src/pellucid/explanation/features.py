"""What is taken away as one piece: a pixel, a segment, a letter, a time window, a column or a group of columns."""

from __future__ import annotations

import math
import numbers
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from . import masks
from .score import Score
from .segments import renumbered, segments

SEGMENTED = ("slic", "quickshift", "felzenszwalb", "grid")
NAMED = ("auto", "positions", *SEGMENTED)
# Letters or time steps that are features of their own; a longer sequence is cut into windows.
MOST_POSITIONS = 128
WINDOWS = 64


@dataclass(frozen=True)
class Features:
    """labels (B, positions): the feature that each position of a map belongs to, numbered from 0; sizes (B, F): positions."""

    labels: Tensor
    sizes: Tensor
    each: bool  # every position is a feature of its own

    @property
    def present(self) -> Tensor:
        """(B, F) which features a sample has: samples may have different numbers of segments."""
        return self.sizes > 0

    def of_positions(self, values: Tensor, sample: Tensor | None = None) -> Tensor:
        """(P, F) numbers of features -> (P, positions) of positions, for these samples or for all in order."""
        if self.each:
            return values
        return values.gather(1, self.labels if sample is None else self.labels[sample])


def features_of(score: Score, given: Any) -> Features:
    """The features of every sample of a score, made once for all methods that ask for the same.

    given: "auto" (columns of a table; the positions of a sequence of up to 128, else 64 windows; "slic" segments of an image;
    a grid of a volume); "positions" (each by itself); a method of ``segments``; a number of segments or windows; a map of
    labels of a sample's spatial axes, or one for each sample, numbered in any way; or groups of positions, e.g.
    ``[[0, 1], [4]]`` or ``[["age", "sex"]]`` for the columns of a table, where every position that is in none is by itself.
    Raises InputError for an unknown name, another shape, and a position in two groups.
    """
    return score.once(("features", key_of(given)), lambda: _made(score, given))


def key_of(given: Any) -> Hashable:
    """What tells options apart within one call: plain values by value, everything else by identity."""
    return (type(given).__name__, given if isinstance(given, str | int | float | bool | None) else id(given))


def _made(score: Score, given: Any) -> Features:
    x, size = score.x, masks.spatial(score.x)
    positions = math.prod(size)
    if isinstance(given, str):
        checks.one_of("features", given, NAMED)
    if isinstance(given, str) and given == "auto":
        given = _automatic(x)
    if isinstance(given, str) and given == "positions":
        labels = torch.arange(positions, device=x.device).expand(len(x), positions)
        return Features(labels, torch.ones_like(labels), True)
    if isinstance(given, str):
        labels = segments(x, given)
    elif isinstance(given, int) and not isinstance(given, bool):
        labels = segments(x, "slic" if len(size) == 2 else "grid", count=checks.count("features", given))
    elif isinstance(given, list | tuple):
        labels = _grouped(score, given, positions).expand(len(x), positions)
    else:
        labels = _mapped(score, given, size)
    labels = labels.to(x.device).reshape(len(x), positions)
    sizes = torch.zeros(len(x), int(labels.max()) + 1, dtype=torch.long, device=x.device)
    sizes.scatter_add_(1, labels, torch.ones_like(labels))
    return Features(labels, sizes, False)


def _automatic(x: Tensor) -> Any:
    if x.ndim == 2 or (x.ndim == 3 and x.shape[2] <= MOST_POSITIONS):
        return "positions"
    return {3: WINDOWS, 4: "slic"}.get(x.ndim, "grid")


def _mapped(score: Score, given: Any, size: tuple[int, ...]) -> Tensor:
    """A user's own map, one for all samples or one for each of all samples of the call."""
    try:
        labels = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"features is {given!r:.60}", cure=f"Give a map of labels, groups, or one of: {', '.join(NAMED)}."
        ) from None
    shape = tuple(labels.shape)
    labels = labels[None] if labels.ndim == len(size) else labels
    if tuple(labels.shape[1:]) != size or len(labels) not in (1, score.total):
        raise InputError(
            f"a map of features of shape {shape} for {score.total} samples of {tuple(score.x.shape[1:])}",
            cure=f"Give whole numbers of shape {size}, or one such map per sample.",
        )
    mine = labels if len(labels) == 1 else labels[score.first : score.first + len(score)]
    return renumbered(mine).expand(len(score), *size)


def _grouped(score: Score, groups: Any, positions: int) -> Tensor:
    labels = torch.full((positions,), -1)
    columns = getattr(score.model, "columns", None)
    names = list(columns.names) if columns is not None else []
    for number, group in enumerate(groups):
        one = isinstance(group, str | int) or getattr(group, "ndim", 1) == 0
        for given in [group] if one else group:
            position = names.index(given) if given in names else given
            whole = isinstance(position, numbers.Integral) or (isinstance(position, Tensor) and position.ndim == 0)
            if not whole or isinstance(position, bool) or not 0 <= int(position) < positions:
                known = f" or names of columns ({', '.join(names[:5])}, ...)" if names else ""
                raise InputError(f"a group holds {given!r}", cure=f"Give whole numbers from 0 to {positions - 1}{known}.")
            if labels[int(position)] >= 0:
                raise InputError(f"position {given} is in two groups", cure="Name each in one group.")
            labels[int(position)] = number
    alone = labels < 0
    labels[alone] = len(groups) + torch.arange(int(alone.sum()))
    numbered: Tensor = torch.unique(labels, return_inverse=True)[1]  # an empty group is none
    return numbered


def coded(score: Score) -> Tensor:
    """(D,) which columns of a table are numbers of categories."""
    columns, x = getattr(score.model, "columns", None), score.x
    if columns is None or x.ndim != 2:
        return torch.zeros(x.shape[-1], dtype=torch.bool, device=x.device)
    found: Tensor = columns.codes.to(x.device)
    return found
