"""Explanations of images: one row per image, one column per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array, known_keys, labels, pictures, state
from .sheet import EDGE, GAP, Bar, Foot, Heads, Sheet, note, picture
from .style import POSITIVE, SIGNED, SMALL, TEXT, saying, themed

WIDEST = 11.5  # inches, of a whole sheet as long as its column heads allow it
CELL = (0.78, 1.45)  # least and greatest width of a panel
WORD = 0.88  # what a long word in a column head may widen a narrow panel to
PERCENTILE = 99.5


@FIGURES.add("explanation")
@themed
def heatmap_sheet(
    images: Any,
    maps: Mapping[str, Any],
    *,
    signed: Mapping[str, bool] | None = None,
    titles: Sequence[str] | None = None,
    captions: Mapping[str, str] | None = None,
    overlay: float = 0.0,
    ends: tuple[str, str] = ("against the class", "for the class"),
) -> Figure:
    """A sheet of image x method.

    ``images`` (n, H, W) or (n, H, W, 3), uint8 or 0..1; ``maps`` method -> relevance (n, H, W).
    A signed map is shown in two colours that meet at zero, from -v to v, where v is the 99.5 percentile of its |relevance|
    (the maximum where that is zero); a positive one from 0 (light) to its own such percentile.
    ``signed`` says which maps are which; those it leaves out are signed if they hold a negative value.
    ``titles`` stand left of the rows, ``captions`` (method -> words) under the column heads.
    ``overlay`` from 0 (the map alone) to 1 (the image alone) shows the image through the map.
    Raises ``InputError`` for shapes that differ, for an unknown method name and for negative values in a positive map.
    """
    shown = pictures(images)
    n = len(shown)
    if n == 0:
        return saying("There are no images to show.")
    relevance = {str(name): array(f"maps['{name}']", values, (n, *shown.shape[1:3])) for name, values in maps.items()}
    two_sided = _sides(relevance, signed or {})
    known_keys("captions", captions or {}, relevance)
    if not 0 <= overlay <= 1:
        raise InputError(f"overlay is {overlay!r}", cure="Give a number between 0 and 1.")
    rows = labels("titles", titles, n)

    gutter = min(1.25, max(lettering.width(row, TEXT) for row in rows) + 0.02)
    gutter += GAP if gutter > 0.02 else 0
    pitch = _pitch(list(relevance), WIDEST - gutter - 2 * EDGE)
    foot = Foot(_bars(two_sided, ends), max(4.2, gutter + pitch * (len(relevance) + 1)))
    wrapped = [lettering.wrap(row, gutter - GAP, TEXT) if row else "" for row in rows]
    heads = Heads.of(["input", *relevance], ["", *(dict(captions or {}).get(name, "") for name in relevance)], pitch - GAP)
    cell = pitch - GAP
    tall = float(np.clip(cell * shown.shape[1] / shown.shape[2], 0.3, 1.6 * cell))
    steps = [max(tall, lettering.height(words, TEXT)) + GAP for words in wrapped]

    width = max(gutter + pitch * (len(relevance) + 1), 4.2) + 2 * EDGE
    sheet = Sheet(width, 2 * EDGE + heads.height + sum(steps) + (foot.height + GAP if foot.bars else 0))
    start = (width - gutter - pitch * (len(relevance) + 1)) / 2
    lefts = [start + gutter + pitch * column for column in range(len(relevance) + 1)]
    heads.draw(sheet, [left + cell / 2 for left in lefts], EDGE)
    top = EDGE + heads.height
    for row, (words, step) in enumerate(zip(wrapped, steps)):
        middle = top + (step - GAP) / 2
        sheet.text(start, middle, words, TEXT, va="center")
        for column, name in enumerate(["", *relevance]):
            axes = sheet.axes(lefts[column], middle - tall / 2, cell, tall)
            if name:
                _map(axes, relevance[name][row], two_sided[name], shown[row], overlay)
            else:
                picture(axes, shown[row], cmap="gray", vmin=0, vmax=1)
        top += step
    foot.draw(sheet, top + GAP)
    return sheet.figure


def limit(values: np.ndarray) -> float:
    """Where the colours end: the 99.5 percentile of |values|, or the maximum where a sparse map makes that zero."""
    size = np.abs(values[np.isfinite(values)])
    return float(np.percentile(size, PERCENTILE) or size.max())


def _sides(relevance: Mapping[str, np.ndarray], signed: Mapping[str, bool]) -> dict[str, bool]:
    known_keys("signed", signed, relevance)
    sides = {}
    for name, values in relevance.items():
        finite = values[np.isfinite(values)]
        negative = bool(finite.size and finite.min() < -1e-6 * np.abs(finite).max())
        sides[name] = bool(signed.get(name, negative))
        if negative and not sides[name]:
            raise InputError(
                f"maps['{name}'] is declared positive but goes down to {finite.min():.4g}",
                cure=f"Say signed={{'{name}': True}}, or give its positive part.",
            )
    return sides


def _pitch(names: Sequence[str], room: float) -> float:
    """Width of a column: what is there, within limits, and a little more where a word of a head needs it."""
    cell = float(np.clip(room / (len(names) + 1) - GAP, *CELL))
    longest = max(
        (lettering.width(piece, SMALL + 0.5, bold=True) for name in names for piece in lettering.pieces(name)), default=0.0
    )
    return max(cell, min(longest + 0.02, WORD)) + GAP


def _bars(two_sided: Mapping[str, bool], ends: tuple[str, str]) -> list[Bar]:
    bars = []
    if any(two_sided.values()):
        words = f"signed maps: each symmetric about zero, to the {PERCENTILE} percentile of its |relevance|"
        bars.append(Bar(SIGNED, (ends[0], "0", ends[1]), words))
    if not all(two_sided.values()):
        bars.append(Bar(POSITIVE, ("none", "most"), f"positive maps: each from zero to its {PERCENTILE} percentile"))
    return bars


def _map(axes: Axes, values: np.ndarray, two_sided: bool, image: np.ndarray, overlay: float) -> None:
    words = state(values)
    height, width = values.shape
    if words:
        if 0.5 <= height / width <= 1.6:  # beyond that the words would not fit into the image's own outline
            axes.set_box_aspect(height / width)
        note(axes, words)
        return
    broken = not np.isfinite(values).all()
    if broken:
        note(axes, "NaN")
    elif overlay:
        picture(axes, image if image.ndim == 2 else image.mean(axis=-1), cmap="gray", vmin=-0.6, vmax=1)
    end = limit(values)
    picture(
        axes,
        np.ma.masked_invalid(values),
        cmap=SIGNED if two_sided else POSITIVE,
        vmin=-end if two_sided else 0.0,
        vmax=end,
        alpha=None if broken else 1 - overlay,
    )
