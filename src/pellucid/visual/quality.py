"""Whether an explanation can be trusted: faithfulness and randomisation curves of several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array
from .style import QUIET, TEXT, line_style, new_figure, saying, themed

FAITHFULNESS = {
    "api": ("API: average probability increase", "higher is better ↑"),
    "apd": ("APD: average probability decrease", "lower is better ↓"),
    "ir": ("IR: increase rate", "higher is better ↑"),
    "dr": ("DR: decrease rate", "lower is better ↓"),
}
SIMILARITY = {
    "ssim": "Structural similarity (SSIM)",
    "rank": "Rank correlation",
    "rank_absolute": "Rank correlation of |relevance|",
    "hog": "Oriented gradients (HOG)",
}
CHANCE: dict[str, Any] = {"color": QUIET, "linewidth": 1.1, "linestyle": (0, (1.5, 2))}
LEGEND = 1.7  # inches that a method's name may take


@FIGURES.add("quality")
@themed
def quality_curves(thresholds: Any, methods: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Four panels over the evidence threshold: API, APD, IR and DR, one line per method.

    ``thresholds`` (T,); ``methods`` name -> {"api", "apd", "ir", "dr"}, each (T,). Each panel says which direction is better.
    Raises ``InputError`` for a missing curve and for another length.
    """
    if not methods:
        return saying("No method has been measured.")
    x = array("thresholds", thresholds, ("T",))
    figure = new_figure(7.2 + _legend_width(methods), max(5.4, 0.4 + 0.18 * _legend_lines(methods)))
    for axes, (key, (title, direction)) in zip(figure.subplots(2, 2, sharex=True).flat, FAITHFULNESS.items()):
        for index, (name, curves) in enumerate(methods.items()):
            axes.plot(x, _curve(name, curves, key, len(x)), **line_style(index))
        axes.set_title(title, pad=17)
        axes.annotate(direction, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", size=TEXT, color=QUIET)
        axes.margins(y=0.08)
        if key in ("ir", "dr"):
            axes.set_xlabel("evidence threshold")
    _legend(figure, methods)
    return figure


@FIGURES.add("quality")
@themed
def randomisation_curves(
    layers: Sequence[str], methods: Mapping[str, Mapping[str, Any]], chance: Mapping[str, Any] | None = None
) -> Figure:
    """Similarity to the original explanation while the layers are randomised one after the other from the top.

    ``layers`` L names in the order of randomisation; ``methods`` name -> {"ssim": (L,), "rank": (L,), "rank_absolute": (L,)},
    of which at least one; ``chance`` measure -> level of unrelated maps, a number or one per method (drawn as a band).
    The curves start at 1, the untouched model. Raises ``InputError`` for other lengths and when there is no measure.
    """
    if not methods or len(layers) == 0:
        return saying("No method has been put to the randomisation test.")
    measures = [key for key in SIMILARITY if any(curves.get(key) is not None for curves in methods.values())]
    if not measures:
        raise InputError("no measure in the randomisation curves", cure=f"Give one of {', '.join(SIMILARITY)} per method.")
    names = ["none", *(lettering.wrap(str(layer), 2.6, TEXT) for layer in layers)]
    lines = max(name.count("\n") + 1 for name in names)
    every = -(-len(names) * lines // 24)
    panel = max(3.3, 0.19 * min(len(names) * lines, 24) + 0.8)
    below = max(lettering.width(name, TEXT) for name in names)
    tall = max(3.2 + 0.8 * below, 0.4 + 0.18 * _legend_lines(methods))
    figure = new_figure(panel * len(measures) + _legend_width(methods), tall)
    known = False
    for axes, key in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures):
        for index, (name, curves) in enumerate(methods.items()):
            if curves.get(key) is not None:
                axes.plot(
                    range(len(names)),
                    [1.0, *_curve(name, curves, key, len(layers))],
                    **line_style(index),
                    markevery=-(-len(names) // 14),
                )
        axes.set_title(SIMILARITY[key])
        axes.set_xlabel("layers randomised so far, from the top")
        axes.set_xticks(range(0, len(names), every), names[::every], rotation=55, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.3, len(names) - 0.7)
        known = _chance(axes, (chance or {}).get(key)) or known
    figure.axes[0].set_ylabel("similarity to the original explanation")
    _legend(figure, methods, chance=known)
    return figure


def _curve(name: str, curves: Mapping[str, Any], key: str, length: int) -> np.ndarray:
    if curves.get(key) is None:
        raise InputError(f"'{name}' has no curve '{key}'", cure=f"Give {', '.join(FAITHFULNESS)} for each method.")
    return array(f"'{key}' of '{name}'", curves[key], (length,))


def _chance(axes: Axes, level: Any) -> bool:
    """The level of chance as a line, or as a band where the methods differ in it; whether there was one."""
    given = [] if level is None else list(level.values()) if isinstance(level, Mapping) else np.ravel(level)
    values = np.array([v for v in given if v is not None and np.isfinite(v)], dtype=float)
    if values.size:
        axes.axhspan(values.min(), values.max(), color="#d9d9d9", linewidth=0, zorder=0.4)
        axes.axhline(values.mean(), **CHANCE, zorder=0.5)
    return bool(values.size)


def _wrapped(methods: Mapping[str, Any]) -> list[str]:
    return [lettering.wrap(name, LEGEND, TEXT - 0.5) for name in methods]


def _legend_width(methods: Mapping[str, Any]) -> float:
    return max(lettering.width(name, TEXT - 0.5) for name in _wrapped(methods)) + 0.75


def _legend_lines(methods: Mapping[str, Any]) -> int:
    return 1 + sum(name.count("\n") + 1 for name in _wrapped(methods))


def _legend(figure: Figure, methods: Mapping[str, Any], *, chance: bool = False) -> None:
    """One legend to the right of all panels, with the lines' whole look in it."""
    handles = [Line2D([], [], **line_style(index)) for index in range(len(methods))]
    extra = [Line2D([], [], **CHANCE)] if chance else []
    figure.legend(
        [*handles, *extra], [*_wrapped(methods), *["chance"] * len(extra)], loc="outside right upper", handlelength=3.2
    )
