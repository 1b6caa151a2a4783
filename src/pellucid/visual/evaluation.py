"""How well a model predicts: confusion, calibration, ROC, precision and recall, residuals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pellucid.core.checks import same_length
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array
from .sheet import EDGE, Sheet, picture
from .style import LINES, PALETTE, QUIET, SHARE, SMALL, TEXT, line_style, new_figure, readable_on, saying, themed

NUMBERS = 15  # classes up to which a confusion matrix carries numbers
LABEL = 1.7  # inches that a class name may take
CURVES = 20  # classes that have a colour and a legend of their own in ROC and precision-recall curves
DIAGONAL: dict[str, Any] = {"color": QUIET, "linestyle": (0, (4, 3)), "linewidth": 1, "zorder": 1}


@FIGURES.add("evaluation")
@themed
def confusion_matrix(counts: Any, classes: Sequence[str]) -> Figure:
    """Counts of true (rows) against predicted class (columns); the colour is the share of the row.

    ``counts`` (K, K). Numbers are written up to 15 classes, with the percentage of the row up to 6; beyond that only the
    colour stands, and beyond about 80 classes only some of the names. A class without a sample has an empty row.
    Raises ``InputError`` for another shape and for negative counts.
    """
    k = len(classes)
    if k == 0:
        return saying("There are no classes to compare.")
    held = array("counts", counts, (k, k))
    if not (held >= 0).all():
        raise InputError(
            "counts holds a negative number or NaN", cure="Give how many samples of each class were predicted as each."
        )
    totals = held.sum(axis=1, keepdims=True)
    share = np.divide(held, totals, out=np.zeros_like(held), where=totals > 0)

    side = min(k * (0.62 if k <= 6 else 0.42 if k <= NUMBERS else float(np.clip(8 / k, 0.15, 0.22))), 12.0)
    side = max(side, 1.3)
    names = [lettering.wrap(str(name), LABEL, TEXT - 0.5) if k <= NUMBERS else str(name) for name in classes]
    widest = max(lettering.width(name, TEXT - 0.5) for name in names)
    tallest = max(lettering.height(name, TEXT - 0.5) for name in names)
    upright = widest > side / k - 0.06
    left, below = EDGE + 0.2 + widest + 0.1, (widest if upright else tallest) + 0.1 + 0.2
    sheet = Sheet(left + side + 0.85, 2 * EDGE + side + below)
    axes = sheet.axes(left, EDGE, side, side)
    axes.spines[:].set_color(QUIET)
    picture(axes, share, cmap=SHARE, vmin=0, vmax=1, interpolation="none")
    ticks = range(0, k, math.ceil(k * 0.15 / side))
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if upright else 0)
    axes.set_yticks(ticks, [names[i] for i in ticks])
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=2)
    bar = sheet.axes(left + side + 0.12, EDGE, 0.13, side)
    picture(bar, np.linspace(1, 0, 256)[:, None], cmap=SHARE, interpolation="none", aspect="auto", extent=(0, 1, 0, 1))
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set(yticks=[0, 0.5, 1], ylabel="share of the true class")
    bar.tick_params(length=2)
    if k <= NUMBERS:
        _numbers(axes, held, share)
    return sheet.figure


def _numbers(axes: Axes, counts: np.ndarray, share: np.ndarray) -> None:
    """The counts in the cells, smaller where a number is long, with percentages where there is room for them."""
    k = len(counts)
    for i, j in np.ndindex(k, k):
        words = f"{counts[i, j]:,.0f}" if k <= 6 else _short(float(counts[i, j]))
        if k <= 6 and counts[i].sum():
            words += f"\n{100 * share[i, j]:.1f} %"
        colour = readable_on(SHARE(share[i, j])) if counts[i, j] else QUIET
        axes.text(j, i, words, ha="center", va="center", size=TEXT if k <= 6 else SMALL, color=colour)


def _short(count: float) -> str:
    """At most five signs: 9999, 12k, 1.2M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 10 * size or (size > 1e3 and count >= size):
            return f"{count / size:.1f}{unit}" if count < 10 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


@FIGURES.add("evaluation")
@themed
def calibration_curve(confidence: Any, accuracy: Any, counts: Any, ece: float) -> Figure:
    """Accuracy against mean confidence in B equal bins of 0..1, and below it how many predictions each bin holds.

    ``confidence``, ``accuracy``, ``counts`` (B,); an empty bin may hold NaN. ``ece`` is the expected calibration error,
    the mean |accuracy - confidence| weighted with the counts. Raises ``InputError`` for different lengths.
    """
    x, y, held = (array(n, v, ("B",)) for n, v in (("confidence", confidence), ("accuracy", accuracy), ("counts", counts)))
    bins = same_length(confidence=x, accuracy=y, counts=held)
    if bins == 0 or not held.sum():
        return saying("There are no predictions to calibrate.")
    figure = new_figure(4.2, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.6, 1])
    full = (held > 0) & np.isfinite(x) & np.isfinite(y)
    upper.plot([0, 1], [0, 1], label="perfectly calibrated", **DIAGONAL)
    upper.vlines(x[full], x[full], y[full], color=PALETTE["vermillion"], linewidth=2.5, alpha=0.4, label="gap")
    upper.plot(x[full], y[full], color=PALETTE["blue"], marker="o", label="model")
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), ylabel="accuracy")
    upper.set_title("Calibration")
    upper.set_title(f"expected calibration error {ece:.3f}", loc="right", size=TEXT, weight="normal", color=QUIET)
    upper.legend(loc="upper left")
    edges = np.linspace(0, 1, bins + 1)
    lower.bar(edges[:-1], held, width=1 / bins, align="edge", color=PALETTE["sky"], edgecolor="white", linewidth=0.6)
    lower.set(xlabel="confidence", ylabel="predictions")
    figure.align_ylabels([upper, lower])
    return figure


@FIGURES.add("evaluation")
@themed
def roc_curves(curves: Mapping[str, tuple[Any, Any, float]]) -> Figure:
    """True against false positive rate, one curve per class against all others.

    ``curves`` class -> (false positive rate, true positive rate, area). Beyond 20 classes only the 20 with the smallest
    area have a colour; the others are grey. Raises ``InputError`` for different lengths.
    """
    return _curves(curves, ("false positive rate", "true positive rate"), "ROC, one class against the rest", "area", {})


@FIGURES.add("evaluation")
@themed
def pr_curves(curves: Mapping[str, tuple[Any, Any, float]], prevalence: Mapping[str, float] | float | None = None) -> Figure:
    """Precision against recall, one curve per class against all others.

    ``curves`` class -> (recall, precision, average precision); ``prevalence`` the share of each class (or of the one
    class), which is what guessing attains: a dotted line in the colour of the curve up to 6 classes, a number beyond.
    Raises ``InputError`` for different lengths.
    """
    base = prevalence if isinstance(prevalence, Mapping) else dict.fromkeys(curves, prevalence)
    known = {name: float(base[name] or 0) for name in curves if base.get(name) is not None}
    return _curves(curves, ("recall", "precision"), "Precision and recall", "AP", known)


def _curves(
    curves: Mapping[str, tuple[Any, Any, float]], axis_names: tuple[str, str], title: str, area: str, base: Mapping[str, float]
) -> Figure:
    if not curves:
        return saying("There is no class with both positive and negative samples.")
    order = sorted(curves, key=lambda name: float(np.nan_to_num(curves[name][2], nan=2.0)))
    chosen = [name for name in curves if name in order[:CURVES]]
    names = [_entry(name, curves[name][2], area, base.get(name)) for name in chosen]
    rest = len(curves) - len(chosen)
    if rest:
        names.append(f"{rest} classes of greater {area}")
    lines = sum(name.count("\n") + 1 for name in names) + 1
    wide = max(lettering.width(name, TEXT - 0.5) for name in names) + 0.75
    tall = max(3.8, 0.5 + 0.165 * lines)
    figure = new_figure(tall + wide, tall)
    axes = figure.subplots()
    handles = []
    for name, (x, y, _) in curves.items():
        first, second = array(f"{axis_names[0]} of '{name}'", x, ("T",)), array(f"{axis_names[1]} of '{name}'", y, ("T",))
        same_length(**{axis_names[0]: first, axis_names[1]: second})
        if name in chosen:
            look = {k: v for k, v in line_style(chosen.index(name)).items() if k in ("color", "linestyle")}
            handles += axes.plot(first, second, **look, marker="o" if len(first) == 1 else None)
        else:
            axes.plot(first, second, color="#c9c9c9", linewidth=0.8, zorder=1.2)
    if rest:
        handles.append(Line2D([], [], color="#c9c9c9", linewidth=0.8))
    if area == "area":
        axes.plot([0, 1], [0, 1], **DIAGONAL)
        handles, names = [*handles, Line2D([], [], **DIAGONAL)], [*names, "chance"]
    elif len(curves) <= 6:
        for place, name in enumerate(chosen):
            if name in base:
                axes.axhline(base[name], color=LINES[place % len(LINES)], linewidth=0.9, linestyle=":", zorder=1)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03), xlabel=axis_names[0], ylabel=axis_names[1], aspect="equal")
    axes.set_title(title)
    figure.legend(handles, names, loc="outside right upper")
    return figure


def _entry(name: str, value: float, area: str, base: float | None) -> str:
    """A legend line: class, area, and what guessing attains."""
    number = f"{value:.3f}" if value is not None and np.isfinite(value) else "not defined"
    chance = f", chance {base:.3f}" if base is not None else ""
    return lettering.wrap(f"{name}: {area} {number}{chance}", 2.3, TEXT - 0.5)


@FIGURES.add("evaluation")
@themed
def residuals(y: Any, predicted: Any, units: str = "") -> Figure:
    """Three views of a regression: predicted against true, residual against predicted, and how residuals are spread.

    ``y``, ``predicted`` (N,); residual = true - predicted. Values that are not finite are left out and counted
    under the first view. Raises ``InputError`` for different lengths.
    """
    truth, guess = array("y", y, ("N",)), array("predicted", predicted, ("N",))
    same_length(y=truth, predicted=guess)
    fine = np.isfinite(truth) & np.isfinite(guess)
    if not fine.any():
        return saying("There are no finite predictions to compare.")
    truth, guess = truth[fine], guess[fine]
    off = truth - guess
    unit = f" ({units})" if units else ""
    dots: dict[str, Any] = {
        "color": PALETTE["blue"],
        "s": float(np.clip(3000 / len(truth), 3, 16)),
        "alpha": float(np.clip(60 / np.sqrt(len(truth)), 0.15, 0.75)),
        "linewidths": 0,
        "rasterized": len(truth) > 500,
    }
    figure = new_figure(9.6, 3.3)
    first, second, third = figure.subplots(1, 3)
    ends = [min(truth.min(), guess.min()), max(truth.max(), guess.max())]
    first.plot(ends, ends, **DIAGONAL)
    first.scatter(truth, guess, **dots)
    first.set(title="Predicted and true", xlabel=f"true{unit}", ylabel=f"predicted{unit}")
    second.axhline(0, **DIAGONAL)
    second.scatter(guess, off, **dots)
    second.set(title="Residuals", xlabel=f"predicted{unit}", ylabel=f"true − predicted{unit}")
    if not fine.all():
        first.set_xlabel(f"true{unit}\n{(~fine).sum()} of {len(fine)} samples left out: not finite")
    third.hist(off, bins=min(40, max(5, int(np.sqrt(len(off))))), color=PALETTE["sky"], edgecolor="white", linewidth=0.5)
    third.axvline(0, **DIAGONAL)
    third.axvline(off.mean(), color=PALETTE["vermillion"], linewidth=1.4, label=f"mean {off.mean():.3g}".replace("-", "−"))
    third.set(title="Spread of residuals", xlabel=f"true − predicted{unit}", ylabel="samples")
    third.margins(y=0.18)
    third.legend(loc="upper right")
    return figure
