"""Measured and broken text."""

from __future__ import annotations

import pytest

from pellucid.visual import lettering
from pellucid.visual.style import new_figure, theme


def test_measured_width_is_the_drawn_width():
    with theme():
        figure = new_figure(4, 1, constrained=False)
        drawn = figure.text(0, 0.5, "integrated_gradients", size=8, weight="bold").get_window_extent()
    assert lettering.width("integrated_gradients", 8, bold=True) == pytest.approx(drawn.width / figure.dpi, rel=0.03)


def test_height_is_never_less_than_what_is_drawn():
    with theme():
        figure = new_figure(4, 4, constrained=False)
        for text in ("Ag", "Ag\nAg", "Ag\nAg\nAg\nAg"):
            drawn = figure.text(0, 0.5, text, size=8, linespacing=lettering.LINE).get_window_extent()
            assert lettering.height(text, 8) >= drawn.height / figure.dpi - 1e-9
    assert lettering.height("", 8) == 0


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("integrated_gradients", ["integrated_", "gradients"]),
        ("Bag, predicted Bag 0.98", ["Bag, ", "predicted ", "Bag ", "0.98"]),
        ("layer1.block-2.conv", ["layer1.", "block-", "2.", "conv"]),
        ("T-shirt/top -0.5", ["T-", "shirt/", "top ", "-0.5"]),
        ("", [""]),
    ],
)
def test_where_a_line_may_break(text: str, pieces: list[str]):
    assert lettering.pieces(text) == pieces


@pytest.mark.parametrize("room", [0.3, 0.5, 0.8, 2.0])
@pytest.mark.parametrize("text", ["layer_wise_relevance_propagation", "a b c d e f g", "Bag, predicted Bag 0.98", "ww" * 30])
def test_no_line_is_wider_than_its_room_and_no_letter_is_lost(text: str, room: float):
    wrapped = lettering.wrap(text, room, 8)
    assert lettering.width(wrapped, 8) <= room
    kept = wrapped.replace("-\n", "").replace("\n", "").replace(" ", "")
    assert kept == text.replace(" ", "")


def test_a_long_word_breaks_into_even_parts_with_a_hyphen():
    assert lettering.wrap("backpropagation", 0.7, 8) == "backprop-\nagation"


def test_room_for_less_than_a_letter_still_ends():
    assert lettering.wrap("abc", 0.001, 8) == "abc"
