"""Methods in the order of their mean rank, with intervals, verdicts and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .style import PALETTE, QUIET, RULE, TEXT, new_figure, saying, themed

ROW, LEFT, PANELS, COST = 0.2, 0.25, 4.6, 2.2  # inches
LOOKS: dict[bool | None, tuple[str, dict[str, Any]]] = {
    True: ("passes the sanity check", {"marker": "o", "color": PALETTE["blue"], "markerfacecolor": PALETTE["blue"]}),
    False: ("fails it", {"marker": "X", "color": PALETTE["vermillion"], "markerfacecolor": "white"}),
    None: ("not checked", {"marker": "o", "color": QUIET, "markerfacecolor": "white"}),
}


@FIGURES.add("quality")
@themed
def leaderboard(
    overall: Mapping[str, tuple[float, float, float]],
    passed: Mapping[str, bool | None] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> Figure:
    """One line per method, the best on top: mean rank with its interval, and seconds per sample on a logarithmic scale.

    overall: name -> (mean rank, lower, upper), in the order to be drawn. passed: verdicts of the sanity check, which set the
    mark. seconds: per sample. Raises ``InputError`` for ranks that are not finite, and for no time at all.
    """
    if not overall:
        return saying("No method has been ranked.")
    for name, (mean, lower, upper) in overall.items():
        if not np.isfinite([mean, lower, upper]).all():
            raise InputError(f"the rank of '{name}' is {mean} ({lower} to {upper})", cure="Give three finite numbers.")
    names, known = list(overall), seconds or {}
    if any(not value > 0 for value in known.values()):
        raise InputError("a method takes no time", cure="Give seconds above 0, or leave the method out.")
    wide = max(lettering.width(name, TEXT) for name in names)
    figure = new_figure(LEFT + wide + PANELS + (COST if known else 0), 1.1 + ROW * len(names))
    axes = figure.subplots(1, 2 if known else 1, squeeze=False, width_ratios=[PANELS, COST] if known else [1])[0]
    verdicts = passed or {}
    for place, name in enumerate(names):
        mean, lower, upper = overall[name]
        look = LOOKS[verdicts.get(name)][1]
        axes[0].plot([min(lower, mean), max(upper, mean)], [place, place], color=look["color"], linewidth=1.4, alpha=0.55)
        axes[0].plot([mean], [place], linestyle="none", markersize=6, markeredgewidth=1.4, zorder=3, **look)
        if name in known:
            axes[1].plot([known[name]], [place], "D", color=QUIET, markersize=4)
    for panel in axes:
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.set_yticks(range(len(names)), names if panel is axes[0] else [""] * len(names))
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color=RULE, linewidth=0.5)
        panel.xaxis.tick_top()
        panel.xaxis.set_label_position("top")
    axes[0].set_xlabel("← better      mean rank with 95 % interval      worse →")
    if known:
        axes[1].set_xscale("log")
        ends = np.floor(np.log10(min(known.values()))), np.ceil(np.log10(max(known.values())))
        decades = np.arange(ends[0], max(ends[1], ends[0] + 1) + 1)
        axes[1].set_xlim(10 ** (ends[0] - 0.1), 10 ** (decades[-1] + 0.1))
        axes[1].set_xticks(10**decades, [f"{10**d * 1000:g}" for d in decades])
        axes[1].minorticks_off()
        axes[1].set_xlabel("milliseconds per sample")
    shown = [key for key in LOOKS if any(verdicts.get(name) is key for name in names)]
    if shown != [None]:
        handles = [Line2D([], [], linestyle="none", markersize=6, markeredgewidth=1.4, **LOOKS[key][1]) for key in shown]
        figure.legend(handles, [LOOKS[key][0] for key in shown], loc="outside lower left", ncols=len(shown))
    return figure
