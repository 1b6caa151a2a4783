"""Any model: estimators, pipelines, boosters, sessions of onnxruntime and plain functions as (B, ...) -> (B, K).

``adapted`` is called once, before anything is explained or measured. From there on a data frame is a tensor of numbers and
every model a function of tensors, which says by its ``link`` how its answers become probabilities.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core import checks, devices
from pellucid.core.errors import InputError, PellucidError, UnsupportedError, nearest

from .borrowing import Model, is_keras, tensors
from .frames import Columns, columns_of, is_frame, plain_columns
from .inputs import prepare
from .libraries import Session, Voice, is_session, session_of, voice_of
from .targets import LINKS, SCALES, Target, probabilities

# Samples on which it is found out what a model answers with.
PROBED = 16
# Options of methods that hold inputs.
TABLES = ("baseline", "references")
ONLY_PROBABILITIES = "this model answers with probabilities only, so these are explained"


class Foreign:
    """A fitted object of another library as a function of a tensor (B, ...) that answers with (B, K).

    estimator: the object itself, never changed. ask: the question it is asked; kind: what the answer is, "raw", "probability"
    or "value". A binary margin m becomes the columns -m and m, a binary probability p the columns 1 - p and p, so that
    target 1 is the positive class. link: see ``targets.LINKS``. columns: of the data frame; ``framed``: it is given one, else
    an array. labels: its classes in the order of the columns. missing: NaN is left to the library.
    """

    missing = True

    def __init__(
        self,
        estimator: Any,
        ask: Callable[..., Any],
        kind: str,
        *,
        link: str = "identity",
        columns: Columns | None = None,
        framed: bool = False,
        labels: tuple[Any, ...] | None = None,
    ) -> None:
        self.estimator, self.columns, self.labels = estimator, columns, labels
        self.link, self.name = link, type(estimator).__name__
        self._ask, self._kind, self._framed = ask, kind, framed

    def __call__(self, *x: Tensor) -> Tensor:
        given = [self.columns.frame(x[0])] if self._framed and self.columns is not None else [_array(t) for t in x]
        try:
            answer = self._ask(*given)
        except PellucidError:
            raise
        except Exception as error:  # the errors of these libraries share no other base
            if devices.out_of_memory(error):
                raise
            raise ValueError(f"{self.name}: {error}") from error
        return self._table(answer, x[0])

    def _table(self, answer: Any, x: Tensor) -> Tensor:
        if isinstance(answer, list):
            raise UnsupportedError(f"{self.name} answers several questions at once", cure="Explain one of its estimators_.")
        found = np.asarray(answer)
        if found.dtype.kind != "f":
            raise UnsupportedError(
                f"{self.name} answers with labels ({found.dtype}), which have no score to explain",
                cure="Give a function that returns scores, e.g. lambda a: -model.transform(a) for distances to centres.",
            )
        z = _like(found, x)
        if z.ndim != 1:
            return z
        if self._kind == "raw" and (self.labels is None or len(self.labels) == 2):
            return torch.stack([-z, z], 1)
        return torch.stack([1 - z, z], 1) if self._kind == "probability" else z[:, None]

    def indices(self, target: Any) -> Target:
        """A target that names classes by their labels as indices; whole numbers are indices already.

        Raises InputError for a label that the model does not know.
        """
        if self.labels is None or target is None or callable(target) or isinstance(target, Tensor):
            return target  # type: ignore[no-any-return]
        several = not isinstance(target, str) and hasattr(target, "__len__")
        asked = list(target) if several else [target]
        if all(isinstance(one, numbers.Integral) and not isinstance(one, bool | np.bool_) for one in asked):
            return np.asarray(target)  # type: ignore[return-value]
        place = {label: i for i, label in enumerate(self.labels)}
        for one in asked:
            if one not in place:
                raise InputError(f"target {one!r} is no class of {self.name}", cure=nearest(one, map(str, self.labels)))
        return [place[one] for one in asked] if several else place[asked[0]]


class Function:
    """A plain function, given what it wants: a frame where the samples are one, else a tensor, else an array.

    It is tried with these in turn until none of TypeError and AttributeError comes back, and keeps what it took. An answer of
    tensors is passed on as it is, with its gradient; arrays, frames and lists of numbers become a tensor. Such answers that all
    lie in [0, 1] are taken as probabilities where probabilities are asked for.
    """

    def __init__(self, function: Callable[..., Any], columns: Columns | None = None) -> None:
        self.function, self.columns = function, columns
        self.missing = columns is not None
        self.link: str | None = None
        self._form: Callable[[Tensor], Any] | None = None
        self._heard = False

    def __call__(self, *x: Tensor) -> Any:
        if self._form is not None:
            return self._heeded(self.function(*map(self._form, x)), x[0])
        refused: Exception | None = None
        for form in self._forms():
            try:
                answer = self.function(*map(form, x))
            except (TypeError, AttributeError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "requires grad" not in str(error):
                    raise
                refused = refused or error
            else:
                self._form = form
                return self._heeded(answer, x[0])
        assert refused is not None
        raise refused

    def _forms(self) -> list[Callable[[Tensor], Any]]:
        if self.columns is None:
            return [lambda t: t, _array]
        return [self.columns.frame] if self.columns.coded else [self.columns.frame, lambda t: t, _array]

    def _heeded(self, answer: Any, x: Tensor) -> Any:
        if isinstance(answer, Tensor | dict) or tensors(answer):
            return answer
        try:
            found = np.asarray(answer)
        except ValueError:  # rows of different lengths
            return answer
        if found.ndim == 0 or found.dtype.kind not in "fiub":
            return answer
        z = _like(found, x)
        if not self._heard:
            self._heard, self.link = True, "identity" if bool(((z >= 0) & (z <= 1)).all()) else None
        return z


def _array(x: Tensor) -> Any:
    return x.detach().cpu().numpy()


def _like(answer: Any, x: Tensor) -> Tensor:
    """An array as a tensor of its own, in the precision and on the device of the samples."""
    return torch.tensor(
        np.ascontiguousarray(answer), dtype=x.dtype if x.is_floating_point() else torch.float64, device=x.device
    )


@dataclass(frozen=True)
class Subject:
    """What is explained, as the engine takes it: every data frame a tensor, every model a function of tensors."""

    model: Model
    x: Any
    options: dict[str, dict[str, Any]]
    target: Target
    of: str
    columns: Columns | None = None
    names: list[str] | None = None
    notes: set[str] = field(default_factory=set)


def adapted(model: Any, x: Any, asked: Mapping[str, Mapping[str, Any]], *, target: Any = None, of: str = "logit") -> Subject:
    """The model and everything it is called with, in the engine's terms.

    A classifier is asked for its decision values or margins where ``of`` is "logit", and for its probabilities where it is
    "probability" or there is nothing else, which ``of`` and ``notes`` of the answer then say. A regressor is asked for its
    prediction. ``asked``: name -> options; data frames, rows and dictionaries among the options are encoded as the samples are.

    Raises InputError for a frame that cannot be encoded and an unknown class, UnsupportedError where the model has no answer of
    this kind.
    """
    checks.one_of("of", of, SCALES)
    model = session_of(model)
    if isinstance(x, tuple) and any(map(is_frame, x)):
        raise InputError("several inputs with a data frame among them", cure="Give tensors or arrays.")
    ready = isinstance(model, nn.Module) or is_keras(model) or (callable(model) and getattr(model, "link", None) in LINKS)
    voice = None if ready or callable(model) or is_session(model) else voice_of(model)
    tables = {
        (name, key): rows for name, o in asked.items() for key in TABLES if (rows := _rows(o.get(key), is_frame(x))) is not None
    }
    columns = None
    if is_frame(x):
        columns = columns_of([x, *tables.values()], voice.known if voice is not None else None)
        x = columns.encode(x)
    elif tables:
        name, key = next(iter(tables))
        raise InputError(f"{key} of {name} is a table and the samples are not", cure="Give both as frames, or both as arrays.")
    options = {name: dict(o) for name, o in asked.items()}
    for (name, key), rows in tables.items():
        assert columns is not None
        options[name][key] = columns.encode(rows, key)
    for given in options.values():  # arrays that pandas made may not be written to, of which torch would warn
        arrays = {key: a for key in TABLES if isinstance(a := given.get(key), np.ndarray) and a.dtype.kind in "fiub"}
        given |= {key: torch.tensor(np.ascontiguousarray(a)) for key, a in arrays.items()}
    names = columns.names if columns is not None else None
    plain = Subject(model, x, options, target, of, columns, names)
    if ready:
        if isinstance(model, nn.Module) and columns is not None and columns.coded:
            raise InputError(
                f"column '{columns.coded[0]}' holds no numbers, which this network needs", cure="Encode it as for training."
            )
        return plain
    if is_session(model):
        return _of_session(plain)
    if voice is not None:
        return _of_voice(plain, voice)
    if callable(model):
        return replace(plain, model=Function(model, columns))
    raise InputError(f"{type(model).__name__} is no model", cure="Give a module, a fitted estimator, or a function of samples.")


def check_baseline(columns: Columns | None, name: str, baseline: Any) -> None:
    """InputError where a number or a name is to stand in columns whose numbers stand for categories."""
    if columns is not None and columns.coded and isinstance(baseline, int | float | str):
        raise InputError(
            f"baseline={baseline!r} of {name} says nothing of column '{columns.coded[0]}', which holds categories",
            cure="Give baseline= as a frame: one row, or rows of the training data.",
        )


def _rows(value: Any, by_names: bool) -> Any:
    """An option that is a table, or for samples with names of columns one row by these, as a frame."""
    if is_frame(value) or not by_names:
        return value if is_frame(value) else None
    if isinstance(value, dict):
        import pandas

        return pandas.DataFrame([value])
    if hasattr(value, "to_frame") and hasattr(value, "index"):
        return value.to_frame().T.infer_objects()
    return None


def _of_voice(plain: Subject, voice: Voice) -> Subject:
    estimator, columns, target = plain.model, plain.columns, plain.target
    if isinstance(plain.x, tuple):
        raise InputError(f"{type(estimator).__name__} takes one table, not {len(plain.x)} inputs", cure="Give one.")
    x = prepare(None, plain.x, missing=True).double()  # what these libraries compute in
    fitted = getattr(estimator, "feature_names_in_", None)
    if columns is None and fitted is not None and x.ndim == 2 and len(fitted) == x.shape[1]:
        columns = plain_columns(fitted)
    framed = columns is not None and _wants_frame(estimator, columns, voice)
    more: dict[str, Any] = {"columns": columns, "framed": framed, "labels": voice.labels}
    kind = _question(voice, plain.of, type(estimator).__name__)
    model = Foreign(estimator, getattr(voice, kind), kind, **more)
    first = _tried(model, x[:PROBED])
    if kind == "value" and target is None and first.shape[1] > 1:
        raise InputError(f"{model.name} predicts {first.shape[1]} values", cure="Say which one with target=.")
    link = "identity"
    if kind == "raw":
        link = voice.link or "none"
        if voice.link is None and voice.probability is not None:
            link = _link(first, _tried(Foreign(estimator, voice.probability, "probability", **more), x[:PROBED]))
    plain = replace(plain, x=x, columns=columns, names=None if columns is None else columns.names)
    return _answering(plain, model, link, probabilities_only=kind == "probability" and voice.raw is None)


def _answering(plain: Subject, model: Foreign, link: str, *, probabilities_only: bool = False) -> Subject:
    """The subject with this model, and what must be said of its answers."""
    model.link, of, notes = link, plain.of, set(plain.notes)
    if probabilities_only and of == "logit":
        notes.add(ONLY_PROBABILITIES)
        of = of if callable(plain.target) else "probability"
    labels = list(model.labels or ())
    if all(isinstance(label, int) and not isinstance(label, bool) for label in labels) and labels != list(range(len(labels))):
        notes.add(f"targets are places in the classes {labels}")
    return replace(plain, model=model, target=model.indices(plain.target), of=of, notes=notes)


def _wants_frame(estimator: Any, columns: Columns, voice: Voice) -> bool:
    """Whether it is to be given a frame: names that it does not know would make scikit-learn warn."""
    if columns.coded or hasattr(estimator, "feature_names_in_"):
        return bool(columns.coded) or not voice.arrays
    if voice.arrays:
        return False
    return not (hasattr(estimator, "n_features_in_") and all(isinstance(column.label, str) for column in columns.columns))


def _question(voice: Voice, of: str, name: str) -> str:
    """What to ask: "raw", "probability" or "value"."""
    if voice.value is not None:
        if of == "probability":
            raise UnsupportedError(f"{name} predicts values, which have no probability", cure='Leave of="logit".')
        return "value"
    if voice.probability is not None and (of == "probability" or voice.raw is None):
        return "probability"
    if of == "probability" and voice.link in (None, "none"):
        raise UnsupportedError(
            f"{name} has no probabilities",
            cure='Explain its decision values, of="logit", or fit it inside CalibratedClassifierCV.',
        )
    return "raw"


def _tried(model: Foreign, *probe: Tensor) -> Tensor:
    try:
        return model(*probe)
    except PellucidError:
        raise
    except ValueError as error:
        shape = tuple(probe[0].shape) if len(probe) == 1 else [tuple(part.shape) for part in probe]
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"the model cannot run on an input of shape {shape}", where=reason) from error


def _link(raw: Tensor, own: Tensor) -> str:
    """By which function a library's own probabilities follow from its decision values: by none, if not to single precision."""
    for link in ("sigmoid", "softmax"):
        found = probabilities(raw, link)
        if found is not None and found.shape == own.shape and bool(((found - own).abs() < 1e-5).all()):
            return link
    return "none"


def _of_session(plain: Subject) -> Subject:
    columns = plain.columns
    ask = Session(plain.model)
    single = len(ask.inputs) == 1
    if columns is not None and columns.coded and single:
        raise InputError(f"column '{columns.coded[0]}' holds no numbers, which this model needs", cure="Encode it first.")
    parts = tuple(prepare(None, part, missing=True) for part in (plain.x if isinstance(plain.x, tuple) else (plain.x,)))
    model = Foreign(plain.model, ask, "value", columns=columns, framed=not single)
    first = _tried(model, *(part[:PROBED] for part in parts))
    model.labels = ask.labels
    several = first.ndim == 2 and first.shape[1] > 1
    if several and bool((first >= 0).all()) and bool(((first.sum(1) - 1).abs() < 1e-4).all()):
        return _answering(plain, model, "identity", probabilities_only=True)
    return _answering(plain, model, "softmax" if several else "sigmoid")  # as of a torch module
