"""What stands in the place of a feature that is taken away: a constant, a mean, a blur, the rest of the picture, other rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.core.errors import InputError

from . import masks
from .baselines import NAMED, baselines
from .features import Features
from .score import Score

BY_FEATURES = ("segment_mean", "inpaint")
_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Removal:
    """``name`` of what stands there; ``count`` inputs that a score is the mean over; ``without`` makes them.

    without(sample, r, keep): the inputs of these samples where ``keep`` (P, positions) is True, elsewhere the r-th replacement.
    alters (B, F): whether taking a feature away can change the input at all.
    """

    name: str
    count: int
    without: Callable[[Tensor, Tensor, Tensor], Tensor]
    alters: Tensor


def removal_of(score: Score, features: Features, baseline: Any) -> Removal:
    """The replacement that ``baseline`` names.

    A number, "mean", "blur", one input, or a set of them (R, ...), as in ``integrated_gradients``: with a set the score of a
    coalition is the mean over the set, which is the interventional expectation. "segment_mean": every feature becomes its own
    mean colour (Ribeiro et al. 2016). "inpaint": the hidden places are filled from the visible ones around them, from coarse to
    fine. A function ``(x, keep) -> x``: x (P, ...) the samples, keep a mask that broadcasts with it, True where visible.
    """
    x = score.x
    if callable(baseline) and not isinstance(baseline, Tensor):
        return Removal(_called_by(baseline), 1, lambda s, r, keep: _users(baseline, x[s], shaped(keep, x)), features.present)
    if isinstance(baseline, str) and baseline == "inpaint":
        if x.ndim == 2:
            raise InputError("the columns of a table cannot be painted in", cure="Give a number or rows of the training data.")
        return Removal("in-painting", 1, lambda s, r, keep: inpainted(x[s], shaped(keep, x)), features.present)
    if isinstance(baseline, str) and baseline not in (*NAMED, *BY_FEATURES):
        known = ", ".join((*NAMED, *BY_FEATURES))
        raise InputError(f"baseline is {baseline!r}", cure=f"Give a number, inputs, a function, or one of: {known}.")
    if isinstance(baseline, str) and baseline == "segment_mean":
        if features.each or not x.is_floating_point():
            raise InputError(
                "the mean of a single value is itself", cure="Name segments, or give a number or rows as baseline."
            )
        several = [_segment_means(x, features)]
    else:
        several = baselines(baseline, score.inputs, score.first)
    if len(several) == 1:
        return Removal(
            _said(baseline),
            1,
            lambda s, r, keep: torch.where(shaped(keep, x), x[s], several[0][s]),
            _differs(x, several, features),
        )
    rows = torch.stack([b[0] for b in several])
    name = f"the mean over {len(rows)} rows of a background"
    return Removal(
        name, len(rows), lambda s, r, keep: torch.where(shaped(keep, x), x[s], rows[r]), _differs(x, several, features)
    )


def shaped(keep: Tensor, x: Tensor) -> Tensor:
    """(P, positions) as a mask that broadcasts with inputs like ``x``."""
    return keep if x.ndim == 2 else keep.view(len(keep), 1, *x.shape[2:])


def inpainted(x: Tensor, keep: Tensor) -> Tensor:
    """x (P, C, *spatial) where ``keep`` (P, 1, *spatial); elsewhere means of the visible values around, coarse to fine."""

    def filled(total: Tensor, weight: Tensor) -> Tensor:
        size = tuple(weight.shape[2:])
        here = total / weight.clamp(min=1e-12)
        if max(size) == 1 or bool((weight > 0).all()):
            return here
        pool = _POOL[len(size)]
        half = [min(2, s) for s in size]
        coarse = filled(*(pool(t, half, ceil_mode=True) for t in (total, weight)))
        above = masks.resize(coarse.flatten(0, 1), size).view(*coarse.shape[:2], *size)
        return torch.where(weight > 0, here, above)

    weight = keep.to(x)
    return torch.where(keep, x, filled(x * weight, weight))


def _segment_means(x: Tensor, features: Features) -> Tensor:
    """Each position the mean of its feature, per channel; of a table, where a feature is a column, its own value."""
    flat = x.reshape(len(x), -1, features.labels.shape[1])
    where = features.labels[:, None].expand(flat.shape)
    total = flat.new_zeros(len(x), flat.shape[1], features.sizes.shape[1]).scatter_add_(2, where, flat)
    return (total / features.sizes.clamp(min=1)[:, None]).gather(2, where).view(x.shape)


def _differs(x: Tensor, several: list[Tensor], features: Features) -> Tensor:
    """(B, F) whether any position of a feature differs from any replacement; a missing value is equal to a missing value."""
    found = torch.zeros(len(x), features.labels.shape[1], dtype=torch.bool, device=x.device)
    for b in several:
        other = (x != b) & ~(x.isnan() & b.isnan())
        found |= other.reshape(len(x), -1, found.shape[1]).any(1)
    if features.each:
        return found
    counted = torch.zeros_like(features.sizes).scatter_add_(1, features.labels, found.long())
    return counted > 0


def _users(fill: Callable[[Tensor, Tensor], Any], x: Tensor, keep: Tensor) -> Tensor:
    made = fill(x, keep)
    if not isinstance(made, Tensor) or made.shape != x.shape:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise InputError(f"the function that removes features gave {got}", cure=f"Return inputs of shape {tuple(x.shape)}.")
    return torch.where(keep, x, made.to(x))


def _called_by(fill: Any) -> str:
    return f"the function {getattr(fill, '__name__', type(fill).__name__)}"


def _said(baseline: Any) -> str:
    if isinstance(baseline, str):
        return {"mean": "the sample's mean", "blur": "the blurred sample", "segment_mean": "each feature's mean"}[baseline]
    return f"{baseline:g}" if isinstance(baseline, int | float) else "an input that was given"
