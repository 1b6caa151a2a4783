"""Explanations of texts: running text on a background in the colour of its relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from . import lettering
from .arrays import array, labels
from .heatmaps import PERCENTILE, limit
from .scales import power, written
from .sheet import EDGE, GAP, Bar, Foot, Sheet, row_titles
from .style import HEAD, INK, QUIET, RULE, SIGNED, SMALL, TEXT, readable_on, saying, themed

RUN = 7.6  # inches of a line of text
SIZE, PITCH = 9.0, 0.21  # of the letters in points, from line to line in inches
MOST = 14  # lines of a text; what follows is cut


@FIGURES.add("explanation")
@themed
def text_sheet(
    tokens: Sequence[Sequence[str]],
    maps: Mapping[str, Any],
    titles: Sequence[str] | None = None,
    *,
    joined: str | None = None,
    ends: tuple[str, str] = ("against the class", "for the class"),
) -> Figure:
    """Each text once per method, its words or characters on the colour of their relevance.

    ``tokens`` n lists of texts, ``maps`` method -> n arrays of relevance, a number per token. ``joined`` stands between tokens:
    nothing where they bring their own spaces; None means a space where no token has one and some are longer than a letter.
    Orange speaks for the class, blue against it; the colours of one method go from -v to v in all texts, v, written under its
    name, being the 99.5 percentile of its |relevance|. Lines break between words and at line ends, which show as "↵";
    after 14 lines a text is cut, and how much relevance the rest holds is said. Text runs from left to right.
    Raises ``InputError`` for lengths that differ and for tokens that are no texts.
    """
    if len(tokens) == 0:
        return saying("There are no samples to show.")
    if not maps:
        return saying("There are no methods to show.")
    texts = [_texts(i, row) for i, row in enumerate(tokens)]
    relevance = {str(name): _relevance(str(name), rows, texts) for name, rows in maps.items()}
    rows = labels("titles", titles, len(texts))
    between = _between(texts) if joined is None else joined
    laid = [_Laid.of(row, between) for row in texts]
    tops = {name: _top(rows) for name, rows in relevance.items()}
    names = [lettering.wrap(name, 1.4, TEXT) for name in relevance]
    scales = [f"±{written(top, power(top) - 2)}" if top else "no evidence" for top in tops.values()]
    gutter = max([lettering.width(w, TEXT) for w in names] + [lettering.width(w, SMALL) for w in scales] + [0.7]) + 0.14
    width = gutter + RUN + 0.1 + 2 * EDGE
    above, title = row_titles(rows, width - 2 * EDGE)
    words = f"each method from −v to v, written under its name: the {PERCENTILE} percentile of its |relevance| in these texts"
    foot = Foot([Bar(SIGNED, (ends[0], "0", ends[1]), words)], width - 2 * EDGE)
    least = [lettering.height(name, TEXT) + 2 * lettering.height("±", SMALL) + GAP for name in names]
    steps = [[max(low, row.height + GAP) for low in least] for row in laid]
    sheet = Sheet(width, 2 * EDGE + sum(map(sum, steps)) + (title + GAP) * len(texts) + foot.height)
    at = EDGE
    for i, row in enumerate(laid):
        sheet.text(EDGE, at + title - 0.06, above[i], HEAD, va="bottom", weight="bold")
        at += title
        for name, scale, step, (method, values) in zip(names, scales, steps[i], relevance.items()):
            _head(sheet, gutter, at, name, scale, values[i])
            axes = sheet.axes(EDGE + gutter, at, RUN, row.height, framed=False)
            row.draw(axes, values[i], tops[method])
            at += step
        at += GAP
    foot.draw(sheet, at)
    return sheet.figure


def _texts(i: int, row: Sequence[str]) -> list[str]:
    wrong = next((token for token in row if not isinstance(token, str)), None) if not isinstance(row, str) else row
    if wrong is not None:
        raise InputError(f"tokens hold {wrong!r:.40}", where=f"sample {i}", cure="Give a list of texts for each sample.")
    return list(row)


def _relevance(name: str, rows: Any, texts: list[list[str]]) -> list[np.ndarray]:
    many = len(rows) if hasattr(rows, "__len__") else "no"
    if many != len(texts):
        raise InputError(f"maps['{name}'] has {many} rows for {len(texts)} texts", cure="Give one array for each text.")
    return [array(f"maps['{name}'][{i}]", row, (len(text),)) for i, (row, text) in enumerate(zip(rows, texts))]


def _between(texts: list[list[str]]) -> str:
    every = [token for row in texts for token in row]
    return "" if any(c.isspace() for token in every for c in token) or all(len(token) < 2 for token in every) else " "


def _top(rows: list[np.ndarray]) -> float:
    """The greatest |relevance| that has a colour of its own; zero where there is none."""
    known = np.concatenate([row[np.isfinite(row)] for row in rows])
    return limit(known) if known.any() else 0.0


def _head(sheet: Sheet, gutter: float, top: float, name: str, scale: str, values: np.ndarray) -> None:
    """The method's name, its scale, and what this text's map is short of."""
    sheet.text(EDGE + gutter - 0.1, top + 0.02, name, TEXT, ha="right")
    if values.size and not np.isfinite(values).any():
        scale = "NaN"
    elif not values.any():
        scale = "no evidence"
    low = top + 0.02 + lettering.height(name, TEXT)
    sheet.text(EDGE + gutter - 0.1, low, scale, SMALL, ha="right", color=QUIET)


@dataclass
class _Laid:
    """A text in lines: where each piece stands, in inches from the left and from the top."""

    pieces: list[tuple[int, float, float, str, int]]  # line, left, right, text, token
    words: list[int]  # of which word each piece is a part: a word is written in one go
    lines: int
    tokens: int
    shown: int

    @classmethod
    def of(cls, tokens: list[str], between: str) -> _Laid:
        """Whole words as long as they fit into a line, longer ones piece by piece, up to ``MOST`` lines."""
        pieces: list[tuple[int, float, float, str, int]] = []
        owners: list[int] = []
        line, at = 0, 0.0
        for number, word in enumerate(_words(tokens, between)):
            whole = "".join(text for text, _ in word)
            wide = _width(whole.rstrip())
            if at and at + wide > RUN:
                line, at = line + 1, 0.0
            atoms = word if wide <= RUN else [(letter, i) for text, i in word for letter in text]
            start, before = at, ""
            for text, i in atoms:
                left, right = start + _width(before), start + _width(before + text)
                if right > RUN + 0.1 and before:
                    line, start, before, left, right = line + 1, 0.0, "", 0.0, _width(text)
                if line >= MOST:
                    return cls(pieces, owners, MOST, len(tokens), i)
                pieces.append((line, left, right, text, i))
                owners.append(number)
                before += text
                at = right
            if whole.endswith("↵"):
                line, at = line + 1, 0.0
            elif between and not whole.endswith(" "):
                at += _width(between)
        return cls(pieces, owners, pieces[-1][0] + 1 if pieces else 1, len(tokens), len(tokens))

    @property
    def height(self) -> float:
        """Of the lines and the sentence about a cut."""
        return PITCH * self.lines + (0.16 if self.shown < self.tokens else 0.0)

    def draw(self, axes: Axes, values: np.ndarray, top: float) -> None:
        """Backgrounds as one collection, and the letters of a word of one colour in one go."""
        axes.set(xlim=(0, RUN), ylim=(self.height, 0))
        if not self.tokens:
            axes.text(0, 0.02, "empty text", size=TEXT, va="top", color=QUIET)
        shades = SIGNED(np.clip(np.nan_to_num(values) / (2 * (top or 1.0)) + 0.5, 0, 1))
        boxes: dict[bool, tuple[list[Any], list[Any]]] = {True: ([], []), False: ([], [])}
        runs: list[list[Any]] = []
        for (line, left, right, text, i), word in zip(self.pieces, self.words):
            known = bool(np.isfinite(values[i]))
            low, high = PITCH * line + 0.012, PITCH * (line + 1) - 0.012
            boxes[known][0].append([(left, low), (right, low), (right, high), (left, high)])
            boxes[known][1].append(shades[i] if known else "#e2e2e2")
            ink = readable_on(shades[i]) if known else INK
            if runs and runs[-1][:3] == [word, line, ink]:
                runs[-1][4] += text
            else:
                runs.append([word, line, ink, left, text])
        for known, (corners, colours) in boxes.items():
            look: dict[str, Any] = {} if known else {"hatch": "//////", "edgecolor": RULE}
            axes.add_collection(PolyCollection(corners, facecolors=colours, linewidths=0, **look), autolim=False)
        for _, line, ink, left, text in runs:
            if text.strip():
                axes.text(left, PITCH * (line + 0.74), text, size=SIZE, color=ink, va="baseline")
        if self.shown < self.tokens:
            axes.text(0, PITCH * self.lines + 0.02, self._rest(values), size=SMALL, color=QUIET, va="top")

    def _rest(self, values: np.ndarray) -> str:
        size = np.where(np.isfinite(values), np.abs(values), 0.0)
        part = f"; the rest holds {100 * size[self.shown :].sum() / size.sum():.0f} % of the |relevance|" if size.any() else ""
        return f"cut after {self.shown:,} of {self.tokens:,} tokens{part}"


def _width(text: str) -> float:
    return lettering.width(text, SIZE) if text else 0.0


def _words(tokens: list[str], between: str) -> list[list[tuple[str, int]]]:
    """Runs of pieces (text, token) that a line should not break inside; a line end closes one and shows as an arrow."""
    words: list[list[tuple[str, int]]] = [[]]
    for i, token in enumerate(tokens):
        for part in token.replace("\r\n", "\n").replace("\t", "    ").splitlines(keepends=True):
            ended = part[-1] in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
            text = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in part[: len(part) - ended])
            if words[-1] and (between or text.startswith(" ")):
                words.append([])
            inner = text.split(" ")
            for k, piece in enumerate(inner):  # a token may be a whole phrase
                piece += " " * (k < len(inner) - 1)
                if piece:
                    words[-1].append((piece, i))
                if piece.endswith(" "):
                    words.append([])
            if ended:
                words[-1].append(("↵", i))
                words.append([])
    return [word for word in words if word]
