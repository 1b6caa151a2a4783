"""Remove and debias: removed positions are filled from their neighbours, so that what is left does not tell where they were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.explanation import masks
from pellucid.explanation.score import Alter, Score
from pellucid.explanation.targets import SCALES

from .imputation import linear_imputation
from .insertion_deletion import CONSTANT
from .measuring import Answer, Relevance, measure, no_axes, own

SHARES = tuple(i / 10 for i in range(1, 10))
ORDERS = ("morf", "lerf")
# In single precision imputed values are then within a tenth of the usual noise of the exact ones, for a third less work.
ENOUGH = 1e-4
BIAS = "Favours blurred and compact maps: neighbours fill what is removed, and a scattered map leaves them in place."


@measure(
    "imputation",
    larger_is_better=True,
    cost="len(shares) * F",
    mission="Q1",
    paper="Rong et al. 2022, sec. 4: ROAD with noisy linear imputation",
    reading="How far the probability falls when the most relevant positions are painted over: high if they carry the class.",
    bias=BIAS,
    of="probability",
)
def road(
    score: Score,
    relevance: Relevance,
    *,
    order: str = "morf",
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    of: str = "probability",
) -> Answer:
    """Mean over the shares of p(x) - p(x_s), the share s of most relevant positions imputed in x_s (``linear_imputation``).

    order: "morf" as said; "lerf" takes the least relevant first and gives the mean of p(x_s) - p(x), which is high if they
    do not matter: larger is better in both. noise: standard deviation of what is added to imputed values, in the input's
    units as in the authors' code; one draw per sample for all shares, orders and maps. of: "logit", or "accuracy", 1 where
    the class has the highest score, whose fall is the paper's number. curve (B, T) of p(x_s) over the shares. Equal values
    are removed in the order of memory, in reverse for "lerf".

    Raises UnsupportedError for tables and whole numbers, InputError for shares outside of (0, 1) or that remove everything.
    """
    checks.one_of("order", order, ORDERS)
    curve = _curve(score, relevance, order, shares, noise, of)
    fallen = _clean(score, of) - curve.mean(1)
    return Answer(fallen if order == "morf" else -fallen, list(shares), curve, _notes(relevance))


@measure(
    "imputation",
    larger_is_better=True,
    cost="2 * len(shares) * F, less what road shares",
    mission="Q1",
    paper="Rong et al. 2022; both orders as in pytorch-grad-cam's ROADCombined",
    reading="How much more the probability suffers from losing the most relevant positions than from losing the least.",
    bias=BIAS + " A map's overall size cancels, so does what painting over costs by itself.",
    of="probability",
)
def road_combined(
    score: Score,
    relevance: Relevance,
    *,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    of: str = "probability",
) -> Answer:
    """Mean over the shares of (p(x_lerf) - p(x_morf)) / 2, with the passes and options of ``road``.

    About 0 for a map that says nothing, between -1 and 1. curve (B, T) of that half difference over the shares.
    """
    least, most = (_curve(score, relevance, order, shares, noise, of) for order in ("lerf", "morf"))
    curve = (least - most) / 2
    return Answer(curve.mean(1), list(shares), curve, _notes(relevance))


def _curve(score: Score, relevance: Relevance, order: str, shares: Sequence[float], noise: float, of: str) -> Tensor:
    """(B, T) p(x_s), made once for the measures that ask for the same."""
    checks.one_of("of", of, (*SCALES, "accuracy"))
    checks.positive("noise", noise, zero=True)
    x, positions = score.x, math.prod(masks.spatial(score.x))
    if x.ndim < 3:
        raise no_axes("road")
    if not x.is_floating_point():
        raise UnsupportedError("road of whole numbers, which cannot be mixed", cure="Use deletion with a baseline.")
    counts = [round(checks.fraction("a share", share, ends=False) * positions) for share in shares]
    if not counts or max(counts) == positions:
        raise InputError(f"shares {list(shares)} of {positions} positions", cure="Leave at least one position.")

    def make() -> Tensor:
        first = relevance.order() if order == "morf" else relevance.order().flip(1)
        rank = torch.empty_like(first).scatter_(1, first, torch.arange(positions, device=x.device).expand_as(first))
        cut = torch.tensor(counts, device=x.device)
        solved = ENOUGH if noise > 0 and x.dtype != torch.float64 else None
        added = score.once(("road noise",), lambda: score.noise(score.everyone(), score.everyone() * 0, "road"))

        def alter(sample: Tensor, draw: Tensor) -> Tensor:
            keep = (rank[sample] >= cut[draw, None]).view(len(sample), 1, *x.shape[2:])
            return linear_imputation(x[sample], keep, tolerance=solved) + noise * added[sample] * ~keep

        return _watched(score, len(counts), alter, of).double()

    return score.once(("road", id(relevance), order, tuple(counts), float(noise), of), make)


def _watched(score: Score, count: int, alter: Alter, of: str) -> Tensor:
    if of != "accuracy":
        return score.values(count, alter, of=of)
    return _right(score, score.values(count, alter, classes=_classes(score)))


def _clean(score: Score, of: str) -> Tensor:
    return (_right(score, score.own_of(_classes(score))) if of == "accuracy" else own(score, of)).double()


def _right(score: Score, z: Tensor) -> Tensor:
    """1 where the target has the highest of the scores (B, ..., K)."""
    assert score.target is not None
    return (z.argmax(-1) == masks.beside(score.target, z[..., 0])).to(z)


def _classes(score: Score) -> Tensor:
    """(B, K) all classes."""
    score.own()
    count = 0 if score.target is None else score._answer.shape[1]
    if count < 2:
        raise UnsupportedError("the accuracy of a model that does not choose between classes", cure='Leave of="probability".')
    return torch.arange(count, device=score.x.device).expand(len(score), count)


def _notes(relevance: Relevance) -> list[str]:
    flat = relevance.map.flatten(1)
    return [CONSTANT] if bool((flat.amax(1) == flat.amin(1)).any()) else []
