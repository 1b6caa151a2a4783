"""One number per row: how far off, in which direction, and what the residuals still know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pellucid.core.table import MEASURES

from . import inputs
from .inputs import Floats
from .intervals import Interval, bootstrap
from .reports import Baseline, Measure, Report, scores

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@MEASURES.add("evaluation", task="regression", larger_is_better=False, mission="F3")
def mse(y: ArrayLike, predicted: ArrayLike) -> float:
    """``mean((y - f)^2)``: the risk under the squared loss, in squared units of ``y``."""
    return float(np.mean(_residuals(y, predicted) ** 2))


@MEASURES.add("evaluation", task="regression", larger_is_better=False, mission="F3")
def rmse(y: ArrayLike, predicted: ArrayLike) -> float:
    """``sqrt(mean((y - f)^2))``, in units of ``y``."""
    return float(np.sqrt(mse(y, predicted)))


@MEASURES.add("evaluation", task="regression", larger_is_better=False, mission="F3")
def mae(y: ArrayLike, predicted: ArrayLike) -> float:
    """``mean(|y - f|)``, in units of ``y``."""
    return float(np.mean(np.abs(_residuals(y, predicted))))


@MEASURES.add("evaluation", task="regression", larger_is_better=True, mission="L3")
def r2(y: ArrayLike, predicted: ArrayLike) -> float:
    """``1 - sum((y - f)^2) / sum((y - mean y)^2)``: 0 for the mean of these rows; not a number if all ``y`` are equal."""
    return _one_minus(float(np.mean(_residuals(y, predicted) ** 2)), y)


@MEASURES.add("evaluation", task="regression", larger_is_better=True, mission="L3")
def explained_variance(y: ArrayLike, predicted: ArrayLike) -> float:
    """``1 - var(y - f) / var(y)``: R2 with the bias forgiven; not a number if all ``y`` are equal."""
    return _one_minus(float(np.var(_residuals(y, predicted))), y)


@MEASURES.add("evaluation", task="regression", larger_is_better=False, mission="L3")
def median_absolute_error(y: ArrayLike, predicted: ArrayLike) -> float:
    """``median(|y - f|)``: not moved by a few large errors."""
    return float(np.median(np.abs(_residuals(y, predicted))))


@MEASURES.add("evaluation", task="regression", larger_is_better=False, mission="L3")
def max_error(y: ArrayLike, predicted: ArrayLike) -> float:
    """``max(|y - f|)``."""
    return float(np.max(np.abs(_residuals(y, predicted))))


@MEASURES.add("evaluation", task="regression", larger_is_better=True, mission="L3")
def correlation(y: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation of ``y`` and ``f``; not a number if either is constant."""
    truth, values = inputs.regression(y, predicted)
    if not (np.ptp(truth) and np.ptp(values)):  # the range is exactly 0 there, the standard deviation only nearly
        return float("nan")
    return _slope(values, truth) * float(values.std() / truth.std())


@MEASURES.add("evaluation", task="regression", larger_is_better=None, mission="L3")
def bias(y: ArrayLike, predicted: ArrayLike) -> float:
    """``mean(f - y)``: above 0 where the model predicts too much; best near 0."""
    return -float(np.mean(_residuals(y, predicted)))


@dataclass(frozen=True)
class Residuals:
    """What ``y - f`` looks like: ``quantiles`` as (share, value), and three numbers near 0 where nothing is left to learn.

    ``skew`` and ``excess_kurtosis`` are 0 for a normal distribution. ``slope`` is that of the residual on the fitted value:
    above 0 the model says too little of what it knows (shrunk predictions), below 0 too much. Undefined: not a number.
    """

    quantiles: list[tuple[float, float]]
    skew: float
    excess_kurtosis: float
    slope: float


# Field of the report -> the measure that fills it, for the model and for the baseline.
SCORES: dict[str, Measure] = {
    "rmse": rmse,
    "mae": mae,
    "r2": r2,
    "mse": mse,
    "median_absolute_error": median_absolute_error,
    "max_error": max_error,
    "explained_variance": explained_variance,
    "correlation": correlation,
    "bias": bias,
}


@dataclass(frozen=True)
class RegressionReport(Report):
    """What ``evaluate_regression`` found: the scores of ``SCORES``, bootstrap intervals, ``residuals``, ``baseline``."""

    samples: int
    mse: float
    rmse: float
    rmse_interval: Interval
    mae: float
    mae_interval: Interval
    r2: float
    explained_variance: float
    median_absolute_error: float
    max_error: float
    correlation: float
    bias: float
    residuals: Residuals
    baseline: Baseline | None
    notes: list[str]

    measures: ClassVar[Mapping[str, Measure]] = SCORES


def evaluate_regression(
    y: ArrayLike, predicted: ArrayLike, *, y_train: ArrayLike | None = None, level: float = 0.95, seed: int = 0
) -> RegressionReport:
    """Everything about predicted values ``(N,)`` for true values ``y`` ``(N,)``.

    ``y_train`` gives the baseline, which always predicts its mean; without it there is none. ``seed`` draws the 1,000
    resamples behind the intervals. ``InputError`` names the sample that cannot be used.
    """
    truth, values = inputs.regression(y, predicted)
    residuals = truth - values
    notes = [] if truth.std() > 0 else ["all true values are equal, so R2 and correlation are undefined"]
    baseline = None
    if y_train is not None:
        mean = float(inputs.column("training values", y_train).mean())
        constant = scores(SCORES, truth, np.full_like(truth, mean))
        baseline = Baseline(f"always {mean:.6g}, the mean of the training values", [mean], constant)
    measured = scores(SCORES, truth, values)
    return RegressionReport(
        samples=len(truth),
        **measured,
        rmse_interval=bootstrap(residuals**2, np.sqrt, level=level, seed=seed),
        mae_interval=bootstrap(np.abs(residuals), np.positive, level=level, seed=seed),
        residuals=_describe(residuals, values),
        baseline=baseline,
        notes=notes,
    )


def _describe(residuals: Floats, fitted: Floats) -> Residuals:
    varies = bool(residuals.std() > 0)
    return Residuals(
        quantiles=[(q, float(v)) for q, v in zip(QUANTILES, np.quantile(residuals, QUANTILES), strict=True)],
        skew=float(stats.skew(residuals)) if varies else float("nan"),
        excess_kurtosis=float(stats.kurtosis(residuals)) if varies else float("nan"),
        slope=_slope(fitted, residuals),
    )


def _residuals(y: ArrayLike, predicted: ArrayLike) -> Floats:
    truth, values = inputs.regression(y, predicted)
    return truth - values


def _one_minus(unexplained: float, y: ArrayLike) -> float:
    variance = float(np.var(inputs.column("true values", y)))
    return 1 - unexplained / variance if variance > 0 else float("nan")


def _slope(x: Floats, y: Floats) -> float:
    """Of the least-squares line of ``y`` on ``x``."""
    deviation = x - x.mean()
    square = float(deviation @ deviation)
    return float(deviation @ y) / square if square > 0 else float("nan")
