"""Does a map point at a shortcut? The share of its positive relevance on the mark, beside the mark's share of the area.

``relevance_on`` measures it, ``compared`` judges a planted shortcut by two models, ``shortcut_alarm`` a model of one's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from pellucid.core.checks import finite, fraction, same_length
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.evaluation.intervals import LEVEL, Interval, bootstrap
from pellucid.explanation.method import explain
from pellucid.explanation.result import Explanation

Floats = NDArray[np.float64]
# Fewer maps than this say nothing: the bootstrap interval of so few is far too narrow.
FEWEST = 5
# Shares that differ by no more are equal: float32 rounds, and where nothing differs nothing is revealed.
ROUNDING = 1e-6
# An excess that is certain can still be too small to matter: below this share of what it exceeds there is no alarm.
CONCENTRATED = 0.25
REVEALS, SILENT, UNKNOWN = "reveals it", "does not reveal it", "nothing can be concluded"
ALARM, QUIET = "alarm", "no alarm"
BIAS = (
    "An alarm is a hint of what to try, not a proof: take the suspect away, or put it on other samples, and count the answers "
    "that change.",
    "A class may have its object at the border, or beside the mask, by right; then an alarm is no fault of the model.",
    "Padded convolutions answer differently at the border whatever is shown there, so gradients and class activation maps have "
    "some relevance there of any model.",
    "Silence is no proof of health: a method that ignores the model sees nothing, and a shortcut may lie on the object itself.",
)


@dataclass(frozen=True)
class OnMask:
    """What of the maps lies on the mask, (N,) each; NaN of a map without any positive relevance.

    share: of the positive relevance. peak: 1 where the map's greatest value lies on the mask, 0 where not, and where several
    cells have it the share of them that do. area: of the map's cells: what both are on average for a map that knows nothing.
    """

    share: Floats
    peak: Floats
    area: Floats

    @property
    def blank(self) -> NDArray[np.bool_]:
        """(N,) whether a map has no positive relevance at all: it points at nothing."""
        return np.isnan(self.share)

    @property
    def chance(self) -> float:
        """The mean area."""
        return float(self.area.mean())

    def __len__(self) -> int:
        return len(self.share)

    def __float__(self) -> float:
        """The mean share over the maps that have one; NaN if none has."""
        return _mean(self.share)


@MEASURES.add("shortcut", larger_is_better=None, mission="Q6", paper="Arras et al. 2022: relevance mass accuracy")
def relevance_on(mask: ArrayLike, relevance: Any) -> OnMask:
    """Share of the positive relevance that lies on the mask: sum over the mask of max(R, 0) / sum of max(R, 0), per sample.

    mask: (N, *spatial), or (*spatial) for one that all samples share; true, or 1, on the cells in question: a suspected
    shortcut, or an object. relevance: an ``Explanation``, or maps (N, *spatial) with their sign. Whether a large share is good
    depends on what the mask holds. A mark has edges, and edges draw the relevance of many methods: compare also with a model
    that cannot have learned the mark, or with ``edge_detector``, not with the area alone.

    Raises InputError for shapes that differ, masks of other than 0 and 1, masks that hold no cell or all of them, and
    relevance that is not finite.
    """
    maps, on = maps_of(relevance), array_of(mask)
    if on.shape == maps.shape[1:]:
        on = np.broadcast_to(on, maps.shape)
    if on.shape != maps.shape or maps.ndim < 2 or len(maps) == 0:
        raise InputError(
            f"a mask of shape {on.shape} for maps of shape {maps.shape}", cure="Give maps (N, *spatial) and a mask for each."
        )
    if not np.isin(on, (0, 1)).all():
        raise InputError("the mask has other values than 0 and 1", cure="Give mask > 0, or the threshold that you mean.")
    inside, positive = on.reshape(len(on), -1).astype(bool), maps.clip(min=0).reshape(len(maps), -1)
    area = inside.mean(1)
    useless = (area == 0) | (area == 1)
    if useless.any():
        raise InputError(
            "the mask holds no cell, or all of them",
            where=f"sample {useless.argmax()}",
            cure="Leave out samples without a mark.",
        )
    top = positive.max(1, keepdims=True)
    blank = top[:, 0] == 0
    scaled = positive / np.where(top > 0, top, 1)  # before the sum, which could overflow or vanish
    share, peak = (np.where(blank, np.nan, _part(values, inside)) for values in (scaled, scaled == 1))
    return OnMask(share, peak, area)


@dataclass(frozen=True)
class Compared:
    """One method's maps of the same marked samples, for a model that could learn the mark and for one that could not.

    share, control: the mean shares on the mask, with blank maps left out. difference: the mean of share - control over the
    samples that have both, ``interval`` its bootstrap interval, ``pairs`` how many there are; excess: the interval of the mean
    of share - area. verdict: ``reveals it``, ``does not reveal it`` or ``nothing can be concluded``; why: the rule's reason.
    """

    share: float
    control: float
    difference: float
    interval: Interval
    excess: Interval
    chance: float
    pairs: int
    verdict: str
    why: str

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return asdict(self)


def compared(shortcut: OnMask, control: OnMask, *, learned: bool = True, seed: int = 0) -> Compared:
    """Does a method reveal a planted shortcut? ``shortcut`` and ``control``: its maps of the same samples for both models.

    It does if the share is above the control's and above chance, the mask's share of the area, both by a 95 % bootstrap
    interval of the mean of the paired differences that lies above 0. The first rules out what draws relevance in any model,
    such as edges; the second a method that merely has little there in the control. Where the model has not ``learned`` the
    shortcut, or where fewer than 5 samples have positive relevance in both models, nothing can be concluded.

    Raises InputError for other numbers of samples.
    """
    same_length(shortcut=shortcut, control=control)
    both = ~(shortcut.blank | control.blank)
    pairs = int(both.sum())
    gap = (shortcut.share - control.share)[both]
    interval = _interval(gap, seed)
    excess = _interval((shortcut.share - shortcut.area)[~shortcut.blank], seed)
    mean = float(gap.mean()) if pairs else float("nan")
    if not learned:
        verdict, why = UNKNOWN, "the model did not learn the shortcut"
    elif pairs < FEWEST:
        verdict, why = UNKNOWN, f"only {pairs} of {len(both)} samples have positive relevance in both models"
    elif not interval.lower > ROUNDING:
        verdict, why = SILENT, "the share is not above the control's beyond the interval"
    elif not excess.lower > ROUNDING:
        verdict, why = SILENT, "the share is not above chance beyond the interval"
    else:
        verdict, why = REVEALS, "the share is above the control's and above chance, both beyond their intervals"
    return Compared(float(shortcut), float(control), mean, interval, excess, shortcut.chance, pairs, verdict, why)


@dataclass(frozen=True)
class Alarm:
    """Whether relevance concentrates where the class should not be.

    values (N,): each map's share of positive relevance there, NaN of a blank one. area (N,): the place's share of the map;
    edges (N,): the share there of the picture's own edges, None where none are known. interval: of the mean of values - the
    greater of area and edges. place: where it was looked.
    """

    values: Floats
    area: Floats
    edges: Floats | None
    interval: Interval
    alarm: bool
    verdict: str
    place: str
    notes: tuple[str, ...] = field(default=BIAS)

    def __float__(self) -> float:
        """The mean share; NaN where all maps are blank."""
        return _mean(self.values)

    def __bool__(self) -> bool:
        return self.alarm

    def __len__(self) -> int:
        return len(self.values)

    @property
    def chance(self) -> float:
        """The mean area."""
        return float(self.area.mean())

    @property
    def edge(self) -> float | None:
        """The mean share of the edges there, or None."""
        return None if self.edges is None else _mean(self.edges)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words."""
        words = {"place": self.place, "alarm": self.alarm, "verdict": self.verdict, "notes": list(self.notes)}
        numbers = {"share": float(self), "chance": self.chance, "edge": self.edge, "interval": asdict(self.interval)}
        return {**words, **numbers, "blank": int(np.isnan(self.values).sum()), "values": self.values.tolist()}


@MEASURES.add("shortcut", larger_is_better=False, mission="N12", paper="Lapuschkin et al. 2019: Clever Hans predictors")
def shortcut_alarm(
    relevance: Any, mask: ArrayLike | None = None, *, x: Any = None, border: float = 1 / 14, seed: int = 0
) -> Alarm:
    """Does relevance concentrate where the class should not be: on a given mask, or on the picture's border?

    relevance: an ``Explanation``, or maps (N, *spatial) with their sign, of samples that should show the class beside the
    place in question; at least 5. mask: (N, *spatial), or one for all: true where the class should not be. Without it the
    outer ring of pictures, or the two ends of sequences, of a width of ``border`` of each axis, rounded up. x: the samples
    (N, C, *spatial); an Explanation has them. From them come the edges (``edge_detector``), which draw relevance in any model.

    A map's excess is its share of positive relevance there less the greater of the place's share of the area and, where there
    is x, the edges' share there. It is an alarm if the 95 % bootstrap interval of the mean excess over the samples lies above
    0 and the mean is more than a quarter of what it exceeds; blank maps are left out. Its bias (``notes``): padding draws
    relevance to borders, and an object may touch the border.

    Raises InputError for shapes that do not fit, and where a table's columns have no border.
    """
    known = isinstance(relevance, Explanation)
    if mask is None:
        shape = tuple((relevance.map() if known else torch.as_tensor(array_of(relevance))).shape)
        if len(shape) < (2 if known and relevance.relevance.ndim > 2 else 3):
            raise InputError(f"maps of shape {shape} have no border", cure="Give a mask; of a table: true on the columns.")
        mask, place = _ring(shape[1:], border), f"the outer {100 * fraction('border', border, ends=False):.2g} % of each side"
    else:
        place = "the mask"
    found = relevance_on(mask, relevance)
    x = x if x is not None else _samples(relevance)
    edges = _edges(mask, x, len(found)) if x is not None else None
    bar = found.area if edges is None else np.fmax(found.area, edges)  # a picture without edges: the area
    excess = (found.share - bar)[~found.blank]
    interval = _interval(excess, seed)
    greater = excess.mean() > CONCENTRATED * bar[~found.blank].mean() if len(excess) else False
    alarm = len(excess) >= FEWEST and interval.lower > ROUNDING and bool(greater)
    verdict = _said(found, edges, place, len(excess), alarm)
    return Alarm(found.share, found.area, edges, interval, alarm, verdict, place)


def _said(found: OnMask, edges: Floats | None, place: str, known: int, alarm: bool) -> str:
    if known < FEWEST:
        return f"{UNKNOWN}: {known} of {len(found)} maps have positive relevance, and at least {FEWEST} are needed"
    beside = f"{found.chance:.1%} of the area" + ("" if edges is None else f", {_mean(edges):.1%} of the edges")
    what = f"{float(found):.1%} of the positive relevance lies on {place} ({beside})"
    return f"{ALARM}: {what}, beyond the interval" if alarm else f"{QUIET}: {what}"


def _ring(size: Sequence[int], share: float) -> NDArray[np.bool_]:
    """(*spatial) true on the outer cells of every axis."""
    widths = [max(1, math.ceil(fraction("border", share, ends=False) * n - 1e-9)) for n in size]
    ring = np.ones(size, np.bool_)
    ring[tuple(slice(w, n - w) for w, n in zip(widths, size))] = False
    if ring.all():
        raise InputError(f"a border of {share:.3g} leaves nothing of maps of {tuple(size)}", cure="Give a smaller border=.")
    return ring


def _samples(relevance: Any) -> Any:
    """The samples that an explanation kept, channels first."""
    if not isinstance(relevance, Explanation) or relevance.x is None or relevance.shapes is not None:
        return None
    return relevance.x.movedim(-1, 1) if relevance.channels_last and relevance.x.ndim > 2 else relevance.x


def _edges(mask: ArrayLike, x: Any, samples: int) -> Floats | None:
    """(N,) share of the samples' own edges on the mask; None for tables, which have none."""
    given = torch.as_tensor(array_of(x))
    if len(given) != samples:
        raise InputError(f"{len(given)} samples for {samples} maps", cure="Give the samples that were explained.")
    if given.ndim not in (3, 4):
        return None
    drawn: Explanation = explain(nn.Identity(), given, "edge_detector")["edge_detector"]
    on: OnMask = relevance_on(mask, drawn)
    return on.share


def _interval(values: Floats, seed: int) -> Interval:
    if not len(values):
        return Interval(float("nan"), float("nan"), LEVEL, "bootstrap")
    return bootstrap(values, lambda means: means, seed=seed)


def _mean(shares: Floats) -> float:
    known = shares[~np.isnan(shares)]
    return float(known.mean()) if len(known) else float("nan")


def array_of(values: Any) -> NDArray[Any]:
    """A tensor of any device, or anything else that numpy takes, in the order of memory that torch takes."""
    return np.ascontiguousarray(values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values)


def maps_of(relevance: Any) -> Floats:
    """(N, *spatial) with their sign, of an explanation or of maps. Raises InputError where they are not finite."""
    given = relevance.map() if isinstance(relevance, Explanation) else relevance
    tensor = given.detach() if isinstance(given, torch.Tensor) else torch.from_numpy(array_of(given))
    found: Floats = finite("relevance", tensor).double().cpu().numpy()
    return found


def _part(values: NDArray[Any], inside: NDArray[np.bool_]) -> Floats:
    """(N,) of the sum of each row what is inside; 0 for a row of zeros."""
    total = values.sum(1, dtype=np.float64)
    found: Floats = (values * inside).sum(1, dtype=np.float64) / np.where(total > 0, total, 1)
    return found
