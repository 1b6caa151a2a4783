"""Explanations of images by superpixels: each segment in the colour of its relevance, its border drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pellucid.core.checks import count, fraction
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from .arrays import array, pictures
from .heatmaps import heatmap_sheet
from .style import INK, PAPER, saying, themed


@FIGURES.add("explanation")
@themed
def superpixel_sheet(
    images: Any,
    labels: Any,
    maps: Mapping[str, Any],
    *,
    titles: Sequence[str] | None = None,
    top: int | None = None,
    overlay: float = 0.45,
    ends: tuple[str, str] = ("against the class", "for the class"),
) -> Figure:
    """A sheet of image x method: the image with the borders of its segments, and the segments in the colour of their relevance.

    ``images`` (n, H, W) or (n, H, W, 3), uint8 or 0..1; ``labels`` (n, H, W) whole numbers, one for each segment; ``maps``
    method -> relevance (n, H, W), of which each segment shows its mean, or n lists of one number per segment in the order of
    the labels. ``top`` keeps the segments with the greatest |relevance| and leaves the rest of the image pale and grey. The
    colours, ``overlay`` and ``titles`` are those of ``heatmap_sheet``. Raises ``InputError`` for shapes that differ.
    """
    shown = pictures(images)
    if len(shown) == 0:
        return saying("There are no samples to show.")
    if top is not None:
        count("top", top)
    segments = _segments(labels, shown.shape[:3])
    found = {str(name): _per_segment(str(name), values, segments) for name, values in maps.items()}
    painted, drawn = {}, {}
    for name, values in found.items():
        kept = [_greatest(row, top) for row in values]
        painted[name] = np.stack([np.where(keep, row, 0.0)[s] for row, keep, s in zip(values, kept, segments)])
        drawn[name] = [np.where(keep[s], s, -1) for keep, s in zip(kept, segments)]
    words = f"the {f'{top} segments' if top != 1 else 'segment'} with the greatest |relevance|"
    figure: Figure = heatmap_sheet(
        shown,
        painted,
        signed=dict.fromkeys(painted, True),
        titles=titles,
        captions=dict.fromkeys(painted, words) if top else None,
        overlay=fraction("overlay", overlay),
        ends=ends,
    )
    panels = figure.axes[: len(shown) * (1 + len(maps))]
    for place, axes in enumerate(panels):
        row, column = divmod(place, 1 + len(maps))
        if axes.images:  # else there is a sentence in it
            _borders(axes, segments[row] if column == 0 else list(drawn.values())[column - 1][row])
    return figure


def _segments(labels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """(n, H, W) numbers from 0 in the order of the labels, for each image on its own."""
    given = array("labels", labels, shape)
    if not (given == np.round(given)).all():  # false for NaN too
        raise InputError("labels are not whole numbers", cure="Give the number of its segment for each pixel.")
    return np.asarray([np.unique(one, return_inverse=True)[1].reshape(one.shape) for one in given])


def _per_segment(name: str, values: Any, segments: np.ndarray) -> list[np.ndarray]:
    """For each image the relevance of its segments."""
    many = len(values) if hasattr(values, "__len__") else "no"
    if many != len(segments):
        raise InputError(f"maps['{name}'] has {many} rows for {len(segments)} images", cure="Give one for each image.")
    found = []
    for i, (given, own) in enumerate(zip(values, segments)):
        many = int(own.max()) + 1
        if np.ndim(given) == 1 if not hasattr(given, "ndim") else given.ndim == 1:
            found.append(array(f"maps['{name}'][{i}] for {many} segments", given, (many,)))
        else:
            pixels = array(f"maps['{name}'][{i}]", given, own.shape)
            found.append(np.bincount(own.ravel(), pixels.ravel()) / np.bincount(own.ravel()))
    return found


def _greatest(values: np.ndarray, top: int | None) -> np.ndarray:
    """Which segments are shown: of ``top`` those that have any relevance; those whose relevance is unknown always are."""
    order = np.argsort(-np.nan_to_num(np.abs(values), nan=0.0, posinf=0.0), kind="stable")
    keep = ~np.isfinite(values)
    keep[order[:top]] = True
    return np.asarray(keep & (values != 0)) if top else keep


def _borders(axes: Axes, segments: np.ndarray) -> None:
    """Where neighbours differ: a dark line on a wider light one, which is seen on any image."""
    rows, columns = np.nonzero(segments[:, 1:] != segments[:, :-1])
    upright = np.stack([np.column_stack([columns + 0.5, rows - 0.5]), np.column_stack([columns + 0.5, rows + 0.5])], axis=1)
    rows, columns = np.nonzero(segments[1:] != segments[:-1])
    level = np.stack([np.column_stack([columns - 0.5, rows + 0.5]), np.column_stack([columns + 0.5, rows + 0.5])], axis=1)
    lines = [*upright, *level]
    for width, colour in ((1.1, PAPER), (0.45, INK)):
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=width, capstyle="projecting", rasterized=True), autolim=False
        )
