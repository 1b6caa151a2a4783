"""Explanations of DNA: letters as tall as their relevance along the position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array, labels, state
from .sheet import EDGE, GAP, Sheet, note, row_titles, title_width
from .style import FONT, HEAD, PALETTE, QUIET, RULE, SMALL, TEXT, saying, themed

LETTERS = {"A": PALETTE["green"], "C": PALETTE["blue"], "G": PALETTE["orange"], "T": PALETTE["vermillion"]}
PER_LINE = 80  # letters that can be read side by side
LONGEST = 8 * PER_LINE  # beyond it bars in the letters' colours stand for the letters, on one line
RUN = 9.2  # width of a full line in inches
TRACK, STRIP = 0.5, 0.18


@FIGURES.add("explanation")
@themed
def dna_sheet(
    sequences: Sequence[str],
    maps: Mapping[str, Any],
    titles: Sequence[str] | None = None,
    *,
    ends: tuple[str, str] = ("against the class", "for the class"),
) -> Figure:
    """Each sequence as a strip of letters, and below it one track per method.

    ``sequences`` n texts of one length L; ``maps`` method -> relevance (n, L). A letter above the line speaks for the
    class, one below it against; its height is its |relevance|, each track scaled to its own largest.
    Long sequences break into lines; beyond 640 letters bars in the letters' colours take their place.
    Raises ``InputError`` for lengths and shapes that differ.
    """
    if len(sequences) == 0:
        return saying("There are no sequences to show.")
    lengths = sorted({len(sequence) for sequence in sequences})
    if len(lengths) > 1 or lengths[0] == 0:
        raise InputError(f"sequences have {lengths[0]} to {lengths[-1]} letters", cure="Give sequences of one length.")
    n, long = len(sequences), lengths[0]
    relevance = {str(name): array(f"maps['{name}']", r, (n, long)) for name, r in maps.items()}
    rows = labels("titles", titles, n)

    lines = -(-long // PER_LINE) if long <= LONGEST else 1
    spans = [(int(part[0]), int(part[-1]) + 1) for part in np.array_split(np.arange(long), lines)]
    unit = RUN / max(spans[0][1] - spans[0][0], 40)
    names = [lettering.wrap(name, 1.3, TEXT) for name in relevance]
    gutter = max([lettering.width(name, TEXT) for name in [*names, "input"]]) + 0.1
    tall = max([TRACK, *(lettering.height(name, TEXT) for name in names)])
    step = STRIP + (tall + GAP) * len(names) + 0.34
    width = max(gutter + unit * (spans[0][1] - spans[0][0]), title_width(rows), 4.0) + 2 * EDGE + 0.1
    above, title = row_titles(rows, width - 2 * EDGE)
    block = title + step * lines
    words = f"above the line: {ends[1]}, below: {ends[0]}; height: |relevance|, each track to its own largest"
    foot = lettering.wrap(words, width - 2 * EDGE, SMALL)
    sheet = Sheet(width, 2 * EDGE + block * n + lettering.height(foot, SMALL))
    for i, sequence in enumerate(sequences):
        top = EDGE + block * i
        sheet.text(EDGE, top + title - 0.06, above[i], HEAD, va="bottom", weight="bold")
        for line, span in enumerate(spans):
            at = top + title + step * line
            run = unit * (span[1] - span[0])
            _strip(sheet.axes(EDGE + gutter, at, run, STRIP, framed=False), sequence.upper(), span)
            sheet.text(EDGE + gutter - 0.08, at + STRIP / 2, "input", TEXT, ha="right", va="center", color=QUIET)
            for track, (name, values) in enumerate(zip(names, relevance.values())):
                low = at + STRIP + GAP + (tall + GAP) * track
                sheet.text(EDGE + gutter - 0.08, low + tall / 2, name, TEXT, ha="right", va="center")
                axes = sheet.axes(EDGE + gutter, low, run, tall)
                _track(axes, sequence.upper(), values[i], span)
            number_positions(sheet.figure.axes[-1], span)
    sheet.text(width / 2, sheet.height - EDGE - lettering.height(foot, SMALL), foot, SMALL, ha="center", color=QUIET)
    return sheet.figure


def letter_colour(letter: str) -> str:
    """Of a base; U is drawn as T, anything else in grey."""
    return LETTERS.get("T" if letter == "U" else letter, QUIET)


@lru_cache(maxsize=64)
def letter_outline(letter: str) -> tuple[np.ndarray, np.ndarray]:
    """Outline of a letter that fills the unit square."""
    outline = TextPath((0, 0), letter, size=10, prop=FontProperties(family=FONT, weight="bold"))
    low, high = outline.vertices.min(axis=0), outline.vertices.max(axis=0)
    return (outline.vertices - low) / np.where(high > low, high - low, 1), outline.codes


def _strip(axes: Axes, sequence: str, span: tuple[int, int]) -> None:
    """The letters themselves, all of one height."""
    axes.set(xlim=(span[0] + 0.5, span[1] + 0.5), ylim=(0, 1))
    if span[1] - span[0] <= PER_LINE:
        for position in range(*span):
            letter = sequence[position]
            axes.text(
                position + 1, 0.5, letter, size=TEXT, weight="bold", ha="center", va="center", color=letter_colour(letter)
            )
    else:
        _draw(axes, sequence, np.ones(len(sequence)), span)


def _track(axes: Axes, sequence: str, values: np.ndarray, span: tuple[int, int]) -> None:
    """One method along one line."""
    axes.set_xlim(span[0] + 0.5, span[1] + 0.5)
    words = state(values) if not np.isfinite(values).any() or not values.any() else ""
    if words:
        note(axes, words)
        return
    here = values[slice(*span)]
    end = float(np.abs(values[np.isfinite(values)]).max())
    low = -end if (values < 0).any() else 0.0
    axes.set_ylim(1.05 * low, 1.05 * end)
    for place in np.flatnonzero(~np.isfinite(here)):
        box = Rectangle(
            (span[0] + place + 0.5, low), 1, end - low, facecolor="#e2e2e2", edgecolor=RULE, hatch="////", linewidth=0
        )
        axes.add_patch(box)
        axes.text(
            float(span[0] + place + 1), (low + end) / 2, "NaN", size=SMALL, rotation=90, ha="center", va="center", color=QUIET
        )
    _draw(axes, sequence, np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), span)
    axes.axhline(0, color=QUIET, linewidth=0.7)


def _draw(axes: Axes, sequence: str, values: np.ndarray, span: tuple[int, int]) -> None:
    """Letters (bars where they would be too narrow to read) from zero to their value, one patch per kind of letter."""
    narrow = span[1] - span[0] > PER_LINE
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]], dtype=float), np.array([1, 2, 2, 2, 79])
    for letter in sorted(set(sequence[slice(*span)])):
        places = np.array([p for p in range(*span) if sequence[p] == letter and values[p] != 0], dtype=int)
        if not places.size:
            continue
        vertices, codes = square if narrow or not letter.strip() else letter_outline(letter)
        inner = 1.0 if narrow else 0.88
        x = places[:, None] + 1 + (vertices[None, :, 0] - 0.5) * inner
        value = values[places][:, None]
        y = np.minimum(value, 0) + vertices[None, :, 1] * np.abs(value)
        outline = Path(np.stack([x, y], axis=-1).reshape(-1, 2), np.tile(codes, len(places)))
        axes.add_patch(PathPatch(outline, facecolor=letter_colour(letter), edgecolor="none", linewidth=0, rasterized=True))


def number_positions(axes: Axes, span: tuple[int, int]) -> None:
    """Positions from 1 under the last track, as many as can be read."""
    size = span[1] - span[0]
    step = next(s for s in (1, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if size / s <= 12)
    ticks = [p for p in range(span[0] + 1, span[1] + 1) if p % step == 0 or p == span[0] + 1]
    ticks = [p for p in ticks if p == ticks[0] or p - ticks[0] >= step / 2]
    axes.set_xticks(ticks, [str(p) for p in ticks], size=SMALL)
    axes.tick_params(length=2, pad=1.5, color=RULE)
