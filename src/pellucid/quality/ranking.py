"""Which method is better, and is the difference more than chance? Means, ranks and differences, paired over the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError
from pellucid.evaluation.intervals import LEVEL

Floats = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True)
class Column:
    """One measure of several methods: name -> (N,) values of the same N samples, NaN where a map has none.

    controls: names of the maps that know nothing of the model, which are compared with but not ranked; won: those that are best
    by construction, and not compared with. weight: how much the ranks by this measure count in the mean over all of them.
    """

    values: Mapping[str, Floats]
    larger_is_better: bool
    controls: Sequence[str] = ()
    weight: float = 1.0
    won: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Every method has one value per sample."""
        checks.same_length(**self.values)

    @property
    def ranked(self) -> list[str]:
        """The methods that are no controls and have a value for some sample."""
        return [n for n, v in self.values.items() if n not in self.controls and not np.isnan(v).all()]


@dataclass(frozen=True)
class Place:
    """One method by one measure. mean with its interval; rank from 1 (best); samples that have a value.

    best: no method is better by more than chance: the interval of the paired difference to the best mean reaches 0.
    beats: better than every control by more than chance; None without controls.
    """

    mean: float
    lower: float
    upper: float
    samples: int
    rank: float | None = None
    best: bool = False
    beats: bool | None = None


@dataclass(frozen=True)
class Ranking:
    """places: measure -> method -> ``Place``; overall: method -> (mean rank over the measures, lower, upper), best first."""

    places: Mapping[str, Mapping[str, Place]]
    overall: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def rank(columns: Mapping[str, Column], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Ranking:
    """Ranks by every measure and over all of them, with bootstrap intervals.

    The same resamples of the samples serve all methods, so that differences are paired: a picture that is hard for all methods
    moves none of them. Where a map has no value it takes part with the worst that any ranked method has on that sample, so that
    saying nothing of hard samples is no advantage; its mean is over the samples that have one.

    A method's mean rank is over the measures that have a value for it, by their weights; equal ranks are shared. Its interval
    comes from ranking anew in every resample: it tells how far these samples decide the order, not whether the measures agree.

    Raises InputError where there is nothing to rank.
    """
    if not columns:
        raise InputError("no measure to rank by", cure="Give at least one column of values.")
    tail = (1 - checks.fraction("level", level, ends=False)) / 2
    places: dict[str, dict[str, Place]] = {}
    counts: dict[int, Floats] = {}  # the same for all columns of as many samples
    ranks: dict[str, list[tuple[float, Floats]]] = {}
    for measure, column in columns.items():
        names = list(column.values)
        table = np.stack([np.asarray(column.values[n], dtype=np.float64) for n in names])
        n = table.shape[1]
        if n not in counts:
            counts[n] = _counts(n, resamples, seed)
        places[measure], drawn = _places(names, table, counts[n], column, tail)
        for name, row in drawn.items():
            if column.weight > 0:
                ranks.setdefault(name, []).append((column.weight, row))
    overall = {}
    for name, rows in ranks.items():
        mean = np.average([row for _, row in rows], 0, [weight for weight, _ in rows])
        lower, upper = np.quantile(mean[1:], (tail, 1 - tail))
        overall[name] = float(mean[0]), float(lower), float(upper)
    return Ranking(places, dict(sorted(overall.items(), key=lambda item: item[1][0])))


def _counts(n: int, resamples: int, seed: int) -> Floats:
    """(1 + S, N) how often each sample counts: once, then in each of S resamples."""
    rng = np.random.default_rng(seeds.derive(seed, "resamples", n))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=checks.count("resamples", resamples)).astype(np.float64)
    return np.concatenate([np.ones((1, n)), counts])


def _resampled(table: Floats, counts: Floats) -> Floats:
    """(1 + S, M) the means of every method: of the samples as they are, then of each resample; NaN left out."""
    known = ~np.isnan(table)
    weight = counts @ known.T
    total = counts @ np.where(known, table, 0).T
    found: Floats = np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)
    return found


def _places(
    names: list[str], table: Floats, counts: Floats, column: Column, tail: float
) -> tuple[dict[str, Place], dict[str, Floats]]:
    """A place for every method, and for the ranked ones the rank (1 + S,) in every resample."""
    means = _resampled(table, counts)
    sign = -1 if column.larger_is_better else 1
    ranked = [names.index(name) for name in column.ranked]
    filled = sign * table  # smaller is better from here on
    drawn: dict[str, Floats] = {}
    if ranked:
        filled[ranked] = _with_worst(filled[ranked])
        costs = _resampled(filled[ranked], counts)
        for i, row in zip(ranked, rankdata(costs, axis=1).T):
            drawn[names[i]] = row
        leader = ranked[int(np.argmin(costs[0]))]

    def ends(i: int, j: int) -> tuple[float, float]:
        """The interval of how much worse i is than j, over the samples of which both have a value."""
        apart = _resampled((filled[i] - filled[j])[None], counts)[1:, 0]
        return _quantile(apart, tail), _quantile(apart, 1 - tail)

    controls = [names.index(c) for c in column.controls if c in names and c not in column.won]
    controls = [c for c in controls if not np.isnan(filled[c]).all()]
    places = {}
    for i, name in enumerate(names):
        known = int((~np.isnan(table[i])).sum())
        lower, upper = np.nanquantile(means[1:, i], (tail, 1 - tail)) if known else (np.nan, np.nan)
        best = i in ranked and (i == leader or ends(i, leader)[0] <= 0)
        beats = all(ends(i, c)[1] < 0 for c in controls) if i in ranked and controls else None
        rank_ = float(drawn[name][0]) if name in drawn else None
        places[name] = Place(float(means[0, i]), float(lower), float(upper), known, rank_, best, beats)
    return places, drawn


def _with_worst(costs: Floats) -> Floats:
    """(M, N) with the greatest of its column in the place of what is missing; a column without any value stays."""
    known = ~np.isnan(costs)
    worst = np.where(known, costs, -np.inf).max(0)
    return np.where(known | ~known.any(0), costs, worst)


def _quantile(values: Floats, share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")
