"""From the base value to the output: waterfalls, force plots, and how their numbers are written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon, Rectangle

from pellucid.core.errors import InputError
from pellucid.visual.additive import force, waterfall
from pellucid.visual.scales import spread, ticks, written
from pellucid.visual.style import AGAINST, FOR

BOTH = pytest.mark.parametrize("figure_of", [waterfall, force])


def bars(figure) -> list[tuple[float, float]]:
    """Start and width of each bar of a waterfall from the top."""
    return [(p.get_x(), p.get_width()) for p in figure.axes[0].patches if isinstance(p, Rectangle)]


def pushes(figure) -> list[tuple[float, float, str]]:
    """Left, right and colour of each arrow of a force plot, in inches."""
    found = [p for p in figure.axes[0].patches if isinstance(p, Polygon)]
    return [(p.get_xy()[:, 0].min(), p.get_xy()[:, 0].max(), to_hex(p.get_facecolor()).upper()) for p in found]


def test_each_bar_starts_where_the_one_above_ends_and_the_last_ends_at_the_output(look):
    figure = waterfall([1, "red", np.nan], 10.0, [2.0, -5.0, 0.5], ["a", "b", "c"], unit="mm", title="one sample")
    assert bars(figure) == [(10, -5), (5, 2), (7, 0.5)]
    words = look.words(figure)
    for expected in ("b = red", "a = 1", "c = missing", "−5.00", "+2.00", "+0.50", "10.00", "7.50", "one sample"):
        assert expected in words
    assert "model output (mm)" in words
    assert [to_hex(p.get_facecolor()).upper() for p in figure.axes[0].patches] == [AGAINST.upper(), FOR.upper(), FOR.upper()]


def test_the_rest_is_added_up_and_a_gap_to_the_output_is_shown(look):
    figure = waterfall(np.zeros(5), 1.0, [8.0, 4, 2, -1, 0.5], list("abcde"), top=2, output=20.0)
    assert bars(figure) == [(1, 8), (9, 4), (13, 1.5), (14.5, 5.5)]
    words = look.words(figure)
    for expected in ("other (3)", "+1.50", "not explained", "+5.50", "20.00"):
        assert expected in words
    assert not any("not explained" in w for w in look.words(waterfall([0], 0.1, [0.2], ["a"], output=0.3)))


def test_arrows_meet_at_the_output_the_greatest_next_to_it(look):
    figure = force(np.zeros(4), 1.0, [8.0, 4, -2, -1], list("abcd"))
    (l1, r1, c1), (l2, r2, c2), (l3, r3, c3), (l4, r4, c4) = pushes(figure)
    assert (c1, c2, c3, c4) == (FOR.upper(), FOR.upper(), AGAINST.upper(), AGAINST.upper())
    assert [r1, r2, r3] == pytest.approx([l2, l3, l4])
    unit = (r4 - l1) / 15
    assert [r1 - l1, r2 - l2, r3 - l3, r4 - l4] == pytest.approx([4 * unit, 8 * unit, 2 * unit, unit])
    words = look.words(figure)
    assert {"output, f(x) = 10.00", "base value, E f(X) = 1.00", "a = 0 +8.00", "d = 0 −1.00"} <= set(words)
    marks = {line.get_xdata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1}
    assert any(mark == pytest.approx(r2) for mark in marks)


def test_what_has_no_room_on_the_line_is_added_up_per_side(look):
    r = np.where(np.arange(60) % 2, 1.0, -1.0) / np.arange(1, 61)
    words = look.words(force(np.zeros(60), 0.0, r, [f"a feature with a long name {i}" for i in range(60)]))
    others = [w for w in words if w.startswith("other")]
    named = [w for w in words if w.startswith("a feature")]
    assert len(others) == 2
    assert sum(int(w.split("(")[1].split(")")[0]) for w in others) + len(named) == 60


@BOTH
@pytest.mark.parametrize(
    ("base", "scale", "count", "name"),
    [
        (-12.0, 1.0, 200, "a feature with a very long_name that goes on and on "),
        (1e6, 0.01, 30, "x"),
        (-3e9, 1e8, 1, "x"),
        (0.5, 1e-12, 30, "x"),
    ],
    ids=["many", "fine", "huge", "tiny"],
)
def test_nothing_overlaps_and_nothing_is_cut(figure_of, base: float, scale: float, count: int, name: str, rng, look):
    r = rng.standard_t(2, count) * scale
    figure = figure_of(rng.normal(size=count), base, r, [f"{name}{i}" for i in range(count)], title="title " * 40, unit="mm")
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


@BOTH
def test_no_evidence_and_nan(figure_of, look):
    words = look.words(figure_of([1, 2], 0.5, [0.0, 0.0], ["a", "b"]))
    assert "no evidence" in words
    words = look.words(figure_of([1, 2, 3], 0.5, [1.0, np.nan, -2.0], list("abc")))
    assert any("1 of 3 features is NaN and counts as 0" in w for w in words)
    assert any(w.startswith("sum without NaN") for w in words)
    assert not any("f(x)" in w for w in words)
    assert any("NaN" in w for w in look.words(figure_of([1], 0.5, [np.nan], ["a"])))


@BOTH
def test_tensors_and_arrays_mean_the_same(figure_of, look):
    a = figure_of(torch.ones(2), torch.tensor([0.5]), torch.tensor([1.0, -2.0], requires_grad=True), ["a", "b"])
    b = figure_of(np.ones(2), 0.5, np.array([1.0, -2.0]), ["a", "b"])
    assert look.words(a) == look.words(b)


@BOTH
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1, 2], 0.0, [1.0], ["a", "b"]), {}, r"relevance has shape \(1,\)\. Give an array of shape \(2,\)"),
        (([1, 2], 0.0, [1.0, 2.0], ["a"]), {}, r"values have shape \(2,\) with 1 features"),
        (([[1, 2]], 0.0, [1.0, 2.0], ["a", "b"]), {}, r"values have shape \(1, 2\)\. Give \(D,\)"),
        (([1], np.nan, [1.0], ["a"]), {}, "base is nan. Give the finite score"),
        (([1], [0.0, 1.0], [1.0], ["a"]), {}, r"base has shape \(2,\)"),
        (([1], 0.0, [1.0], ["a"]), {"output": np.inf}, "output is inf"),
        (([1], 0.0, [1.0], ["a"]), {"top": 0}, "top is 0"),
    ],
)
def test_what_does_not_fit_is_refused(figure_of, arguments: tuple, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        figure_of(*arguments, **options)


@pytest.mark.parametrize(
    ("value", "last", "words"),
    [
        (1234.5, -1, "1,234.5"),
        (-0.0123, -4, "−0.0123"),
        (0.00004, -2, "0.00004"),
        (0.0, -2, "0"),
        (3.21e9, 7, "3.21e9"),
        (-4.5e-8, -10, "−4.50e−8"),
        (1e6, -4, "1,000,000.0000"),
        (np.nan, 0, "NaN"),
    ],
)
def test_numbers_have_the_digits_that_matter(value: float, last: int, words: str):
    assert written(value, last) == words
    assert written(abs(value), last, plus=True)[0] in "+0N"


def test_ticks_are_round_and_apart():
    assert ticks(0, 10, 5) == ([0, 2, 4, 6, 8, 10], ["0", "2", "4", "6", "8", "10"])
    places, words = ticks(1e6 - 0.01, 1e6 + 0.01, 0.8)
    assert len(places) == len(set(words)) == 1
    assert ticks(-1e-9, 1e-9, 5)[1][0] == "−1.0e−9"


def test_blocks_spread_as_little_as_they_must():
    assert spread([1, 3], [1, 1], 5) == [1, 3]
    assert spread([2, 2], [1, 1], 5) == [1.5, 2.5]
    assert spread([0, 0, 4.9], [1, 1, 1], 5) == [0.5, 1.5, 4.5]
    rng = np.random.default_rng(0)
    widths = rng.random(20)
    found = np.array(spread(np.sort(rng.random(20) * 12), widths, 12))
    assert (np.diff(found) >= (widths[1:] + widths[:-1]) / 2 - 1e-9).all()
    assert found[0] >= widths[0] / 2
    assert found[-1] <= 12 - widths[-1] / 2 + 1e-9
    assert spread([], [], 5) == []
