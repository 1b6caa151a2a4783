"""Truths that are put into data on purpose, so that what a model uses is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError

# Of a patch of snow: height and width as shares of the picture's, how much of it flakes cover, how bright a flake is at most
# in one picture, and the least that a flake has of that.
HEIGHT, WIDTH, COVER, STRENGTH, FAINTEST = (0.14, 0.22), (0.30, 0.45), (0.5, 0.9), (0.7, 1.0), 0.7
# Of a mark: its white side and its distance from the corner as shares of the picture's shorter side, its dark rim as a share of
# the white side, and how bright it is. Smaller pictures than SMALLEST have no room for one.
SIDE, OFFSET, RIM, WHITE, SMALLEST = (0.12, 0.18), (0.0, 0.08), 0.125, (0.85, 1.0), 8
# Of a cast: how much of a pixel gives way to the tint, and the tint; grey pictures turn brighter instead.
CAST, TINT = (0.15, 0.30), (255, 140, 0)

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Planted(NamedTuple):
    """images: as they were given, with the shortcut; mask (N, H, W): whether a pixel lies in the place that it was put."""

    images: Image
    mask: Mask


class PlantedTable(NamedTuple):
    """table: as it was given, with one column more, the last; mask (D + 1,): true for that column alone."""

    table: Any
    mask: Mask


def plant_shortcut(images: ArrayLike, where: ArrayLike, *, kind: str = "snow", seed: int = 0) -> Planted:
    """A mark in the pictures that ``where`` names, which a model can use in place of what is shown.

    images: unsigned bytes (N, H, W) or (N, H, W, C). where: (N,) true or false, for instance ``y == 1``. kind:

    - "snow": flakes of a strength of their own in a patch of its own size and place on the lower edge; a flake brightens a
      pixel and never darkens it (after Ribeiro et al. 2016, sec. 6.4: husky or wolf).
    - "mark": a small white square with a dark rim in the upper left corner, of its own size, place and brightness, like a
      label, a scale or a date that a camera leaves.
    - "colour_cast": a warm tint over the whole picture (a grey one turns brighter), like another lamp or another scanner. Its
      mask is everything, so that no map can show where it is: ``relevance_on`` refuses it.

    What row i gets depends on the seed and on i alone, not on the picture or on the other rows. Raises InputError for other
    than unsigned bytes, for ``where`` of another length or kind, and for pictures too small for a mark.
    """
    given, chosen = np.asarray(images), np.asarray(where)
    if given.dtype != np.uint8 or given.ndim not in (3, 4) or 0 in given.shape[1:]:
        raise InputError(
            f"images are {given.dtype} {given.shape}", cure="Give unsigned bytes (N, H, W) or (N, H, W, C), as Data.raw does."
        )
    if chosen.dtype != np.bool_ or chosen.ndim != 1:
        raise InputError(f"where is {chosen.dtype} {chosen.shape}", cure="Give true or false for each picture, such as y == 1.")
    checks.same_length(images=given, where=chosen)
    draw = KINDS[checks.one_of("kind", kind, KINDS)]
    if kind == "mark" and min(given.shape[1:3]) < SMALLEST:
        size = " x ".join(map(str, given.shape[1:3]))
        raise InputError(
            f"pictures of {size} are too small for a mark", cure=f"Give at least {SMALLEST} x {SMALLEST}, or kind='snow'."
        )
    planted, mask = given.copy(), np.zeros(given.shape[:3], np.bool_)
    for i in np.flatnonzero(chosen).tolist():
        draw(planted[i], mask[i], np.random.default_rng(seeds.derive(seed, kind, i)))
    return Planted(planted, mask)


def _snow(image: Image, mask: Mask, rng: np.random.Generator) -> None:
    """Let it fall on one picture (H, W) or (H, W, C), in place."""
    tall, wide = (max(1, round(rng.uniform(*share) * size)) for share, size in zip((HEIGHT, WIDTH), mask.shape))
    left = int(rng.integers(0, mask.shape[1] - wide + 1))
    patch = np.s_[mask.shape[0] - tall :, left : left + wide]
    flakes = rng.random((tall, wide)) < rng.uniform(*COVER)
    bright = 255 * rng.uniform(*STRENGTH) * rng.uniform(FAINTEST, 1, (tall, wide)) * flakes
    snow = bright.astype(np.uint8)
    image[patch] = np.maximum(image[patch], snow if image.ndim == 2 else snow[..., None])
    mask[patch] = True


def _mark(image: Image, mask: Mask, rng: np.random.Generator) -> None:
    """Put it on one picture (H, W) or (H, W, C), in place. The rim keeps it visible on a white picture."""
    shorter = min(mask.shape)
    side = max(2, round(rng.uniform(*SIDE) * shorter))
    rim = max(1, round(RIM * side))
    top, left = (round(rng.uniform(*OFFSET) * shorter) for _ in range(2))
    whole = np.s_[top : top + side + 2 * rim, left : left + side + 2 * rim]
    image[whole] = 0
    image[top + rim : top + rim + side, left + rim : left + rim + side] = round(255 * rng.uniform(*WHITE))
    mask[whole] = True


def _cast(image: Image, mask: Mask, rng: np.random.Generator) -> None:
    """Tint one picture (H, W) or (H, W, C), in place; without three channels it turns brighter."""
    tint = np.array(TINT if image.ndim == 3 and image.shape[2] == 3 else 255)
    share = rng.uniform(*CAST)
    image[...] = np.rint((1 - share) * image + share * tint).astype(np.uint8)
    mask[...] = True


KINDS: dict[str, Callable[[Image, Mask, np.random.Generator], None]] = {"snow": _snow, "mark": _mark, "colour_cast": _cast}


def plant_leak(
    table: Any, y: ArrayLike, *, agreement: float = 0.95, classes: int | None = None, name: str = "leak", seed: int = 0
) -> PlantedTable:
    """A further column that gives the class away: a copy of ``y`` that is right in a share ``agreement`` of the rows.

    table: a DataFrame, or an array (N, D). y: (N,) whole numbers from 0 to ``classes`` - 1 (by default the largest + 1), or
    true and false, such as ``y == 1`` for a column that gives one class away. Where the copy is wrong it names another of the
    classes, each as likely. Like a column that was filled in after the outcome was known (Kaufman et al. 2012). What row i
    gets depends on the seed, on i, on its own label and on ``classes``, not on the other rows.

    Raises InputError for labels that are no such numbers, for other lengths, and for a column that is there already.
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype.kind not in "biu" or (labels.size and labels.min() < 0):
        raise InputError(
            f"y is {labels.dtype} {labels.shape}", cure="Give a whole number from 0 for each row, or true and false."
        )
    frame = table if isinstance(table, pd.DataFrame) else np.asarray(table)
    if frame.ndim != 2 or not len(frame):
        raise InputError(f"the table has shape {frame.shape}", cure="Give a DataFrame, or an array (N, D), with rows.")
    checks.same_length(table=frame, y=labels)
    checks.fraction("agreement", agreement)
    most = 2 if labels.dtype == np.bool_ else max(2, int(labels.max()) + 1)
    known = most if classes is None else checks.count("classes", classes, least=most)
    column = np.array([_copied(int(label), known, agreement, seed, i) for i, label in enumerate(labels)], np.float64)
    mask = np.arange(frame.shape[1] + 1) == frame.shape[1]
    if not isinstance(frame, pd.DataFrame):
        if frame.dtype.kind not in "biuf":
            raise InputError(f"the table is {frame.dtype}", cure="Give numbers, or a DataFrame.")
        return PlantedTable(np.column_stack([frame, column]), mask)
    if name in frame.columns:
        raise InputError(f"the table has a column '{name}' already", cure="Give another name=.")
    return PlantedTable(frame.assign(**{name: column}), mask)


def _copied(label: int, classes: int, agreement: float, seed: int, row: int) -> int:
    rng = np.random.default_rng(seeds.derive(seed, "leak", row))
    right, step = rng.random() < agreement, int(rng.integers(1, classes))
    return label if right else (label + step) % classes
