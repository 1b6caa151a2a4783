"""Shapley values by their definition: all coalitions, sampled orders, and the closed form of a linear model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import UnsupportedError

from . import masks
from .baselines import baselines
from .features import coded
from .game import COST, Answer, Game, Group, answered, base_of, few_enough, game_of
from .method import method
from .result import Found
from .sampling import sampled
from .score import Score

MOST_PLAYERS = 16
READING = "Each feature's fair share of the score's distance from the baseline: orange raises the score, blue lowers it."
# A linear model's answers may miss linearity by rounding only.
ROUNDING = 1e-4
# Rows of a background towards which linearity is checked.
CHECKED = 16


@method(
    "additive",
    needs="score",
    cost=COST,
    claims="signed, complete, zero_at_baseline",
    mission="X1",
    paper="Shapley 1953, eq. 12",
    reading=READING,
)
def shapley(score: Score, x: Tensor, *, features: Any = "auto", baseline: Any = 0.0, classes: int = 0) -> Found:
    """phi_i = sum over S without i of |S|! (M - |S| - 1)! / M! (v(S + i) - v(S)), from all 2^M coalitions.

    v(S) is the score with the features outside S removed. features: what is removed as one piece (``features_of``: columns,
    segments, windows, groups). baseline: what stands in its place (``removal_of``: a number, a name, an input, rows of a
    background, a function). classes: so many more classes, from the same passes, in ``details["by_class"]``.
    A feature that cannot change the input costs nothing and gets 0. UnsupportedError for more than 16 features that can.
    """
    game = game_of(score, features, baseline, classes)
    few_enough(game, MOST_PLAYERS)
    return answered(game, [Answer(exact(game, group)) for group in game.groups], base_of(game)[:, 0])


def every_coalition(players: int) -> Tensor:
    """(2^M, M) bool."""
    return (torch.arange(2**players)[:, None] >> torch.arange(players) & 1).bool()


def exact(game: Game, group: Group) -> Tensor:
    """(G, M, k) Shapley values from all coalitions."""
    m = group.count
    stay = every_coalition(m)
    values = game.values(group, stay).double()
    if m == 0:
        return values.new_zeros(len(values), 0, values.shape[2])
    size = stay.sum(1)
    share = torch.tensor([1 / (m * math.comb(m - 1, s)) for s in range(m)], dtype=torch.float64)
    weights = torch.where(stay, share[(size - 1).clamp(min=0)][:, None], -share[size.clamp(max=m - 1)][:, None])  # (2^M, M)
    return torch.einsum("gsk,sm->gmk", values, weights.to(values.device))


@method(
    "additive",
    needs="score",
    cost=COST,
    claims="signed, complete, zero_at_baseline, sampled",
    mission="X1",
    paper="Castro et al. 2009, sec. 3; Mitchell et al. 2022, sec. 4.1",
    reading=READING,
)
def shapley_sampling(
    score: Score,
    x: Tensor,
    *,
    features: Any = "auto",
    baseline: Any = 0.0,
    samples: int = 16,
    tolerance: float | None = None,
    classes: int = 0,
) -> Found:
    """phi_i = mean over random orders of v(those before i, and i) - v(those before i); each order is walked both ways.

    samples: pairs of an order and its reverse, of 2 (M - 1) coalitions; what two orders share is evaluated once. They sum to
    score - base for any number of orders. tolerance: a sample is done once its ``relative_error`` is below it.
    features, baseline, classes: as in ``shapley``. ``details["standard_error"]`` has the error of each effect, over the pairs.
    """
    game = game_of(score, features, baseline, classes)
    width = int(max((g.count for g in game.groups), default=0))
    k = game.own.shape[1]

    def walked(samples_left: Tensor, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for group in game.groups:
            mine = samples_left[torch.isin(samples_left, group.samples)]
            if not len(mine):
                continue
            active = torch.isin(group.samples, mine)
            orders = [_order(score, group.count, draw) for draw in range(start, stop)]
            steps = torch.cat([_walks(order) for order in orders])
            values = game.values(group, steps, active=active)[game.place[mine]].double()
            gains = values.view(len(mine), stop - start, 2, group.count + 1, k).diff(dim=3)
            found = gains.new_zeros(len(mine), stop - start, width, k)
            for j, order in enumerate(orders):
                for way, walk in enumerate((order, order.flip(0))):
                    found[:, j].index_add_(1, walk.to(found.device), gains[:, j, way] / 2)
            yield mine.repeat_interleave(stop - start), found.flatten(0, 1)

    like = game.own.new_zeros(len(x), width, k, dtype=torch.float64)
    moments = sampled(score, samples, tolerance, walked, like=like)
    mean, error = moments.mean(), moments.error_of_mean()
    answers = [Answer(mean[g.samples, : g.count], error[g.samples, : g.count]) for g in game.groups]
    counts = {"samples": float(moments.n.double().mean())}
    return answered(game, answers, base_of(game)[:, 0], counts=counts, details={"samples": moments.n})


def _order(score: Score, players: int, draw: int) -> Tensor:
    return torch.randperm(players, generator=score.generator_of("orders", players, draw))


def _walks(order: Tensor) -> Tensor:
    """(2 (M + 1), M) the coalitions of an order, from nobody to everybody, then those of its reverse."""
    m = len(order)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(m)
    steps = torch.arange(m + 1)[:, None]
    return torch.cat([rank < steps, m - 1 - rank < steps])


@method(
    "additive",
    needs="score",
    cost="F + (features + checks) * F",
    claims="signed, complete, zero_at_baseline",
    mission="X3",
    paper="Lundberg & Lee 2017, cor. 1",
    reading=READING,
)
def linear_shap(score: Score, x: Tensor, *, baseline: Any = 0.0) -> Found:
    """phi_i = w_i (x_i - E x_i): the Shapley values of a linear model with independent features, exactly.

    baseline: as in ``shapley``; of a set of rows the mean is taken, which is the same for a linear model. Each feature is
    removed once, and that the model is linear is checked: half of the way to the baseline, and to up to 16 rows of a set,
    changes the score by half, and the effects sum to score - base. UnsupportedError where it is not, and for whole numbers.
    """
    if not x.is_floating_point() or bool(coded(score).any()):
        raise UnsupportedError(
            "whole numbers and categories have no half", cure="Use kernel_shap, or shapley for few features."
        )
    several = baselines(baseline, score.inputs, score.first)
    ends = several if len(several) == 1 else [torch.stack(several).mean(0), *several[:: -(-len(several) // CHECKED)]]
    flat, away = x.flatten(1), ends[0].flatten(1)
    d = flat.shape[1]
    places = torch.stack(ends)

    def on_the_way(sample: Tensor, draw: Tensor) -> Tensor:  # half of the way to an end, and all of it
        end = places[draw // 2, sample]
        return torch.where(masks.beside(draw % 2 == 0, x), (x[sample] + end) / 2, end)

    def one(sample: Tensor, draw: Tensor) -> Tensor:
        made = flat[sample].clone()
        made[torch.arange(len(sample), device=x.device), draw] = away[sample, draw]
        return made.view(len(sample), *x.shape[1:])

    own = score.own().double()
    half, whole = score.values(2 * len(ends), on_the_way).double().view(len(x), -1, 2).unbind(2)
    base, scale = whole[:, 0], own.abs() + whole.abs().amax(1)
    bent = (half - (own[:, None] + whole) / 2).abs().amax(1)
    if len(ends) > 1 and len(ends) == len(several) + 1:
        bent = torch.maximum(bent, (whole[:, 1:].mean(1) - base).abs())
    _straight(score, bent, scale)  # before there is an evaluation for every feature
    effects = own[:, None] - score.values(d, one).double()
    _straight(score, own - base - effects.sum(1), scale + effects.abs().sum(1))
    relevance = effects.view(x.shape).to(score.own())
    said = f"the mean of {len(several)} rows" if len(several) > 1 else "the baseline"
    base = base.to(relevance)
    gap = score.own() - base - relevance.flatten(1).sum(1)
    counts = {"features": float(d), "checks": 2.0 * len(ends)}
    return Found(relevance, base=base, gap=gap, counts=counts, removal=said)


def _straight(score: Score, missed: Tensor, scale: Tensor) -> None:
    """UnsupportedError where the model misses linearity by more than rounding."""
    bent = missed.abs() / scale.clamp(min=1e-12)
    if bool((bent > ROUNDING).any()):
        i = int((bent > ROUNDING).nonzero()[0, 0])
        raise UnsupportedError(
            f"the model is not linear between the baseline and the sample: {100 * float(bent[i]):.2g} % of the score is missed",
            where=f"sample {score.first + i}",
            cure="Use kernel_shap, or shapley for few features.",
        )
