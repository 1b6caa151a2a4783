"""ROC and precision-recall, one class against the rest, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics

from pellucid.core.table import MEASURES

from . import inputs
from .inputs import Floats, Labels

# Points that a curve keeps for drawing; its area comes from all of them.
POINTS = 101


@dataclass(frozen=True)
class Curve:
    """One class against the rest: ``x`` and ``y`` of at most ``POINTS`` points, and the ``area`` of the whole curve.

    ROC: false-positive rate, true-positive rate, AUC. Precision-recall: recall, precision, average precision.
    """

    name: str
    x: list[float]
    y: list[float]
    area: float


def roc_curves(y: Labels, p: Floats, names: Sequence[str] | None = None) -> list[Curve]:
    """Of the columns of 0/1 truth ``y`` and scores ``p``, both ``(N, K)``: those that have both zeros and ones."""
    curves = []
    for k, name in enumerate(inputs.class_names(names, y.shape[1])):
        if 0 < y[:, k].sum() < len(y):
            false, true, _ = metrics.roc_curve(y[:, k], p[:, k])
            curves.append(_curve(name, false, true, metrics.auc(false, true)))
    return curves


def pr_curves(y: Labels, p: Floats, names: Sequence[str] | None = None) -> list[Curve]:
    """Of the columns of 0/1 truth ``y`` and scores ``p``, both ``(N, K)``: those that have a one."""
    curves = []
    for k, name in enumerate(inputs.class_names(names, y.shape[1])):
        if y[:, k].any():
            precision, recall, _ = metrics.precision_recall_curve(y[:, k], p[:, k])
            curves.append(_curve(name, recall[::-1], precision[::-1], -np.sum(np.diff(recall) * precision[:-1])))
    return curves


def mean_area(curves: Sequence[Curve]) -> float:
    """The plain mean over the classes that have a curve; not a number if none has."""
    return float(np.mean([c.area for c in curves])) if curves else float("nan")


def one_vs_rest(y: Labels, p: Floats) -> tuple[Labels, Floats]:
    """Class numbers as 0/1 columns, with their probabilities; of two classes only class 1, whose curve says it all."""
    columns = (y[:, None] == np.arange(p.shape[1])).astype(np.int64)
    return (columns[:, 1:], p[:, 1:]) if p.shape[1] == 2 else (columns, p)


@MEASURES.add("evaluation", task="classification", larger_is_better=True, mission="L3")
def auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes that the rows tell apart.

    For two classes the probability that a random row of class 1 scores above a random row of class 0 (a tie counts half).
    """
    return mean_area(roc_curves(*one_vs_rest(*inputs.classification(y, p))))


@MEASURES.add("evaluation", task="classification", larger_is_better=True, mission="L3")
def average_precision(y: ArrayLike, p: ArrayLike) -> float:
    """``sum_n (R_n - R_(n-1)) P_n`` over the thresholds, one class against the rest, mean over the classes that occur."""
    return mean_area(pr_curves(*one_vs_rest(*inputs.classification(y, p))))


def _curve(name: str, x: Floats, y: Floats, area: float) -> Curve:
    kept = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(int))
    return Curve(name, x[kept].tolist(), y[kept].tolist(), float(area))
