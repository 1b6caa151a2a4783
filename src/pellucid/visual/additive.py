"""One sample's additive attributions: what each feature adds between the base value and the model's output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from pellucid.core.checks import count
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array
from .scales import power, spread, ticks, written
from .sheet import EDGE, Sheet
from .style import AGAINST, FOR, HEAD, INK, PAPER, QUIET, RULE, SMALL, TEXT, saying, themed
from .tables import LABEL, as_written, strongest

NOTE = "#8a8a8a"  # what no feature accounts for, and what has no value
PANEL = 4.8  # inches of a waterfall between the names and the right border
LINE = 9.4  # inches of a force plot
BAR, NOTCH = 0.3, 0.06  # height of a force plot's bar, depth of its arrow heads


@FIGURES.add("explanation")
@themed
def waterfall(
    values: Any,
    base: Any,
    relevance: Any,
    features: Sequence[str],
    *,
    top: int = 10,
    title: str = "",
    unit: str = "",
    output: Any = None,
    ends: tuple[str, str] = ("lowers the output", "raises the output"),
) -> Figure:
    """From the base value E f(X) down to the output f(x) of one sample, one bar per feature.

    ``values`` (D,) numbers or texts, shown beside the names; ``base`` the score that the relevances start from; ``relevance``
    (D,); ``features`` D names. The ``top`` features with the greatest |relevance| come first, the others are added up as
    "other (k)". The last row is base + sum of the relevances; where ``output``, the model's own f(x), is given and differs, a
    grey bar "not explained" leads to it. ``unit`` is that of the output. NaN is named and left out of the sums.
    Raises ``InputError`` for shapes that differ and for a base that is not finite.
    """
    count("top", top)
    sample = _Sample.of(values, base, relevance, features, output)
    if not len(sample.relevance):
        return saying("There are no features to show.")
    bars = sample.bars(top)
    names = [lettering.wrap(bar.name, LABEL, TEXT - 0.5) for bar in bars]
    rows = ["base value, E f(X)", *names, sample.end_name]
    steps = [0.1 + lettering.height(name, TEXT - 0.5) for name in rows]
    gutter = max(lettering.width(row, TEXT - 0.5, bold=row in (rows[0], rows[-1])) for row in rows) + 0.1
    width = gutter + PANEL + 2 * EDGE
    heading = lettering.wrap(title, width - 2 * EDGE, HEAD, bold=True)
    above = lettering.height(heading, HEAD) + (0.06 if title else 0)
    foot = lettering.wrap(sample.foot(f"to the right: {ends[1]}, to the left: {ends[0]}"), width - 2 * EDGE, SMALL)
    sheet = Sheet(width, 2 * EDGE + above + sum(steps) + 0.5 + lettering.height(foot, SMALL))
    sheet.text(EDGE, EDGE, heading, HEAD, weight="bold")
    axes = sheet.axes(EDGE + gutter, EDGE + above, PANEL, sum(steps), framed=False)
    middles = np.cumsum(steps) - np.array(steps) / 2
    for row, middle in zip(rows, middles):
        bold = {"weight": "bold"} if row in (rows[0], rows[-1]) else {}
        sheet.text(EDGE + gutter - 0.07, EDGE + above + middle, row, TEXT - 0.5, va="center", ha="right", **bold)
    path = np.cumsum([sample.base, *(bar.size if bar.known else 0.0 for bar in bars)])
    _waterfall_bars(axes, sample, bars, path, middles)
    words = "model output" + (f" ({unit})" if unit else "")
    sheet.text(EDGE + gutter + PANEL / 2, EDGE + above + sum(steps) + 0.22, words, TEXT - 0.5, ha="center")
    sheet.text(width / 2, sheet.height - EDGE - lettering.height(foot, SMALL), foot, SMALL, ha="center", color=QUIET)
    return sheet.figure


def _width(words: str) -> float:
    return lettering.width(words, TEXT - 0.5)


def _waterfall_bars(axes: Axes, sample: _Sample, bars: list[_Bar], path: np.ndarray, middles: np.ndarray) -> None:
    """The bars from ``path[k]`` to ``path[k + 1]`` in row k + 1, their numbers at their tips, the two ends and the scale."""
    ends = [sample.write(v) for v in (path[0], path[-1])]
    said = [sample.write(bar.size, plus=True) if bar.kind != "none" else "no evidence" for bar in bars]
    room = max(_width(words) for words in [*ends, *said]) + 0.16
    low, high = float(path.min()), float(path.max())
    span = (high - low) or abs(high) or 1.0
    low, high = (low, high) if high > low else (low - span / 2, high + span / 2)
    inch = (high - low) / (PANEL - 2 * room)  # of the output
    axes.set(xlim=(low - room * inch, high + room * inch), ylim=(middles[-1] + middles[0], 0))
    axes.vlines(path, middles[:-1], middles[1:], color=RULE, linewidth=0.7, zorder=0.5)
    axes.vlines(path[0], middles[0], axes.get_ylim()[0], color=RULE, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0.4)
    for k, (bar, words) in enumerate(zip(bars, said)):
        middle, start, tip = float(middles[k + 1]), path[k], path[k + 1]
        axes.barh(middle, tip - start, left=start, height=0.15, **bar.look)
        side = 1 if not bar.known or tip >= start else -1
        _beside(axes, tip, middle, words, side, inch, color=INK if bar.known else QUIET)
    for place, middle, words in zip((path[0], path[-1]), (middles[0], middles[-1]), ends):
        axes.plot([place], [middle], marker="D", color=INK, markersize=4.5)
        _beside(axes, place, middle, words, 1, 1.5 * inch, color=INK, weight="bold")
    places, labels = ticks(low, high, PANEL - 2 * room)
    axes.set_xticks(places, labels, size=SMALL)
    axes.tick_params(length=2, pad=1.5, color=RULE)
    axes.spines["bottom"].set(visible=True, color=RULE, linewidth=0.6)


def _beside(axes: Axes, x: float, y: float, words: str, side: int, inch: float, **look: Any) -> None:
    """Words right (``side`` 1) or left (-1) of a place, on white so that no rule runs through them."""
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.4}
    at, turn = x + side * 0.05 * inch, "left" if side > 0 else "right"
    axes.text(at, y, words, size=TEXT - 0.5, ha=turn, va="center_baseline", bbox=box, **look)


@FIGURES.add("explanation")
@themed
def force(
    values: Any,
    base: Any,
    relevance: Any,
    features: Sequence[str],
    *,
    top: int = 10,
    title: str = "",
    unit: str = "",
    output: Any = None,
    ends: tuple[str, str] = ("lowers the output", "raises the output"),
) -> Figure:
    """One sample on one line: what raises the output pushes from the left, what lowers it from the right, up to f(x).

    The arguments are those of ``waterfall``. The greatest stand nearest to f(x); of at most ``top`` features as many are
    named as there is room for, the others of each side are added up in a pale "other (k)".
    Raises ``InputError`` for shapes that differ and for a base that is not finite.
    """
    count("top", top)
    sample = _Sample.of(values, base, relevance, features, output)
    if not len(sample.relevance):
        return saying("There are no features to show.")
    bars, labels = _fitting(sample, top)
    end = sample.base + sum(bar.size for bar in bars)
    up = sum(bar.size for bar in bars if bar.size > 0)
    down = sum(bar.size for bar in bars if bar.size < 0)
    marks = [
        f"{name} = {sample.write(v)}{' ' * bool(unit)}{unit}"
        for name, v in ((sample.end_name, end), ("base value, E f(X)", sample.base))
    ]
    heading = lettering.wrap(title, LINE, HEAD, bold=True)
    above = lettering.height(heading, HEAD) + (0.06 if title else 0)
    words = f"from the left: {ends[1]}, from the right: {ends[0]}; they meet at the output"
    foot = lettering.wrap(sample.foot(words), LINE, SMALL)
    below = 0.36 + max((lettering.height(label, TEXT - 0.5) for label in labels), default=0.0)
    sheet = Sheet(LINE + 2 * EDGE, 2 * EDGE + above + 0.62 + BAR + below + lettering.height(foot, SMALL))
    sheet.text(EDGE, EDGE, heading, HEAD, weight="bold")
    axes = sheet.axes(EDGE, EDGE + above, LINE, 0.62 + BAR + below, framed=False)
    # The scale is in inches, so that bars and words can be laid out together.
    low, high = end - up, end - down
    inch = (LINE - 0.6) / ((high - low) or 1.0)

    def place(v: float) -> float:
        return 0.3 + (v - low) * inch if high > low else LINE / 2

    axes.set(xlim=(0, LINE), ylim=(0.62 + BAR + below, 0))
    _line(axes, sample, low, high, inch, [(marks[0], place(end)), (marks[1], place(sample.base))])
    centres = _pushes(axes, bars, place(end), inch)
    spots = spread(centres, [_width(label) + 0.1 for label in labels], LINE)
    for bar, label, centre, spot in zip(bars, labels, centres, spots):
        line = np.array([[centre, 0.62 + BAR], [centre, 0.67 + BAR], [spot, 0.8 + BAR], [spot, 0.84 + BAR]])
        axes.plot(*line.T, color=bar.look["facecolor"], linewidth=0.7)
        axes.text(spot, 0.86 + BAR, label, size=TEXT - 0.5, ha="center", va="top", linespacing=lettering.LINE)
    if sample.empty:
        axes.text(LINE / 2, 0.62 + BAR / 2, sample.empty, ha="center", va="center", size=SMALL, color=QUIET)
    sheet.text(sheet.width / 2, sheet.height - EDGE - lettering.height(foot, SMALL), foot, SMALL, ha="center", color=QUIET)
    return sheet.figure


def _fitting(sample: _Sample, top: int) -> tuple[list[_Bar], list[str]]:
    """From left to right the bars and their labels: of the ``top`` greatest as many as have room beside each other."""
    for named in range(min(top, len(sample.relevance)), -1, -1):
        bars = [bar for bar in sample.bars(named, by_side=True) if bar.known and bar.size]
        up, down = ([bar for bar in bars if (bar.size > 0) is rising] for rising in (True, False))
        bars = [*reversed(up), *down]
        labels = [f"{lettering.wrap(bar.short, 1.25, TEXT - 0.5)}\n{sample.write(bar.size, plus=True)}" for bar in bars]
        if sum(_width(label) + 0.1 for label in labels) <= LINE:
            break
    return bars, labels


def _pushes(axes: Axes, bars: list[_Bar], end: float, inch: float) -> list[float]:
    """Draw arrows that meet at ``end``; where their middles are."""
    middles = []
    left = end - inch * sum(bar.size for bar in bars if bar.size > 0)
    for bar in bars:
        wide = abs(bar.size) * inch
        notch = min(NOTCH, wide / 2) * (1 if bar.size > 0 else -1)
        tail, tip = (left, left + wide) if bar.size > 0 else (left + wide, left)
        top, low = 0.62, 0.62 + BAR
        first = tail if abs(notch) == wide / 2 else tail + notch
        corners = [(tail, top), (tip - notch, top), (tip, (top + low) / 2), (tip - notch, low), (tail, low)]
        axes.add_patch(Polygon([*corners, (first, (top + low) / 2)], linewidth=0.5 if wide > 0.03 else 0, **bar.look))
        middles.append(left + wide / 2)
        left += wide
    return middles


def _line(axes: Axes, sample: _Sample, low: float, high: float, inch: float, marks: list[tuple[str, float]]) -> None:
    """The scale above the bars, and above it the marks: f(x) on the first line, the base value on the second."""
    free = []
    if high > low:
        places, labels = ticks(low, high, LINE - 0.6)
        ats = [0.3 + (p - low) * inch for p in places]
        axes.plot([0.3, LINE - 0.3], [0.56, 0.56], color=RULE, linewidth=0.6)
        for at, label in zip(ats, labels):
            axes.plot([at, at], [0.56, 0.53], color=RULE, linewidth=0.6)
            if all(abs(at - mark) > lettering.width(label, SMALL) / 2 + 0.04 for _, mark in marks):
                free.append((at, label))
    for at, label in free:
        axes.text(at, 0.51, label, size=SMALL, ha="center", va="bottom", color=QUIET)
    for (words, at), level, weight in zip(marks, (0.13, 0.3), ("bold", "normal")):
        half = lettering.width(words, TEXT, bold=weight == "bold") / 2
        axes.plot([at, at], [level + 0.01, 0.62], color=INK if weight == "bold" else QUIET, linewidth=0.9, zorder=1)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
        spot = float(np.clip(at, half, LINE - half))
        axes.text(spot, level, words, size=TEXT, weight=weight, ha="center", va="bottom", bbox=box, zorder=2 - level)


@dataclass(frozen=True)
class _Bar:
    """One step: its full name, one that is cut, its size (NaN where unknown), and how it is filled."""

    name: str
    short: str
    size: float
    kind: str = ""  # "other": added up, "gap": not explained, "none": nothing to show

    @property
    def known(self) -> bool:
        return math.isfinite(self.size)

    @property
    def look(self) -> dict[str, Any]:
        colour = NOTE if self.kind == "gap" or not self.known else FOR if self.size > 0 else AGAINST
        return {"facecolor": colour, "edgecolor": PAPER, "alpha": 0.45 if self.kind == "other" else 1.0} | (
            {"hatch": "////"} if self.kind == "gap" else {}
        )


@dataclass(frozen=True)
class _Sample:
    """One checked sample and how its numbers are written."""

    values: np.ndarray
    base: float
    relevance: np.ndarray
    features: list[str]
    gap: float
    last: int

    @classmethod
    def of(cls, values: Any, base: Any, relevance: Any, features: Sequence[str], output: Any) -> _Sample:
        """Check what was given; ``last`` is the last digit written, the third of the greatest relevance."""
        raw = cells(values, 1)
        if len(raw) != len(features):
            raise InputError(f"values have shape {raw.shape} with {len(features)} features", cure="Give (D,) and D names.")
        r = array("relevance", relevance, (len(raw),))
        start = _finite("base", base)
        whole = start + float(r[np.isfinite(r)].sum())
        gap = 0.0 if output is None else _finite("output", output) - whole
        largest = max([float(np.abs(r[np.isfinite(r)]).max(initial=0.0)), abs(gap)])
        gap = gap if abs(gap) > 1e-6 * max(largest, abs(start), abs(whole)) else 0.0
        last = power(largest or abs(start) or 1.0) - 2
        return cls(raw, start, r, [str(name) for name in features], gap, last)

    @property
    def empty(self) -> str:
        """Why there is no bar, if there is none."""
        if not np.isfinite(self.relevance).any():
            return "NaN"
        return "no evidence" if not np.nan_to_num(self.relevance, posinf=1, neginf=1).any() else ""

    @property
    def end_name(self) -> str:
        """What the last number is: not f(x) where a relevance is unknown."""
        return "output, f(x)" if self.gap or np.isfinite(self.relevance).all() else "sum without NaN"

    def write(self, value: float, *, plus: bool = False) -> str:
        """A number to the digit that matters here; what summing up left over is zero."""
        return written(0.0 if abs(value) < 1e-9 * 10.0**self.last else value, self.last, plus=plus)

    def bars(self, top: int, *, by_side: bool = False) -> list[_Bar]:
        """The greatest first, then "other (k)" (of each side for itself if ``by_side``), then what is not explained."""
        if self.empty == "no evidence":
            name = f"all features ({len(self.relevance)})"
            return [_Bar(name, name, 0.0, "none"), *self._gap()]
        first, rest = strongest({"": self.relevance[None]}, len(self.relevance), top)
        if by_side and len(first) > top:  # a place for one more name may be missing on one line
            first, rest = first[:top], first[top:]
        bars = [self._bar(j) for j in first]
        rest = [j for j in rest if math.isfinite(self.relevance[j])]
        sides = [[j for j in rest if self.relevance[j] > 0], [j for j in rest if self.relevance[j] < 0]]
        for part in sides if by_side else [rest]:
            name = f"other ({len(part)})"
            if len(part) == 1:
                bars.append(self._bar(part[0]))
            elif part:
                bars.append(_Bar(name, name, float(self.relevance[part].sum()), "other"))
        return bars + self._gap()

    def _bar(self, j: int) -> _Bar:
        said = as_written(self.values[j])
        short = f"{_cut(self.features[j], 44)} = {_cut(said, 24)}"
        return _Bar(f"{self.features[j]} = {said}", short, float(self.relevance[j]))

    def _gap(self) -> list[_Bar]:
        return [_Bar("not explained", "not explained", self.gap, "gap")] if self.gap else []

    def foot(self, words: str) -> str:
        """What stands under the figure: ``words``, and what is unknown."""
        lost = int((~np.isfinite(self.relevance)).sum())
        told = f"; the relevance of {lost} of {len(self.relevance)} features is NaN and counts as 0" if lost else ""
        return words + told


def cells(values: Any, dimensions: int) -> np.ndarray:
    """Numbers or texts of a table as they are, every kind of missing value as NaN; tensors and data frames too."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    raw = np.asarray(values)
    if raw.ndim != dimensions:
        shape = "(D,)" if dimensions == 1 else "(n, D)"
        raise InputError(f"values have shape {raw.shape}", cure=f"Give {shape}.")
    if raw.dtype == object:
        raw = raw.copy()
        raw[pd.isna(raw)] = np.nan
    return raw


def _finite(name: str, value: Any) -> float:
    number = float(array(name, value.reshape(-1) if hasattr(value, "reshape") else np.ravel(value), (1,))[0])
    if not math.isfinite(number):
        raise InputError(f"{name} is {number}", cure="Give the finite score that belongs to this sample.")
    return number


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
