"""What the measures accept: truth and prediction, checked once and in one wording."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pellucid.core import checks
from pellucid.core.errors import InputError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

# A softmax in half precision adds up to 1 no better than this; a mean of float32 softmaxes may pass 1 by rounding.
SUM_TOLERANCE = 1e-3
ROUNDING = 1e-6


def floats(name: str, values: ArrayLike) -> Floats:
    """An array of finite numbers with at least one row, as float64."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} are not numbers", cure="Give an array of numbers, one row per sample.") from error
    if array.ndim == 0 or len(array) == 0:
        raise InputError(f"{name} have no rows", cure="Give at least one sample.")
    checks.finite(name, torch.from_numpy(np.require(array, requirements=["C", "W"])))
    return array


def column(name: str, values: ArrayLike) -> Floats:
    """One finite number per row, ``(N,)``; ``(N, 1)`` will do."""
    array = floats(name, values)
    return _axes(name, array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array, 1, "(samples,)")


def classification(y: ArrayLike, p: ArrayLike) -> tuple[Labels, Floats]:
    """Labels ``(N,)`` from 0 to K - 1, and probabilities ``(N, K)``; binary ones may come as ``(N,)``, of class 1."""
    probabilities = _probabilities(p)
    if probabilities.ndim == 1:
        probabilities = probabilities[:, None]
    if probabilities.shape[1:] == (1,):
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    _axes("probabilities", probabilities, 2, "(samples, classes)")
    total = probabilities.sum(axis=1)
    cure = "Give probabilities, such as a softmax of the logits."
    _none("probabilities", np.abs(total - 1) > SUM_TOLERANCE, total, "add up to {:g}", cure)
    truth = labels("labels", y, probabilities.shape[1])
    checks.same_length(labels=truth, probabilities=probabilities)
    return truth, probabilities


def labels(name: str, y: ArrayLike, classes: int) -> Labels:
    """Class numbers ``(N,)`` from 0 to ``classes`` - 1, as int64."""
    values = column(name, y)
    wrong = (values != np.round(values)) | (values < 0) | (values >= classes)
    _none(name, wrong, values, "hold {:g}", f"Give class numbers from 0 to {classes - 1}.")
    return values.astype(np.int64)


def regression(y: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """True and predicted values, both ``(N,)``."""
    truth, values = column("true values", y), column("predictions", predicted)
    checks.same_length(true_values=truth, predictions=values)
    return truth, values


def multilabel(y: ArrayLike, p: ArrayLike) -> tuple[Labels, Floats]:
    """Zeros and ones ``(N, K)``, and for each the probability of a one."""
    truth = indicators("labels", y)
    probabilities = _axes("probabilities", _probabilities(p), 2, "(samples, labels)")
    if truth.shape != probabilities.shape:
        shapes = f"labels are {truth.shape}, probabilities {probabilities.shape}"
        raise InputError(f"different shapes: {shapes}", cure="Give both as (samples, labels).")
    return truth, probabilities


def indicators(name: str, y: ArrayLike) -> Labels:
    """Zeros and ones ``(N, K)``, as int64."""
    truth = _axes(name, floats(name, y), 2, "(samples, labels)")
    _none(name, ~np.isin(truth, (0, 1)), truth, "hold {:g}", "Give 1 where a label holds, and 0 elsewhere.")
    return truth.astype(np.int64)


def class_names(classes: Any, count: int) -> tuple[str, ...]:
    """``count`` names: the given ones, or the class numbers."""
    names = tuple(map(str, range(count) if classes is None else classes))
    if len(names) != count:
        raise InputError(f"{len(names)} class names for {count} columns of probabilities", cure="Give one name per column.")
    return names


def _axes(name: str, array: Floats, axes: int, meaning: str) -> Floats:
    if array.ndim != axes:
        raise InputError(f"{name} have the shape {array.shape}", cure=f"Give an array of {meaning}.")
    return array


def _probabilities(p: ArrayLike) -> Floats:
    values = floats("probabilities", p)
    wrong = (values < -ROUNDING) | (values > 1 + ROUNDING)
    _none("probabilities", wrong, values, "hold {:g}", "Give probabilities, not logits.")
    clipped: Floats = np.clip(values, 0, 1)
    return clipped


def _none(name: str, wrong: NDArray[np.bool_], values: Floats, says: str, cure: str) -> None:
    """Refuse the array where ``wrong`` holds anywhere, naming the first sample."""
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(f"{name} {says.format(values[first])}", where=f"sample {first[0]}", cure=cure)
