"""Does relevance say how much the score falls? Its sum over what is removed at random, beside the fall."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.explanation import masks
from pellucid.explanation.baselines import single_baseline
from pellucid.explanation.features import key_of
from pellucid.explanation.score import Score, differentiable

from .insertion_deletion import scores_without
from .measuring import Answer, Relevance, measure, no_axes

PERTURBATIONS = ("auto", "square", "subset", "gaussian", "all")
# The largest square that is removed: 10 of the 28 pixels of the paper's digits.
LARGEST = 10 / 28
BLANK = "a map whose sums are all zero: its infidelity is the mean square of the falls, whatever its scale"
FLAT = "a map, or a score, that is the same for every subset has no correlation"


@measure(
    "score changes",
    larger_is_better=False,
    cost="draws * F, once for all maps",
    mission="Q5",
    paper="Yeh et al. 2019, def. 2.1 and sec. 2.2",
    reading="The mean square of what relevance does not tell of the score's fall when parts are removed.",
    bias="With the best factor a map and its negative are equal, and so are a map and any multiple of it; methods that add up "
    "over such parts (Shapley values, occlusion) are favoured. Large scores weigh most.",
)
def infidelity(
    score: Score,
    relevance: Relevance,
    *,
    perturbation: str = "auto",
    draws: int = 100,
    baseline: Any = 0.0,
    noise: float = 0.2,
    slopes: bool = False,
    normalise: bool = True,
) -> Answer:
    """mean over draws of (beta * I.phi - (f(x) - f(x - I)))^2 of each sample, f the number that the explanation explains.

    perturbation: "square", a window anywhere, of a side from 1 to 10/28 of the shortest axis, all equally likely, is set to the
    baseline; "subset", every position with probability 1/2; "all", everything, once; "gaussian", I ~ N(0, sigma^2), sigma =
    ``noise`` times the sample's range. "auto": squares, for tables subsets. What is removed takes all channels along.
    I.phi is the sum of the relevance over what is removed: relevance is in shares of the score. ``slopes``: it is in score
    per unit of the input (a gradient), I is x - b, and I.phi a product; "gaussian" asks for that. Complete methods have 0
    under "all", gradients of a linear score under any. normalise: beta is the factor with the smallest error over the
    draws, as in the authors' code; else 1. Draws are independent, depend on seed and sample only, and are the same for all
    maps. The unit is the score's, squared.

    Raises InputError where normalise leaves no error to see (a single draw), and for shares of the score under "gaussian".
    """
    checks.one_of("perturbation", perturbation, PERTURBATIONS)
    kind = perturbation if perturbation != "auto" else "subset" if score.x.ndim == 2 else "square"
    draws = 1 if kind == "all" else checks.count("draws", draws)
    if normalise and draws == 1:
        raise InputError("infidelity of one draw, which a factor fits exactly", cure="Give normalise=False, or more draws.")
    if kind == "gaussian":
        if not slopes:
            raise InputError("gaussian noise for relevance in shares of the score", cure="Give slopes=True for a gradient.")
        falls, sums = _under_noise(score, relevance, draws, checks.positive("noise", noise))
    else:
        removed = _removed(score, kind, draws)
        falls = _falls(score, removed, baseline, ("infidelity", kind, draws))
        phi = relevance.relevance
        phi = phi * (score.x - single_baseline(baseline, score.inputs, score.first)) if slopes else phi
        sums = _sums(phi, removed)
    power = sums.square().sum(1, keepdim=True)
    beta = (falls * sums).sum(1, keepdim=True) / torch.where(power > 0, power, 1) if normalise else 1.0
    return Answer((beta * sums - falls).square().mean(1), notes=[BLANK] if normalise and bool((power == 0).any()) else [])


@measure(
    "score changes",
    larger_is_better=True,
    cost="draws * F, once for all maps",
    mission="Q1",
    paper="Bhatt et al. 2020, sec. 3.3, eq. 2",
    reading="Whether the score falls more the more relevance is removed, from -1 to 1.",
    bias="Subsets spread over the whole input look like no real sample, and of many positions hold nearly the same relevance: "
    "numbers are small, and a linear network is favoured. A constant map has no value.",
)
def faithfulness_correlation(
    score: Score, relevance: Relevance, *, share: float = 0.25, draws: int = 100, baseline: Any = 0.0
) -> Answer:
    """Pearson's correlation over draws of sum_{i in S} phi_i and f(x) - f(x without S), f the number that is explained.

    S: a random subset of ``share`` of the positions, at least one, all channels, set to the baseline (as in ``deletion``).
    Draws depend on seed and sample only and are the same for all maps. NaN where either has no variation: a constant map.
    """
    checks.fraction("share", share, ends=False)
    positions = math.prod(masks.spatial(score.x))
    size = min(max(1, round(share * positions)), positions - 1)
    if size < 1:
        raise InputError("a correlation over subsets of one position", cure="Use it on samples of several.")
    removed = score.once(("subsets", size, draws), lambda: _subsets(score, size, checks.count("draws", draws, least=3)))
    falls = _falls(score, removed, baseline, ("subsets", size, draws))
    sums = _sums(relevance.relevance, removed)
    # rounding alone is no variation: sums are exact to float64, falls to the precision of the scores
    scale = relevance.relevance.flatten(1).double().abs().amax(1, keepdim=True) * size
    level = torch.maximum(score.own().double().abs()[:, None], falls.abs().amax(1, keepdim=True))
    a, flat_sums = _centred(sums, 1e-12 * scale)
    b, flat_falls = _centred(falls, 8 * torch.finfo(score.own().dtype).eps * level)
    flat = flat_sums | flat_falls
    values = torch.where(flat, torch.nan, (a * b).sum(1) / torch.where(flat, 1, a.norm(dim=1) * b.norm(dim=1)))
    return Answer(values.clamp(-1, 1), notes=[FLAT] if bool(flat.any()) else [])


def _centred(numbers: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """(B, draws) without their mean, and (B,) where none is further from it than rounding takes it."""
    centred = numbers - numbers.mean(1, keepdim=True)
    return centred, (centred.abs() <= rounding).all(1)


def _falls(score: Score, removed: Tensor, baseline: Any, key: Hashable) -> Tensor:
    """(B, draws) f(x) - f(x without what is removed), the same passes for all maps."""

    def make() -> Tensor:
        after = scores_without(score, baseline, removed.shape[1], lambda s, d: ~removed[s, d])
        return score.own().double()[:, None] - after.double()

    return score.once(("falls", key, key_of(baseline)), make)


def _sums(phi: Tensor, removed: Tensor) -> Tensor:
    """(B, draws) the relevance of what is removed, (B, draws, P)."""
    flat = masks.collect(phi).flatten(1).double()
    return torch.stack([where.double() @ one for where, one in zip(removed, flat)])


def _removed(score: Score, kind: str, draws: int) -> Tensor:
    """(B, draws, P) what is removed of each sample in each draw."""
    x, size = score.x, masks.spatial(score.x)

    def of(i: int) -> Tensor:
        if kind == "square":
            return _squares(size, draws, score.generator(i, 0, "infidelity"))
        if kind == "subset":
            return torch.rand(draws, math.prod(size), generator=score.generator(i, 0, "infidelity")) < 0.5
        return torch.ones(draws, math.prod(size), dtype=torch.bool)

    if kind == "square" and x.ndim == 2:
        raise no_axes("infidelity over squares")
    return score.once(("removed", kind, draws), lambda: torch.stack([of(i) for i in range(len(x))]).to(x.device))


def _squares(size: tuple[int, ...], draws: int, generator: torch.Generator) -> Tensor:
    """(draws, P) one window each, drawn evenly from all places of all sides."""
    sides = torch.arange(1, max(1, round(LARGEST * min(size))) + 1)
    places = torch.stack([length - sides + 1 for length in size])  # (axes, sides)
    u = torch.rand(draws, 1 + len(size), generator=generator, dtype=torch.float64)
    chances = places.double().prod(0).cumsum(0)
    side = torch.searchsorted(chances, u[:, 0] * chances[-1], right=True).clamp(max=len(sides) - 1)
    inside = torch.ones(draws, *[1] * len(size), dtype=torch.bool)
    for axis, length in enumerate(size):
        corner = (u[:, 1 + axis] * places[axis, side]).long()
        along = torch.arange(length)
        covered = (along >= corner[:, None]) & (along < (corner + sides[side])[:, None])
        inside = inside & covered.view(draws, *(length if a == axis else 1 for a in range(len(size))))
    return inside.flatten(1)


def _subsets(score: Score, size: int, draws: int) -> Tensor:
    """(B, draws, P) random subsets of ``size`` positions."""
    positions = math.prod(masks.spatial(score.x))

    def of(i: int) -> Tensor:
        u = torch.rand(draws, positions, generator=score.generator(i, 0, "faithfulness correlation"), dtype=torch.float64)
        return u <= u.kthvalue(size, dim=1, keepdim=True).values

    return torch.stack([of(i) for i in range(len(score))]).to(score.x.device)


def _under_noise(score: Score, relevance: Relevance, draws: int, noise: float) -> tuple[Tensor, Tensor]:
    """(B, draws) falls and I.phi for I of independent normal noise on every value."""
    x = differentiable(score.x)
    sigma = noise * score.inputs.spread()

    def drawn(sample: Tensor, draw: Tensor) -> Tensor:
        return sigma[sample] * score.noise(sample, draw, "infidelity")

    def make() -> Tensor:
        after = score.values(draws, lambda s, d: x[s] - drawn(s, d))
        return score.own().double()[:, None] - after.double()

    every = torch.arange(draws, device=x.device)
    each = [drawn(torch.full_like(every, i), every).flatten(1).double() for i in range(len(x))]
    phi = relevance.relevance.flatten(1).double()
    return score.once(("falls", "noise", draws, noise), make), torch.stack([n @ one for n, one in zip(each, phi)])
