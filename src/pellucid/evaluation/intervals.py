"""How far a number measured on N samples may be from the truth: intervals at a stated level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pellucid.core import checks
from pellucid.core.errors import InputError

from .inputs import Floats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """``lower`` to ``upper`` holds the true value with probability ``level``, by ``method``."""

    lower: float
    upper: float
    level: float
    method: str


def clopper_pearson(errors: int, samples: int, *, level: float = LEVEL) -> Interval:
    """The exact interval for an error rate when ``errors`` of ``samples`` independent samples were wrong.

    The ends are the rates at which so many errors or more, or so few or fewer, have probability (1 - ``level``) / 2;
    the coverage is at least ``level`` for every true rate. Clopper & Pearson 1934.
    """
    _check_count(errors, samples)
    found = stats.binomtest(errors, samples).proportion_ci(checks.fraction("level", level, ends=False), method="exact")
    return Interval(float(found.low), float(found.high), level, "Clopper-Pearson")


def hoeffding(errors: int, samples: int, *, level: float = LEVEL) -> Interval:
    """``errors / samples`` plus and minus ``sqrt(log(2 / (1 - level)) / (2 samples))``, cut at 0 and 1.

    Wider than Clopper-Pearson and in closed form: it shows how the uncertainty falls with the number of test samples.
    It holds for a model chosen without the test samples. Hoeffding 1963, theorem 2.
    """
    _check_count(errors, samples)
    delta = 1 - checks.fraction("level", level, ends=False)
    half, rate = math.sqrt(math.log(2 / delta) / (2 * samples)), errors / samples
    return Interval(max(0.0, rate - half), min(1.0, rate + half), level, "Hoeffding")


def bootstrap(
    values: Floats, statistic: Callable[[Floats], Floats], *, level: float = LEVEL, samples: int = 1000, seed: int = 0
) -> Interval:
    """The percentile interval of ``statistic`` of the mean of ``values`` over ``samples`` resamples of the rows, from ``seed``.

    ``statistic`` is monotone and works on an array of means: the identity for a mean, the root for a root mean square.
    Efron & Tibshirani 1993, ch. 13.
    """
    tail = (1 - checks.fraction("level", level, ends=False)) / 2
    rng = np.random.default_rng(seed)
    n = len(values)
    means = np.array([values[rng.integers(0, n, n)].mean() for _ in range(checks.count("samples", samples))])
    lower, upper = np.quantile(statistic(means), (tail, 1 - tail))
    return Interval(float(lower), float(upper), level, "bootstrap")


def _check_count(errors: int, samples: int) -> None:
    checks.count("samples", samples)
    if checks.count("errors", errors, least=0) > samples:
        raise InputError(f"{errors} errors in {samples} samples", cure="Give the number of wrong samples, then of all samples.")
