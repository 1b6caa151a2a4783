"""Does a map point at the object? Where its greatest value lies, and how much of it lies inside a mask or a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES

from .measuring import Measured
from .shortcut import array_of, maps_of, relevance_on

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
AREA = (
    "A large mask is easily hit, so compare with its share of the area, which a constant map gets. An object has edges, and "
    "edges draw the relevance of many methods: compare with edge_detector too. A model may rightly use what lies beside."
)


@MEASURES.add(
    "localisation",
    larger_is_better=True,
    asks="truth",
    cost="0",
    mission="Q4",
    paper="Zhang et al. 2018, sec. 4.1",
    reading="The share of maps whose greatest value lies on the object, or close to it.",
    bias=f"One position decides, nothing else of the map counts. {AREA}",
)
def pointing_game(mask: ArrayLike, relevance: Any, *, tolerance: float = 0.0) -> Measured:
    """1 where the greatest value of a map lies on the mask or nearer to it than ``tolerance``, else 0, per sample.

    Where several positions share the greatest value it is the part of them that hit; NaN for a map without positive relevance.
    mask, relevance: as for ``relevance_on``. tolerance: a distance in positions, between centres, which a hit must stay below;
    0 asks for the mask itself. 15 is the published number, on photographs of several hundred pixels.
    Raises InputError as ``relevance_on`` does, and for a tolerance that leaves no position to miss.
    """
    checks.positive("tolerance", tolerance, zero=True)
    on, maps = beside(mask, relevance)
    found = relevance_on(on, maps)
    if tolerance > 0:
        near = np.stack([o | (ndimage.distance_transform_edt(~o) < tolerance) for o in on.astype(bool)])
        if (everywhere := near.reshape(len(near), -1).all(1)).any():
            where = f"sample {everywhere.argmax()}"
            raise InputError(
                f"every position is nearer than {tolerance:g} to the mask", where=where, cure="Give a smaller one."
            )
        found = relevance_on(near, maps)
    return Measured("pointing_game", found.peak, notes=without_evidence(found.blank))


@MEASURES.add(
    "localisation",
    larger_is_better=True,
    asks="truth",
    cost="0",
    mission="Q4",
    paper="Wang et al. 2020 (Score-CAM), sec. 4.3",
    reading="The share of the positive relevance that lies in the box.",
    bias=f"A box holds background too. A map that spreads loses, however it is ordered. {AREA}",
)
def energy_in_box(mask: ArrayLike, relevance: Any) -> Measured:
    """sum over the box of max(R, 0) / sum of max(R, 0), per sample; NaN for a map without positive relevance.

    mask, relevance and errors: as for ``relevance_on``, which it is; boxes become masks by ``boxes_to_masks``.
    """
    found = relevance_on(*beside(mask, relevance))
    return Measured("energy_in_box", found.share, notes=without_evidence(found.blank))


@MEASURES.add(
    "localisation",
    larger_is_better=True,
    asks="truth",
    cost="0",
    mission="Q4",
    paper="Theiner et al. 2022: top-k intersection",
    reading="The share of the k most relevant positions that lie on the object.",
    bias=f"Only the order counts, and of that only who is among the first k. {AREA}",
)
def top_k_intersection(mask: ArrayLike, relevance: Any, *, k: int | None = None) -> Measured:
    """The share of the k most relevant positions that lie on the mask, per sample; NaN for a map without positive relevance.

    Equals at the k-th place share what is left of the k evenly, so that a constant map gets the mask's share of the area.
    k: the same for all samples; the number of positions on each mask when not given, where 1 means that order and mask agree.
    mask, relevance and errors: as for ``relevance_on``; also InputError for a k above the number of positions.
    """
    on, maps = beside(mask, relevance)
    found = relevance_on(on, maps)
    on, maps = on.reshape(len(on), -1).astype(bool), maps.reshape(len(maps), -1)
    places = maps.shape[1]
    if k is not None and checks.count("k", k) > places:
        raise InputError(f"k is {k}, and a map has {places} positions", cure=f"Give a number from 1 to {places}.")
    most = on.sum(1) if k is None else np.full(len(maps), k)
    last = np.take_along_axis(np.sort(maps, 1)[:, ::-1], most[:, None] - 1, 1)
    above, equal = maps > last, maps == last
    left = (most - above.sum(1)) / equal.sum(1)
    share = ((above & on).sum(1) + left * (equal & on).sum(1)) / most
    return Measured("top_k_intersection", np.where(found.blank, np.nan, share), notes=without_evidence(found.blank))


def boxes_to_masks(boxes: ArrayLike | Sequence[Any], size: Sequence[int]) -> Mask:
    """(N, *size) true inside the boxes of each sample: a position where its centre is, so ends are not inside.

    boxes: (N, 4) of x0, y0, x1, y1 in pixels from the upper left corner, x to the right, 0 <= x0 < x1 <= W; or per sample a
    list of several. size: (H, W). For sequences (N, 2) of x0, x1 with size (L,).

    Raises InputError for boxes outside, upside down, or so small that no centre is inside, and for samples without any.
    """
    sizes = tuple(checks.count(f"size[{i}]", n) for i, n in enumerate(size))
    axes, given = len(sizes), list(boxes)  # type: ignore[arg-type]
    if not given:
        raise InputError("no boxes", cure="Give one box, or a list of several, for each sample.")
    masks = np.zeros((len(given), *sizes), bool)
    for i, one in enumerate(given):
        rows = np.asarray(one, dtype=np.float64)
        if rows.size == 0 or rows.shape[-1:] != (2 * axes,) or rows.ndim > 2:
            cure = f"Give {2 * axes} numbers for each box, and at least one box."
            raise InputError(f"boxes of shape {rows.shape}", where=f"sample {i}", cure=cure)
        for box in rows.reshape(-1, 2 * axes):
            masks[i][_inside(box, sizes, f"sample {i}")] = True
    return masks


def _inside(box: Floats, sizes: tuple[int, ...], where: str) -> tuple[slice, ...]:
    """The positions whose centres lie in a box, whose numbers go from the last axis to the first."""
    low, high = box[: len(sizes)][::-1], box[len(sizes) :][::-1]
    if not ((low >= 0) & (low < high) & (high <= sizes)).all():  # NaN too
        shown = ", ".join(f"{v:g}" for v in box)
        cure = "Give x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1; not a width and a height."
        raise InputError(f"the box ({shown}) is upside down or not inside {sizes}", where=where, cure=cure)
    first, last = (np.ceil(ends - 0.5).astype(int) for ends in (low, high))
    if (first == last).any():
        raise InputError("a box holds the centre of no pixel", where=where, cure="Leave it out, or scale it like the image.")
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last))


def beside(mask: ArrayLike, relevance: Any) -> tuple[NDArray[Any], Floats]:
    """The masks and the maps, one mask for each where all samples share one; ``relevance_on`` checks the rest."""
    on, maps = array_of(mask), maps_of(relevance)
    return np.broadcast_to(on, maps.shape).copy() if on.shape == maps.shape[1:] else on, maps


def without_evidence(blank: Mask, what: str = "without positive relevance") -> tuple[str, ...]:
    """What is said of maps that say nothing."""
    return (f"{blank.sum()} of {len(blank)} maps {what}: no value",) if blank.any() else ()
