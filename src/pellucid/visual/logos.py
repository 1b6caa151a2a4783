"""Sequence logos: at each position all letters, stacked by their relevance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array
from .scales import ticks
from .sequences import LONGEST, PER_LINE, RUN, letter_colour, letter_outline, number_positions
from .sheet import EDGE, GAP, Sheet, note
from .style import HEAD, QUIET, RULE, SMALL, TEXT, saying, themed

TALL = 1.05  # inches of a track


@FIGURES.add("explanation")
@themed
def sequence_logo(
    maps: Any,
    *,
    letters: str = "ACGT",
    title: str = "",
    ends: tuple[str, str] = ("against the class", "for the class"),
) -> Figure:
    """The mean relevance of every letter at every position: those for the class stacked above the line, those against below.

    ``maps`` (n, K, L), of n sequences, or (K, L), or a mapping method -> one of these; the K rows belong to ``letters``.
    The height of a letter is its |mean relevance|, the smallest stand next to the line; each method has a scale of its own.
    Long sequences break into lines; beyond 640 positions bars in the letters' colours take their place. NaN is left out of the
    means; a position without any number is hatched. Raises ``InputError`` for shapes that differ.
    """
    given = dict(maps) if isinstance(maps, Mapping) else {"": maps}
    tracks = {str(name): _mean(str(name), values, len(letters)) for name, values in given.items()}
    if not tracks or any(mean.shape[1] == 0 for mean, _ in tracks.values()):
        return saying("There are no sequences to show.")
    long = {mean.shape[1] for mean, _ in tracks.values()}
    if len(long) > 1:
        raise InputError(f"maps have {min(long)} to {max(long)} positions", cure="Give maps of one length.")
    length = long.pop()
    lines = -(-length // PER_LINE) if length <= LONGEST else 1
    spans = [(int(part[0]), int(part[-1]) + 1) for part in np.array_split(np.arange(length), lines)]
    unit = RUN / max(spans[0][1] - spans[0][0], 40)
    names = [lettering.wrap(name, 1.3, TEXT) for name in tracks]
    scales = [_scale(mean) for mean, _ in tracks.values()]
    marks = max(lettering.width(mark, SMALL) for _, _, _, labels in scales for mark in labels) + 0.1
    gutter = max(lettering.width(name, TEXT) for name in names) + 0.1 + marks
    width = max(gutter + unit * (spans[0][1] - spans[0][0]), 4.0) + 2 * EDGE + 0.1
    heading = lettering.wrap(title, width - 2 * EDGE, HEAD, bold=True)
    many = sorted({n for _, n in tracks.values()})
    words = (
        f"above the line: {ends[1]}, below: {ends[0]}; height: |mean relevance| over {many[0]:,} sequence{'s' * (many != [1])}"
    )
    foot = lettering.wrap(words, width - 2 * EDGE, SMALL)
    above = EDGE + lettering.height(heading, HEAD) + 0.08
    step = (TALL + GAP) * len(names) + 0.3
    sheet = Sheet(width, above + step * lines + lettering.height(foot, SMALL) + EDGE)
    sheet.text(EDGE, EDGE, heading, HEAD, weight="bold")
    for line, span in enumerate(spans):
        for track, (name, scale, (mean, _)) in enumerate(zip(names, scales, tracks.values())):
            top = above + step * line + (TALL + GAP) * track
            axes = sheet.axes(EDGE + gutter, top, unit * (span[1] - span[0]), TALL)
            sheet.text(EDGE + gutter - marks, top + TALL / 2, name, TEXT, ha="right", va="center")
            _track(axes, mean, span, letters.upper(), scale)
        number_positions(sheet.figure.axes[-1], span)
    sheet.text(width / 2, sheet.height - EDGE - lettering.height(foot, SMALL), foot, SMALL, ha="center", color=QUIET)
    return sheet.figure


def _mean(name: str, values: Any, letters: int) -> tuple[np.ndarray, int]:
    """(K, L) means of the finite values, NaN where there are none, and how many sequences they are of."""
    label = f"maps['{name}']" if name else "maps"
    flat = getattr(values, "ndim", np.ndim(values)) == 2
    made = array(label, values, (letters, "L") if flat else ("n", letters, "L"))
    stack = made[None] if flat else made
    if len(stack) == 0:
        return np.zeros((letters, 0)), 0
    known = np.isfinite(stack)
    total = np.where(known, stack, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan), len(stack)


def _scale(mean: np.ndarray) -> tuple[float, float, list[float], list[str]]:
    """Limits and ticks for the tallest stacks of a track."""
    size = np.nan_to_num(mean)
    low, high = float(np.minimum(size, 0).sum(axis=0).min()), float(np.maximum(size, 0).sum(axis=0).max())
    if low == high:
        return -1.0, 1.0, [], [""]
    places, words = ticks(low, high, 4 * TALL)
    kept = [k for k, p in enumerate(places) if p == 0 or k in (0, len(places) - 1)]
    return 1.05 * low, 1.05 * high, [places[k] for k in kept], [words[k] for k in kept]


def _track(
    axes: Axes, mean: np.ndarray, span: tuple[int, int], letters: str, scale: tuple[float, float, list[float], list[str]]
) -> None:
    """One method along one line."""
    low, high, places, words = scale
    axes.set(xlim=(span[0] + 0.5, span[1] + 0.5), ylim=(low, high))
    if not np.nan_to_num(mean).any():
        note(axes, "no evidence" if np.isfinite(mean).any() else "NaN")
        return
    axes.set_yticks(places, words, size=SMALL)
    axes.tick_params(length=2, pad=1.5, color=RULE)
    for place in np.flatnonzero(np.isnan(mean[:, slice(*span)]).all(axis=0)):
        box = Rectangle((span[0] + place + 0.5, low), 1, high - low, facecolor="#e2e2e2", edgecolor=RULE, hatch="////", lw=0)
        axes.add_patch(box)
        middle = (low + high) / 2
        axes.text(float(span[0] + place + 1), middle, "NaN", size=SMALL, rotation=90, ha="center", va="center", color=QUIET)
    size = np.nan_to_num(mean)
    narrow = span[1] - span[0] > PER_LINE
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]], dtype=float), np.array([1, 2, 2, 2, 79])
    starts = stacked(size)
    for k, letter in enumerate(letters):
        at = np.arange(*span)[size[k, slice(*span)] != 0]
        if not at.size:
            continue
        vertices, codes = square if narrow else letter_outline(letter)
        x = at[:, None] + 1 + (vertices[None, :, 0] - 0.5) * (1.0 if narrow else 0.9)
        y = starts[k, at][:, None] + vertices[None, :, 1] * np.abs(size[k, at])[:, None]
        outline = Path(np.stack([x, y], axis=-1).reshape(-1, 2), np.tile(codes, len(at)))
        axes.add_patch(PathPatch(outline, facecolor=letter_colour(letter), edgecolor="none", linewidth=0, rasterized=True))
    axes.axhline(0, color=QUIET, linewidth=0.7)


def stacked(size: np.ndarray) -> np.ndarray:
    """(K, L): the lower edge of each letter, the smallest |size| next to zero, positive ones above it and negative below."""
    order = np.argsort(np.abs(size), axis=0, kind="stable")
    ranked = np.take_along_axis(size, order, axis=0)
    up, down = np.cumsum(np.maximum(ranked, 0), axis=0), np.cumsum(np.minimum(ranked, 0), axis=0)
    lower = np.where(ranked > 0, up - ranked, down)
    found = np.empty_like(size)
    np.put_along_axis(found, order, lower, axis=0)
    return found
