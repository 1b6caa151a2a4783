"""What the tests of all figures look at: words, boxes, sizes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pellucid.visual.style import theme


class Look:
    """Reads a finished figure the way a person would: which words, where, how large, on which colour."""

    def texts(self, figure: Figure) -> list[Text]:
        """Every piece of text that is drawn: not the labels of ticks beyond the limits, which matplotlib keeps."""
        if figure.stale:
            figure.draw_without_rendering()
        axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
        kept = {id(label) for axis in axes for tick in axis.majorTicks for label in (tick.label1, tick.label2)}
        drawn = {id(label) for axis in axes for tick in axis._update_ticks() for label in (tick.label1, tick.label2)}
        return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in kept - drawn]

    def words(self, figure: Figure) -> list[str]:
        """Their contents, lines joined."""
        return [t.get_text().replace("\n", " ") for t in self.texts(figure)]

    def boxes(self, texts: list[Text]) -> np.ndarray:
        """(n, 4) left, bottom, right, top in points."""
        with theme():
            found = [t.get_window_extent() for t in texts]
        return np.array([b.extents for b in found]) * 72 / texts[0].figure.dpi

    def overlapping(self, texts: list[Text]) -> list[tuple[str, str]]:
        """Pairs whose boxes share more than half a point in both directions."""
        boxes = self.boxes(texts)
        return [
            (texts[i].get_text(), texts[j].get_text())
            for i, j in combinations(range(len(texts)), 2)
            if (np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2]) > 0.5).all()
        ]

    def cut(self, figure: Figure) -> list[str]:
        """Texts that leave the figure."""
        texts = self.texts(figure)
        width, height = figure.get_size_inches() * 72
        return [
            t.get_text()
            for t, (left, bottom, right, top) in zip(texts, self.boxes(texts))
            if left < -0.1 or bottom < -0.1 or right > width + 0.1 or top > height + 0.1
        ]


@pytest.fixture(scope="session")
def look() -> Look:
    return Look()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
