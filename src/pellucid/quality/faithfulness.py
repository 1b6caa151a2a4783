"""Is what the map shows what the model uses? Keep only the map's part of the input and watch the probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pellucid.core.checks import fraction, same_length
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.explanation import masks
from pellucid.explanation.baselines import as_baseline
from pellucid.explanation.borrowing import Model
from pellucid.explanation.calibration import at_threshold
from pellucid.explanation.foreign import adapted, check_baseline
from pellucid.explanation.inputs import finite_or_missing, prepare, takes_missing
from pellucid.explanation.score import Score, over_batches
from pellucid.explanation.targets import Target

from .measuring import Answer, Relevance, measure

Floats = NDArray[np.float64]
LEVELS = tuple(i / 10 for i in range(11))


# Probabilities below this are rounding, and nothing can be said relative to them.
LEAST = float(np.finfo(np.float32).tiny)
# o counts as y where they differ by no more than so many roundings: networks round differently in batches of other sizes.
ROUNDINGS = 100


def _increase(y: Floats, o: Floats) -> Floats:
    return _relative(np.maximum(o - y, 0), y)


def _drop(y: Floats, o: Floats) -> Floats:
    return _relative(np.maximum(y - o, 0), y)


def _relative(change: Floats, y: Floats) -> Floats:
    return np.where(y > LEAST, change / np.where(y > LEAST, y, 1), np.nan)


def _mean(of: Callable[[Floats, Floats], Floats], y: ArrayLike, o: ArrayLike) -> float:
    before, after = np.asarray(y, dtype=np.float64), np.asarray(o, dtype=np.float64)
    same_length(y=before, o=after)
    values = of(before, after).astype(np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


@MEASURES.add("faithfulness", larger_is_better=True, mission="Q1", paper="Lee & Han 2022; METHODS A.5")
def average_probability_increase(y: ArrayLike, o: ArrayLike) -> float:
    """API = mean(max(o - y, 0) / y): y the probability of the target on the input, o on the part that the map keeps.

    Not bounded above: a small y dominates. API - APD = mean((o - y) / y). Samples whose y is below 1e-38 are left out.
    """
    return _mean(_increase, y, o)


@MEASURES.add("faithfulness", larger_is_better=False, mission="Q1", paper="Chattopadhay et al. 2018, eq. 11, as a fraction")
def average_probability_drop(y: ArrayLike, o: ArrayLike) -> float:
    """APD = mean(max(y - o, 0) / y), in [0, 1]."""
    return _mean(_drop, y, o)


@MEASURES.add("faithfulness", larger_is_better=True, mission="Q1", paper="Chattopadhay et al. 2018, eq. 12, as a fraction")
def increase_rate(y: ArrayLike, o: ArrayLike) -> float:
    """IR = share of samples with o > y. IR + DR + ties = 1."""
    return _mean(np.less, y, o)


@MEASURES.add("faithfulness", larger_is_better=False, mission="Q1", paper="Lee & Han 2022; METHODS A.5")
def decrease_rate(y: ArrayLike, o: ArrayLike) -> float:
    """DR = share of samples with o < y."""
    return _mean(np.greater, y, o)


MEASURED = {
    "api": average_probability_increase,
    "apd": average_probability_drop,
    "ir": increase_rate,
    "dr": decrease_rate,
}
OF_A_SAMPLE: dict[str, Callable[[Floats, Floats], Floats]] = {"api": _increase, "apd": _drop, "ir": np.less, "dr": np.greater}


@dataclass(frozen=True)
class Faithfulness:
    """API, APD, IR, DR of one method at each threshold. y (N,), o (N, T) are the probabilities they come from.

    ``plain`` has the four numbers for the map as it is (threshold 0), ``area`` the mean over the thresholds (trapezoid).
    nothing (N, T): whether the threshold leaves nothing at all of a sample; ``empty`` (T,) is the share of these.
    """

    thresholds: Floats
    y: Floats
    o: Floats
    nothing: NDArray[np.bool_]

    @property
    def empty(self) -> Floats:
        """(T,) the share of samples of which the threshold leaves nothing."""
        return np.asarray(self.nothing.mean(0))

    def of_classes(self, target: ArrayLike) -> dict[int, Faithfulness]:
        """The same for the samples of each class, by the target (N,) that was explained, e.g. ``Explanation.target``."""
        classes = np.asarray(target)
        same_length(target=classes, samples=self.y)
        kept = {int(c): classes == c for c in np.unique(classes)}
        return {c: Faithfulness(self.thresholds, self.y[i], self.o[i], self.nothing[i]) for c, i in kept.items()}

    def curve(self, measure: str) -> Floats:
        """(T,) one of "api", "apd", "ir", "dr" at every threshold."""
        return np.array([MEASURED[measure](self.y, o) for o in self.o.T])

    def plain(self) -> dict[str, float]:
        """The four measures at the first threshold."""
        return {name: float(self.curve(name)[0]) for name in MEASURED}

    def area(self) -> dict[str, float]:
        """The four measures averaged over the thresholds."""
        span = self.thresholds[-1] - self.thresholds[0]
        if span == 0:
            return self.plain()
        return {name: float(np.trapezoid(self.curve(name), self.thresholds) / span) for name in MEASURED}

    def calibrated(self) -> tuple[dict[str, float], Floats]:
        """The four measures with each map cut where the model is surest of what is left, and that threshold (N,).

        Those of ``calibrate`` on the same maps: the best o is among those that were measured, thresholds of 1 left out.
        """
        cuts = np.flatnonzero(self.thresholds < 1)
        best = self.o[:, cuts].argmax(1)
        after = self.o[np.arange(len(self.y)), cuts[best]]
        return {name: MEASURED[name](self.y, after) for name in MEASURED}, self.thresholds[cuts[best]]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers: thresholds, the four curves, plain values, areas, number of samples."""
        curves = {name: self.curve(name).tolist() for name in MEASURED}
        return {
            "samples": len(self.y),
            "thresholds": self.thresholds.tolist(),
            "curves": curves,
            "plain": self.plain(),
            "area": self.area(),
            "empty": self.empty.tolist(),
        }


def faithfulness(
    model: Model,
    x: Any,
    evidence: Tensor,
    *,
    target: Target = None,
    thresholds: Sequence[float] = LEVELS,
    batch: int | None = None,
    baseline: Any = 0.0,
) -> Faithfulness:
    """Probability of the target on I_t * x + (1 - I_t) * b, I_t = evidence where it reaches t, else 0: 1 + T forwards a sample.

    model, x: as for a method, so also an estimator with a data frame. evidence: (N, *spatial) in [0, 1], e.g.
    ``Explanation.evidence()``. baseline: b, what "removed" means: 0, the mean of a normalised input; another number; one input;
    or a set of them, such as the training data, which stands for its mean. Of columns of categories b is the most frequent one,
    and a sample keeps its own where I_t > 0; so it does where its value or b's is missing.
    Raises InputError for evidence of another shape or outside [0, 1], for a baseline of another shape, and for categories
    without a baseline; UnsupportedError for a model without probabilities.
    """
    subject = adapted(model, x, {"faithfulness": {"baseline": baseline}}, target=target, of="probability")
    check_baseline(subject.columns, "faithfulness", baseline)
    model, x = subject.model, prepare(subject.model, subject.x)
    codes = None if subject.columns is None else subject.columns.codes
    b = removed(subject.options["faithfulness"]["baseline"], x, codes, takes_missing(model))
    evidence = torch.as_tensor(evidence).to(x)
    if tuple(evidence.shape) != (len(x), *masks.spatial(x)):
        raise InputError(
            f"evidence of shape {tuple(evidence.shape)} for samples of {tuple(x.shape)}", cure="Give one map per sample."
        )
    if bool((evidence < 0).any() | (evidence > 1 + 1e-6).any()):
        raise InputError("evidence outside [0, 1]", cure="Use Explanation.evidence().")
    levels = torch.tensor(_levels(thresholds), dtype=torch.float64).to(x)

    def run(score: Score) -> tuple[Tensor, Tensor]:
        return _kept(score, evidence[score.first : score.first + len(score)], levels, b, codes)

    parts = over_batches(model, x, run, target=subject.target, batch=batch)
    y, o = (torch.cat([p[i] for p in parts]).double().cpu().numpy() for i in (0, 1))
    top = evidence.flatten(1).amax(1)
    nothing = (top[:, None] < levels) | (top == 0)[:, None]
    return Faithfulness(levels.double().cpu().numpy(), y, o, nothing.cpu().numpy())


def _levels(thresholds: Sequence[float], *, below_one: bool = False) -> list[float]:
    """Thresholds in order; InputError for none, for equal ones, and for what is not from 0 to 1."""
    if isinstance(thresholds, str) or not isinstance(thresholds, Sequence | np.ndarray | Tensor):
        raise InputError(f"thresholds is {thresholds!r}", cure="Give numbers from 0 to 1.")
    levels = sorted(fraction("a threshold", float(t)) for t in thresholds)
    if not levels or len(set(levels)) < len(levels) or (below_one and levels[0] == 1):
        raise InputError(f"thresholds {levels}", cure="Give different numbers from 0 to 1, at least one of them below 1.")
    return levels


def _kept(score: Score, evidence: Tensor, levels: Tensor, b: Tensor, codes: Tensor | None) -> tuple[Tensor, Tensor]:
    """y (B,) and o (B, T): the probability of the target on the samples, and on what each threshold leaves of them."""

    def cut(sample: Tensor, draw: Tensor) -> Tensor:
        return blended(score.x[sample], b, codes, at_threshold(evidence[sample], levels[draw]))

    if not score.x.is_floating_point():
        raise UnsupportedError("the part that a map keeps of whole numbers, which cannot be weighed", cure="Use deletion.")
    own = score.own_probability()
    o = score.values(len(levels), cut, of="probability")
    double = own.dtype == torch.float64
    tied = ROUNDINGS * torch.finfo(torch.float64 if double else torch.float32).eps
    return own, torch.where((o - own[:, None]).abs() <= tied * torch.maximum(o, own[:, None]), own[:, None], o)


def removed(baseline: Any, x: Tensor, codes: Tensor | None, missing: bool) -> Tensor:
    """(1, ...) what stands for nothing: of a set its mean, or the most frequent category of columns that are codes (D,)."""
    if isinstance(baseline, str):
        raise InputError(f"baseline is {baseline!r}", cure="Give a number, one input, or a set of them.")
    if not isinstance(baseline, int | float):
        rows = finite_or_missing("the baseline", torch.as_tensor(baseline).to(x), missing)
        if rows.ndim == x.ndim:
            baseline = rows.nanmean(0)
            for j in [] if codes is None else codes.nonzero()[:, 0].tolist():
                there, times = torch.unique(rows[:, j][~rows[:, j].isnan()], return_counts=True)
                baseline[j] = there[times.argmax()] if len(there) else torch.nan
    return as_baseline(baseline, x[:1], missing)


def blended(x: Tensor, b: Tensor, codes: Tensor | None, mask: Tensor) -> Tensor:
    """x * I + b * (1 - I); where there is nothing between the two x if I > 0, else b."""
    b = b.expand_as(x)
    either = torch.where((mask[:, None] if x.ndim > 2 else mask) > 0, x, b)
    whole = x.isnan() | b.isnan()
    whole = whole if codes is None else whole | codes.to(x.device)
    return torch.where(whole, either, masks.keep(x, mask) + masks.keep(b, 1 - mask))


FORMULAS = {
    "api": (True, "mean over t of max(o_t - y, 0) / y", "Not bounded above: samples with a small y dominate"),
    "apd": (False, "mean over t of max(y - o_t, 0) / y", "A map that keeps everything, such as a constant one, loses nothing"),
    "ir": (True, "share of t with o_t > y", "Says how often, not how much"),
    "dr": (False, "share of t with o_t < y", "A map that keeps everything, such as a constant one, loses nothing"),
}
_SHARED = "what is removed becomes the baseline, which the model may never have seen."
_FITTED = "The threshold is chosen by the number that is then measured, so all methods must be given it, and any map gains"


def _of_curves(name: str, calibrated: bool) -> Any:
    """The measure of one sample: the area of its curve, or its value at the threshold where the model is surest."""
    larger, formula, bias = FORMULAS[name]

    def body(score: Score, relevance: Relevance, *, thresholds: Sequence[float] = LEVELS, baseline: Any = 0.0) -> Answer:
        def make() -> tuple[Tensor, Tensor]:
            b = removed(baseline, score.x, relevance.codes, score.inputs.missing)
            return _kept(score, relevance.evidence, torch.tensor(levels, dtype=torch.float64).to(score.x), b, relevance.codes)

        levels = _levels(thresholds, below_one=calibrated)
        same = repr(baseline) if isinstance(baseline, int | float | str) else id(baseline)
        y, o = (t.double().cpu().numpy() for t in score.once(("kept", id(relevance), tuple(levels), same), make))
        if calibrated:
            after = o[:, [t < 1 for t in levels]].max(1)
            return Answer(torch.from_numpy(OF_A_SAMPLE[name](y, after).astype(float)))
        curve = OF_A_SAMPLE[name](y[:, None], o).astype(float)
        area = np.trapezoid(curve, levels, axis=1) / (levels[-1] - levels[0]) if len(levels) > 1 else curve[:, 0]
        return Answer(torch.from_numpy(area), levels, torch.from_numpy(curve))

    body.__name__ = body.__qualname__ = f"{name}_calibrated" if calibrated else name
    said = f"max(o) of the thresholds below 1 in the place of o_t in {formula}" if calibrated else formula
    body.__doc__ = f"""{name.upper()} of each sample{", every map at its best threshold" if calibrated else ""}: {said}.

        y is the probability of the target on the input, o_t on I_t * x + (1 - I_t) * b, as in ``faithfulness``. All measures of
        this family share their passes. {_FITTED if calibrated else bias}.
        """
    return measure(
        "kept part, calibrated" if calibrated else "kept part",
        larger_is_better=larger,
        cost="T F, shared by this family",
        mission="Q1",
        paper="Lee & Han 2022" if name in ("api", "dr") else "Chattopadhay et al. 2018",
        reading="The part that the map keeps makes the model " + ("surer of" if larger else "less sure of") + " the class.",
        won_by="" if larger else "constant_map",
        bias=f"{_FITTED if calibrated else bias}; {_SHARED}",
        of="probability",
    )(body)


api, apd, ir, dr = (_of_curves(name, False) for name in FORMULAS)
api_calibrated, apd_calibrated, ir_calibrated, dr_calibrated = (_of_curves(name, True) for name in FORMULAS)
