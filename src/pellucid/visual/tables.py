"""Explanations of table rows: signed bars, one panel per sample and method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.core.checks import count
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array, labels, state
from .sheet import EDGE, GAP, Heads, Sheet, note, row_titles, title_width
from .style import AGAINST, FOR, HEAD, QUIET, RULE, SMALL, TEXT, saying, themed

PANEL_WIDTH = (0.8, 2.4)  # least and greatest
WIDEST = 11.5
LABEL = 2.3  # greatest width of the features' names


@FIGURES.add("explanation")
@themed
def table_sheet(
    values: Any,
    maps: Mapping[str, Any],
    features: Sequence[str],
    titles: Sequence[str] | None = None,
    top: int = 12,
    *,
    ends: tuple[str, str] = ("against the class", "for the class"),
) -> Figure:
    """Relevance of the features of each sample (rows) for each method (columns), as bars left and right of zero.

    ``values`` (n, D) numbers or texts, shown beside the names; ``maps`` method -> relevance (n, D); ``features`` D names.
    The ``top`` features with the greatest mean |relevance| come first, each method counted relative to its own total;
    the others are added up as "other (k)". The bars of one method have one scale in all rows.
    Raises ``InputError`` for shapes that differ.
    """
    raw = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if raw.size == 0:
        return saying("There are no samples to show.")
    if raw.ndim != 2 or raw.shape[1] != len(features):
        raise InputError(f"values have shape {raw.shape} with {len(features)} features", cure="Give (n, D) and D names.")
    count("top", top)
    n = len(raw)
    relevance = {str(name): array(f"maps['{name}']", r, raw.shape) for name, r in maps.items()}
    if not relevance:
        return saying("There are no methods to show.")
    rows = labels("titles", titles, n)
    first, rest = strongest(relevance, raw.shape[1], top)
    names = [
        [f"{features[j]} = {as_written(raw[i, j])}" for j in first] + ([f"other ({len(rest)})"] if rest else [])
        for i in range(n)
    ]
    wrapped = [[lettering.wrap(name, LABEL, TEXT - 0.5) for name in row] for row in names]
    pooled = {name: _pool(r, first, rest) for name, r in relevance.items()}

    gutter = max(lettering.width(name, TEXT - 0.5) for row in wrapped for name in row) + 0.1
    panel = float(np.clip((WIDEST - gutter - 2 * EDGE) / len(relevance) - 2 * GAP, *PANEL_WIDTH))
    heads = Heads.of(list(relevance), [""] * len(relevance), panel)
    bar = 0.16 if not any("\n" in name for row in wrapped for name in row) else 0.27
    tall = bar * len(names[0]) + 0.06
    pitch = panel + 2 * GAP
    width = max(gutter + pitch * len(relevance), title_width(rows), 3.4) + 2 * EDGE
    above, title = row_titles(rows, width - 2 * EDGE)
    foot = lettering.wrap(f"left of zero: {ends[0]}, right: {ends[1]}; one scale per method", width - 2 * EDGE, SMALL)
    sheet = Sheet(width, 2 * EDGE + heads.height + n * (tall + title + GAP) + 0.3 + lettering.height(foot, SMALL))
    lefts = [EDGE + gutter + pitch * column for column in range(len(relevance))]
    heads.draw(sheet, [left + panel / 2 for left in lefts], EDGE)
    for i, row in enumerate(wrapped):
        start = EDGE + heads.height + i * (tall + title + GAP) + title
        sheet.text(EDGE, start - 0.05, above[i], HEAD, va="bottom", weight="bold")
        for k, words in enumerate(row):
            sheet.text(EDGE + gutter - 0.07, start + 0.03 + bar * (k + 0.5), words, TEXT - 0.5, va="center", ha="right")
        for left, bars in zip(lefts, pooled.values()):
            axes = sheet.axes(left, start, panel, tall, framed=False)
            _bars(axes, bars, i, 0.03 / bar, pooled=bool(rest), scaled=i == n - 1)
    sheet.text(width / 2, sheet.height - EDGE - lettering.height(foot, SMALL), foot, SMALL, ha="center", color=QUIET)
    return sheet.figure


def strongest(relevance: Mapping[str, np.ndarray], columns: int, top: int) -> tuple[list[int], list[int]]:
    """Features by mean |relevance|, cut after ``top``; a single one left over is not worth pooling."""
    total = np.zeros(columns)
    for values in relevance.values():
        size = np.nan_to_num(np.abs(values), nan=0.0, posinf=0.0, neginf=0.0).mean(axis=0)
        total += size / (size.sum() or 1.0)
    order = [int(j) for j in np.argsort(-total, kind="stable")]
    cut = top if columns > top + 1 else columns
    return order[:cut], order[cut:]


def _pool(values: np.ndarray, first: list[int], rest: list[int]) -> np.ndarray:
    return np.column_stack([values[:, first], values[:, rest].sum(axis=1)]) if rest else values[:, first]


def as_written(value: Any) -> str:
    """A value as a person writes it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return "missing" if np.isnan(number) else f"{number:.4g}".replace("-", "\N{MINUS SIGN}", 1 if number < 0 else 0)


def _round_below(number: float) -> tuple[float, str]:
    """The greatest number of one digit that is not above ``number``, and how to write it in few signs: 80, 0.3, 3e5."""
    power = math.floor(math.log10(number))
    digit = math.floor(number / 10.0**power + 1e-9)
    return digit * 10.0**power, f"{digit * 10.0**power:g}" if -2 <= power <= 3 else f"{digit}e{power}"


def _bars(axes: Axes, bars: np.ndarray, row: int, margin: float, *, pooled: bool, scaled: bool) -> None:
    """The bars of one sample and method, the last one pale if ``pooled``; ``scaled`` puts numbers under the axis."""
    finite = np.abs(bars[np.isfinite(bars)])
    end = float(finite.max()) if finite.size and finite.max() else 1.0
    here = bars[row]
    axes.set(xlim=(-1.08 * end, 1.08 * end), ylim=(len(here) - 0.5 + margin, -0.5 - margin))
    words = state(here) if not here.any() or not np.isfinite(here).any() else ""
    if words:
        note(axes, words)
    else:
        shown = np.nan_to_num(here, nan=0.0, posinf=0.0, neginf=0.0)
        rules = np.repeat(np.arange(float(len(here))), 3)
        axes.plot(np.tile([-end, end, np.nan], len(here)), rules, color=RULE, linewidth=0.3, zorder=0.5)
        drawn = axes.barh(np.arange(len(here)), shown, height=0.72, color=[FOR if v > 0 else AGAINST for v in shown])
        if pooled:
            drawn[-1].set(alpha=0.45)
        for place in np.flatnonzero(~np.isfinite(here)):
            axes.text(0, float(place), " NaN", size=SMALL, va="center", color=QUIET)
        axes.axvline(0, color=QUIET, linewidth=0.8)
    if scaled:
        _scale(axes, end)


def _scale(axes: Axes, end: float) -> None:
    """Numbers under the bars that touch neither each other nor those of the next panel."""
    tick, words = _round_below(end)
    half = axes.get_window_extent().width / axes.figure.dpi / 2
    place, size = half * tick / axes.get_xlim()[1], lettering.width(f"\N{MINUS SIGN}{words}", SMALL)
    centred = place + size / 2 < half + GAP
    inner = place - (size / 2 if centred else size)
    axes.set_xticks([-tick, 0, tick], [f"\N{MINUS SIGN}{words}", "0" if inner > 0.08 else "", words], size=SMALL)
    first, _, last = axes.get_xticklabels()
    first.set_horizontalalignment("center" if centred else "left")
    last.set_horizontalalignment("center" if centred else "right")
    axes.tick_params(length=2, pad=1.5, color=RULE)
