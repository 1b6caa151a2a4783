"""The course of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pellucid.core.checks import one_of
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from .style import PALETTE, PAPER, QUIET, TEXT, new_figure, saying, themed

# Columns of a history that are not validation metrics.
BOOKKEEPING = ("epoch", "step", "lr", "seconds", "train_loss")
TRAINING: dict[str, Any] = {"label": "training", "color": PALETTE["blue"], "linestyle": "-", "marker": "o"}
VALIDATION: dict[str, Any] = {"label": "validation", "color": PALETTE["vermillion"], "linestyle": "--", "marker": "s"}


@FIGURES.add("training")
@themed
def learning_curves(rows: Sequence[Mapping[str, Any]], best_epoch: int | None = None, metric: str | None = None) -> Figure:
    """Loss (training and validation) and one validation metric against the epoch.

    ``rows`` hold ``epoch``, ``train_loss`` and whatever was validated (``loss``, ``accuracy``, ...); a value may be missing.
    ``metric`` is the column of the second panel: by default the first validation metric that is not a loss. A column
    ``train_<metric>`` is drawn beside it. Without such a metric there is one panel. ``best_epoch`` is marked and labelled.
    Raises ``InputError`` for rows without an epoch and for an unknown metric.
    """
    if not rows:
        return saying("No epoch has been trained yet.")
    numbers = [_numbers(row) for row in rows]
    for place, row in enumerate(numbers):
        if "epoch" not in row:
            raise InputError("a row of the history has no epoch", where=f"row {place}", cure="Give 'epoch' and 'train_loss'.")
    columns = dict.fromkeys(key for row in numbers for key in row)
    metrics = [key for key in columns if key not in BOOKKEEPING and not key.startswith("train_")]
    chosen = one_of("metric", metric, metrics) if metric else next((key for key in metrics if key != "loss"), None)

    second = chosen is not None and chosen != "loss"
    figure = new_figure(8.6 if second else 4.8, 3.2)
    panels = figure.subplots(1, 2 if second else 1, squeeze=False)[0]
    _panel(panels[0], numbers, "Loss", ("train_loss", "loss"), best_epoch)
    if chosen is not None and second:
        _panel(panels[1], numbers, chosen.replace("_", " ").capitalize(), (f"train_{chosen}", chosen), best_epoch)
    return figure


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers, or the text of one; an empty one is a value that is missing."""
    held = {}
    for key, value in row.items():
        with suppress(TypeError, ValueError):
            held[key] = float(value)
    return held


def _panel(axes: Axes, rows: Sequence[Mapping[str, float]], name: str, columns: tuple[str, str], best: int | None) -> None:
    """One panel: the curves of training and validation, and the best epoch."""
    axes.set_title(name)
    epochs = [row["epoch"] for row in rows]
    words, at_best = ["epoch"], np.array([])
    for key, look in zip(columns, (TRAINING, VALIDATION)):
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if not points:
            continue
        x, y = np.array(points, dtype=float).T
        y[~np.isfinite(y)] = np.nan
        axes.plot(x, y, **look, markersize=4 if len(points) <= 30 else 0)
        broken = x[np.isnan(y)]
        if broken.size:  # a gap alone is easily overlooked
            words.append(f"{look['label']}: {broken.size} of {len(x)} values not finite, first at epoch {broken[0]:g}")
        if look is VALIDATION:
            at_best = y[x == best]
    if best is not None and best in epochs:
        _mark(axes, best, at_best)
    axes.set_xlabel("\n".join(words))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    if axes.lines:
        axes.legend(loc="best")


def _mark(axes: Axes, best: int, values: np.ndarray) -> None:
    """A line at the best epoch, a ring around its validation value, and both as words above the panel."""
    axes.axvline(best, color=QUIET, linewidth=0.9, linestyle=":", zorder=1)
    words = f"best: epoch {best}"
    if values.size and np.isfinite(values[-1]):
        ring: dict[str, Any] = {"markerfacecolor": PAPER, "markeredgecolor": VALIDATION["color"], "markeredgewidth": 1.6}
        axes.plot([best], [values[-1]], marker="o", markersize=7.5, linestyle="none", zorder=4, **ring)
        words += f" ({values[-1]:.4g})"
    axes.set_title(words, loc="right", size=TEXT, weight="normal", color=QUIET)
