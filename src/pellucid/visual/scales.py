"""Numbers on a figure: how many digits they are written with, which stand on a scale, and how labels keep apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from . import lettering
from .style import SMALL


def power(number: float) -> int:
    """The power of ten of the first digit of a number other than zero."""
    return math.floor(math.log10(abs(number)) + 1e-9)


def written(value: float, last: int, *, plus: bool = False) -> str:
    """``value`` to the digit of 10**last, at least its first one: 1,234.5, 0.012, 3.2e−9; with a true minus sign."""
    if not math.isfinite(value):
        return "NaN"
    if value == 0:
        return "0"
    first = power(value)
    digits = min(max(first - last + 1, 1), 15)
    if last <= 3 and (first >= -5 or last >= -7) and first < 15:
        text = f"{abs(value):,.{max(0, digits - first - 1)}f}"
    else:
        mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
        text = f"{mantissa}e{int(exponent)}".replace("-", "\N{MINUS SIGN}")
    return ("\N{MINUS SIGN}" if value < 0 else "+" if plus else "") + text


def ticks(low: float, high: float, room: float) -> tuple[list[float], list[str]]:
    """Round places on a scale of ``room`` inches and how they are written, as many as stay apart; at most seven."""
    places: list[float] = []
    words: list[str] = []
    for most in (7, 6, 5, 4, 3, 2, 1):
        found = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
        step = float(found[1] - found[0])
        places = [0.0 if abs(p) < 1e-9 * step else float(p) for p in found if low - 1e-9 * step <= p <= high + 1e-9 * step]
        words = [written(p, power(step)) for p in places]
        apart = step / (high - low) * room
        if all(lettering.width(word, SMALL) + 0.1 <= apart for word in words):
            return places, words
    middle = len(places) // 2  # there is room for one only
    return places[middle : middle + 1], words[middle : middle + 1]


def spread(centres: Sequence[float], widths: Sequence[float], room: float) -> list[float]:
    """Places for blocks of these widths in 0..room, in their order, nowhere overlapping, as near to ``centres`` as possible.

    Least squares: with the room that those before take counted off, the places may only rise, and neighbours that would fall
    share their mean. They must fit together.
    """
    w = np.asarray(widths, dtype=float)
    offsets = np.cumsum(w) - w / 2
    groups: list[tuple[float, int]] = []  # mean, how many
    for centre, offset in zip(centres, offsets):
        groups.append((float(centre - offset), 1))
        while len(groups) > 1 and groups[-2][0] >= groups[-1][0]:
            (a, k), (b, m) = groups[-2:]
            groups[-2:] = [((a * k + b * m) / (k + m), k + m)]
    fitted = np.repeat([mean for mean, _ in groups], [many for _, many in groups])
    return [float(v) for v in np.clip(fitted, 0, max(room - float(w.sum()), 0)) + offsets]
