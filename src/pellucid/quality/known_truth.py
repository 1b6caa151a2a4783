"""Where the relevant features are known by construction: is relevance greater there, and how much of it is there?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES

from .localisation import beside, without_evidence
from .measuring import Measured
from .shortcut import array_of, relevance_on

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
MODEL = (
    "It judges model and method together: a model that is often wrong, or that has found another way to be right, makes a good "
    "method look bad. Look at its test accuracy first. Of columns that say the same a model needs any one: their truth is NaN."
)


@MEASURES.add(
    "known truth",
    larger_is_better=True,
    asks="truth",
    cost="0",
    mission="Q7",
    paper="Hanley & McNeil 1982 (area under the ROC curve); Somers 1962 for a graded truth",
    reading="How often a relevant position has more relevance than an irrelevant one: 1 always, 0.5 by chance.",
    bias=f"Only the order counts. Coarse maps put the neighbours of what is relevant high up, which costs little. {MODEL}",
)
def rank_agreement(truth: ArrayLike, relevance: Any, *, absolute: bool = True) -> Measured:
    """P(r_i > r_j | t_i > t_j), equal r counted half: the area under the ROC curve for a truth of 0 and 1, per sample.

    truth: (N, *spatial), or (*spatial) for one that all samples share; true or 1 on what is relevant, or graded: any numbers.
    NaN where either answer is right, which no pair contains. relevance: an ``Explanation``, or maps (N, *spatial) with their
    sign. absolute: take the size of the relevance, since the truth says where and not which way; False asks for evidence in
    favour. A map that is zero everywhere has NaN, a constant one 0.5.

    Raises InputError for shapes that differ, a truth that tells no two positions apart, and relevance that is not finite.
    """
    t, maps = _compared(truth, relevance)
    blank: Mask = (maps == 0).all(1)
    r = np.abs(maps) if absolute else maps
    low, high = np.nanmin(t, 1, keepdims=True), np.nanmax(t, 1, keepdims=True)
    flat = low == high
    if flat.any():
        where, cure = f"sample {flat.argmax()}", "Leave out samples without a truth."
        raise InputError("the truth tells no two positions apart", where=where, cure=cure)
    graded = ((t > low) & (t < high)).any(1)
    values = _roc_area(t == high, np.isnan(t), r)
    for i in np.flatnonzero(graded):
        asked = ~np.isnan(t[i])
        values[i] = _concordance(t[i, asked], r[i, asked])
    return Measured("rank_agreement", np.where(blank, np.nan, values), notes=without_evidence(blank, "are zero everywhere"))


@MEASURES.add(
    "known truth",
    larger_is_better=True,
    asks="truth",
    cost="0",
    mission="Q7",
    paper="Arras et al. 2022: relevance mass accuracy",
    reading="The share of the positive relevance that lies on what the label was made from.",
    bias=f"Coarse and blurred maps lose what spills over, sharp ones gain. Compare with the truth's share of the area. {MODEL}",
)
def mass_on_truth(truth: ArrayLike, relevance: Any) -> Measured:
    """sum of max(R, 0) where t > 0 or either answer is right (NaN) / sum of max(R, 0), per sample: ``relevance_on`` the truth.

    truth, relevance: as for ``rank_agreement``. NaN for a map without positive relevance.
    Raises InputError as ``relevance_on`` does.
    """
    t = array_of(truth).astype(np.float64)
    found = relevance_on(np.isnan(t) | (t > 0), relevance)
    return Measured("mass_on_truth", found.share, notes=without_evidence(found.blank))


def _compared(truth: ArrayLike, relevance: Any) -> tuple[Floats, Floats]:
    """(N, P) truth and maps."""
    given, maps = beside(truth, relevance)
    t = given.astype(np.float64)
    if t.shape != maps.shape or maps.ndim < 2 or len(maps) == 0:
        cure = "Give maps (N, *spatial) and a truth for each."
        raise InputError(f"a truth of shape {t.shape} for maps of shape {maps.shape}", cure=cure)
    t, maps = t.reshape(len(t), -1), maps.reshape(len(maps), -1)
    if (bad := np.isinf(t) | np.isnan(t).all(1, keepdims=True)).any():
        where = f"sample {bad.any(1).argmax()}"
        raise InputError(
            "the truth is infinite or unknown", where=where, cure="Give finite numbers, NaN where either is right."
        )
    return t, maps


def _roc_area(relevant: Mask, left_out: Mask, r: Floats) -> Floats:
    """(N,) from the ranks: (sum over the relevant - p(p + 1)/2) / (p q), p relevant and q irrelevant positions."""
    # What is left out ranks above all else, so that it moves no other rank.
    ranks = stats.rankdata(np.where(left_out, np.inf, r), axis=1)
    p = relevant.sum(1)
    q = r.shape[1] - left_out.sum(1) - p
    found: Floats = ((ranks * relevant).sum(1) - p * (p + 1) / 2) / (p * q)
    return found


def _concordance(t: Floats, r: Floats) -> float:
    """1/2 + (concordant - discordant) / (2 pairs of different t), from Kendall's tau-b, which takes P log P steps."""
    pairs, equal_t, equal_r = (_pairs(counts) for counts in (np.array([len(t)]), *map(_sizes, (t, r))))
    if pairs == equal_r:
        return 0.5
    tau = float(stats.kendalltau(t, r, method="asymptotic").statistic)
    return 0.5 + 0.5 * tau * float(np.sqrt((pairs - equal_r) / (pairs - equal_t)))


def _sizes(values: Floats) -> NDArray[np.int64]:
    return np.unique(values, return_counts=True)[1]


def _pairs(counts: NDArray[np.int64]) -> float:
    return float((counts * (counts - 1) // 2).sum())
