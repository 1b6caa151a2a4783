"""What the probability does while the map's positions are taken away, or put back, from the most relevant down."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.explanation import masks
from pellucid.explanation.features import features_of, key_of
from pellucid.explanation.removal import removal_of
from pellucid.explanation.score import Score
from pellucid.explanation.targets import SCALES

from .measuring import Answer, Relevance, measure, own

STEPS = 28
CONSTANT = "a map without differences: its order is that of the positions in memory"
TIES = "equal values on both sides of a step: of these the first in memory counts as more relevant"


def scores_without(
    score: Score, baseline: Any, count: int, keep: Callable[[Tensor, Tensor], Tensor], *, of: str | None = None
) -> Tensor:
    """(B, count) scores where only the positions ``keep(sample, draw)`` (n, P) are left: ``count`` F, times the rows of a set.

    baseline: what stands in the place of the others, as ``removal_of`` takes it: a number, "mean", "blur", "inpaint", one
    input, a function (x, keep) -> x, or a set of rows, over which the score is averaged.
    """
    features = features_of(score, "positions")
    removal = score.once(("removal", key_of(baseline)), lambda: removal_of(score, features, baseline))
    rows = removal.count
    table = score.values(count * rows, lambda s, d: removal.without(s, d % rows, keep(s, d // rows)), of=of)
    return table.view(len(score), count, rows).mean(2)


@measure(
    "insertion and deletion",
    larger_is_better=False,
    cost="steps * F, one of which all maps and insertion share where their baselines are the same",
    mission="Q3",
    paper="Petsiuk et al. 2018, sec. 4.2, deletion",
    reading="The mean probability while the most relevant positions go first: low if few of them carry the class.",
    bias="What is half removed looks like no real sample: the probability also falls because of sharp edges. "
    "Favours scattered maps, which make more of them.",
    of="probability",
)
def deletion(score: Score, relevance: Relevance, *, baseline: Any = 0.0, steps: int = STEPS, of: str = "probability") -> Answer:
    """Area under p_c(n / P), the n most relevant of the P positions replaced by the baseline: a trapezoid mean, from 0 to 1.

    All channels of a position go together. steps: equal shares of the positions, one F each; 28 as in the authors' tables
    (1792 of 50176 pixels a step); every position alone where there are fewer. baseline: 0, the mean of a normalised image;
    another number, "mean", "blur", "inpaint", one input, a function, or a set of rows, over which p is averaged. of:
    "logit" watches that. curve (B, T + 1) over ``levels``, the share removed. Of equal values the first in memory goes first.
    """
    return _area(score, relevance, baseline, steps, of, inserted=False)


@measure(
    "insertion and deletion",
    larger_is_better=True,
    cost="steps * F, one of which all maps and deletion share where their baselines are the same",
    mission="Q3",
    paper="Petsiuk et al. 2018, sec. 4.2, insertion",
    reading="The mean probability while the most relevant positions come back first: high if few of them suffice.",
    bias="Favours compact maps over scattered ones, and with a blurred start the fine structure that the blur hides.",
    of="probability",
)
def insertion(
    score: Score, relevance: Relevance, *, baseline: Any = "auto", steps: int = STEPS, of: str = "probability"
) -> Answer:
    """Area under p_c(n / P), the n most relevant of the P positions put into the baseline: a trapezoid mean, from 0 to 1.

    baseline: "auto" is "blur" where there is anything to blur (a Gaussian of a tenth of each axis; the authors' is 5 of 224
    pixels wide), and 0 for tables and whole numbers. All else as in ``deletion``.
    """
    if isinstance(baseline, str) and baseline == "auto":
        baseline = "blur" if score.x.ndim > 2 and score.x.is_floating_point() else 0.0
    return _area(score, relevance, baseline, steps, of, inserted=True)


def _area(score: Score, relevance: Relevance, baseline: Any, steps: int, of: str, *, inserted: bool) -> Answer:
    checks.one_of("of", of, SCALES)
    positions = math.prod(masks.spatial(score.x))
    steps = min(checks.count("steps", steps), positions)
    counts = [round(positions * t / steps) for t in range(steps + 1)]
    order = relevance.order()
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(positions, device=order.device).expand_as(order))
    inner = torch.tensor(counts[1:-1], dtype=torch.long, device=order.device)

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        first = rank[sample] < inner[draw, None]
        return first if inserted else ~first

    clean = own(score, of)[:, None]
    between = scores_without(score, baseline, steps - 1, keep, of=of)
    nothing = score.once(("nothing left", key_of(baseline), of), lambda: _nothing_left(score, baseline, positions, of))
    curve = torch.cat([nothing, between, clean] if inserted else [clean, between, nothing], 1).double()
    levels = torch.tensor(counts, dtype=torch.float64, device=curve.device) / positions
    return Answer(torch.trapezoid(curve, levels, dim=1), levels, curve, _said_of_ties(relevance, order, counts))


def _nothing_left(score: Score, baseline: Any, positions: int, of: str) -> Tensor:
    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        return torch.zeros(len(sample), positions, dtype=torch.bool, device=sample.device)

    return scores_without(score, baseline, 1, keep, of=of)


def _said_of_ties(relevance: Relevance, order: Tensor, counts: list[int]) -> list[str]:
    """Whether the order of equal values has a part in the answer."""
    down = relevance.map.flatten(1).gather(1, order)
    notes = [CONSTANT] if bool((down[:, 0] == down[:, -1]).any()) else []
    cuts = torch.tensor(counts[1:-1], dtype=torch.long, device=order.device)
    return notes + ([TIES] if bool((down[:, cuts - 1] == down[:, cuts]).any()) else [])
