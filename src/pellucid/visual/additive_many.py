"""Additive attributions of many samples: which features matter, for which of their values, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from pellucid.core.checks import count
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .additive import cells
from .arrays import array, known_keys
from .scales import power, ticks, written
from .sheet import EDGE, Bar, Foot, Sheet, note
from .style import HEAD, INK, LINES, PALETTE, PAPER, QUIET, RULE, SMALL, TEXT, saying, themed
from .tables import LABEL, strongest

# Dark blue to light orange: apart for all forms of colour blindness, in grey too, and both visible on white.
VALUES = LinearSegmentedColormap.from_list("pellucid_values", ["#12306B", "#7A4E9E", PALETTE["purple"], "#F0A32F"], N=256)
ABSENT = "#9a9a9a"  # a value that is missing or no number
SPREAD = (5.0, 95.0)  # percentiles of a feature's value where the colours end
DOTS = (4.6, 3.8, 3.0, 2.4, 1.9, 1.5, 1.2)  # diameters in points
RASTER = 1000  # points beyond which they are drawn as pixels
PANEL = 5.2  # inches
ON_WHITE = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
OUTPUT = ("lowers the output", "raises the output")


@FIGURES.add("explanation")
@themed
def beeswarm(
    values: Any,
    relevance: Any,
    features: Sequence[str],
    *,
    top: int = 15,
    title: str = "",
    ends: tuple[str, str] = OUTPUT,
) -> Figure:
    """A row per feature, a point per sample: its relevance from left to right, in the colour of the feature's value.

    ``values`` (n, D) numbers or texts, ``relevance`` (n, D), ``features`` D names. The ``top`` features with the greatest mean
    |relevance| come first, the others are added up in grey as "other (k)". Points of equal relevance stand above each other:
    from left to right each takes the free lane nearest to the middle, and only where a row is full do they lie on each other.
    Grey are missing values and features that are not numbers; NaN relevance is left out and counted.
    Raises ``InputError`` for shapes that differ.
    """
    count("top", top)
    raw, r = checked_table(values, relevance, features)
    if raw.size == 0:
        return saying("There are no samples to show.")
    first, rest = strongest({"": r}, r.shape[1], top)
    names = [lettering.wrap(name, LABEL, TEXT) for name in [*(str(features[j]) for j in first), f"other ({len(rest)})"]]
    names = names if rest else names[:-1]
    columns = [r[:, j] for j in first] + ([np.where(np.isfinite(r), r, 0.0)[:, rest].sum(axis=1)] if rest else [])
    colours = [shades(raw[:, j]) for j in first] + [np.full(len(r), np.nan)] * bool(rest)
    tall = 0.34 if len(r) <= 100 else 0.44 if len(r) <= 2000 else 0.54
    frame = _Frame(names, tall, title)
    foot = Foot([Bar(VALUES, ("lower", "higher"), _words(raw, r, first))], frame.room)
    axes = frame.draw(f"relevance (left of zero: {ends[0]}, right: {ends[1]})", foot.height)
    _swarms(axes, columns, colours, frame.step, tall)
    foot.draw(frame.sheet, frame.sheet.height - EDGE - foot.height)
    return frame.sheet.figure


class _Frame:
    """A sheet with a title, the names of the rows on the left, and one axes over all rows."""

    sheet: Sheet

    def __init__(self, names: list[str], least: float, title: str) -> None:
        self.names = names
        self.step = max([least, *(lettering.height(name, TEXT) + 0.06 for name in names)])
        self.gutter = max(lettering.width(name, TEXT) for name in names) + 0.1
        self.width = self.gutter + PANEL + 0.25 + 2 * EDGE
        self.room = self.width - 2 * EDGE
        self.heading = lettering.wrap(title, self.room, HEAD, bold=True)

    def draw(self, words: str, foot: float, legend: Sequence[str] = ()) -> Axes:
        """Everything but the marks: ``words`` under the axes, ``foot`` inches left below, the names of the sets on top."""
        wrapped = [lettering.wrap(name, PANEL - 0.3, TEXT - 0.5) for name in legend]
        heights = [lettering.height(name, TEXT - 0.5) + 0.03 for name in wrapped]
        start = EDGE + lettering.height(self.heading, HEAD) + (0.06 if self.heading else 0)
        tall = self.step * len(self.names)
        at = start + sum(heights) + (0.06 if legend else 0)
        self.sheet = Sheet(self.width, at + tall + 0.5 + foot + EDGE)
        self.sheet.text(EDGE, EDGE, self.heading, HEAD, weight="bold")
        for index, (name, height) in enumerate(zip(wrapped, heights)):
            box = self.sheet.axes(EDGE + self.gutter, start + 0.03, 0.16, 0.09, framed=False)
            box.barh(0.5, 1, height=1, **_fill(index))
            box.set(xlim=(0, 1), ylim=(0, 1))
            self.sheet.text(EDGE + self.gutter + 0.24, start, name, TEXT - 0.5)
            start += height
        for k, name in enumerate(self.names):
            self.sheet.text(EDGE + self.gutter - 0.07, at + self.step * (k + 0.5), name, TEXT, va="center", ha="right")
        self.sheet.text(EDGE + self.gutter + PANEL / 2, at + tall + 0.22, words, TEXT - 0.5, ha="center")
        return self.sheet.axes(EDGE + self.gutter, at, PANEL, tall, framed=False)


def _words(raw: np.ndarray, r: np.ndarray, first: list[int]) -> str:
    grey = any(np.isnan(shades(raw[:, j])).any() for j in first) or len(first) < r.shape[1]
    lost = int((~np.isfinite(r)).sum())
    parts = [f"value of the feature, from its {SPREAD[0]:g} to its {SPREAD[1]:g} percentile"]
    parts += ["grey: missing, no number, or several features"] if grey else []
    parts += [f"{lost:,} of {r.size:,} relevances are NaN and left out"] if lost else []
    parts += ["points lie on each other where a row is full"] if len(r) > 100 else []
    return f"{'; '.join(parts)}; {len(r):,} sample{'s' * (len(r) > 1)}"


def _swarms(axes: Axes, columns: list[np.ndarray], colours: list[np.ndarray], step: float, tall: float) -> None:
    """All rows, the scale below them, and the line at zero."""
    known = np.concatenate([column[np.isfinite(column)] for column in columns])
    low, high = min(float(known.min(initial=0)), 0.0), max(float(known.max(initial=0)), 0.0)
    if low == high:
        axes.set(xlim=(-1, 1), ylim=(1, 0))
        note(axes, "no evidence" if known.size else "NaN")
        return
    edge = 0.04 * (high - low)
    low, high = low - edge, high + edge
    axes.set(xlim=(low, high), ylim=(step * len(columns), 0))
    axes.hlines(step * (np.arange(len(columns)) + 0.5), low, high, color=RULE, linewidth=0.4, zorder=0.5)
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=0.6)
    inch = PANEL / (high - low)
    size = _dot([column * inch for column in columns], tall)
    look: dict[str, Any] = {"s": size**2, "linewidths": 0, "rasterized": sum(map(len, columns)) > RASTER}
    for k, (column, colour) in enumerate(zip(columns, colours)):
        seen = np.isfinite(column)
        if not seen.any():
            axes.text(
                (low + high) / 2,
                step * (k + 0.5),
                "NaN",
                size=SMALL,
                color=QUIET,
                ha="center",
                va="center_baseline",
                bbox=ON_WHITE,
            )
            continue
        x, shade = column[seen], colour[seen]
        y = step * (k + 0.5) + lanes(x * inch, size / 72, tall - 0.04)
        paint = VALUES(np.nan_to_num(shade))
        paint[np.isnan(shade)] = to_rgba(ABSENT)
        axes.scatter(x, y, c=paint, **look)
    places, words = ticks(low, high, PANEL)
    axes.set_xticks(places, words, size=SMALL)
    axes.tick_params(length=2, pad=1.5, color=RULE)


def _dot(columns: list[np.ndarray], tall: float) -> float:
    """The largest diameter in points at which nine of ten points find a lane of their own; few points are never tiny."""
    for size in DOTS if len(columns[0]) > 500 else DOTS[:5]:
        wide = size / 72
        most = max(1, int((tall - 0.04) / wide))
        over = [
            np.maximum(np.unique(np.floor(c[np.isfinite(c)] / wide), return_counts=True)[1] - most, 0).sum() for c in columns
        ]
        if sum(over) <= 0.1 * sum(map(len, columns)):
            break
    return size


def lanes(x: np.ndarray, wide: float, tall: float) -> np.ndarray:
    """Heights for points of diameter ``wide`` at ``x``, within +-tall/2: none touches another unless all lanes are taken.

    From left to right each point takes the free lane nearest to the middle; where none is free, the one free for the longest.
    """
    many = max(1, int(tall / wide + 1e-9))
    offsets = sorted(((k - (many - 1) // 2) * wide for k in range(many)), key=lambda offset: (abs(offset), offset))
    last = [-np.inf] * many
    found = np.zeros(len(x))
    for i in np.argsort(x, kind="stable"):
        limit = x[i] - wide
        lane = next((k for k, place in enumerate(last) if place <= limit), -1)
        if lane < 0:
            lane = min(range(many), key=last.__getitem__)
        last[lane] = x[i]
        found[i] = offsets[lane]
    return found


def numbers(column: np.ndarray) -> np.ndarray | None:
    """A column as float64, NaN where missing or infinite; None where it holds anything else, or no number at all."""
    try:
        made = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return np.where(np.isfinite(made), made, np.nan) if np.isfinite(made).any() else None


def shades(column: np.ndarray) -> np.ndarray:
    """Values between 0 (its 5 percentile and below) and 1 (its 95 and above); NaN where missing or no number."""
    made = numbers(column)
    if made is None:
        return np.full(len(column), np.nan)
    low, high = limits(made)
    return np.clip((made - low) / (high - low), 0, 1) if high > low else np.where(np.isnan(made), np.nan, 0.5)


def limits(made: np.ndarray) -> tuple[float, float]:
    """Where the colours end: the 5 and 95 percentiles, or the extremes where few values or most alike would hide the others."""
    seen = made[np.isfinite(made)]
    low, high = np.percentile(seen, SPREAD)
    few = len(np.unique(seen)) <= 10 or low == high
    return (float(seen.min()), float(seen.max())) if few else (float(low), float(high))


def checked_table(values: Any, relevance: Any, features: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(n, D) values as they are and (n, D) relevance, for D features."""
    if len(values) == 0:
        return np.zeros((0, len(features))), np.zeros((0, len(features)))
    raw = cells(values, 2)
    if raw.shape[1] != len(features):
        raise InputError(f"values have shape {raw.shape} with {len(features)} features", cure="Give (n, D) and D names.")
    return raw, array("relevance", relevance, raw.shape)


@FIGURES.add("explanation")
@themed
def importance(
    relevance: Any,
    features: Sequence[str],
    *,
    top: int = 15,
    errors: Any = None,
    share: bool = False,
    title: str = "",
) -> Figure:
    """Bars of the mean |relevance| over the samples, for one or several sets of relevance.

    ``relevance`` (n, D), or a mapping name -> (n, D) (methods, classes, groups of samples): one bar each. ``errors`` True draws
    the standard error of each mean, or takes standard errors, (D,) or name -> (D,). ``share`` divides each set by its own sum,
    so that sets on other scales can be compared. NaN is left out of the means and counted.
    Raises ``InputError`` for shapes that differ, for an unknown name and for negative errors.
    """
    count("top", top)
    given = relevance if isinstance(relevance, Mapping) else {"": relevance}
    sets = {
        str(name): array(f"relevance['{name}']" if name else "relevance", r, ("n", len(features))) for name, r in given.items()
    }
    if not any(r.size for r in sets.values()):
        return saying("There are no samples to show.")
    means, spreads = _means(sets, errors, share)
    first, rest = strongest({name: mean[None] for name, mean in means.items()}, len(features), top)
    names = [lettering.wrap(str(features[j]), LABEL, TEXT) for j in first] + [f"other ({len(rest)})"] * bool(rest)
    frame = _Frame(names, 0.13 * len(sets) + 0.09, title)
    bars = np.array([[*mean[first], *([np.nansum(mean[rest])] if rest else [])] for mean in means.values()])
    tails = np.array([[*spread[first], *([0.0] if rest else [])] for spread in spreads.values()])
    long = bool(rest) and float(np.nan_to_num(bars[:, -1]).max()) > float(np.nan_to_num(bars[:, :-1] + tails[:, :-1]).max())
    about = _about(sets, errors, share=share) + "; the sum of the others is too great for a bar" * long
    foot = lettering.wrap(about, frame.room, SMALL)
    words = "share of the sum of mean |relevance|" if share else "mean |relevance|"
    axes = frame.draw(words, lettering.height(foot, SMALL), [] if list(sets) == [""] else list(sets))
    _mean_bars(axes, bars, tails, frame.step, bool(rest), long)
    at = frame.sheet.height - EDGE - lettering.height(foot, SMALL)
    frame.sheet.text(frame.width / 2, at, foot, SMALL, ha="center", color=QUIET)
    return frame.sheet.figure


def _means(sets: Mapping[str, np.ndarray], errors: Any, share: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Mean |relevance| (D,) of each set and its standard error, zero where none is asked for."""
    given = errors if isinstance(errors, Mapping) else {"": errors} if list(sets) == [""] else {}
    if errors is not None and errors is not True:
        if not isinstance(errors, Mapping) and not given:
            raise InputError("errors are one array for several sets", cure="Give True, or a mapping name -> (D,).")
        known_keys("errors", given, sets)
    means, spreads = {}, {}
    for name, r in sets.items():
        size = np.where(np.isfinite(r), np.abs(r), np.nan)
        many = (~np.isnan(size)).sum(axis=0)
        mean = np.where(many > 0, np.nansum(size, axis=0) / np.maximum(many, 1), np.nan)
        if errors is True:
            around = np.nansum((size - mean) ** 2, axis=0) / np.maximum(many - 1, 1)
            error = np.sqrt(around / np.maximum(many, 1))
        elif errors is not None and name in given:
            error = array(f"errors['{name}']" if name else "errors", given[name], (r.shape[1],))
            if (error < 0).any():
                raise InputError(f"errors['{name}'] hold {np.nanmin(error):.4g}", cure="Give standard errors of at least 0.")
        else:
            error = np.zeros(r.shape[1])
        whole = (np.nansum(mean) or 1.0) if share else 1.0
        means[name], spreads[name] = mean / whole, np.nan_to_num(error) / whole
    return means, spreads


def _about(sets: Mapping[str, np.ndarray], errors: Any, *, share: bool) -> str:
    sizes = sorted({len(r) for r in sets.values()})
    many = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    lost = sum(int((~np.isfinite(r)).sum()) for r in sets.values())
    parts = [f"mean over {many} sample{'s' * (sizes != [1])}"]
    parts += ["each set divided by its own sum"] if share else []
    parts += ["whiskers: one standard error to each side"] if errors is not None else []
    parts += [f"{lost:,} of {sum(r.size for r in sets.values()):,} relevances are NaN and left out"] if lost else []
    return "; ".join(parts)


def _fill(index: int) -> dict[str, Any]:
    """Colour of the ``index``-th set, hatched from the eighth on."""
    return {
        "color": LINES[index % len(LINES)],
        "hatch": ["", "////", "...."][index // len(LINES) % 3],
        "edgecolor": PAPER,
        "linewidth": 0,
    }


def _mean_bars(axes: Axes, bars: np.ndarray, tails: np.ndarray, step: float, pooled: bool, long: bool) -> None:
    """Bars (sets, rows) from zero with whiskers and numbers; the last row pale if ``pooled``, numbers alone if ``long``."""
    sets, rows = bars.shape
    axes.set(ylim=(step * rows, 0))
    drawn = bars * (np.arange(rows) < rows - long)
    largest = float(np.nan_to_num(drawn).max())
    if not largest:
        note(axes, "no evidence" if np.isfinite(bars).any() else "NaN")
        return
    said = [[written(v, power(largest) - 2) for v in row] for row in bars]
    room = max(lettering.width(words, SMALL) for row in said for words in row) + 0.1
    inch = float(np.nan_to_num(drawn + tails).max()) / (PANEL - room)
    axes.set_xlim(0, PANEL * inch)
    thick = (step - 0.09) / sets
    for index in range(sets):
        y = step * np.arange(rows) + 0.045 + thick * (index + 0.5)
        made = axes.barh(y, np.nan_to_num(drawn[index]), height=0.88 * thick, **_fill(index))
        if pooled:
            made[-1].set(alpha=0.45)
        seen = tails[index] > 0
        axes.errorbar(bars[index][seen], y[seen], xerr=tails[index][seen], fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.6)
        for place, tail, at, words in zip(np.nan_to_num(drawn[index]), tails[index], y, said[index]):
            axes.text(place + tail + 0.05 * inch, at, words, size=SMALL, va="center_baseline", color=INK)
    axes.axvline(0, color=QUIET, linewidth=0.8)
    places, labels = ticks(0, largest, PANEL - room)
    axes.set_xticks(places, labels, size=SMALL)
    axes.tick_params(length=2, pad=1.5, color=RULE)
