"""Marked text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from pellucid.core.errors import InputError
from pellucid.visual.style import SIGNED, readable_on
from pellucid.visual.text import MOST, PITCH, RUN, text_sheet

WORDS = [
    "The",
    "film",
    "was",
    "not",
    "at",
    "all",
    "bad",
    ";",
    "in",
    "fact",
    "it",
    "is",
    "the",
    "finest",
    "of",
    "the",
    "year",
    ".",
]


def lines(axes) -> list[str]:
    """What is written in each line of a block."""
    found: dict[int, list[tuple[float, str]]] = {}
    for text in axes.texts:
        found.setdefault(int(text.get_position()[1] / PITCH), []).append((text.get_position()[0], text.get_text()))
    return ["|".join(words for _, words in sorted(found[line])) for line in sorted(found)]


def boxes(axes) -> tuple[np.ndarray, list[str]]:
    """(n, 4) left, top, right, bottom of the coloured backgrounds, and their colours."""
    marked = axes.collections[0]
    corners = np.array([[*p.vertices.min(axis=0), *p.vertices.max(axis=0)] for p in marked.get_paths()])
    return corners, [to_hex(c) for c in marked.get_facecolors()]


def test_the_background_is_the_relevance_on_one_scale_per_method(look):
    figure = text_sheet([["good", "film"], ["bad"]], {"m": [[2.0, 0], [-1.0]], "n": [[4.0, 4], [1]]}, ["one", "two"])
    panels = figure.axes[:4]
    top = np.percentile([2, 0, 1], 99.5)
    colour = [to_hex(SIGNED(min(0.5 + v / (2 * top), 1.0))) for v in (2, 0, -1)]
    assert boxes(panels[0])[1] == colour[:2]
    assert boxes(panels[2])[1] == colour[2:]
    assert [t.get_color() for t in panels[0].texts] == [readable_on(c) for c in colour[:2]]
    words = look.words(figure)
    assert {"one", "two", "m", "n", "against the class", "for the class", f"±{top:.2f}", "±4.00"} <= set(words)
    assert any("99.5 percentile" in w for w in words)


def test_words_are_joined_by_spaces_and_pieces_are_not(look):
    spaced = boxes(text_sheet([["un", "able"]], {"m": [[1.0, 2]]}).axes[0])[0]
    assert spaced[1, 0] > spaced[0, 2] + 0.02
    for figure in (
        text_sheet([["un", "able "]], {"m": [[1.0, 2]]}),
        text_sheet([["un", "able"]], {"m": [[1.0, 2]]}, joined=""),
        text_sheet([list("ab")], {"m": [[1.0, 2]]}),
    ):
        together = boxes(figure.axes[0])[0]
        assert together[1, 0] == pytest.approx(together[0, 2])


def test_lines_break_between_words_and_not_inside(look):
    tokens = [piece for word in WORDS * 4 for piece in (word[:1], f"{word[1:]} ")]
    axes = text_sheet([tokens], {"m": [np.ones(len(tokens))]}).axes[0]
    written = lines(axes)
    assert len(written) > 1
    assert "".join("".join(written).replace("|", "").split()) == "".join("".join(tokens).split())
    for line in written:
        assert line.replace("|", "").split()[0] in WORDS
    assert boxes(axes)[0][:, 2].max() <= RUN + 0.1


def test_a_word_longer_than_a_line_breaks_inside():
    axes = text_sheet([["x" * 300]], {"m": [[1.0]]}).axes[0]
    written = lines(axes)
    assert len(written) > 1
    assert sum(map(len, written)) == 300
    assert boxes(axes)[0][:, 2].max() <= RUN + 0.1


def test_line_ends_break_the_line_and_are_seen():
    axes = text_sheet([["one\n", "two\tthree", "\r\n", "\u200bfour"]], {"m": [[1.0, 2, 3, -1]]}).axes[0]
    written = [line.replace("|", "") for line in lines(axes)]
    assert [" ".join(line.split()) for line in written] == ["one↵", "two three↵", "\ufffdfour"]


def test_long_texts_are_cut_and_say_what_is_lost(look):
    tokens = WORDS * 30
    relevance = np.zeros(len(tokens))
    relevance[[0, -1]] = 1, -3
    figure = text_sheet([tokens], {"m": [relevance]})
    (cut,) = [w for w in look.words(figure) if w.startswith("cut after")]
    shown = int(cut.split()[2])
    assert cut == f"cut after {shown} of {len(tokens)} tokens; the rest holds 75 % of the |relevance|"
    assert len(boxes(figure.axes[0])[0]) == shown
    assert len(lines(figure.axes[0])) == MOST + 1  # with this sentence
    assert look.cut(figure) == []


def test_no_evidence_nan_and_empty_texts(look):
    figure = text_sheet([["a", "b"]] * 3 + [[]], {"m": [[1.0, np.nan], [0.0, 0.0], [np.nan, np.nan], []]})
    words = look.words(figure)
    assert words.count("no evidence") == 2
    assert words.count("NaN") == 1
    assert "empty text" in words
    partly = figure.axes[0].collections
    assert [len(c.get_paths()) for c in partly] == [1, 1]
    assert partly[1].get_hatch()


def test_nothing_overlaps_and_nothing_is_cut(rng, look):
    tokens = [WORDS * 3, ["word"]]
    maps = {f"a_very_long_name_of_a_method_{i}": [rng.normal(size=len(t)) * 10.0**i for t in tokens] for i in range(3)}
    figure = text_sheet(tokens, maps, ["a title that is very long " * 12, "two"], ends=("lowers the value", "raises the value"))
    assert look.cut(figure) == []
    assert look.overlapping([t for t in look.texts(figure) if t.axes is None]) == []
    corners = boxes(figure.axes[0])[0]
    same = corners[:, None, 1] == corners[None, :, 1]
    inside = np.minimum(corners[:, None, 2], corners[None, :, 2]) - np.maximum(corners[:, None, 0], corners[None, :, 0]) > 1e-9
    assert (same & inside).sum() == len(corners)


def test_tensors_and_lists_mean_the_same():
    a = text_sheet([["a", "b"]], {"m": torch.tensor([[1.0, -2.0]], requires_grad=True)})
    assert boxes(a.axes[0])[1] == boxes(text_sheet([["a", "b"]], {"m": [[1, -2]]}).axes[0])[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([["a"]], {"m": [[1.0, 2]]}), r"maps\['m'\]\[0\] has shape \(2,\)\. Give an array of shape \(1,\)"),
        (([["a"]], {"m": []}), r"maps\['m'\] has 0 rows for 1 texts"),
        (([["a"]], {"m": 3}), r"maps\['m'\] has no rows for 1 texts"),
        (([["a", 3]], {"m": [[1, 2]]}), r"tokens hold 3 \(sample 0\)\. Give a list of texts"),
        ((["one text"], {"m": [[1]]}), r"tokens hold 'one text' \(sample 0\)"),
        (([["a"]], {"m": [[1]]}, []), "0 titles for 1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, message: str):
    with pytest.raises(InputError, match=message):
        text_sheet(*arguments)
