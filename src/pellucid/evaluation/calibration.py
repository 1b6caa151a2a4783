"""Does a confidence of 80 % come true in 80 of 100 cases?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from pellucid.core import checks
from pellucid.core.table import MEASURES

from . import inputs

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The ``count`` rows whose highest probability lies in (``lower``, ``upper``], their mean ``confidence`` and ``accuracy``.

    An empty bin has neither: both are not a number.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def calibration_bins(y: ArrayLike, p: ArrayLike, *, bins: int = BINS, by: str = "width") -> list[Bin]:
    """The rows sorted by the probability of the predicted class, into ``bins`` bins of equal ``by`` "width" or "mass".

    Bins of equal mass hold equally many rows as far as ties allow; edges that coincide make one bin.
    """
    truth, probabilities = inputs.classification(y, p)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, checks.count("bins", bins) + 1)
    if checks.one_of("by", by, ("width", "mass")) == "mass":
        edges = np.unique([0.0, *np.quantile(confidence, edges[1:-1], method="inverted_cdf"), 1.0])
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    found = []
    for i, (lower, upper) in enumerate(pairwise(edges)):
        inside = place == i
        count = int(inside.sum())
        means = (confidence[inside].mean(), right[inside].mean()) if count else (np.nan, np.nan)
        found.append(Bin(float(lower), float(upper), count, *map(float, means)))
    return found


@MEASURES.add("evaluation", task="classification", larger_is_better=False, paper="Guo et al. 2017, eq. 3", mission="L3")
def expected_calibration_error(y: ArrayLike, p: ArrayLike, *, bins: int = BINS, by: str = "width") -> float:
    """``sum_b n_b / N |accuracy_b - confidence_b|`` over the bins of the predicted class's probability; from 0 to 1.

    Above 0 by chance even for a calibrated model, the more so the fewer rows a bin has: read it beside the counts.
    """
    filled = [b for b in calibration_bins(y, p, bins=bins, by=by) if b.count]
    return sum(b.count * abs(b.accuracy - b.confidence) for b in filled) / sum(b.count for b in filled)
