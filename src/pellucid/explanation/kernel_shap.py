"""Kernel SHAP: Shapley values as a regression over coalitions, with better samples and a richer regression."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError

from .game import COST, Answer, Game, Group, answered, base_of, game_of, packed
from .method import method
from .result import Found
from .score import Score
from .shapley import READING, exact

# Strata of up to so many pairs are listed and shuffled; larger ones are drawn until enough are distinct.
LISTED = 1000
CHUNK, CHUNK_OF_MANY = 256, 16
MANY = 64
# The regression has terms of order three where there are so many times as many pairs as terms.
PAIRS_PER_TERM = 1.3
# The first round of evaluations where a tolerance may end them early; the number doubles between looks.
FIRST_ROUND = 64


@method(
    "additive",
    needs="score",
    cost=COST,
    claims="signed, complete, zero_at_baseline, sampled",
    mission="X3",
    paper="Lundberg & Lee 2017, th. 2; Covert & Lee 2021, sec. 3.3; Musco & Witter 2025, sec. 3",
    reading=READING,
)
def kernel_shap(
    score: Score,
    x: Tensor,
    *,
    features: Any = "auto",
    baseline: Any = 0.0,
    samples: int | None = None,
    tolerance: float | None = None,
    classes: int = 0,
) -> Found:
    """The phi that minimise sum over S of w(|S|) (v(S) - v(0) - sum over i in S of phi_i)^2 and sum to v(all) - v(0).

    w(s) = (M - 1) / (C(M, s) s (M - s)). samples: coalitions, by default 2 M + 2048; as soon as there are 2^M - 2 of them the
    values are exact. No feature is ever dropped. Coalitions come in pairs with their complement, without repetition, an equal
    number of every size (each size has the same leverage), and sizes with few coalitions in full. Of a pair only half the
    difference matters, and it is regressed on odd functions of S: single features, and where there are enough pairs and it
    predicts left-out pairs better, products of three; the Shapley values of both have a closed form.

    tolerance: a sample is done once its standard error, relative to its effects, is below it; the number of coalitions then
    doubles from round to round. ``details["standard_error"]``: of each effect, from the regression's left-out residuals.
    features, baseline, classes: as in ``shapley``. Raises InputError for fewer samples than twice the features.
    """
    game = game_of(score, features, baseline, classes)
    if samples is not None:
        checks.count("samples", samples, least=2)
    if tolerance is not None:
        checks.positive("tolerance", tolerance)
    answers = [_of_group(game, group, samples, tolerance) for group in game.groups]
    return answered(game, answers, base_of(game)[:, 0])


def _of_group(game: Game, group: Group, samples: int | None, tolerance: float | None) -> Answer:
    m = group.count
    budget = 2 * m + 2048 if samples is None else samples
    if m < 3 or budget >= 2**m - 2:
        found = exact(game, group)
        return Answer(found, torch.zeros_like(found))
    if budget < 2 * m:
        raise InputError(
            f"{budget} coalitions for {m} features",
            where=f"sample {game.score.first + int(group.samples[0])}",
            cure=f"Give samples of at least {2 * m}.",
        )
    pairs, last = budget // 2, budget // 2
    if tolerance is not None:
        pairs = min(last, max(m, FIRST_ROUND))
    active = torch.ones(len(group.samples), dtype=torch.bool, device=game.own.device)
    effects = game.own.new_zeros(len(group.samples), m, game.own.shape[1], dtype=torch.float64)
    errors = torch.zeros_like(effects)
    while True:
        found, error = _regressed(game, group, Design.of(game.score.seed, m, pairs), active)
        effects[active], errors[active] = found, error
        if tolerance is None or pairs == last:
            return Answer(effects, errors)
        size = effects.pow(2).mean(1).sqrt()
        active = active & (errors.pow(2).mean(1).sqrt() > tolerance * size).any(1)
        if not bool(active.any()):
            return Answer(effects, errors)
        pairs = min(last, 2 * pairs)


@dataclass(frozen=True)
class Design:
    """stay (P, M): one coalition of each pair; weight (P,) in the regression; missing (P,): the share of its size not seen."""

    stay: Tensor
    weight: Tensor
    missing: Tensor

    @classmethod
    @functools.lru_cache(maxsize=32)
    def of(cls, seed: int, players: int, pairs: int) -> Design:
        """An equal number of pairs of every size, those of few pairs in full; a larger design holds every smaller one."""
        sizes = list(range(1, players // 2 + 1))
        counts = [math.comb(players, s) // (2 if 2 * s == players else 1) for s in sizes]
        stays, weights, missing = [], [], []
        for s, count, n in zip(sizes, counts, _allotted(counts, pairs)):
            if not n:
                continue
            some = _distinct(seed, players, s, count, n)
            stays.append(some)
            of_size = (players - 1) / (s * (players - s)) / (2 if 2 * s == players else 1)
            weights.append(torch.full((n,), of_size / n, dtype=torch.float64))
            missing.append(torch.full((n,), 1 - n / count, dtype=torch.float64))
        return cls(torch.cat(stays), torch.cat(weights), torch.cat(missing))


def _allotted(counts: list[int], pairs: int) -> list[int]:
    """``pairs`` shared out evenly, no size more than it has; what is left over goes to the small sizes first."""
    given = [0] * len(counts)
    left = pairs
    while left:
        open_ = [i for i, count in enumerate(counts) if given[i] < count]
        if not open_:
            break
        share = max(1, left // len(open_))
        for i in open_[:left]:
            more = min(share, counts[i] - given[i], left)
            given[i] += more
            left -= more
    return given


def _distinct(seed: int, players: int, size: int, count: int, n: int) -> Tensor:
    """(n, M) distinct coalitions of one size; of the middle size those with player 0, whose complements are the others."""
    generator = seeds.generator(seed, "coalitions", players, size)
    middle = 2 * size == players
    if count <= LISTED:
        rest = itertools.combinations(range(1, players), size - 1) if middle else itertools.combinations(range(players), size)
        chosen = torch.tensor([(0, *c) if middle else c for c in rest]).view(count, size)
        if n < count:
            chosen = chosen[torch.randperm(count, generator=generator)[:n]]
        return torch.zeros(n, players, dtype=torch.bool).scatter_(1, chosen, True)
    chunk = CHUNK if players <= MANY else CHUNK_OF_MANY
    found: dict[bytes, int] = {}
    drawn: list[Tensor] = []
    while len(found) < n:
        ranks = torch.rand(chunk, players, generator=generator, dtype=torch.float64).argsort(1)
        stay = torch.zeros(chunk, players, dtype=torch.bool).scatter_(1, ranks[:, :size], True)
        if middle:
            stay ^= ~stay[:, :1]
        start = chunk * len(drawn)
        for row, key in enumerate(packed(stay)):
            found.setdefault(key, start + row)
        drawn.append(stay)
    return torch.cat(drawn)[list(found.values())[:n]]


def _regressed(game: Game, group: Group, design: Design, active: Tensor) -> tuple[Tensor, Tensor]:
    """(A, M, k) effects of the active samples and their standard errors."""
    p = len(design.stay)
    values = game.values(group, torch.cat([design.stay, ~design.stay]), active=active)[active].double()
    odd = (values[:, :p] - values[:, p:]) / 2  # (A, P, k)
    ends = torch.ones(1, group.count, dtype=torch.bool)
    top = game.values(group, torch.cat([ends, ~ends]), active=active)[active].double()
    total = (top[:, 0] - top[:, 1]) / 2  # (A, k)
    many, k = odd.shape[0], odd.shape[2]
    u, full = odd.permute(1, 0, 2).reshape(p, -1).cpu(), total.reshape(-1).cpu()
    best = _fitted(design, u, full, order=1)
    if p >= PAIRS_PER_TERM * (group.count + math.comb(group.count, 3)):
        other = _fitted(design, u, full, order=3)
        better = other[2] < best[2]
        best = (torch.where(better, other[0], best[0]), torch.where(better, other[1], best[1]), best[2])
    effects, errors = (t.view(group.count, many, k).permute(1, 0, 2).to(values.device) for t in best[:2])
    return effects, errors


def _fitted(design: Design, u: Tensor, full: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Effects (M, n), their standard errors, and the weighted squared error (n,) on left-out pairs; u (P, n), full (n,).

    u = sum over odd T of c_T chi_T with chi_T the product of +-1 over T, and sum c_T = u(all), which takes the first term out.
    chi_T has the Shapley value 2 / |T| for each player in T.
    """
    signs = design.stay.double() * 2 - 1
    m = signs.shape[1]
    shares = [2 * torch.eye(m, dtype=torch.float64)]
    if order == 3:
        triples = torch.combinations(torch.arange(m), 3)
        shares.append(torch.zeros(m, len(triples), dtype=torch.float64).scatter_(0, triples.T, 2 / 3))
        signs = torch.cat([signs, signs[:, triples].prod(2)], 1)
    share = torch.cat(shares, 1)
    root = design.weight.sqrt()[:, None]
    terms, aim = root * (signs[:, 1:] - signs[:, :1]), root * (u - signs[:, :1] * full)
    q, r = torch.linalg.qr(terms)
    away = r.diagonal().abs()
    inverse = torch.linalg.solve_triangular(r, q.T, upper=True) if away.min() > 1e-9 * away.max() else torch.linalg.pinv(terms)
    found = inverse @ aim  # c without the first
    spread = share[:, 1:] - share[:, :1]
    effects = share[:, :1] * full + spread @ found
    known = (terms * inverse.T).sum(1, keepdim=True)  # leverages
    out = (aim - terms @ found) / (1 - known).clamp(min=1e-6)
    errors = ((spread @ inverse) ** 2 @ (out**2 * design.missing[:, None])).sqrt()
    return effects, errors, (out**2).sum(0)
