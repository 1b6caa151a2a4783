"""The decorator of every measure that asks the model, and ``assess``, which runs several of them over shared passes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, PellucidError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.evaluation.intervals import LEVEL, Interval, bootstrap
from pellucid.explanation import masks
from pellucid.explanation.borrowing import Model
from pellucid.explanation.foreign import adapted, check_baseline
from pellucid.explanation.inputs import Inputs, inputs_of
from pellucid.explanation.result import Explanation, joined
from pellucid.explanation.score import Score, over_batches
from pellucid.explanation.targets import SCALES, Target

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Relevance:
    """One method's maps of a batch: relevance (B, ...) of the input's shape, map (B, *spatial) with its sign.

    codes (D,): of a table, which of its columns are categories, that nothing lies between; None where there are none.
    """

    relevance: Tensor
    map: Tensor
    codes: Tensor | None = None

    @property
    def evidence(self) -> Tensor:
        """(B, *spatial) in [0, 1]: the positive part of the map over its maximum."""
        return masks.positive_share(self.map)

    def order(self) -> Tensor:
        """(B, P) positions from the most relevant down; of equals the one that comes first in memory."""
        return self.map.flatten(1).argsort(stable=True, dim=1, descending=True)

    def rows(self, start: int, stop: int) -> Relevance:
        """The maps of some samples."""
        return Relevance(self.relevance[start:stop], self.map[start:stop], self.codes)


@dataclass(frozen=True)
class Answer:
    """What the body of a measure returns where a number per sample (B,) is not all: a curve (B, T) over levels (T,), notes."""

    values: Tensor
    levels: Sequence[float] | Tensor | None = None
    curve: Tensor | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """One measure of one method's maps. values (N,): a number per sample, NaN where a map gives none.

    curve (N, T) over ``levels`` (T,), of measures that are areas of curves. passes: rows through the network per sample beyond
    the one clean forward that all measures share. notes: what a reader must know to trust the numbers.
    """

    measure: str
    values: Floats
    levels: Floats | None = None
    curve: Floats | None = None
    passes: float = 0.0
    notes: tuple[str, ...] = field(default=())

    def __float__(self) -> float:
        """The mean over the samples that have a number; NaN if none has."""
        known = self.known
        return float(known.mean()) if len(known) else float("nan")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> Floats:
        """The values that are numbers."""
        return self.values[~np.isnan(self.values)]

    def interval(self, *, level: float = LEVEL, seed: int = 0) -> Interval:
        """The bootstrap interval of the mean over the samples."""
        if not len(self.known):
            return Interval(float("nan"), float("nan"), level, "bootstrap")
        return bootstrap(self.known, lambda means: means, level=level, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        found: dict[str, Any] = {"values": self.values.tolist(), "passes": self.passes, "notes": list(self.notes)}
        if self.curve is not None and self.levels is not None:
            found |= {"levels": self.levels.tolist(), "curve": np.nanmean(self.curve, 0).tolist()}
        return found


Body = Callable[..., Tensor | Answer]


def measure(
    family: str,
    *,
    larger_is_better: bool,
    cost: str,
    mission: str,
    paper: str,
    reading: str,
    bias: str,
    of: str = "",
    won_by: str = "",
) -> Callable[[Body], Any]:
    """Make a measure of ``body(score, relevance, *, options)`` and enter it in the table.

    The made function is called as ``name(model, x, relevance, *, target=None, seed=0, batch=None, progress=None, **options)``
    and returns a ``Measured``:

    - model, x, target, seed, batch, progress: as for a method. Without ``target`` the class that the explanation explains.
    - relevance: an ``Explanation``; or maps (N, *spatial) with their sign, or relevance of the input's shape.

    Raises InputError for maps of another shape, or that are not finite, UnsupportedError where the measure cannot judge this
    model. ``cost``: F forward, B backward, in rows per sample beyond the clean forward. ``reading``: what a larger number
    means. ``bias``: what the measure is known to favour. ``of``: the number that is watched, where not the one explained.
    ``won_by``: names of control maps that are best by construction, with which nothing can be compared.
    """
    if of not in ("", *SCALES):
        raise ValueError(f"of={of!r}")

    def decorate(body: Body) -> Any:
        name = body.__name__

        @functools.wraps(body)
        def call(
            model: Model,
            x: Any,
            relevance: Any,
            *,
            target: Target = None,
            seed: int = 0,
            batch: int | None = None,
            progress: Callable[[int, int], None] | None = None,
            **options: Any,
        ) -> Measured:
            more: dict[str, Any] = {"target": target, "seed": seed, "batch": batch, "progress": progress}
            return assess(model, x, {"map": relevance}, {name: options}, **more)["map"][name]

        facts = {"cost": cost, "mission": mission, "paper": paper, "reading": reading, "bias": bias, "of": of}
        return MEASURES.add(family, larger_is_better=larger_is_better, asks="model", won_by=won_by, **facts)(call)

    return decorate


def assess(
    model: Model,
    x: Any,
    relevance: Mapping[str, Any],
    measures: Sequence[str] | Mapping[str, Mapping[str, Any]],
    *,
    target: Target = None,
    seed: int = 0,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Measured]]:
    """Several measures of several methods' maps of the same samples: one clean forward per sample for all of them.

    relevance: name -> ``Explanation``, maps or relevance; measures: names, or names with their options. All else as for one
    measure (see ``measure``). Returns name of the maps -> name of the measure -> ``Measured``.
    """
    asked = _asked(measures)
    target, of = _explained(relevance, target)
    subject = adapted(model, x, asked, target=target, of=of)
    for name, options in subject.options.items():
        if (baseline := MEASURES[name].options().get("baseline")) is not None:
            check_baseline(subject.columns, name, options.get("baseline", baseline.default))
    inputs = inputs_of(subject.model, subject.x)
    codes = subject.columns.codes if subject.columns is not None and subject.columns.coded else None
    maps = {name: relevance_of(given, inputs, name, codes) for name, given in relevance.items()}

    def run(score: Score) -> dict[tuple[str, str], tuple[Answer, int]]:
        score.own()
        found = {}
        here = {title: whole.rows(score.first, score.first + len(score)) for title, whole in maps.items()}
        for name, options in subject.options.items():
            body = inspect.unwrap(MEASURES[name].value)
            for title, part in here.items():
                before = score.passes.copy()
                answer = body(score, part, **options)
                spent = score.passes - before
                answer = Answer(answer) if isinstance(answer, Tensor) else answer
                if tuple(answer.values.shape) != (len(score),):
                    raise PellucidError(f"{name} gave {tuple(answer.values.shape)} for {len(score)} samples")
                found[title, name] = answer, spent.forward + spent.backward + spent.head + spent.tail
        return found

    more: dict[str, Any] = {"target": subject.target, "of": subject.of, "seed": seed, "batch": batch, "progress": progress}
    parts = over_batches(subject.model, inputs, run, **more)
    return {title: {name: _assemble(name, [p[title, name] for p in parts], len(inputs)) for name in asked} for title in maps}


def own(score: Score, of: str) -> Tensor:
    """(B,) the samples' own logit or probability, from the clean forward that all measures share."""
    if of == "probability":
        return score.own_probability()
    return score.own() if of == score.of else score.select(score._answer, score.everyone(), of)


def relevance_of(given: Any, inputs: Inputs, name: str = "the maps", codes: Tensor | None = None) -> Relevance:
    """An explanation, maps or relevance as the measures take it; InputError for other shapes and for what is not finite."""
    x = inputs.x
    like = x if x.is_floating_point() else torch.zeros(0, device=x.device)  # relevance of whole numbers is none of them
    if isinstance(given, Explanation):
        tensor = given.parts[inputs.varied[0]] if given.shapes is not None else given.relevance
        if tensor is None:
            raise InputError(f"{name} explains another input of the model", cure="Explain the one that makes a picture.")
        relevance = (tensor.movedim(-1, 1) if given.channels_last and tensor.ndim > 2 else tensor).to(like)
        maps = given.map().to(like) if given.shapes is None else masks.collect(relevance)
    else:
        maps = relevance = torch.as_tensor(given).detach().to(like)
        if tuple(maps.shape) == tuple(x.shape):
            maps = masks.collect(relevance)
        elif tuple(maps.shape) == (len(x), *masks.spatial(x)):
            relevance = masks.spread(maps, x)
    if tuple(relevance.shape) != tuple(x.shape) or tuple(maps.shape) != (len(x), *masks.spatial(x)):
        raise InputError(
            f"{name}: relevance of shape {tuple(relevance.shape)} for samples of {tuple(x.shape)}",
            cure="Give one map per sample, or relevance of the input's shape.",
        )
    checks.finite(f"the relevance of {name}", relevance)
    return Relevance(relevance, maps, codes)


def _asked(measures: Any) -> dict[str, dict[str, Any]]:
    if isinstance(measures, str):
        measures = [measures]
    given = dict(measures) if isinstance(measures, Mapping) else {name: {} for name in measures}
    if not given:
        raise InputError("no measure asked for", cure=f"Known: {', '.join(of_models())}.")
    for name, options in given.items():
        MEASURES[name].check_options(options or {})
        if MEASURES[name].facts.get("asks") != "model":
            raise InputError(f"{name} does not ask the model about maps", cure=f"Here are: {', '.join(of_models())}.")
    return {name: dict(options or {}) for name, options in given.items()}


def of_models() -> list[str]:
    """Names of the measures that ``assess`` knows."""
    return [entry.name for entry in MEASURES if entry.facts.get("asks") == "model"]


def _explained(relevance: Mapping[str, Any], target: Target) -> tuple[Target, str]:
    """The target and the scale that the explanations explain; InputError where they disagree."""
    if not isinstance(relevance, Mapping):
        raise InputError(
            f"relevance is {type(relevance).__name__}", cure="Give a dictionary from names to maps, as of explain."
        )
    if not relevance:
        raise InputError("no maps to measure", cure="Give at least one explanation.")
    known = {name: e for name, e in relevance.items() if isinstance(e, Explanation)}
    scales = {e.of for e in known.values()}
    if len(scales) > 1:
        raise InputError(f"maps of the {' and of the '.join(sorted(scales))}", cure="Explain all with the same of=.")
    with_target = {name: e.target for name, e in known.items() if e.target is not None}
    if target is None and with_target:
        first, index = next(iter(with_target.items()))
        for name, other in with_target.items():
            if not torch.equal(index, other):
                raise InputError(f"{first} and {name} explain different classes", cure="Explain all with the same target=.")
        target = index
    return target, next(iter(scales), "logit")


def _assemble(name: str, parts: list[tuple[Answer, int]], rows: int) -> Measured:
    answers = [answer for answer, _ in parts]
    curve = joined([a.curve for a in answers])
    levels = None if answers[0].levels is None else torch.as_tensor(answers[0].levels).double().cpu().numpy()
    notes = dict.fromkeys(note for a in answers for note in a.notes)
    return Measured(
        name,
        torch.cat([a.values for a in answers]).double().cpu().numpy(),
        levels,
        None if curve is None else curve.double().cpu().numpy(),
        sum(spent for _, spent in parts) / rows,
        tuple(notes),
    )


def no_axes(name: str) -> UnsupportedError:
    """What is said where a measure needs a picture or a sequence."""
    return UnsupportedError(f"{name} of a table", cure="Use it on images or sequences, whose values have neighbours.")
