"""A threshold for every map: the cut at which the model is surest of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import InputError

from . import masks
from .borrowing import Model
from .foreign import adapted, check_baseline
from .inputs import prepare
from .score import Score, over_batches
from .targets import Target

# 0, 0.1 ... 0.9. A cut at 1 would keep the single largest value only (METHODS A.4), so it is no candidate.
THRESHOLDS = tuple(i / 10 for i in range(10))


@dataclass(frozen=True)
class Calibrated:
    """evidence (B, *spatial), 0 where below threshold (B,); probability (B, T) of the target at each candidate."""

    evidence: Tensor
    threshold: Tensor
    probability: Tensor


def threshold_calibration(score: Score, evidence: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> Calibrated:
    """t* = argmax_t p_c(L_t * x) with L_t = L where L >= t, else 0 (Lee & Han 2022; METHODS A.3): one F per threshold.

    Ties go to the lowest threshold, so as much evidence as possible is kept. With t = 0 among the candidates the result
    never scores below the uncalibrated map; with all of them below the map's maximum it never keeps nothing.
    """
    if not thresholds or min(thresholds) != 0 or max(thresholds) >= 1:
        raise InputError(f"thresholds {list(thresholds)}", cure="Give 0 and further values below 1.")
    levels = torch.as_tensor(sorted(thresholds), dtype=evidence.dtype, device=evidence.device)
    score.own()

    def cut(sample: Tensor, draw: Tensor) -> Tensor:
        return at_threshold(evidence[sample], levels[draw])

    probability = score.values(
        len(levels), lambda sample, draw: masks.keep(score.x[sample], cut(sample, draw)), of="probability"
    )
    best = probability.max(1, keepdim=True).values
    chosen = levels[(probability == best).int().argmax(1)]  # the first of equals
    return Calibrated(at_threshold(evidence, chosen), chosen, probability)


def at_threshold(evidence: Tensor, threshold: Tensor) -> Tensor:
    """L_t: the map where it reaches its sample's threshold, zero elsewhere."""
    return torch.where(evidence >= masks.beside(threshold, evidence), evidence, torch.zeros_like(evidence))


def calibrate(
    model: Model,
    x: Any,
    evidence: Tensor,
    *,
    target: Target = None,
    thresholds: Sequence[float] = THRESHOLDS,
    batch: int | None = None,
) -> Calibrated:
    """``threshold_calibration`` for maps in [0, 1] of any method, e.g. ``Explanation.evidence()``: 1 + T forwards a sample."""
    subject = adapted(model, x, {"calibrate": {}}, target=target, of="probability")
    check_baseline(subject.columns, "calibrate", 0.0)
    model, x = subject.model, prepare(subject.model, subject.x)
    evidence = evidence.to(x)
    if tuple(evidence.shape) != (len(x), *masks.spatial(x)) or bool((evidence < 0).any() | (evidence > 1).any()):
        raise InputError(
            f"evidence of shape {tuple(evidence.shape)} for samples of {tuple(x.shape)}",
            cure="Give one map in [0, 1] per sample.",
        )

    def run(score: Score) -> Calibrated:
        return threshold_calibration(score, evidence[score.first : score.first + len(score)], thresholds)

    parts = over_batches(model, x, run, target=subject.target, batch=batch)
    return Calibrated(*(torch.cat([getattr(p, name) for p in parts]) for name in ("evidence", "threshold", "probability")))
