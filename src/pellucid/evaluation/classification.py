"""One class per row: the error as a 0/1 rate and as risk, where it happens, and how far the probabilities can be trusted.

A row is predicted as its most probable class, the first of equals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES

from . import curves, inputs
from .calibration import Bin, calibration_bins, expected_calibration_error
from .curves import Curve, auc, average_precision
from .inputs import Floats, Labels
from .intervals import Interval, clopper_pearson
from .reports import Baseline, Measure, Report, scores

# The k for which the report counts the top-k error, as far as there are more classes than that.
TOP = (1, 2, 3, 5)


@MEASURES.add("evaluation", task="classification", larger_is_better=False, mission="F3")
def error_rate(y: ArrayLike, p: ArrayLike) -> float:
    """``mean(argmax_k p_k != y)``: the share of wrong predictions, the 0/1 risk."""
    truth, probabilities = inputs.classification(y, p)
    return float(np.mean(probabilities.argmax(axis=1) != truth))


@MEASURES.add("evaluation", task="classification", larger_is_better=True, mission="F3")
def accuracy(y: ArrayLike, p: ArrayLike) -> float:
    """``1 - error_rate``: the share of right predictions."""
    return float(1 - error_rate(y, p))


@MEASURES.add("evaluation", task="classification", larger_is_better=False, mission="F3")
def log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """``-mean(log p_y)`` in nats: the risk under the loss of training. A probability below 2.2e-16 counts as that."""
    truth, probabilities = inputs.classification(y, p)
    return float(-np.log(np.maximum(_of_truth(truth, probabilities), np.finfo(np.float64).eps)).mean())


@MEASURES.add("evaluation", task="classification", larger_is_better=False, paper="Brier 1950", mission="F3")
def brier(y: ArrayLike, p: ArrayLike) -> float:
    """``mean(sum_k (p_k - [y = k])^2)``, from 0 to 2; halved for two classes, so that it is ``mean((p_1 - y)^2)``."""
    truth, probabilities = inputs.classification(y, p)
    wide = (probabilities**2).sum(axis=1) - 2 * _of_truth(truth, probabilities) + 1
    return float(wide.mean()) / (2 if probabilities.shape[1] == 2 else 1)


@MEASURES.add(
    "evaluation", task="classification", larger_is_better=False, paper="Russakovsky et al. 2015, sec. 4.1", mission="C12"
)
def top_k_error(y: ArrayLike, p: ArrayLike, *, k: int = 5) -> float:
    """The share of rows whose true class is not among the ``k`` most probable, as ILSVRC counts.

    Ties count against the model: a class as probable as the true one is listed before it.
    """
    truth, probabilities = inputs.classification(y, p)
    if checks.count("k", k) > probabilities.shape[1]:
        raise InputError(f"k is {k} with {probabilities.shape[1]} classes", cure="Give a k of at most the number of classes.")
    rank = (probabilities >= _of_truth(truth, probabilities)[:, None]).sum(axis=1)
    return float(np.mean(rank > k))


@MEASURES.add("evaluation", task="classification", larger_is_better=True, mission="L3")
def balanced_accuracy(y: ArrayLike, p: ArrayLike) -> float:
    """The mean recall of the classes that occur: chance is one over their number, however unequal they are."""
    return _mean_of("recall", confusion_matrix(y, p))


@MEASURES.add("evaluation", task="classification", larger_is_better=True, mission="L3")
def macro_f1(y: ArrayLike, p: ArrayLike) -> float:
    """The mean F1 of the classes that occur or are predicted."""
    return _mean_of("f1", confusion_matrix(y, p))


def confusion_matrix(y: ArrayLike, p: ArrayLike) -> Labels:
    """Counts ``(K, K)``: row = true class, column = predicted class."""
    truth, probabilities = inputs.classification(y, p)
    k = probabilities.shape[1]
    return np.bincount(truth * k + probabilities.argmax(axis=1), minlength=k * k).reshape(k, k).astype(np.int64)


@dataclass(frozen=True)
class ClassRow:
    """One class or label: ``precision = TP / predicted``, ``recall = TP / support``, ``f1 = 2 TP / (predicted + support)``.

    A quotient of nothing by nothing is not a number: there is no precision without a prediction and no recall without support.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def class_rows(hits: NDArray[Any], predicted: NDArray[Any], support: NDArray[Any], names: Sequence[str]) -> list[ClassRow]:
    """Rows from counts ``(K,)``: right predictions, predictions, and rows of each class."""
    with np.errstate(invalid="ignore"):
        precision, recall, f1 = hits / predicted, hits / support, 2 * hits / (predicted + support)
    return [ClassRow(n, float(precision[k]), float(recall[k]), float(f1[k]), int(support[k])) for k, n in enumerate(names)]


def notes_on(rows: Sequence[ClassRow], samples: int) -> list[str]:
    """What a reader of the rows must know: which numbers are undefined, and why."""
    reasons = {
        "without a row here, so without recall and curves": [row.name for row in rows if not row.support],
        "holds for every row here, so without a ROC curve": [row.name for row in rows if row.support == samples],
        "never predicted, so without precision": [row.name for row in rows if np.isnan(row.precision)],
    }
    return [f"{reason}: {_some(names)}" for reason, names in reasons.items() if names]


# Field of the report -> the measure that fills it, for the model and for the baseline.
SCORES: dict[str, Measure] = {
    "accuracy": accuracy,
    "error": error_rate,
    "risk": log_loss,
    "brier": brier,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc,
    "average_precision": average_precision,
    "ece": expected_calibration_error,
}


@dataclass(frozen=True, eq=False)
class ClassificationReport(Report):
    """What ``evaluate_classification`` found.

    ``error`` (0/1 rate) with its exact ``error_interval``, ``risk`` (log loss), ``ece``, ``auc`` and the other scores of
    ``SCORES``; ``top_k``: error by k; ``confusion`` ``(K, K)``, row = truth; ``per_class``; ``roc`` and ``pr``: a curve for
    each class that has one (of two classes, for class 1); ``calibration`` bins; the ``baseline``; ``notes`` on what is
    undefined.
    """

    samples: int
    classes: tuple[str, ...]
    accuracy: float
    error: float
    error_interval: Interval
    risk: float
    brier: float
    balanced_accuracy: float
    macro_f1: float
    auc: float
    average_precision: float
    ece: float
    top_k: dict[int, float]
    confusion: Labels
    per_class: list[ClassRow]
    roc: list[Curve]
    pr: list[Curve]
    calibration: list[Bin]
    baseline: Baseline | None
    notes: list[str]

    measures: ClassVar[Mapping[str, Measure]] = SCORES


def evaluate_classification(
    y: ArrayLike, p: ArrayLike, classes: Sequence[str] | None = None, *, y_train: ArrayLike | None = None, level: float = 0.95
) -> ClassificationReport:
    """Everything about probabilities ``p`` ``(N, K)`` (or ``(N,)``: of class 1 of two) for true classes ``y`` ``(N,)``.

    ``classes`` names the columns. ``y_train`` gives the baseline: always the most frequent training class, and the training
    frequencies as probabilities; without it there is none. ``InputError`` names the sample that cannot be used.
    """
    truth, probabilities = inputs.classification(y, p)
    names = inputs.class_names(classes, probabilities.shape[1])
    measured = scores(SCORES, truth, probabilities)
    confusion = confusion_matrix(truth, probabilities)
    per_class = _rows_of(confusion, names)
    columns = curves.one_vs_rest(truth, probabilities)
    wrong = len(truth) - int(np.trace(confusion))
    notes = notes_on(per_class, len(truth))
    baseline = None
    if y_train is not None:
        baseline = _prior(inputs.labels("training labels", y_train, len(names)), truth, names)
        unseen = [name for name, share in zip(names, baseline.prediction, strict=True) if share == 0]
        if unseen:
            notes.append(f"without a training row, so without probability in the baseline: {_some(unseen)}")
    return ClassificationReport(
        samples=len(truth),
        classes=names,
        **measured,
        error_interval=clopper_pearson(wrong, len(truth), level=level),
        top_k={k: top_k_error(truth, probabilities, k=k) for k in TOP if k < len(names)},
        confusion=confusion,
        per_class=per_class,
        roc=curves.roc_curves(*columns, names[-columns[0].shape[1] :]),
        pr=curves.pr_curves(*columns, names[-columns[0].shape[1] :]),
        calibration=calibration_bins(truth, probabilities),
        baseline=baseline,
        notes=notes,
    )


def _prior(y_train: Labels, y: Labels, names: Sequence[str]) -> Baseline:
    frequency = np.bincount(y_train, minlength=len(names)) / len(y_train)
    everywhere = np.broadcast_to(frequency, (len(y), len(names)))
    what = f"always '{names[int(frequency.argmax())]}', the most frequent class in training, with the training frequencies"
    return Baseline(what, frequency.tolist(), scores(SCORES, y, everywhere))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _rows_of(confusion: Labels, names: Sequence[str]) -> list[ClassRow]:
    return class_rows(np.diagonal(confusion), confusion.sum(axis=0), confusion.sum(axis=1), names)


def _mean_of(field: str, confusion: Labels) -> float:
    values = [getattr(row, field) for row in _rows_of(confusion, [""] * len(confusion))]
    return float(np.nanmean(values))


def _of_truth(y: Labels, p: Floats) -> Floats:
    """``(N,)``: the probability that each row gives to its true class."""
    picked: Floats = p[np.arange(len(y)), y]
    return picked
