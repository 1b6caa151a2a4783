"""A planted shortcut: how much of each method's relevance lies on it, and maps of both networks with its outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .heatmaps import heatmap_sheet
from .style import INK, PALETTE, PAPER, QUIET, RULE, TEXT, new_figure, saying, themed

LOOKS: dict[str, dict[str, Any]] = {"shortcut": {"color": INK}, "control": {"color": "#b9b9b9"}}
WORDS = {"shortcut": "network trained with the shortcut", "control": "control, trained without it"}
CHANCE: dict[str, Any] = {"color": PALETTE["blue"], "linewidth": 1.2, "linestyle": (0, (4, 2))}
INTERVAL: dict[str, Any] = {"color": PALETTE["orange"], "linewidth": 2.0, "solid_capstyle": "butt"}
REVEALED, OTHER = PALETTE["green"], QUIET
BY_CHANCE = "chance: its share of the whole"
BAR = 0.36  # height of a bar, of a row of 1


@FIGURES.add("quality")
@themed
def shortcut_shares(methods: Mapping[str, Mapping[str, Any]], chance: float, *, place: str = "the shortcut") -> Figure:
    """Two bars per method: the share of its positive relevance on a planted shortcut, for the network and for the control.

    ``methods`` name -> {"shortcut": [mean, lower, upper], "control": [mean, lower, upper], "verdict": words}; None or NaN where
    all maps are blank. ``chance``: the shortcut's share of the area, a dashed line. Rows are in the order given.
    """
    if not methods:
        return saying("No method has been judged.")
    names = [lettering.wrap(str(name), 1.5, TEXT) for name in methods]
    right = max(lettering.width(str(facts["verdict"]), TEXT) for facts in methods.values())
    left = max(lettering.width(name, TEXT) for name in names)
    legend = sum(lettering.width(words, TEXT) + 0.6 for words in (*WORDS.values(), BY_CHANCE))
    figure = new_figure(max(left + 4.2 + right + 0.6, legend), 0.42 * len(names) + 1.35)
    axes = figure.subplots()
    ends = [chance]
    for row, (name, facts) in enumerate(methods.items()):
        for side, network in enumerate(LOOKS):
            share, lower, upper = _numbers(name, facts, network)
            at = row + (side - 0.5) * (BAR + 0.02)
            if np.isnan(share):
                axes.text(0, at, " no positive relevance", va="center", size=TEXT - 0.5, color=QUIET)
                continue
            axes.barh(at, share, height=BAR, **LOOKS[network])
            axes.plot([lower, upper], [at, at], **INTERVAL)
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
            axes.annotate(
                f"{share:.0%}", (upper, at), (4, 0), textcoords="offset points", va="center", size=TEXT - 0.5, bbox=box
            )
            ends.append(upper)
    axes.axvline(chance, **CHANCE)
    axes.axvline(0, color=RULE, linewidth=0.8)
    axes.set(xlim=(0, max(ends) * 1.12), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), names, size=TEXT)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel(f"share of the positive relevance on {place}, mean with its 95 % interval")
    for row, facts in enumerate(methods.values()):
        said = str(facts["verdict"])
        look: dict[str, Any] = {"color": REVEALED if said.startswith("reveals") else OTHER}
        axes.annotate(
            said,
            (1, row),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            size=TEXT,
            **look,
        )
    handles = [
        *(Patch(label=WORDS[network], **look) for network, look in LOOKS.items()),
        Line2D([], [], label=BY_CHANCE, **CHANCE),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _numbers(name: str, facts: Mapping[str, Any], network: str) -> tuple[float, float, float]:
    if facts.get(network) is None or len(facts[network]) != 3:
        raise InputError(f"'{name}' has no three numbers for '{network}'", cure="Give [mean, lower, upper].")
    share, lower, upper = (float("nan") if value is None else float(value) for value in facts[network])
    return share, lower, upper


@FIGURES.add("quality")
@themed
def shortcut_maps(
    images: Any,
    masks: Any,
    maps: Mapping[str, Mapping[str, Any]],
    *,
    titles: Mapping[str, Sequence[str]] | None = None,
    signed: Mapping[str, bool] | None = None,
) -> Figure:
    """Maps of the same marked pictures for both networks, one row each, with the shortcut's outline.

    ``images`` (n, H, W) or (n, H, W, 3); ``masks`` (n, H, W), or None for no outline; ``maps`` network -> method -> (n, H, W);
    ``titles`` network -> n texts left of the rows; without them the networks' names stand there.
    """
    n, networks = len(images), list(maps)
    if n == 0 or not networks or not maps[networks[0]]:
        return saying("There are no maps to show.")
    order = [(i, network) for i in range(n) for network in networks]
    rows = {name: np.stack([np.asarray(maps[network][name])[i] for i, network in order]) for name in maps[networks[0]]}
    sheet: Figure = heatmap_sheet(
        np.stack([np.asarray(images)[i] for i, _ in order]),
        rows,
        signed=signed,
        titles=[titles[network][i] if titles else network for i, network in order],
    )
    if masks is None:
        return sheet
    for row, (i, _) in enumerate(order):
        for axes in sheet.axes[row * (len(rows) + 1) : (row + 1) * (len(rows) + 1)]:
            if axes.images:
                axes.add_patch(_outline(np.asarray(masks)[i], PALETTE["yellow"] if axes.images[0].cmap.name == "gray" else INK))
    return sheet


def _outline(mask: np.ndarray, colour: str) -> Rectangle:
    """The rectangle around the true pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corner = (float(columns[0]) - 0.5, float(rows[0]) - 0.5)
    wide, tall = float(np.ptp(columns)) + 1, float(np.ptp(rows)) + 1
    return Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=0.9, zorder=6)
