"""Stacks of letters."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from pellucid.core.errors import InputError
from pellucid.visual.logos import sequence_logo, stacked
from pellucid.visual.sequences import LETTERS


def extent(axes, letter: str) -> list[tuple[float, float]]:
    """Lowest and highest point of a letter at each position."""
    for patch in axes.patches:
        if to_hex(patch.get_facecolor()).upper() == LETTERS[letter].upper():
            parts = patch.get_path().to_polygons(closed_only=False)
            outer = sorted(parts, key=lambda p: (round(float(p[:, 0].mean())), -np.ptp(p[:, 1])))
            found: dict[int, tuple[float, float]] = {}
            for p in outer:
                found.setdefault(round(float(p[:, 0].mean())), (float(p[:, 1].min()), float(p[:, 1].max())))
            return [found[k] for k in sorted(found)]
    return []


def test_letters_stack_by_size_away_from_the_line():
    size = np.array([[1.0, -1], [3, -2], [-2, 0], [-1, 5]])
    assert stacked(size).tolist() == [[0, -1], [1, -3], [-3, 0], [-1, 0]]


def test_heights_are_the_means_over_the_sequences(look):
    maps = np.zeros((2, 4, 2))
    maps[:, 3, 0] = 1, 3  # T
    maps[:, 1, 0] = 1, 0  # C
    maps[:, 0, 1] = -4, -4  # A
    figure = sequence_logo(maps, title="two sequences")
    axes = figure.axes[0]
    assert extent(axes, "C") == [pytest.approx((0, 0.5))]
    assert extent(axes, "T") == [pytest.approx((0.5, 2.5))]
    assert extent(axes, "A") == [pytest.approx((-4, 0))]
    assert extent(axes, "G") == []
    assert axes.get_ylim() == pytest.approx((-4.2, 2.625))
    words = look.words(figure)
    assert "two sequences" in words
    assert any("|mean relevance| over 2 sequences" in w for w in words)
    assert extent(sequence_logo(maps.mean(axis=0)).axes[0], "T") == [pytest.approx((0.5, 2.5))]


@pytest.mark.parametrize(("length", "panels"), [(1, 2), (81, 4), (700, 2)])
def test_long_sequences_break_into_lines_or_turn_into_bars(length: int, panels: int, rng, look):
    r = rng.normal(size=(3, 4, length))
    figure = sequence_logo({"a_very_long_name_of_a_method": r, "b": r * 1e7}, title="a very long title " * 20)
    assert len(figure.axes) == panels
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


def test_no_evidence_and_nan(look):
    r = np.ones((2, 4, 3))
    r[0, :, 1] = np.nan  # the other sequence has numbers there
    r[:, :, 2] = np.nan
    figure = sequence_logo({"m": r, "zero": 0 * np.ones((4, 3)), "nan": r * np.nan, "none": np.zeros((4, 3))})
    hatched = [p for p in figure.axes[0].patches if p.get_hatch()]
    assert [p.get_x() for p in hatched] == [2.5]
    assert len(extent(figure.axes[0], "T")) == 2
    assert look.words(figure).count("NaN") == 2
    assert look.words(figure).count("no evidence") == 2


def test_other_alphabets():
    assert len(sequence_logo(np.ones((2, 5)), letters="RY").axes[0].patches) == 2


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((3, 5)), r"maps has shape \(3, 5\)\. Give an array of shape \(4, L\)"),
        (np.zeros(5), r"maps has shape \(5,\)\. Give an array of shape \(n, 4, L\)"),
        ({"m": np.zeros((2, 5, 4))}, r"maps\['m'\] has shape \(2, 5, 4\)"),
        ({"a": np.zeros((4, 2)), "b": np.zeros((4, 3))}, "maps have 2 to 3 positions"),
    ],
)
def test_what_does_not_fit_is_refused(maps, message: str):
    with pytest.raises(InputError, match=message):
        sequence_logo(maps)
