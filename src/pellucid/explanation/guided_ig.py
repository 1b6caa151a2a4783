"""Integrated gradients along a path that the gradients choose (Kapishnikov et al., CVPR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.core import checks

from .baselines import Baseline, single_baseline
from .integrated_gradients import base_scores
from .method import method
from .result import Found
from .score import Score


@method(
    "gradient",
    needs="score",
    cost="2 * F + steps * (F + B)",
    claims="signed, zero_at_baseline",
    mission="X13",
    paper="Kapishnikov et al. 2021, alg. 1",
    reading="As integrated gradients, on a path that moves the values with a small gradient first: less noise.",
)
def guided_ig(
    score: Score,
    x: Tensor,
    *,
    baseline: Baseline = 0.0,
    steps: int = 200,
    fraction: float = 0.25,
    max_distance: float = 0.02,
) -> Found:
    """Sum over the steps of a path from b to x of gradient * step, where each step moves values with small |gradient|.

    baseline: a single one, as for ``integrated_gradients``. steps: of equal length in the L1 norm, one after another.
    fraction: share of the values, those with the smallest |gradient|, that may move at once. max_distance: how far the path
    may leave the straight line, as a share of it; 0 gives integrated gradients by the left Riemann sum, 1 sets no bound.
    ``gap`` is what is missing to score - base.
    """
    checks.count("steps", steps)
    checks.fraction("fraction", fraction)
    checks.fraction("max_distance", max_distance)
    origin = single_baseline(baseline, score.inputs, score.first)
    b, end = origin.flatten(1), x.flatten(1)
    own, base = score.own(), base_scores(score, [origin])[:, 0]
    here, relevance = b.clone(), torch.zeros_like(end)
    everything = (end - b).abs().sum(1)
    for step in range(steps):
        at = here.view_as(x)
        g = score.weighted_gradient(1, lambda sample, draw, at=at: at[sample], torch.ones(1)).flatten(1)  # type: ignore[misc]
        low, high = (b + (end - b) * min(1.0, max(0.0, (step + 1) / steps + d)) for d in (-max_distance, max_distance))
        moved = _advance(here, g, end, low, high, everything * (1 - (step + 1) / steps), fraction)
        relevance += (moved - here) * g
        here = moved
    relevance = relevance.view_as(x)
    return Found(relevance, base=base, gap=own - base - relevance.flatten(1).sum(1))


def _advance(here: Tensor, g: Tensor, end: Tensor, low: Tensor, high: Tensor, left: Tensor, fraction: float) -> Tensor:
    """(B, D) the next point: at distance ``left`` (B,) from the end, between ``low`` and ``high`` on the way of each value.

    Values behind ``low`` are brought up to it. Then the free values with the smallest |gradient| go towards ``high``,
    in rounds, until the distance is reached; the last round goes only part of the way.
    """
    # how far along its way a value is: low and high are points of the same way, so distances to the end compare
    here = torch.where((here - end).abs() > (low - end).abs(), low, here)
    slope = g.abs()
    going = torch.ones(len(here), dtype=torch.bool, device=here.device)
    tiny = 1e-12 * (end - low).abs().amax(1).clamp(min=1e-30) + torch.finfo(here.dtype).eps * end.abs().sum(1)
    for _ in range(here.shape[1] + 1):
        short = (here - end).abs().sum(1) - left
        going = going & (short > tiny)
        free = (here != high) & going[:, None]
        going = going & free.any(1)
        if not bool(going.any()):
            break
        free &= going[:, None]
        # inf where fewer values are free: then all of them
        limit = slope.masked_fill(~free, torch.inf).kthvalue(1 + int(fraction * (slope.shape[1] - 1)), 1).values
        chosen = free & (slope <= limit[:, None])
        room = ((high - here).abs() * chosen).sum(1)
        part = torch.where(room > short, short / room.clamp(min=1e-300), torch.ones_like(room))[:, None]
        reached = torch.where(part < 1, here + (high - here) * part, high)
        here = torch.where(chosen, reached, here)
        going = going & (part[:, 0] >= 1)
    return here
