"""Does an explanation get more complex when the model is random? The entropy of its values, before and after (eMPRT)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.evaluation.intervals import LEVEL, Interval, bootstrap

from .dependence import TOO_MANY, flat, numbers
from .randomisation import MapsOf, fully_randomised

Floats = NDArray[np.float64]


@MEASURES.add("complexity", larger_is_better=None, mission="Q2", paper="Hedström et al. 2024, sec. 3.2: histogram entropy")
def histogram_entropy(maps: ArrayLike, *, bins: int = 100) -> Floats:
    """(N,) -sum_b p_b log p_b of maps (N, *spatial), p_b the share of values in bin b of ``bins`` equal ones from min to max.

    From 0, where all values are in one bin, to log(bins), in nats. It depends on the order, sign and scale of the values not at
    all: noise has a high one and a map with a few large values a low one, whatever they point at.
    """
    checks.count("bins", bins, least=2)
    rows = np.asarray(maps, dtype=np.float64)
    if rows.ndim < 2 or not np.isfinite(rows).all():
        raise InputError("the maps are no finite numbers (N, *spatial)", cure="Give one map per sample.")
    shares = np.stack([np.histogram(row, bins)[0] for row in rows.reshape(len(rows), -1)]) / rows[0].size
    found: Floats = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
    return found


@dataclass(frozen=True)
class EntropyRise:
    """Histogram entropy of the maps of the model (before) and of the fully random one (after), (N,) each.

    constant: the share of original maps that are constant. The verdict: passes where the 95 % bootstrap interval of the mean
    rise lies above 0. Noise that does not come from the model, an edge detector and a constant map do not rise, so they fail.
    So does a method whose maps of the trained model are as complex as noise already: there is little room above.
    """

    before: Floats
    after: Floats
    constant: float = 0.0

    @property
    def rise(self) -> Floats:
        """(N,) (after - before) / before; NaN where all values of the original map lie in one bin."""
        found: Floats = np.where(
            self.before > 0, (self.after - self.before) / np.where(self.before > 0, self.before, 1), np.nan
        )
        return found

    def __float__(self) -> float:
        """The mean rise; NaN if no map has one."""
        known = self.rise[self.before > 0]
        return float(known.mean()) if len(known) else float("nan")

    def interval(self, *, level: float = LEVEL, seed: int = 0) -> Interval:
        """The bootstrap interval of the mean rise over the samples."""
        known = self.rise[self.before > 0]
        if not len(known):
            return Interval(float("nan"), float("nan"), level, "bootstrap")
        return bootstrap(known, lambda means: means, level=level, seed=seed)

    @property
    def passed(self) -> bool:
        """Whether the maps became more complex."""
        return self.constant <= TOO_MANY and self.interval().lower > 0

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.constant > TOO_MANY:
            return f"fails: {100 * self.constant:.0f} % of the maps are constant, so nothing in them can change with the model"
        ends = self.interval()
        said = (
            f"entropy {100 * float(self):+.0f} % with all layers random, {100 * ends.lower:+.0f} to {100 * ends.upper:+.0f} %"
        )
        if self.passed:
            return f"passes: the map is more complex when the model is random ({said})"
        return f"fails: the map is no more complex when the model is random ({said})"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; None for a number that is not defined."""
        rise = float(self)
        return {
            "before": self.before.tolist(),
            "after": self.after.tolist(),
            "rise": None if np.isnan(rise) else rise,
            "constant": self.constant,
            "passed": self.passed,
            "verdict": self.verdict,
        }


@MEASURES.add("randomisation", larger_is_better=None, mission="Q2", paper="Hedström et al. 2024, sec. 3.2: eMPRT")
def efficient_randomisation(
    model: nn.Module, maps: MapsOf, *, seed: int = 0, original: Mapping[str, Tensor] | None = None, bins: int = 100
) -> dict[str, EntropyRise]:
    """How much more complex the maps are when every layer is random (eMPRT): method -> relative rise of histogram entropy.

    maps, original: as for ``cascading_randomisation``; signed and unscaled. No layer after another and no comparison of maps
    with one another: 2 explanations a sample, 1 with ``original``. Source: Hedström et al. 2024, sec. 3.2.
    """
    last = fully_randomised(model, seed=seed)
    before = maps(model) if original is None else original
    after = maps(last)
    found = {}
    for name, given in before.items():
        if name not in after or after[name].shape != given.shape:
            raise InputError(f"other maps of '{name}' than before", cure="Explain the same samples with the same methods.")
        if len(given) < 2:
            raise UnsupportedError("one sample is too few for an interval", cure="Give at least two samples.")
        one, other = numbers(name, given), numbers(name, after[name])
        constant = float(flat(one).mean())
        found[name] = EntropyRise(histogram_entropy(one, bins=bins), histogram_entropy(other, bins=bins), constant)
    return found
