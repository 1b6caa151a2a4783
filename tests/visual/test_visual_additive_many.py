"""Many samples: beeswarms and bars of mean |relevance|."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

from pellucid.core.errors import InputError
from pellucid.visual.additive_many import ABSENT, VALUES, beeswarm, importance, lanes, shades
from pellucid.visual.style import LINES


def swarms(figure) -> list[np.ndarray]:
    """Points of each row of a beeswarm, (n, 2) relevance and height."""
    return [np.asarray(c.get_offsets()) for c in figure.axes[0].collections if isinstance(c, PathCollection)]


def test_rows_come_by_mean_relevance_and_points_stand_at_their_relevance(look):
    r = np.array([[1.0, -8, 0.5, 4, 0.25], [-1, 8, 0.5, -4, 0.5]])
    figure = beeswarm(np.arange(10).reshape(2, 5), r, list("abcde"), top=2, title="two samples")
    assert [sorted(s[:, 0]) for s in swarms(figure)] == [[-8, 8], [-4, 4], [0, 1.75]]
    words = look.words(figure)
    order = [w for w in words if w in ("b", "d", "other (3)")]
    assert order == ["b", "d", "other (3)"]
    assert {"lower", "higher", "two samples"} <= set(words)


@pytest.mark.parametrize("count", [1, 40, 300])
def test_points_never_overlap_while_there_is_a_lane(count: int, rng):
    x, wide = rng.normal(size=count), 0.02
    y = lanes(x, wide, 1.0)
    near = (np.abs(x[:, None] - x) < wide - 1e-12) & (np.abs(y[:, None] - y) < wide - 1e-12)
    assert near.sum() == count  # itself
    assert np.abs(y).max() <= 0.5


def test_points_without_a_lane_lie_on_the_one_that_is_free_for_the_longest():
    assert lanes(np.zeros(5), 0.1, 0.3).tolist() == pytest.approx([0, -0.1, 0.1, 0, 0])
    crowded = lanes(np.array([0.00, 0.01, 0.02, 0.03]), 0.1, 0.2)
    assert crowded.tolist() == pytest.approx([0, 0.1, 0, 0.1])


def test_colours_are_the_features_own_values():
    assert shades(np.linspace(0, 100, 101))[[0, 5, 50, 95, 100]] == pytest.approx([0, 0, 0.5, 1, 1])
    assert shades(np.array([0.0] * 99 + [1])).tolist() == [0] * 99 + [1]  # few values: their extremes
    assert shades(np.array([2.0, 2, np.nan]))[:2].tolist() == [0.5, 0.5]
    assert np.isnan(shades(np.array(["a", "b"], dtype=object))).all()
    figure = beeswarm(np.array([[1.0, "x"], [2, "y"], [None, "z"]], dtype=object), [[3.0, 1], [-2, 1], [4, 1]], ["a", "b"])
    numeric, words = ([to_hex(c) for c in row.get_facecolors()] for row in figure.axes[0].collections[-2:])
    assert numeric == [to_hex(VALUES(0.0)), to_hex(VALUES(1.0)), ABSENT]
    assert set(words) == {ABSENT}


def test_a_data_frame_is_a_table(look):
    frame = pd.DataFrame({"age": [1, 2], "sex": ["m", pd.NA]})
    assert {"age", "sex"} <= set(look.words(beeswarm(frame, np.eye(2), list(frame))))


def test_nan_is_left_out_and_counted_and_all_zero_is_no_evidence(look):
    r = np.array([[1.0, np.nan, 1], [2, np.nan, np.nan]])
    figure = beeswarm(np.zeros((2, 3)), r, list("abc"))
    assert [len(s) for s in swarms(figure)] == [2, 1]
    words = look.words(figure)
    assert "NaN" in words
    assert any("3 of 6 relevances are NaN and left out" in w for w in words)
    assert "no evidence" in look.words(beeswarm(np.zeros((2, 1)), np.zeros((2, 1)), ["a"]))


def test_thousands_of_points_become_pixels(rng):
    many = beeswarm(rng.normal(size=(1200, 1)), rng.normal(size=(1200, 1)), ["a"])
    few = beeswarm(rng.normal(size=(12, 1)), rng.normal(size=(12, 1)), ["a"])
    assert [figure.axes[0].collections[-1].get_rasterized() for figure in (many, few)] == [True, False]
    sizes = [figure.axes[0].collections[-1].get_sizes()[0] for figure in (many, few)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_nothing_overlaps_and_nothing_is_cut(scale: float, rng, look):
    names = [f"a feature with quite a long name that goes on and on {i}" for i in range(12)]
    r = rng.normal(size=(50, 12)) * scale
    sets = {f"a method with a long name {i} " * 3: r * (i + 1) for i in range(3)}
    for figure in (
        beeswarm(r, r, names, top=4, title="title " * 40),
        importance(sets, names, top=4, errors=True, title="title " * 40),
    ):
        assert look.cut(figure) == []
        assert look.overlapping(look.texts(figure)) == []


def widths(figure) -> list[list[float]]:
    axes = figure.axes[-1]
    return [[bar.get_width() for bar in container] for container in axes.containers if isinstance(container, BarContainer)]


def test_bars_are_means_of_sizes_the_rest_is_added_up(look):
    r = np.array([[1.0, -8, 0.5, 4, 0.25], [-3, 8, 0.5, -4, 0.25]])
    figure = importance(r, list("abcde"), top=3)
    assert widths(figure) == [[8, 4, 2, 0.75]]
    assert {"b", "d", "a", "other (2)", "8.00", "0.75", "mean |relevance|"} <= set(look.words(figure))
    assert any("mean over 2 samples" in w for w in look.words(figure))


def test_sets_stand_beside_each_other_and_share_makes_them_comparable(look):
    sets = {"one": [[1.0, 3]], "two": [[1e6, 1e6], [1e6, 1e6]]}
    figure = importance(sets, ["a", "b"], share=True)
    assert widths(figure) == [[0.75, 0.25], [0.5, 0.5]]
    colours = [to_hex(c.patches[0].get_facecolor()).upper() for c in figure.axes[-1].containers if isinstance(c, BarContainer)]
    assert colours == LINES[:2]
    assert {"one", "two"} <= set(look.words(figure))


def test_others_that_are_greater_together_are_a_number_without_a_bar(look):
    figure = importance([[3.0, *[1.0] * 9]], list("abcdefghij"), top=2)
    assert widths(figure) == [[3, 1, 0]]
    words = look.words(figure)
    assert {"other (8)", "8.00"} <= set(words)
    assert any("the sum of the others is too great for a bar" in w for w in words)


def test_ten_sets_look_different():
    axes = importance({f"set {i}": [[1.0]] for i in range(10)}, ["a"]).axes[-1]
    looks = {
        (to_hex(c.patches[0].get_facecolor()), c.patches[0].get_hatch()) for c in axes.containers if isinstance(c, BarContainer)
    }
    assert len(looks) == 10


def test_standard_errors_are_those_of_the_mean_or_the_ones_given():
    r = np.array([[1.0], [3.0], [-5.0]])
    segments = importance(r, ["a"], errors=True).axes[-1].collections[0].get_segments()
    error = np.std([1, 3, 5], ddof=1) / np.sqrt(3)
    assert segments[0][:, 0] == pytest.approx([3 - error, 3 + error])
    segments = importance({"m": r}, ["a"], errors={"m": [0.5]}).axes[-1].collections[0].get_segments()
    assert segments[0][:, 0] == pytest.approx([2.5, 3.5])
    assert importance(r, ["a"], errors=[0.5]).axes[-1].collections[0].get_segments()[0][:, 0] == pytest.approx([2.5, 3.5])


def test_importance_without_evidence_and_with_nan(look):
    assert "no evidence" in look.words(importance(np.zeros((2, 2)), ["a", "b"]))
    words = look.words(importance([[1.0, np.nan], [np.nan, np.nan]], ["a", "b"]))
    assert {"1.00", "NaN"} <= set(words)
    assert any("3 of 4 relevances are NaN and left out" in w for w in words)


Z = np.zeros((2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: beeswarm(Z, np.zeros((2, 3)), ["a", "b"]), r"relevance has shape \(2, 3\)\. Give an array of shape \(2, 2\)"),
        (lambda: beeswarm(Z, Z, ["a"]), r"values have shape \(2, 2\) with 1 features"),
        (lambda: beeswarm([1, 2], Z, ["a", "b"]), r"values have shape \(2,\)\. Give \(n, D\)"),
        (lambda: importance({"m": Z}, ["a"]), r"relevance\['m'\] has shape \(2, 2\)\. Give an array of shape \(n, 1\)"),
        (lambda: importance({"m": Z}, ["a", "b"], errors={"n": [1, 1]}), "errors names 'n'"),
        (lambda: importance({"m": Z, "n": Z}, ["a", "b"], errors=[1, 1]), "errors are one array for several sets"),
        (lambda: importance(Z, ["a", "b"], errors=[1, -1]), "errors.* hold -1"),
        (lambda: importance(Z, ["a", "b"], top=0), "top is 0"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
