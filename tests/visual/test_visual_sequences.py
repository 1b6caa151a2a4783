"""Letters as tall as their relevance."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from pellucid.core.errors import InputError
from pellucid.visual.sequences import LETTERS, dna_sheet


def extent(axes, letter: str) -> list[tuple[float, float]]:
    """Lowest and highest point of each occurrence of a letter in a track."""
    for patch in axes.patches:
        if to_hex(patch.get_facecolor()).upper() == LETTERS[letter].upper():
            parts = patch.get_path().to_polygons(closed_only=False)
            return sorted((float(p[:, 1].min()), float(p[:, 1].max())) for p in parts)
    return []


def test_height_and_side_of_a_letter_are_its_relevance():
    figure = dna_sheet(["TTCC"], {"m": [[3.0, -2, 0, 1]]})
    strip, track = figure.axes
    assert [t.get_text() for t in strip.texts] == list("TTCC")
    assert extent(track, "T") == [(-2, 0), (0, 3)]
    assert extent(track, "C") == [(0, pytest.approx(1))]
    assert track.get_ylim() == pytest.approx((-3.15, 3.15))


def test_a_track_without_negative_values_stands_on_its_line():
    assert dna_sheet(["TT"], {"m": [[1.0, 2]]}).axes[1].get_ylim() == pytest.approx((0, 2.1))


def test_rna_and_small_and_unknown_letters(look):
    figure = dna_sheet(["acun"], {"m": [[1.0, 1, 1, 1]]})
    assert [t.get_text() for t in figure.axes[0].texts] == list("ACUN")
    assert to_hex(figure.axes[0].texts[2].get_color()).upper() == LETTERS["T"].upper()


@pytest.mark.parametrize(("length", "lines"), [(1, 1), (60, 1), (81, 2), (200, 3), (2000, 1)])
def test_long_sequences_break_into_even_lines_or_turn_into_bars(length: int, lines: int, rng, look):
    sequence = "".join(rng.choice(list("ACGT"), length))
    figure = dna_sheet([sequence], {"m": rng.normal(size=(1, length))}, ["promoter, predicted promoter 0.99"])
    assert len(figure.axes) == 2 * lines
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []
    read = "".join(t.get_text() for axes in figure.axes[::2] for t in axes.texts)
    assert read == (sequence if length < 2000 else "")
    sizes = [np.diff(axes.get_xlim())[0] for axes in figure.axes[::2]]
    assert max(sizes) - min(sizes) <= 1


def test_long_names_of_methods_and_titles_have_their_room(rng, look):
    relevance = {f"{'a_very_long_name_' * 5}{i}": rng.normal(size=(1, 8)) for i in range(3)}
    figure = dna_sheet(["ACGTACGT"], relevance, ["a class of a very long name " * 8])
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


def test_no_evidence_and_nan(look):
    figure = dna_sheet(["ACGT"] * 3, {"m": [[0.0] * 4, [np.nan] * 4, [1, np.nan, 2, 3]]}, list("xyz"))
    words = look.words(figure)
    assert words.count("no evidence") == 1
    assert words.count("NaN") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["ACG", "AC"], {}), "sequences have 2 to 3 letters. Give sequences of one length"),
        (([""], {}), "sequences have 0 to 0 letters"),
        ((["ACG"], {"m": [[1, 2]]}), r"maps\['m'\] has shape \(1, 2\)\. Give an array of shape \(1, 3\)"),
        ((["ACG"], {}, []), "0 titles for 1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, message: str):
    with pytest.raises(InputError, match=message):
        dna_sheet(*arguments)
