"""Texts as rows of words or characters that can be taken away one by one, for any function of a list of strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES

from .result import Explanation, array

# A word or a sign, with the white space before it.
_WORD = re.compile(r"\s*(?:\w+(?:['\u2019-]\w+)*|[^\w\s])")


class Texts:
    """Texts cut into pieces, as whole numbers that a method which needs scores only can take away.

    ``lime(texts.model(predict), texts.x, target=1)`` explains ``predict``, a function from a list of strings to (B, K) numbers;
    ``texts.show(explanation)`` marks the pieces. x (B, L): the number of each piece, 0 where a text has none. by: "words"
    (signs are pieces of their own) or "characters". hidden: what stands in the place of a removed piece, nothing by default;
    behind the last piece that is left it is left out, where a text ends and a longer one goes on.
    """

    def __init__(self, texts: Sequence[str], *, by: str = "words", hidden: str = "") -> None:
        checks.one_of("by", by, ("words", "characters"))
        if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
            raise InputError("texts are no list of strings", cure='Write Texts(["a text"]).')
        self.by, self.hidden = by, hidden
        self.pieces = [list(text) if by == "characters" else _WORD.findall(text) for text in texts]
        for i, found in enumerate(self.pieces):
            if not found:
                raise InputError("a text without words", where=f"text {i}", cure='Leave it out, or take by="characters".')
        self.vocabulary = ["", *dict.fromkeys(piece for found in self.pieces for piece in found)]
        number = {piece: i for i, piece in enumerate(self.vocabulary)}
        self.x = torch.zeros(len(self.pieces), max(map(len, self.pieces)), dtype=torch.long)
        for row, found in zip(self.x, self.pieces):
            row[: len(found)] = torch.tensor([number[piece] for piece in found])
        self.lengths = torch.tensor([len(found) for found in self.pieces])

    def __len__(self) -> int:
        return len(self.pieces)

    def model(self, predict: Callable[[list[str]], Any]) -> Callable[[Tensor], Any]:
        """``predict`` for rows like ``x``: 0 is a piece that is not there."""

        def call(rows: Tensor) -> Any:
            return predict([self.joined(row) for row in rows.tolist()])

        return call

    def joined(self, row: Sequence[int]) -> str:
        """The text of a row; what is removed inside it leaves ``hidden`` in its place. Words never grow together."""
        last = max((i for i, piece in enumerate(row) if piece), default=-1)
        text = ""
        for number in row[: last + 1]:
            piece = self.vocabulary[number] if number else self.hidden
            hides = not number and bool(piece)
            apart = self.by == "words" and bool(text) and (hides or (text[-1:].isalnum() and piece[:1].isalnum()))
            text += " " + piece if apart else piece
        return text

    def show(self, explanations: Explanation | dict[str, Explanation]) -> Any:
        """A figure of the texts with their pieces marked, a block for each method."""
        several = {explanations.method: explanations} if isinstance(explanations, Explanation) else explanations
        maps = {}
        for name, explanation in several.items():
            if explanation.relevance.shape != self.x.shape:
                raise InputError(
                    f"{name} has relevance of shape {tuple(explanation.relevance.shape)} for texts of {tuple(self.x.shape)}",
                    cure="Show what explains these texts.",
                )
            maps[name] = [_apart(found, row)[1] for found, row in zip(self.pieces, array(explanation.relevance).tolist())]
        tokens = [_apart(found, [0.0] * len(found))[0] for found in self.pieces]
        return FIGURES["text_sheet"].value(tokens, maps, joined="")


def _apart(pieces: Sequence[str], relevance: Sequence[float]) -> tuple[list[str], list[float]]:
    """The pieces and their relevance, with the white space before a piece as one of its own that has none."""
    tokens: list[str] = []
    values: list[float] = []
    for piece, r in zip(pieces, relevance):
        space = piece[: len(piece) - len(piece.lstrip())]
        if space and space != piece:
            tokens, values = [*tokens, space], [*values, 0.0]
        tokens, values = [*tokens, piece.lstrip() or piece], [*values, r]
    return tokens, values
