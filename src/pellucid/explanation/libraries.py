"""What fitted objects of other libraries can be asked for: margins, probabilities or values, each in that library's own way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.errors import InputError, MissingExtraError, UnsupportedError

Ask = Callable[[Any], Any]

# Objectives of XGBoost whose probabilities are a function of the margin.
_XGBOOST_LINKS = {
    "binary:logistic": "sigmoid",
    "binary:logitraw": "sigmoid",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
}
_ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Voice:
    """The questions that a model answers, each a function of a table; None where it has no answer.

    raw: margins or decision values of a classifier; probability: its probabilities; value: a regressor's prediction. labels:
    the classes in the order of the columns. link: from margins to probabilities, where the library says it. arrays: arrays will
    do where the samples are numbers, also if it was fitted on a frame. known: categories of category columns, in order.
    """

    raw: Ask | None = None
    probability: Ask | None = None
    value: Ask | None = None
    labels: tuple[Any, ...] | None = None
    link: str | None = None
    arrays: bool = False
    known: Sequence[Sequence[Any]] | None = None


def from_library(model: object, library: str) -> bool:
    """Whether the class of an object, or one that it inherits from, comes from this package."""
    return any(kind.__module__.partition(".")[0] == library for kind in type(model).__mro__)


def voice_of(model: Any) -> Voice | None:
    """How to ask this object; None where it is not a fitted model of a kind that is known."""
    if from_library(model, "xgboost") and hasattr(model, "inplace_predict"):
        return _xgboost_booster(model)
    if from_library(model, "lightgbm") and hasattr(model, "num_model_per_iteration"):
        return _lightgbm(model, None)
    if any(hasattr(model, name) for name in ("predict", "predict_proba", "decision_function")):
        return _estimator(model)
    return None


def _xgboost_booster(booster: Any) -> Voice:
    objective = str(json.loads(booster.save_config())["learner"]["objective"]["name"])
    if objective.startswith(("binary:", "multi:")):
        link = _XGBOOST_LINKS.get(objective, "none")
        return Voice(raw=lambda data: booster.inplace_predict(data, predict_type="margin"), link=link, arrays=True)
    return Voice(value=booster.inplace_predict, arrays=True)


def _lightgbm(booster: Any, labels: tuple[Any, ...] | None) -> Voice:
    lines = booster.model_to_string(num_iteration=1).split("\n")
    objective = next((line.partition("=")[2] for line in lines if line.startswith("objective=")), "")
    known = booster.pandas_categorical
    if labels is None and not objective.startswith(("binary", "multiclass", "cross_entropy")):
        return Voice(value=booster.predict, arrays=True, known=known)
    probability = booster.predict if objective else None  # of an objective of one's own only the margin is known
    return Voice(
        raw=lambda data: booster.predict(data, raw_score=True), probability=probability, labels=labels, arrays=True, known=known
    )


def final(estimator: Any) -> Any:
    """The estimator that decides: the last step of a pipeline, the best of a search."""
    while True:
        inner = getattr(estimator, "best_estimator_", None)
        if inner is None and hasattr(estimator, "steps"):
            inner = estimator.steps[-1][1]
        if inner is None or isinstance(inner, str):
            return estimator
        estimator = inner


def _labels(estimator: Any) -> tuple[Any, ...] | None:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return None
    if isinstance(classes, list) and any(np.ndim(one) for one in classes):
        raise UnsupportedError(
            f"{type(estimator).__name__} answers several questions at once",
            cure="Explain one of its estimators_, or a function.",
        )
    return tuple(np.asarray(classes).tolist())


def _estimator(estimator: Any) -> Voice:
    labels = _labels(estimator)
    if from_library(estimator, "lightgbm") and hasattr(estimator, "booster_"):
        return _lightgbm(estimator.booster_, labels)
    if labels is None and not hasattr(estimator, "predict_proba"):
        outlying = getattr(estimator, "decision_function", None)  # detectors of outliers: large is ordinary
        return Voice(value=outlying or estimator.predict, arrays=from_library(estimator, "xgboost"))
    raw = _margin(estimator)
    probability = getattr(estimator, "predict_proba", None)
    if raw is None and probability is None and getattr(final(estimator), "decision_function_shape", None) == "ovo":
        raise UnsupportedError("these decision values are of pairs of classes", cure='Set decision_function_shape="ovr".')
    if raw is None and probability is None:
        raise UnsupportedError(
            f"{type(estimator).__name__} answers with labels only, which have no score to explain",
            cure="Fit it inside CalibratedClassifierCV, or give a function that returns scores.",
        )
    return Voice(raw=raw, probability=probability, labels=labels, arrays=from_library(estimator, "xgboost"))


def _margin(estimator: Any) -> Ask | None:
    """Decision values or margins of a classifier, also of a boosted one at the end of a pipeline."""
    if from_library(estimator, "xgboost"):
        return lambda data: estimator.predict(data, output_margin=True)
    if from_library(estimator, "lightgbm"):
        return lambda data: estimator.booster_.predict(data, raw_score=True)
    if getattr(final(estimator), "decision_function_shape", None) == "ovo" and len(_labels(estimator) or ()) > 2:
        return None  # a column for each pair of classes, none for a class
    own: Ask | None = getattr(estimator, "decision_function", None)
    if own is not None:
        return own
    best = getattr(estimator, "best_estimator_", None)
    if best is not None:
        return _margin(best)
    steps: list[tuple[str, Any]] = getattr(estimator, "steps", [])
    if len(steps) < 2 or isinstance(steps[-1][1], str):
        return None
    last = _margin(steps[-1][1])
    before = estimator[:-1]
    return None if last is None else lambda data: last(before.transform(data))


def session_of(model: Any) -> Any:
    """The session of onnxruntime that a path ending in .onnx or a model of onnx stands for; anything else as it is."""
    if isinstance(model, str | Path):
        if not str(model).endswith(".onnx"):
            raise InputError(f"the model is {str(model)!r}", cure="Give a model, or a path that ends in .onnx.")
        if not Path(model).is_file():
            raise InputError(f"no file '{model}'", cure="Check the path.")
        source: Any = str(model)
    elif from_library(model, "onnx") and hasattr(model, "SerializeToString"):
        source = model.SerializeToString()
    else:
        return model
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("models of ONNX need onnxruntime", cure="pip install onnxruntime") from error
    try:
        return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise InputError("not a model of ONNX", where=str(error).split("\n", 1)[0]) from error


def is_session(model: object) -> bool:
    """Whether this is a session of onnxruntime."""
    return from_library(model, "onnxruntime") and hasattr(model, "get_inputs")


class Session:
    """Asks a session: arrays, one for each of its inputs, or a frame where every input is a column; the first real output.

    A classifier's map from class to probability (a list of dictionaries) becomes columns, its keys ``labels``. A batch size
    that the model has fixed is kept: rows come in pieces of it, the last one filled up.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs = {node.name: node for node in session.get_inputs()}
        real = [node.name for node in session.get_outputs() if any(t in node.type for t in ("float", "double"))]
        if not real:
            raise UnsupportedError(
                "the model of ONNX has no output of real numbers", cure="Export its scores or probabilities."
            )
        self.output = real[0]
        shape = session.get_inputs()[0].shape
        self.rows = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else None
        self.labels: tuple[Any, ...] | None = None

    def __call__(self, *given: Any) -> Any:
        names = list(self.inputs)
        if hasattr(given[0], "columns"):
            frame = given[0]
            by_column = len(names) > 1 and set(names) == set(map(str, frame.columns))
            given = tuple(frame[[label]].to_numpy() for label in frame.columns) if by_column else (frame.to_numpy(),)
            names = [str(label) for label in frame.columns] if by_column else names
        if len(names) != len(given):
            raise InputError(f"{len(given)} inputs for a model of ONNX with {len(names)}", cure=f"Give {', '.join(names)}.")
        feed = {name: self._typed(name, array) for name, array in zip(names, given)}
        if self.rows is None:
            return self._columns(self.session.run([self.output], feed)[0])
        count = len(given[0])
        found = []
        for start in range(0, count, self.rows):
            places = np.arange(start, start + self.rows).clip(max=count - 1)
            found.append(self._columns(self.session.run([self.output], {n: a[places] for n, a in feed.items()})[0]))
        return np.concatenate(found)[:count]

    def _typed(self, name: str, array: Any) -> Any:
        wanted = self.inputs[name].type
        if wanted == "tensor(string)":
            return array.astype(object)
        if wanted not in _ONNX_TYPES:
            raise UnsupportedError(f"the input '{name}' of the model of ONNX is a {wanted}", cure="Export it with tensors.")
        return array.astype(_ONNX_TYPES[wanted])

    def _columns(self, answer: Any) -> Any:
        if not isinstance(answer, list):
            return answer
        self.labels = tuple(answer[0])
        return np.array([[row[label] for label in self.labels] for row in answer])
