"""Do maps change when what the model has learned is taken away? What every randomisation check answers, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError, UnsupportedError

from .similarity import SIMILARITIES, Described

Floats = NDArray[np.float64]

# Share of the way from chance to the original map that may be left once nothing learned is: beyond a half the map depends
# more on the input than on what was learned. From a quarter on it passes narrowly; beyond nine tenths nothing has changed.
PASSING, CLEAR, GONE = 0.5, 0.25, 0.9
# Maps of different samples as alike as this are the same map: there is no chance level, and the way starts at 0.
ALIKE = 0.99
# More constant maps than this share: there is nothing to judge.
TOO_MANY = 0.5
JUDGED = ("ssim", "rank_absolute")
ORDERS = ("top_down", "bottom_up", "independent", "labels")


@dataclass(frozen=True)
class Randomisation:
    """Similarity of maps to the original ones after each step that takes something learned away.

    layers: the steps: names of layers. order: "top_down" or "bottom_up", where they are randomised one after the other and
    stay so; "independent", each alone; "labels", where the only step is a model trained on permuted labels. whole: whether the
    layers are all that have parameters.
    similarity: name -> (L,) means over samples. chance: name -> similarity between maps of *different* samples under the
    trained model, the level at which a map says nothing of its own sample. final: name -> (N,) the similarities at the decisive
    step: the last, of independent ones that which changes the maps most; NaN where the original map is constant.
    constant: the share of original maps that are constant; they are left out of all means (unless fewer than two others are
    there). blank: (L,) the share of maps that are constant after the step. left_out: similarity -> why these maps have none.

    The rule, for every check: ``kept`` is the share of the way from chance to 1 that is left at the decisive step, of SSIM or
    of the rank correlation of sizes, whichever is larger; up to a half passes. Where the maps of all samples are the same the
    way starts at 0. A method whose maps are constant fails: they cannot change, and nothing would be learned if they did.

    What passing does not say: that the map is right. Noise that is drawn anew for every model passes every comparison of maps
    (Binder et al. 2023), and so does a network whose gradient shatters; ``efficient_randomisation`` does not pass them. Noise
    from a fixed seed, as of ``random_map``, and ``edge_detector`` never change, so they fail.
    """

    layers: tuple[str, ...]
    similarity: dict[str, Floats]
    chance: dict[str, float]
    order: str = "top_down"
    final: dict[str, Floats] = field(default_factory=dict)
    constant: float = 0.0
    blank: Floats | None = None
    whole: bool = True
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> Floats:
        """(L,) how much of the way from chance to identity is left after each step: the larger of SSIM's and rank's."""
        found: Floats = np.max([_left(self.similarity[name], self.chance[name]) for name in JUDGED], axis=0)
        return found

    @property
    def decisive(self) -> int:
        """The step that the verdict is about: the last; of independent ones the one that leaves least."""
        return int(self.left.argmin()) if self.order == "independent" else len(self.layers) - 1

    @property
    def kept(self) -> float:
        """``left`` at the decisive step."""
        return float(self.left[self.decisive])

    @property
    def kept_values(self) -> Floats:
        """(N,) the same for every sample, by the similarity that decides: their mean is ``kept``; NaN where undefined."""
        name = max(JUDGED, key=lambda name: float(_left(self.similarity[name], self.chance[name])[self.decisive]))
        return _left(self.final[name], self.chance[name])

    @property
    def unmoved(self) -> tuple[str, ...]:
        """The layers that, each alone, leave the map as it is: of an independent randomisation only."""
        if self.order != "independent":
            return ()
        return tuple(name for name, left in zip(self.layers, self.left) if left > GONE)

    @property
    def passed(self) -> bool:
        """Whether the maps changed with the model."""
        return self.constant <= TOO_MANY and self.kept <= PASSING

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.constant > TOO_MANY:
            return f"fails: {100 * self.constant:.0f} % of the maps are constant, so nothing in them can change with the model"
        share = f"{100 * max(0.0, self.kept):.0f} % of the likeness to the original map is left {self._when()}{self._beside()}"
        if self.kept <= CLEAR:
            return f"passes: the map changes with the model ({share})"
        if self.passed:
            return f"passes narrowly: much of the map comes from the input alone ({share})"
        if self.kept > GONE:
            return f"fails: the map does not depend on what the model has learned ({share})"
        return f"fails: the map depends more on the input than on what the model has learned ({share})"

    def _when(self) -> str:
        if self.order == "labels":
            return "in a model trained on permuted labels"
        if self.order == "independent":
            return f"with '{self.layers[self.decisive]}' alone random"
        some = "1 layer" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        return f"with {'all layers' if self.whole else some} random"

    def _beside(self) -> str:
        """What else a reader must know to believe the share."""
        said = []
        if all(self.chance[name] > ALIKE for name in JUDGED):
            said.append("the map is the same for every sample")
        if self.blank is not None and self.blank[self.decisive] > TOO_MANY:
            said.append(f"{100 * self.blank[self.decisive]:.0f} % of the maps are then constant")
        if self.constant > 0:
            said.append(f"{100 * self.constant:.0f} % of the original maps are constant and left out")
        if self.unmoved:
            said.append(f"alone, {len(self.unmoved)} of {len(self.layers)} layers change nothing")
        return "".join(f"; {part}" for part in said)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; None for a number that is not defined."""
        return {
            "layers": list(self.layers),
            "order": self.order,
            "similarity": {name: values.tolist() for name, values in self.similarity.items()},
            "chance": self.chance,
            "left": self.left.tolist(),
            "kept": self.kept,
            "kept_values": [None if np.isnan(v) else float(v) for v in self.kept_values] if self.final else [],
            "constant": self.constant,
            "left_out": self.left_out,
            "passed": self.passed,
            "verdict": self.verdict,
        }


def _left(end: Floats, chance: float) -> Floats:
    """(end - chance) / (1 - chance); where chance is 1 the maps of all samples are the same, and the way starts at 0."""
    start = chance if chance <= ALIKE else 0.0
    found: Floats = (np.asarray(end, dtype=np.float64) - start) / (1 - start)
    return found


def numbers(name: str, maps: Tensor) -> Floats:
    """Maps as an array; InputError for values that are not finite."""
    found: Floats = checks.finite(f"the maps of {name}", maps.detach()).double().cpu().numpy()
    return found


def flat(maps: Floats) -> NDArray[np.bool_]:
    """(N,) whether all values of a map are equal."""
    found: NDArray[np.bool_] = np.ptp(maps.reshape(len(maps), -1), axis=1) == 0
    return found


class _Watched:
    """The original maps of one method, described once, and how alike all later ones are."""

    def __init__(self, name: str, before: Floats) -> None:
        constant = flat(before)
        enough = (~constant).sum() >= 2
        self.name, self.shape, self.constant = name, before.shape, float(constant.mean())
        self.seen = ~constant if enough else np.ones(len(before), dtype=bool)
        reasons = {kind: s.refuses(before.shape[1:]) for kind, s in SIMILARITIES.items()}
        self.left_out = {kind: reason for kind, reason in reasons.items() if reason}
        self.described = self._described(before)
        self.values: dict[str, list[Floats]] = {kind: [] for kind in self.described}
        self.blank: list[float] = []

    def _described(self, maps: Floats) -> dict[str, Described]:
        return {kind: s.describe(maps[self.seen]) for kind, s in SIMILARITIES.items() if kind not in self.left_out}

    def add(self, after: Floats) -> None:
        """The maps after one more step."""
        if after.shape != self.shape:
            raise InputError(
                f"maps of shape {after.shape}, {self.shape} before",
                where=self.name,
                cure="Explain the same samples every time.",
            )
        self.blank.append(float(flat(after).mean()))
        for kind, new in self._described(after).items():
            self.values[kind].append(SIMILARITIES[kind].compare(self.described[kind], new))

    def result(self, layers: Sequence[str], order: str, whole: bool) -> Randomisation:
        """What the steps were, in order."""
        similarity = {kind: np.array([v.mean() for v in values]) for kind, values in self.values.items()}
        chance = {}
        for kind, one in self.described.items():
            other = tuple(np.roll(part, 1, axis=0) for part in one)
            chance[kind] = float(SIMILARITIES[kind].compare(one, other).mean())
        facts: dict[str, Any] = {"constant": self.constant, "blank": np.array(self.blank), "left_out": self.left_out}
        found = Randomisation(tuple(layers), similarity, chance, order, whole=whole, **facts)
        for kind, values in self.values.items():
            found.final[kind] = np.full(self.shape[0], np.nan)
            found.final[kind][self.seen] = values[found.decisive]
        return found


class Comparison:
    """Original maps of several methods, and what becomes of them step by step.

    original: method -> (N, *spatial) with their sign; N of at least 2, so that chance can be told.
    """

    def __init__(self, original: Mapping[str, Tensor]) -> None:
        if any(len(maps) < 2 for maps in original.values()):
            raise UnsupportedError("one sample is too few to tell chance", cure="Give at least two samples.")
        self.watched = {name: _Watched(name, numbers(name, maps)) for name, maps in original.items()}
        self.layers: list[str] = []

    def add(self, layer: str, maps: Mapping[str, Tensor]) -> None:
        """The maps after a step. Raises InputError where a method is missing, or its maps have another shape."""
        for name, watched in self.watched.items():
            if name not in maps:
                raise InputError(f"no maps of '{name}'", where=layer, cure="Give maps of the same methods every time.")
            watched.add(numbers(name, maps[name]))
        self.layers.append(layer)

    def results(self, order: str, *, whole: bool = True) -> dict[str, Randomisation]:
        """Method -> what happened."""
        checks.one_of("order", order, ORDERS)
        return {name: watched.result(self.layers, order, whole) for name, watched in self.watched.items()}
