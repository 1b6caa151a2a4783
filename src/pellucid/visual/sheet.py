"""A figure measured in inches from its top-left corner: what the sheets of many small panels are laid out on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import lettering
from .style import HEAD, PANEL, PAPER, QUIET, RULE, SMALL, TEXT, new_figure

EDGE = 0.12  # empty border of a sheet
GAP = 0.07  # between panels


class Sheet:
    """A canvas of ``width`` x ``height`` inches; positions are (left, top) in inches from its top-left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure: Figure = new_figure(width, height, constrained=False)

    def axes(self, left: float, top: float, width: float, height: float, *, framed: bool = True) -> Axes:
        """An axes without ticks and grid, with a thin frame if ``framed``."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        made = self.figure.add_axes(box)
        made.set(xticks=[], yticks=[])
        made.grid(visible=False)
        for spine in made.spines.values():
            spine.set(visible=framed, color=RULE, linewidth=0.6)
        return made

    def text(self, left: float, top: float, words: str, size: float = TEXT, **settings: Any) -> None:
        """Words whose top (or what ``va`` says) is at ``top``."""
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            words,
            **{"size": size, "va": "top", "linespacing": lettering.LINE, **settings},
        )


@dataclass(frozen=True)
class Heads:
    """Column heads, wrapped to the width of a column: bold names over small captions."""

    names: list[str]
    captions: list[str]
    size: float
    name_height: float
    caption_height: float

    @classmethod
    def of(cls, names: Sequence[str], captions: Sequence[str], room: float) -> Heads:
        """Break names and captions into lines of at most ``room`` inches."""
        size = HEAD if room > 1 else SMALL + 0.5
        bold = [lettering.wrap(name, room, size, bold=True) for name in names]
        small = [lettering.wrap(caption, room, SMALL) for caption in captions]
        return cls(
            bold,
            small,
            size,
            max((lettering.height(name, size) for name in bold), default=0.0),
            max((lettering.height(caption, SMALL) for caption in small), default=0.0),
        )

    @property
    def height(self) -> float:
        """Of names, captions and the space around them."""
        return self.name_height + self.caption_height + 0.1

    def draw(self, sheet: Sheet, centres: Sequence[float], top: float) -> None:
        """The last lines of all names stand on one base line, the captions hang below it."""
        base = top + self.name_height - 0.25 * self.size / 72
        for name, caption, centre in zip(self.names, self.captions, centres):
            for above, line in enumerate(reversed(name.split("\n"))):
                at = base - above * lettering.height(line, self.size)
                sheet.text(centre, at, line, self.size, ha="center", va="baseline", weight="bold")
            if caption:
                sheet.text(centre, top + self.name_height + 0.04, caption, SMALL, ha="center", color=QUIET)


def title_width(rows: Sequence[str]) -> float:
    """Width of the longest bold title above a row, up to 6 inches; longer ones break into lines."""
    return min(6.0, max(lettering.width(row, HEAD, bold=True) for row in rows))


def row_titles(rows: Sequence[str], room: float) -> tuple[list[str], float]:
    """Bold titles above the rows in lines of at most ``room`` inches, and the height to keep for each."""
    wrapped = [lettering.wrap(row, room, HEAD, bold=True) for row in rows]
    return wrapped, max(lettering.height(row, HEAD) for row in wrapped) + 0.1 if any(rows) else 0.0


def note(axes: Axes, words: str) -> None:
    """A light panel that says why it is empty; for NaN a hatched one, which shows where a map above it has holes."""
    hatched = words == "NaN"
    look: dict[str, Any] = {"facecolor": "#e2e2e2", "edgecolor": RULE, "hatch": "////"} if hatched else {"facecolor": PANEL}
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, linewidth=0, zorder=0.5, **look))
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0} if hatched else None
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", size=SMALL, color=QUIET, bbox=box, zorder=5)


def picture(axes: Axes, values: np.ndarray, **settings: Any) -> Any:
    """An image in its own pixels: enlarged without smoothing, and made smaller (in SVG too) with it."""
    smooth = "none" if max(values.shape[:2]) <= 160 else "auto"
    # above the hatching that stands for NaN
    return axes.imshow(values, **{"interpolation": smooth, "zorder": 0.7, **settings})


BAR = 2.6  # width of a colour bar


@dataclass(frozen=True)
class Bar:
    """A colour bar: its map, the words at its ends (and middle), and what it says underneath."""

    colours: Colormap
    ends: tuple[str, ...]
    words: str


class Foot:
    """Colour bars at the bottom of a sheet: side by side when they fit, else one below the other."""

    def __init__(self, bars: Sequence[Bar], room: float) -> None:
        self.bars = bars
        self.beside = len(bars) * 4.2 <= room
        self.each = min(room / max(len(bars), 1) if self.beside else room, 5.2)
        self.words = [lettering.wrap(bar.words, self.each - 0.2, SMALL) for bar in bars]
        self.ends = [[lettering.wrap(end, 1.4, TEXT - 0.5) for end in bar.ends] for bar in bars]
        self.below = [0.18 + max(lettering.height(end, TEXT - 0.5) for end in ends) for ends in self.ends]
        heights = [below + lettering.height(words, SMALL) + GAP for below, words in zip(self.below, self.words)]
        self.tops = [0.0 if self.beside else sum(heights[:i]) for i in range(len(bars))]
        self.height = (max(heights) if self.beside else sum(heights)) if bars else 0.0

    def draw(self, sheet: Sheet, top: float) -> None:
        """Put the bars ``top`` inches below the upper edge, centred."""
        for index, (bar, words) in enumerate(zip(self.bars, self.words)):
            centre = sheet.width / 2 + ((index - (len(self.bars) - 1) / 2) * self.each if self.beside else 0)
            start = top + self.tops[index]
            axes = sheet.axes(centre - BAR / 2, start, BAR, 0.11)
            picture(
                axes, np.linspace(0, 1, 256)[None], cmap=bar.colours, interpolation="none", aspect="auto", extent=(0, 1, 0, 1)
            )
            for place, end in zip(np.linspace(-0.5, 0.5, len(bar.ends)), self.ends[index]):
                sheet.text(centre + place * BAR, start + 0.14, end, TEXT - 0.5, ha="center")
            sheet.text(centre, start + self.below[index], words, SMALL, ha="center", color=QUIET)
