"""What the data look like: a few images of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pellucid.core.checks import count, same_length
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array, pictures
from .sheet import EDGE, GAP, Sheet, note, picture
from .style import HEAD, QUIET, SMALL, saying, themed


@FIGURES.add("data")
@themed
def class_samples(images: Any, labels: Any, classes: Sequence[str], per_class: int = 8) -> Figure:
    """The first ``per_class`` images of every class, one row per class, with the number of its images.

    ``images`` (n, H, W) or (n, H, W, 3), uint8 or 0..1; ``labels`` (n,) indices into ``classes``.
    Raises ``InputError`` for different lengths and for a label that no class has.
    """
    shown = pictures(images)
    count("per_class", per_class)
    if len(shown) == 0 or not classes:
        return saying("There are no images to show.")
    y = array("labels", labels, ("n",))
    same_length(images=shown, labels=y)
    wrong = np.flatnonzero(~np.isin(y, np.arange(len(classes))))
    if wrong.size:
        raise InputError(
            f"label {y[wrong[0]]:g}", where=f"image {wrong[0]}", cure=f"Give whole numbers from 0 to {len(classes) - 1}."
        )
    rows = [np.flatnonzero(y == index) for index in range(len(classes))]
    names = [lettering.wrap(str(name), 1.6, HEAD) for name in classes]
    numbers = [f"{len(row):,} image{'' if len(row) == 1 else 's'}" for row in rows]
    gutter = max([lettering.width(t, HEAD) for t in names] + [lettering.width(t, SMALL) for t in numbers]) + 0.12
    columns = max(1, min(per_class, max(len(row) for row in rows)))
    cell = float(np.clip(9.0 / columns - 0.05, 0.3, 0.8))
    tall = float(np.clip(cell * shown.shape[1] / shown.shape[2], 0.25, 2 * cell))
    steps = [
        max(tall, lettering.height(name, HEAD) + lettering.height(number, SMALL)) + GAP for name, number in zip(names, numbers)
    ]
    sheet = Sheet(max(gutter + columns * (cell + 0.05), 2.4) + 2 * EDGE, sum(steps) + 2 * EDGE)
    top = EDGE
    for row, name, number, step in zip(rows, names, numbers, steps):
        middle = top + (step - GAP) / 2
        words = lettering.height(name, HEAD) + lettering.height(number, SMALL)
        sheet.text(EDGE, middle - words / 2, name, HEAD)
        sheet.text(EDGE, middle - words / 2 + lettering.height(name, HEAD), number, SMALL, color=QUIET)
        for column, index in enumerate(row[:per_class]):
            axes = sheet.axes(EDGE + gutter + column * (cell + 0.05), middle - tall / 2, cell, tall)
            picture(axes, shown[index], cmap="gray", vmin=0, vmax=1)
        if not row.size:
            note(sheet.axes(EDGE + gutter, middle - tall / 2, max(cell, 0.6), tall), "no image")
        top += step
    return sheet.figure
