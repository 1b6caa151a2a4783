"""Is what the map shows what the model uses? Keep only the map's part of the input and watch the probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pellucid.core.checks import same_length
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.explanation import masks
from pellucid.explanation.baselines import as_baseline
from pellucid.explanation.borrowing import Model
from pellucid.explanation.calibration import at_threshold
from pellucid.explanation.foreign import adapted, check_baseline
from pellucid.explanation.frames import Columns
from pellucid.explanation.inputs import finite_or_missing, prepare, takes_missing
from pellucid.explanation.score import Score, over_batches
from pellucid.explanation.targets import Target

Floats = NDArray[np.float64]
LEVELS = tuple(i / 10 for i in range(11))


def _pair(y: ArrayLike, o: ArrayLike) -> tuple[Floats, Floats]:
    before, after = np.asarray(y, dtype=np.float64), np.asarray(o, dtype=np.float64)
    same_length(y=before, o=after)
    return before, after


@MEASURES.add("faithfulness", larger_is_better=True, mission="Q1", paper="Lee & Han 2022; METHODS A.5")
def average_probability_increase(y: ArrayLike, o: ArrayLike) -> float:
    """API = mean(max(o - y, 0) / y): y the probability of the target on the input, o on the part that the map keeps.

    Not bounded above: a small y dominates. API - APD = mean((o - y) / y).
    """
    before, after = _pair(y, o)
    return float(np.mean(np.maximum(after - before, 0) / np.maximum(before, np.finfo(float).tiny)))


@MEASURES.add("faithfulness", larger_is_better=False, mission="Q1", paper="Chattopadhay et al. 2018, eq. 11, as a fraction")
def average_probability_drop(y: ArrayLike, o: ArrayLike) -> float:
    """APD = mean(max(y - o, 0) / y), in [0, 1]."""
    before, after = _pair(y, o)
    return float(np.mean(np.maximum(before - after, 0) / np.maximum(before, np.finfo(float).tiny)))


@MEASURES.add("faithfulness", larger_is_better=True, mission="Q1", paper="Chattopadhay et al. 2018, eq. 12, as a fraction")
def increase_rate(y: ArrayLike, o: ArrayLike) -> float:
    """IR = share of samples with o > y. IR + DR + ties = 1."""
    before, after = _pair(y, o)
    return float(np.mean(after > before))


@MEASURES.add("faithfulness", larger_is_better=False, mission="Q1", paper="Lee & Han 2022; METHODS A.5")
def decrease_rate(y: ArrayLike, o: ArrayLike) -> float:
    """DR = share of samples with o < y."""
    before, after = _pair(y, o)
    return float(np.mean(after < before))


MEASURED = {
    "api": average_probability_increase,
    "apd": average_probability_drop,
    "ir": increase_rate,
    "dr": decrease_rate,
}


@dataclass(frozen=True)
class Faithfulness:
    """API, APD, IR, DR of one method at each threshold. y (N,), o (N, T) are the probabilities they come from.

    ``plain`` has the four numbers for the map as it is (threshold 0), ``area`` the mean over the thresholds (trapezoid).
    ``empty`` (T,) is the share of samples of which the threshold leaves nothing at all.
    """

    thresholds: Floats
    y: Floats
    o: Floats
    empty: Floats

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
    b, whole = _removed(subject.options["faithfulness"]["baseline"], x, subject.columns, takes_missing(model))
    evidence = torch.as_tensor(evidence).to(x)
    if tuple(evidence.shape) != (len(x), *masks.spatial(x)):
        raise InputError(
            f"evidence of shape {tuple(evidence.shape)} for samples of {tuple(x.shape)}", cure="Give one map per sample."
        )
    if bool((evidence < 0).any() | (evidence > 1 + 1e-6).any()):
        raise InputError("evidence outside [0, 1]", cure="Use Explanation.evidence().")
    levels = torch.as_tensor(sorted(thresholds)).to(x)

    def run(score: Score) -> tuple[Tensor, Tensor]:
        mine = evidence[score.first : score.first + len(score)]

        def cut(sample: Tensor, draw: Tensor) -> Tensor:
            return _blended(score.x[sample], b, whole, at_threshold(mine[sample], levels[draw]))

        own = score.own_probability()
        return own, score.values(len(levels), cut, of="probability")

    parts = over_batches(model, x, run, target=subject.target, batch=batch)
    y, o = (torch.cat([p[i] for p in parts]).double().cpu().numpy() for i in (0, 1))
    top = evidence.flatten(1).amax(1)
    empty = (top[:, None] < levels) | (top == 0)[:, None]
    return Faithfulness(levels.double().cpu().numpy(), y, o, empty.double().mean(0).cpu().numpy())


def _removed(baseline: Any, x: Tensor, columns: Columns | None, missing: bool) -> tuple[Tensor, Tensor]:
    """(1, ...) what stands for nothing, of a set its mean or most frequent category; (D,) which columns are categories."""
    codes = torch.zeros(x.shape[-1], dtype=torch.bool) if columns is None else columns.codes
    codes = codes.to(x.device)
    if isinstance(baseline, str):
        raise InputError(f"baseline is {baseline!r}", cure="Give a number, one input, or a set of them.")
    if not isinstance(baseline, int | float):
        rows = finite_or_missing("the baseline", torch.as_tensor(baseline).to(x), missing)
        if rows.ndim == x.ndim:
            baseline = rows.nanmean(0)
            for j in codes.nonzero()[:, 0].tolist():
                there, times = torch.unique(rows[:, j][~rows[:, j].isnan()], return_counts=True)
                baseline[j] = there[times.argmax()] if len(there) else torch.nan
    return as_baseline(baseline, x[:1], missing), codes


def _blended(x: Tensor, b: Tensor, codes: Tensor, mask: Tensor) -> Tensor:
    """x * I + b * (1 - I); where there is nothing between the two x if I > 0, else b."""
    b = b.expand_as(x)
    either = torch.where((mask[:, None] if x.ndim > 2 else mask) > 0, x, b)
    return torch.where(codes | x.isnan() | b.isnan(), either, masks.keep(x, mask) + masks.keep(b, 1 - mask))
