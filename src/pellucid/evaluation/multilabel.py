"""Several labels may hold for one row: zeros and ones ``(N, K)``, each with its own probability, predicted from 1/2 on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES

from . import curves, inputs
from .classification import ClassRow, class_rows, notes_on
from .curves import Curve
from .intervals import Interval, clopper_pearson
from .reports import Baseline, Measure, Report, scores


@MEASURES.add("evaluation", task="multilabel", larger_is_better=False, mission="F3")
def subset_error(y: ArrayLike, p: ArrayLike) -> float:
    """The share of rows with any label wrong: the 0/1 risk of the whole set of labels."""
    return float(np.mean(_wrong(y, p).any(axis=1)))


@MEASURES.add("evaluation", task="multilabel", larger_is_better=False, mission="F3")
def hamming_loss(y: ArrayLike, p: ArrayLike) -> float:
    """The share of wrong labels over all rows and labels."""
    return float(np.mean(_wrong(y, p)))


@MEASURES.add("evaluation", task="multilabel", larger_is_better=False, mission="F3")
def multilabel_log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """``-mean(y log p + (1 - y) log(1 - p))`` in nats per label. A probability below 2.2e-16 counts as that."""
    truth, probabilities = inputs.multilabel(y, p)
    of_truth = np.where(truth == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).eps)).mean())


@MEASURES.add("evaluation", task="multilabel", larger_is_better=True, mission="L3")
def multilabel_f1(y: ArrayLike, p: ArrayLike) -> float:
    """The mean F1 of the labels that occur or are predicted; not a number if none does."""
    defined = [row.f1 for row in _rows(*inputs.multilabel(y, p)) if not np.isnan(row.f1)]
    return float(np.mean(defined)) if defined else float("nan")


@MEASURES.add("evaluation", task="multilabel", larger_is_better=True, mission="L3")
def multilabel_auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve, mean over the labels that have both zeros and ones."""
    return curves.mean_area(curves.roc_curves(*inputs.multilabel(y, p)))


@MEASURES.add("evaluation", task="multilabel", larger_is_better=True, mission="L3")
def multilabel_average_precision(y: ArrayLike, p: ArrayLike) -> float:
    """Average precision, mean over the labels that occur (mAP)."""
    return curves.mean_area(curves.pr_curves(*inputs.multilabel(y, p)))


# Field of the report -> the measure that fills it, for the model and for the baseline.
SCORES: dict[str, Measure] = {
    "error": subset_error,
    "risk": multilabel_log_loss,
    "hamming_loss": hamming_loss,
    "macro_f1": multilabel_f1,
    "auc": multilabel_auc,
    "average_precision": multilabel_average_precision,
}


@dataclass(frozen=True)
class MultilabelReport(Report):
    """What ``evaluate_multilabel`` found.

    ``error`` (subset 0/1 rate) with its exact ``error_interval``, ``risk`` (log loss per label) and the other scores of
    ``SCORES``; ``per_label``; ``roc`` and ``pr``: a curve for each label that has one; the ``baseline``; ``notes`` on what is
    undefined.
    """

    samples: int
    labels: tuple[str, ...]
    error: float
    error_interval: Interval
    risk: float
    hamming_loss: float
    macro_f1: float
    auc: float
    average_precision: float
    per_label: list[ClassRow]
    roc: list[Curve]
    pr: list[Curve]
    baseline: Baseline | None
    notes: list[str]

    measures: ClassVar[Mapping[str, Measure]] = SCORES


def evaluate_multilabel(
    y: ArrayLike, p: ArrayLike, labels: Sequence[str] | None = None, *, y_train: ArrayLike | None = None, level: float = 0.95
) -> MultilabelReport:
    """Everything about the probabilities ``p`` of the labels ``y``, both ``(N, K)``.

    ``labels`` names the columns. ``y_train`` ``(M, K)`` gives the baseline, which predicts each label's training frequency for
    every row; without it there is none. ``InputError`` names the sample that cannot be used.
    """
    truth, probabilities = inputs.multilabel(y, p)
    names = inputs.class_names(labels, truth.shape[1])
    per_label = _rows(truth, probabilities, names)
    measured = scores(SCORES, truth, probabilities)
    return MultilabelReport(
        samples=len(truth),
        labels=names,
        **measured,
        error_interval=clopper_pearson(int(_wrong(truth, probabilities).any(axis=1).sum()), len(truth), level=level),
        per_label=per_label,
        roc=curves.roc_curves(truth, probabilities, names),
        pr=curves.pr_curves(truth, probabilities, names),
        baseline=None if y_train is None else _frequencies(y_train, truth),
        notes=notes_on(per_label, len(truth)),
    )


def _frequencies(y_train: ArrayLike, y: NDArray[Any]) -> Baseline:
    frequency = inputs.indicators("training labels", y_train).mean(axis=0)
    if len(frequency) != y.shape[1]:
        raise InputError(f"training labels have {len(frequency)} columns, labels {y.shape[1]}", cure="Give the same labels.")
    everywhere = np.broadcast_to(frequency, y.shape)
    what = "each label with its frequency in training"
    return Baseline(what, frequency.tolist(), scores(SCORES, y, everywhere))


def _wrong(y: ArrayLike, p: ArrayLike) -> NDArray[np.bool_]:
    truth, probabilities = inputs.multilabel(y, p)
    wrong: NDArray[np.bool_] = (probabilities >= 0.5) != (truth == 1)
    return wrong


def _rows(y: NDArray[Any], p: NDArray[Any], names: Sequence[str] | None = None) -> list[ClassRow]:
    predicted = p >= 0.5
    hits = (predicted & (y == 1)).sum(axis=0)
    return class_rows(hits, predicted.sum(axis=0), y.sum(axis=0), inputs.class_names(names, y.shape[1]))
