"""How much room words take, and where they break: in inches, measured in the font that is drawn."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from .style import FONT

LINE = 1.22  # height of a line in font sizes


@lru_cache(maxsize=8192)
def width(text: str, size: float, bold: bool = False) -> float:
    """Width of the widest line in inches."""
    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return max(float(text_to_path.get_text_width_height_descent(line, font, False)[0]) for line in text.split("\n")) / 72


def height(text: str, size: float) -> float:
    """Height of a block of lines in inches; nothing for no text."""
    return (text.count("\n") + 1) * size * LINE / 72 if text else 0.0


def pieces(text: str) -> list[str]:
    """Between them a line may break: after a space, an underscore, a slash, a hyphen after and a stop before a letter."""
    return re.split(r"(?<=\s)|(?<=[_/])|(?<=[^\W\d_]-)|(?<=\.)(?=[^\W\d_])", text)


def wrap(text: str, room: float, size: float, bold: bool = False) -> str:
    """``text`` in lines of at most ``room`` inches. A piece that is wider than a line is broken inside, with a hyphen."""
    lines = [""]
    for piece in pieces(text):
        if width((lines[-1] + piece).rstrip(), size, bold) <= room:
            lines[-1] += piece
            continue
        parts = _broken(piece, room, size, bold)
        lines[-1:] = [lines[-1], *parts] if lines[-1] else parts
    return "\n".join(line.strip() for line in lines)


def _broken(piece: str, room: float, size: float, bold: bool) -> list[str]:
    """One piece in as few, about equally long parts as fit, at least two letters each where there are that many."""
    stem = piece.rstrip()
    for parts in range(1, len(stem) + 1):
        step = -(-len(stem) // parts)
        cut = [stem[i : i + step] for i in range(0, len(stem), step)]
        lines = [part + ("-" if part[-1].isalpha() and i < len(cut) - 1 else "") for i, part in enumerate(cut)]
        if max(width(line, size, bold) for line in lines) <= room:
            return [*lines[:-1], lines[-1] + piece[len(stem) :]]
    return [piece]
