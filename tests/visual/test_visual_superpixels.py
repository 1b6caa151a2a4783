"""Superpixels in the colour of their relevance, with their borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection

from pellucid.core.errors import InputError
from pellucid.visual.style import SIGNED
from pellucid.visual.superpixels import superpixel_sheet

QUARTERS = np.kron(np.array([[7, 7], [2, 5]]), np.ones((3, 3), dtype=int))[None]  # three segments, the upper one twice as large
IMAGE = np.linspace(0, 1, 36).reshape(1, 6, 6)


def tint(axes) -> np.ndarray:
    return np.ma.filled(axes.images[-1].get_array(), np.nan)


def borders(axes) -> set[tuple[float, ...]]:
    lines = [c for c in axes.collections if isinstance(c, LineCollection)]
    return {tuple(np.ravel(s)) for s in lines[-1].get_segments()} if lines else set()


def test_a_number_per_segment_in_the_order_of_the_labels(look):
    figure = superpixel_sheet(IMAGE, QUARTERS, {"lime": [[1.0, -2, 3]]}, titles=["a cat"])
    shown = tint(figure.axes[1])
    assert [shown[0, 0], shown[0, 5], shown[5, 0], shown[5, 5]] == [3, 3, 1, -2]
    assert figure.axes[1].images[-1].get_cmap() == SIGNED
    assert len(figure.axes[1].images) == 2  # over the image in grey
    assert {"input", "lime", "a cat", "against the class", "for the class"} <= set(look.words(figure))


def test_a_map_of_pixels_is_averaged_over_each_segment(rng):
    pixels = rng.normal(size=(1, 6, 6))
    shown = tint(superpixel_sheet(IMAGE, torch.tensor(QUARTERS), {"m": torch.tensor(pixels)}).axes[1])
    for label in (2, 5, 7):
        assert shown[QUARTERS[0] == label] == pytest.approx(pixels[0][QUARTERS[0] == label].mean())


def test_borders_run_where_labels_change_on_image_and_map():
    figure = superpixel_sheet(IMAGE, QUARTERS, {"m": [[1.0, -2, 3]]})
    level = {(x - 0.5, 2.5, x + 0.5, 2.5) for x in range(6)}
    upright = {(2.5, y - 0.5, 2.5, y + 0.5) for y in range(3, 6)}
    assert borders(figure.axes[0]) == borders(figure.axes[1]) == level | upright


def test_only_the_greatest_segments_are_kept(look):
    figure = superpixel_sheet(IMAGE, QUARTERS, {"m": [[1.0, -2, 0.5]], "zeros": [[0.0, 2, 0]]}, top=1)
    for axes in figure.axes[1:3]:
        assert (tint(axes) != 0).sum() == 9
        assert (tint(axes)[3:, 3:] != 0).all()
        assert len(borders(axes)) == 6
    assert any("the 1 segments with the greatest |relevance|" in w for w in look.words(figure)) is False
    assert any("the segment with the greatest |relevance|" in w for w in look.words(figure))
    figure = superpixel_sheet(IMAGE, QUARTERS, {"m": [[1.0, -2, 0.5]], "zeros": [[0.0, 2, 0]]}, top=2)
    assert [(tint(axes) != 0).sum() for axes in figure.axes[1:3]] == [18, 9]
    assert any("the 2 segments with the greatest |relevance|" in w for w in look.words(figure))


def test_no_evidence_and_nan(look):
    figure = superpixel_sheet(
        np.repeat(IMAGE, 2, axis=0),
        np.repeat(QUARTERS, 2, axis=0),
        {"zero": [[0.0] * 3] * 2, "nan": [[1.0, np.nan, -1], [np.nan] * 3]},
        top=1,
    )
    words = look.words(figure)
    assert words.count("no evidence") == 2
    assert words.count("NaN") == 2
    partly = figure.axes[2]
    assert np.isnan(tint(partly)).sum() == 9
    assert partly.images[-1].get_zorder() > partly.patches[0].get_zorder()  # the hatching is behind the map


def test_nothing_overlaps_and_nothing_is_cut(rng, look):
    maps = {f"a_long_name_of_a_method_{i}": rng.normal(size=(2, 12, 6)) for i in range(2)}
    labels = np.arange(144).reshape(2, 12, 6) // 5
    figure = superpixel_sheet(rng.random((2, 12, 6, 3)), labels, maps, titles=["a long title " * 4, "b"], top=3)
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


@pytest.mark.parametrize(
    ("labels", "maps", "options", "message"),
    [
        (QUARTERS[:, :5], {}, {}, r"labels has shape \(1, 5, 6\)\. Give an array of shape \(1, 6, 6\)"),
        (QUARTERS + 0.5, {}, {}, "labels are not whole numbers"),
        (QUARTERS, {"m": [[1.0, 2]]}, {}, r"maps\['m'\]\[0\] for 3 segments has shape \(2,\)\. Give an array of shape \(3,\)"),
        (QUARTERS, {"m": np.zeros((1, 6, 5))}, {}, r"maps\['m'\]\[0\] has shape \(6, 5\)"),
        (QUARTERS, {"m": []}, {}, r"maps\['m'\] has 0 rows for 1 images"),
        (QUARTERS, {}, {"top": 0}, "top is 0"),
        (QUARTERS, {}, {"overlay": 2}, "overlay is 2"),
    ],
)
def test_what_does_not_fit_is_refused(labels, maps, options: dict, message: str):
    with pytest.raises(InputError, match=message):
        superpixel_sheet(IMAGE, labels, maps, **options)
