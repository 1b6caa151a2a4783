"""How the relevance of one feature depends on its value, and which other feature it interacts with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from pellucid.core.checks import one_of
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .additive_many import ABSENT, OUTPUT, RASTER, VALUES, checked_table, lanes, limits, numbers, shades
from .scales import power, ticks, written
from .sheet import EDGE, Sheet, note, picture
from .style import HEAD, INK, LINES, QUIET, RULE, SMALL, TEXT, saying, themed
from .tables import as_written

GROUPS = 10  # of about equal size, by the feature's value, within which another feature's share is measured
LEAST = 0.05  # of the spread that a feature must explain to be chosen for the colour
KINDS, HUES = 12, 6  # categories on the axis and in colours: the most frequent ones, the others as one
WIDE, TALL = 4.4, 2.9  # of the axes in inches
STRIP = 0.6  # for missing values
KEY, BAR = 1.5, 1.3  # width of the key, height of its colour bar


@FIGURES.add("explanation")
@themed
def dependence(
    values: Any,
    relevance: Any,
    feature: int | str,
    features: Sequence[str],
    *,
    colour: int | str | None = None,
    title: str = "",
    unit: str = "",
    ends: tuple[str, str] = OUTPUT,
) -> Figure:
    """A feature's value against its relevance, a point per sample, in the colour of the feature it interacts with most.

    ``values`` (n, D) numbers or texts, ``relevance`` (n, D), ``feature`` and ``colour`` names of ``features`` or positions.
    Without ``colour`` it is the feature with the greatest ``interaction``, none where that is below 5 %. Categories stand on
    ticks, missing values on the left. ``unit`` is that of the feature.
    Raises ``InputError`` for shapes that differ and for an unknown feature.
    """
    raw, r = checked_table(values, relevance, features)
    names = [str(name) for name in features]
    if raw.size == 0:
        return saying("There are no samples to show.")
    own = _position("feature", feature, names)
    y = np.where(np.isfinite(r[:, own]), r[:, own], np.nan)
    share = interaction(raw, y, own)
    other = int(np.argmax(share)) if colour is None else _position("colour", colour, names)
    coloured = colour is not None or bool(share[other] >= LEAST)
    key = _Key.of(raw[:, other], names[other]) if coloured else None
    across = _Across.of(raw[:, own])

    low, high = (float(np.nanmin(y)), float(np.nanmax(y))) if np.isfinite(y).any() else (0.0, 0.0)
    edge = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    chosen = f"{names[other]} explains {100 * share[other]:.0f} % of the spread at about equal {names[own]}"
    foot = _about(y, chosen if key and colour is None else "", ends)
    name = names[own] + f" ({unit})" * bool(unit)
    sheet, axes, right, top = _frame(
        (low - edge, high + edge), f"relevance of {names[own]}", name, title, foot, across, bool(key)
    )
    if not np.nan_to_num(y).any():
        note(axes, "no evidence" if np.isfinite(y).any() else "NaN")
        return sheet.figure
    axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    seen = ~np.isnan(y)
    paint = key.paint[seen] if key else LINES[0]
    dot = 4.0 if len(y) <= 500 else 2.8 if len(y) <= 3000 else 2.0
    x = across.spread(seen, y[seen] * TALL / (high - low + 2 * edge), dot / 72)
    axes.scatter(x, y[seen], c=paint, s=dot**2, linewidths=0, rasterized=len(y) > RASTER, zorder=2)
    if key:
        key.draw(sheet, right, top)
    return sheet.figure


def _frame(
    span: tuple[float, float], label: str, name: str, title: str, words: str, across: _Across, keyed: bool
) -> tuple[Sheet, Axes, float, float]:
    """The sheet, its axes with both scales, and where the key begins: ``label`` is up the axis, ``name`` along it."""
    heights, marks = ticks(*span, np.inf)
    up, below = lettering.wrap(label, TALL, TEXT), lettering.wrap(name, WIDE, TEXT)
    left = EDGE + lettering.height(up, TEXT) + 0.14 + max(lettering.width(mark, SMALL) for mark in marks)
    left = max(left, EDGE + across.left)
    width = left + WIDE + (KEY + 0.2 if keyed else 0.15) + EDGE
    heading = lettering.wrap(title, width - 2 * EDGE, HEAD, bold=True)
    top = EDGE + lettering.height(heading, HEAD) + 0.08
    foot = lettering.wrap(words, width - 2 * EDGE, SMALL)
    under = top + TALL + across.height
    low = under + lettering.height(below, TEXT) + 0.24
    sheet = Sheet(width, low + lettering.height(foot, SMALL) + EDGE)
    sheet.text(EDGE, EDGE, heading, HEAD, weight="bold")
    axes = sheet.axes(left, top, WIDE, TALL)
    axes.set(xlim=(0, WIDE), ylim=span)
    axes.set_yticks(heights, marks, size=SMALL)
    axes.tick_params(length=2, pad=1.5, color=RULE)
    sheet.text(EDGE, top + TALL / 2, up, TEXT, rotation=90, va="center", multialignment="center")
    across.draw(sheet, axes, left, top + TALL)
    sheet.text(left + WIDE / 2, under + 0.06, below, TEXT, ha="center")
    sheet.text(width / 2, low, foot, SMALL, ha="center", color=QUIET)
    return sheet, axes, left + WIDE + 0.2, top


def _about(y: np.ndarray, chosen: str, ends: tuple[str, str]) -> str:
    lost = int(np.isnan(y).sum())
    parts = [f"above zero: {ends[1]}, below: {ends[0]}"]
    parts += [f"colour: {chosen}"] if chosen else []
    parts += [f"{lost:,} of {len(y):,} relevances are NaN and left out"] if lost else []
    return f"{'; '.join(parts)}; {len(y):,} sample{'s' * (len(y) != 1)}"


def _position(what: str, feature: int | str, names: list[str]) -> int:
    if isinstance(feature, str):
        return names.index(one_of(what, feature, names))
    if isinstance(feature, bool) or not -len(names) <= feature < len(names):
        raise InputError(f"{what} is {feature!r} of {len(names)} features", cure="Give a feature's name or position.")
    return int(feature) % len(names)


def interaction(values: np.ndarray, relevance: np.ndarray, own: int) -> np.ndarray:
    """(D,): the share of one feature's relevance (n,) that each other feature explains beside the feature's own value.

    The samples are put into 10 groups of about equal value of feature ``own`` (its categories), and in each the mean and the
    line along that value are taken off. Of what is left, a feature explains what a line along its rank (its categories' means)
    explains in each group: 1 - ((T - E) / (f - d)) / (T / f), T the sum of squares, E what the d lines or means explain of it,
    f the degrees of freedom before; at least 0, so that chance is not taken for interaction.
    """
    line = numbers(values[:, own])
    seen = np.isfinite(relevance) & (np.isfinite(line) if line is not None else ~pd.isna(values[:, own]))
    rows, y = values[seen], relevance[seen]
    shares = np.zeros(values.shape[1])
    if len(y) < 3:
        return shares
    group = _groups(rows[:, own], None if line is None else line[seen])
    size = np.bincount(group)
    slope = np.zeros(len(y)) if line is None else _centred(line[seen], group)
    inner = _without(_centred(y, group), slope, group)
    free = len(y) - int((size > 0).sum()) - int((np.bincount(group, slope**2) > 0).sum())
    total = float(inner @ inner)
    if free < 2 or total <= 1e-12 * float(np.sum((y - y.mean()) ** 2)) or total == 0:
        return shares
    for j in range(values.shape[1]):
        if j == own:
            continue
        along = numbers(rows[:, j])
        if along is not None:
            ranks = pd.Series(np.where(np.isfinite(along), along, np.nanmedian(along))).rank().to_numpy()
            z = _without(_centred(ranks, group), slope, group)
            square = np.bincount(group, z**2)
            used = square > 1e-9 * float(z @ z)
            explained = float((np.bincount(group, z * inner)[used] ** 2 / square[used]).sum())
            spent = int(used.sum())
        else:
            code = pd.factorize(rows[:, j], use_na_sentinel=False)[0]
            pair = pd.factorize(group * (code.max() + 1) + code)[0]
            explained = float((np.bincount(pair, inner) ** 2 / np.bincount(pair)).sum())
            spent = int(pair.max() + 1 - (size > 0).sum())
        if 0 < spent < free:
            shares[j] = max(0.0, 1 - (total - explained) / (free - spent) * free / total)
    return shares


def _groups(column: np.ndarray, line: np.ndarray | None) -> np.ndarray:
    """(n,) numbers of the groups: tenths of a numeric column, equal values together, or its categories."""
    if line is None:
        return np.asarray(pd.factorize(column)[0])
    cuts = np.unique(np.quantile(line, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    return np.asarray(np.searchsorted(cuts, line, side="left"))


def _centred(y: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.asarray(y - (np.bincount(group, y) / np.maximum(np.bincount(group), 1))[group])


def _without(y: np.ndarray, slope: np.ndarray, group: np.ndarray) -> np.ndarray:
    """What is left of ``y`` when the line along ``slope`` is taken off in each group; both are centred."""
    square = np.bincount(group, slope**2)
    return np.asarray(y - (np.bincount(group, slope * y) / np.where(square > 0, square, 1))[group] * slope)


def _kinds(column: np.ndarray, most: int) -> tuple[np.ndarray, list[str]]:
    """(n,) codes of the ``most`` most frequent categories and their names; the others are one more, missing is -1."""
    code, names = pd.factorize(np.array([np.nan if pd.isna(v) else str(v) for v in column], dtype=object))
    order = np.argsort(-np.bincount(code[code >= 0], minlength=len(names)), kind="stable")
    kept = sorted(order[:most] if len(names) > most + 1 else order, key=lambda k: str(names[k]))
    place = np.full(len(names) + 1, len(kept))
    place[kept] = np.arange(len(kept))
    place[-1] = -1
    rest = len(names) - len(kept)
    return place[code], [*(str(names[k]) for k in kept), *([f"other ({rest})"] if rest else [])]


@dataclass
class _Across:
    """Where samples stand along the axis, in inches, and what is written under it."""

    x: np.ndarray
    places: list[float]
    words: list[str]
    slot: float  # room for a value that many samples share
    absent: np.ndarray
    gap: float = 0.0  # the strip of missing values ends here
    turned: bool = False

    @classmethod
    def of(cls, column: np.ndarray) -> _Across:
        """Numbers on a scale, or categories side by side; missing values in a strip at the left."""
        line = numbers(column)
        if line is None:
            return cls._of_kinds(*_kinds(column, KINDS))
        known = np.isfinite(line)
        distinct = np.unique(line[known])
        step = float(np.diff(distinct).min()) if 1 < len(distinct) <= KINDS else 0.0
        low, high = float(distinct[0]), float(distinct[-1])
        edge = max(0.04 * (high - low), 0.5 * step) or 0.5 * abs(high) or 1.0
        low, high = low - edge, high + edge
        start = 0.0 if known.all() else STRIP
        inch = (WIDE - start) / (high - low)
        slot = 0.6 if len(distinct) == 1 else min(0.7 * inch * step, 0.6)
        places, words = ticks(low, high, WIDE - start)
        if step and step * inch > 0.1 + max(lettering.width(as_written(v), SMALL) for v in distinct):
            places, words = list(map(float, distinct)), list(map(as_written, distinct))
        x = np.where(known, start + (np.where(known, line, low) - low) * inch, start / 2)
        spots = [start + (p - low) * inch for p in places]
        free = (start + lettering.width("missing", SMALL)) / 2 + 0.08 if start else -1.0
        kept = [k for k, spot in enumerate(spots) if spot - lettering.width(words[k], SMALL) / 2 > free]
        missing = ([start / 2], ["missing"]) if start else ([], [])
        return cls(x, [*missing[0], *(spots[k] for k in kept)], [*missing[1], *(words[k] for k in kept)], slot, ~known, start)

    @classmethod
    def _of_kinds(cls, code: np.ndarray, names: list[str]) -> _Across:
        absent = code < 0
        first = int(absent.any())
        slot = WIDE / max(len(names) + first, 1)
        spots = [slot * (k + 0.5) for k in range(len(names) + first)]
        words = ["missing"] * first + names
        pieces = [piece.strip() for name in words for piece in lettering.pieces(name)]
        turned = max(lettering.width(piece, SMALL) for piece in pieces) > slot - 0.08
        words = [lettering.wrap(name, 1.3 if turned else slot - 0.08, SMALL) for name in words]
        x = np.array([spots[0] if k < 0 else spots[k + first] for k in code])
        return cls(x, spots, words, min(0.7 * slot, 0.6), absent, slot * first, turned)

    @property
    def height(self) -> float:
        """Room for the words."""
        if not self.turned:
            return 0.06 + max((lettering.height(word, SMALL) for word in self.words), default=0.0)
        return 0.12 + 0.72 * max(lettering.width(w, SMALL) + lettering.height(w, SMALL) for w in self.words)

    @property
    def left(self) -> float:
        """Room that turned words need left of the axes."""
        tilted = (0.71 * (lettering.width(w, SMALL) + lettering.height(w, SMALL)) - p for w, p in zip(self.words, self.places))
        return max(0.0, *tilted) if self.turned else 0.0

    def spread(self, seen: np.ndarray, y: np.ndarray, dot: float) -> np.ndarray:
        """Places of the samples ``seen``; those that share a value stand beside each other where they are at one height."""
        x, absent = self.x[seen].copy(), self.absent[seen]
        for place in np.unique(x[absent]) if not self.slot else np.unique(x):
            here = x == place
            x[here] += lanes(y[here], dot, min(STRIP - 0.1, self.slot or STRIP))
        return np.asarray(x)

    def draw(self, sheet: Sheet, axes: Axes, left: float, top: float) -> None:
        """Ticks and words, and a rule beside the missing values."""
        axes.set_xticks(self.places, [""] * len(self.places))
        for place, words in zip(self.places, self.words):
            look: dict[str, Any] = {"ha": "center"}
            if self.turned:
                look = {"ha": "right", "rotation": 45, "rotation_mode": "anchor", "va": "center"}
            at = top + (0.05 if not self.turned else 0.09)
            sheet.text(left + place, at, words, SMALL, color=QUIET if words == "missing" else INK, **look)
        if self.gap:
            axes.axvline(self.gap, color=RULE, linewidth=0.8, linestyle=(0, (2, 2)))


@dataclass
class _Key:
    """The colours of the samples by another feature, and what they mean."""

    name: str
    paint: np.ndarray
    words: list[str]  # of categories
    ends: tuple[float, float] | None  # of numbers
    absent: bool

    @classmethod
    def of(cls, column: np.ndarray, name: str) -> _Key:
        """Numbers from low to high, or the most frequent categories in colours that are told apart."""
        line = numbers(column)
        if line is not None:
            shade = shades(column)
            paint = VALUES(np.nan_to_num(shade))
            paint[np.isnan(shade)] = to_rgba(ABSENT)
            return cls(name, paint, [], limits(line), bool(np.isnan(shade).any()))
        code, words = _kinds(column, HUES)
        hues = np.array([*(to_rgba(colour) for colour in LINES), to_rgba(ABSENT)])
        return cls(name, hues[code], words, None, bool((code < 0).any()))

    def draw(self, sheet: Sheet, left: float, top: float) -> None:
        """Right of the axes."""
        name = lettering.wrap(self.name, KEY, TEXT)
        sheet.text(left, top, name, TEXT)
        top += lettering.height(name, TEXT) + 0.06
        if self.ends is not None:
            axes = sheet.axes(left, top, 0.12, BAR)
            picture(axes, np.linspace(1, 0, 256)[:, None], cmap=VALUES, aspect="auto", interpolation="none")
            low, high = self.ends
            last = power((high - low) or abs(high) or 1.0) - 2
            sheet.text(left + 0.18, top, f"higher\n{written(high, last)}", SMALL)
            sheet.text(left + 0.18, top + BAR, f"lower\n{written(low, last)}", SMALL, va="bottom")
            top += BAR + 0.12
        entries = list(zip(LINES, self.words)) + [(ABSENT, "missing")] * self.absent
        for colour, words in entries:
            lines = lettering.wrap(words, KEY - 0.18, SMALL)
            axes = sheet.axes(left, top + 0.02, 0.09, 0.09, framed=False)
            axes.set_facecolor(colour)
            sheet.text(left + 0.17, top, lines, SMALL)
            top += lettering.height(lines, SMALL) + 0.04
