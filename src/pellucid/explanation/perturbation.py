"""Methods that alter the input and watch the score. They need scores only, so any function can be explained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from . import masks
from .baselines import single_baseline
from .method import method
from .result import Found
from .score import Score


@method(
    "perturbation",
    needs="score",
    cost="F + windows * F",
    claims="signed, zero_at_baseline",
    mission="X8",
    paper="Zeiler & Fergus 2014, sec. 4.2",
    reading="Orange where covering the place lowers the score, blue where it raises it; as coarse as the window.",
)
def occlusion(
    score: Score,
    x: Tensor,
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    baseline: float | Tensor = 0.0,
) -> Found:
    """s(x) - s(x with a window set to the baseline); a position gets the mean over the windows that cover it.

    window, stride: per spatial axis in pixels; by default a seventh of each axis and half of that. All channels are
    covered at once. A last window is set flush with the edge, so that every position is covered. Of a table each
    feature is a window of its own.
    """
    size = masks.spatial(x)
    table = x.ndim == 2
    windows = _per_axis("window", window, [1 if table else max(1, round(s / 7)) for s in size])
    strides = _per_axis("stride", stride, [max(1, w // 2) for w in windows])
    for w, s in zip(windows, size):
        if w > s:
            raise InputError(f"window {w} is larger than the input's axis of {s}", cure=f"Give at most {s}.")
    if any(step > w for step, w in zip(strides, windows)):
        raise InputError(
            f"stride {strides} leaves gaps between windows of {windows}", cure="Give a stride of at most the window."
        )
    starts = [sorted({*range(0, s - w + 1, step), s - w}) for s, w, step in zip(size, windows, strides)]
    corners = list(itertools.product(*starts))
    cover = torch.zeros(len(corners), *size, dtype=torch.bool, device=x.device)
    for mask, corner in zip(cover, corners):
        mask[tuple(slice(c, c + w) for c, w in zip(corner, windows))] = True
    b = single_baseline(baseline, score.inputs, score.first)

    def hidden(sample: Tensor, draw: Tensor) -> Tensor:
        where = cover[draw] if table else cover[draw][:, None]
        return torch.where(where, b[sample], x[sample])

    drops = score.own()[:, None] - score.values(len(corners), hidden)
    weight = cover.flatten(1).to(drops)
    raw = ((drops @ weight) / weight.sum(0)).view(len(x), *size)
    return Found(masks.spread(raw, x), raw=raw, counts={"windows": math.prod(map(len, starts))})


def _per_axis(name: str, given: int | Sequence[int] | None, default: list[int]) -> list[int]:
    if given is None:
        return default
    values = [given] * len(default) if isinstance(given, int) else list(given)
    if len(values) != len(default):
        raise InputError(f"{name} has {len(values)} numbers for {len(default)} axes", cure="Give one number, or one per axis.")
    return [checks.count(name, value) for value in values]
