"""Sheets of image x method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pellucid.core.errors import InputError
from pellucid.visual.heatmaps import heatmap_sheet, limit
from pellucid.visual.style import POSITIVE, SIGNED

METHODS = ["gradient", "gradient_times_input", "smoothgrad", "integrated_gradients", "occlusion", "grad_cam", "libra_cam",
           "edge_detector", "guided_backpropagation", "layer_wise_relevance_propagation", "deeplift", "rise"]  # fmt: skip


def maps_of(rng: np.random.Generator, methods: int, n: int, size: tuple[int, int] = (8, 8)) -> dict[str, np.ndarray]:
    return {name: rng.normal(size=(n, *size)) for name in METHODS[:methods]}


def test_rows_are_images_and_columns_are_input_and_methods(rng, look):
    images = rng.random((3, 8, 8))
    relevance = {"gradient": rng.normal(size=(3, 8, 8)), "grad_cam": rng.random((3, 8, 8))}
    figure = heatmap_sheet(images, relevance, titles=["one", "two", "three"], captions={"grad_cam": "faithful"})
    panels = figure.axes
    assert len(panels) == 3 * 3 + 2  # and one colour bar per kind
    assert [axes.images[0].get_array().tolist() for axes in panels[:9:3]] == images.tolist()
    for row in range(3):
        signed, positive = panels[3 * row + 1].images[0], panels[3 * row + 2].images[0]
        end = np.percentile(np.abs(relevance["gradient"][row]), 99.5)
        assert signed.get_cmap() == SIGNED
        assert signed.get_clim() == pytest.approx((-end, end))
        assert positive.get_cmap() == POSITIVE
        assert positive.get_clim() == pytest.approx((0, np.percentile(relevance["grad_cam"][row], 99.5)))
    said = look.words(figure)
    for words in ("input", "gradient", "grad_cam", "faithful", "one", "two", "three"):
        assert words in said
    for words in ("against the class", "for the class", "none", "most"):
        assert words in said
    assert any("99.5 percentile" in words and "symmetric" in words for words in said)


def test_one_bar_when_all_maps_are_of_one_kind(rng, look):
    words = look.words(heatmap_sheet(rng.random((1, 8, 8)), {"a": rng.random((1, 8, 8))}))
    assert "none" in words
    assert "for the class" not in words
    words = look.words(
        heatmap_sheet(rng.random((1, 8, 8)), {"a": rng.random((1, 8, 8))}, signed={"a": True}, ends=("lower", "higher"))
    )
    assert "higher" in words
    assert "none" not in words
    long = ("lowers the predicted progression of the disease", "raises the predicted progression of the disease")
    figure = heatmap_sheet(rng.random((1, 8, 8)), {"a": rng.random((1, 8, 8))}, signed={"a": True}, ends=long)
    assert set(long) <= set(look.words(figure))
    assert look.cut(figure) == look.overlapping(look.texts(figure)) == []


def test_a_sparse_map_is_scaled_by_its_maximum():
    sparse = np.zeros((28, 28))
    sparse[3, 3] = -2
    assert limit(sparse) == 2
    assert limit(np.arange(1001.0)) == pytest.approx(995)


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_map_has_no_evidence(value: float, look):
    figure = heatmap_sheet(np.zeros((1, 8, 8)), {"a": np.full((1, 8, 8), value)}, signed={"a": True})
    assert "no evidence" in look.words(figure)
    assert not figure.axes[1].images


def test_nan_is_shown_and_named(rng, look):
    partly, whole = rng.normal(size=(1, 8, 8)), np.full((1, 8, 8), np.nan)
    partly[0, :2] = np.nan
    partly[0, 3, 3] = np.inf
    figure = heatmap_sheet(np.zeros((1, 8, 8)), {"partly": partly, "whole": whole, "fine": rng.normal(size=(1, 8, 8))})
    assert look.words(figure).count("NaN") == 2
    assert [bool(axes.patches) and axes.patches[0].get_hatch() is not None for axes in figure.axes[1:4]] == [True, True, False]
    shown = figure.axes[1].images[0]
    assert shown.get_array().mask.sum() == 17
    assert np.isfinite(shown.get_clim()).all()
    assert SIGNED(np.ma.masked_invalid([np.nan]))[0, 3] == 0  # the hatching shows through


@pytest.mark.parametrize(("methods", "captions"), [(0, False), (1, True), (2, True), (5, False), (9, True), (12, True)])
def test_no_head_touches_another_and_nothing_is_cut(methods: int, captions: bool, rng, look):
    relevance = maps_of(rng, methods, 2)
    words = dict.fromkeys(relevance, "not faithful, fails the sanity check") if captions else None
    titles = ["T-shirt/top, predicted T-shirt/top 0.98", "a class whose name is very long, predicted another such class 0.51"]
    figure = heatmap_sheet(rng.random((2, 8, 8)), relevance, titles=titles, captions=words)
    texts = look.texts(figure)
    assert look.overlapping(texts) == []
    assert look.cut(figure) == []
    said = " ".join(look.words(figure)).replace("- ", "").replace(" ", "")
    assert all(name in said for name in ("".join(lines.split()) for lines in titles))
    assert figure.get_figwidth() <= 14


@pytest.mark.parametrize(("rows", "size"), [(1, (8, 8)), (12, (8, 8)), (2, (6, 40)), (2, (40, 6)), (12, (1, 1))])
def test_many_rows_and_odd_shapes(rows: int, size: tuple[int, int], rng, look):
    figure = heatmap_sheet(
        rng.random((rows, *size)), {"a": rng.normal(size=(rows, *size))}, titles=["a title of two lines"] * rows
    )
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []
    height, width = size
    for axes in figure.axes[: 2 * rows : 2]:
        axes.apply_aspect()
        box = axes.get_window_extent()
        assert box.height / box.width == pytest.approx(height / width)
    rendered = figure.axes[0].images[0].get_interpolation()
    assert rendered == "none"


def test_large_images_are_smoothed_when_they_are_made_smaller(rng):
    figure = heatmap_sheet(rng.random((1, 200, 200)), {})
    assert figure.axes[0].images[0].get_interpolation() == "auto"


def test_overlay_lays_the_map_over_the_image(rng):
    def below(overlay: float, **maps: np.ndarray) -> list[int]:
        return [len(a.images) for a in heatmap_sheet(rng.random((1, 8, 8, 3)), maps, overlay=overlay).axes[1 : 1 + len(maps)]]

    a, broken = rng.normal(size=(1, 8, 8)), rng.normal(size=(1, 8, 8))
    broken[0, 0, 0] = np.nan
    assert below(0.0, a=a, broken=broken) == [1, 1]
    assert below(0.4, a=a, broken=broken) == [2, 1]
    assert heatmap_sheet(rng.random((1, 8, 8)), {"a": a}, overlay=0.4).axes[1].images[1].get_alpha() == pytest.approx(0.6)


@pytest.mark.parametrize(
    "images",
    [
        np.full((1, 4, 4), 255, dtype=np.uint8),
        np.ones((1, 4, 4, 1)),
        np.ones((1, 4, 4), dtype=bool),
        torch.ones(1, 4, 4, requires_grad=True),
        torch.full((1, 4, 4), 255, dtype=torch.uint8),
    ],
)
def test_all_usual_kinds_of_images_mean_the_same(images):
    figure = heatmap_sheet(images, {"a": torch.randn(1, 4, 4, dtype=torch.bfloat16).requires_grad_()})
    assert (figure.axes[0].images[0].get_array() == 1).all()


def test_names_with_a_meaning_for_matplotlib_are_plain_words(rng, look):
    figure = heatmap_sheet(rng.random((1, 4, 4)), {"_cost_$x^2$": rng.normal(size=(1, 4, 4))}, titles=["$5 to $10, 猫"])
    assert "$5 to $10, 猫" in look.words(figure)


Z = np.zeros((2, 4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: heatmap_sheet(Z, {"a": np.zeros((2, 4, 5))}),
            r"maps\['a'\] has shape \(2, 4, 5\)\. Give .* \(2, 4, 4\)",
        ),
        (lambda: heatmap_sheet(Z, {"a": [["x"]]}), r"maps\['a'\] is not an array of numbers"),
        (
            lambda: heatmap_sheet(np.zeros((2, 3, 4, 4)), {}),
            r"images have shape \(2, 3, 4, 4\).*channels to the last axis",
        ),
        (lambda: heatmap_sheet(np.zeros(3), {}), r"images have shape \(3,\)\. Give \(n, H, W\)"),
        (lambda: heatmap_sheet(Z - 1.5, {}), r"images run from -1\.5 to -1\.5\. Give values from 0 to 1"),
        (lambda: heatmap_sheet(Z * np.nan, {}), r"images run from nan"),
        (lambda: heatmap_sheet(Z, {}, titles=["one"]), r"1 titles for 2"),
        (
            lambda: heatmap_sheet(Z, {"grad_cam": Z}, captions={"grad_kam": ""}),
            r"captions names 'grad_kam'.*mean 'grad_cam'",
        ),
        (lambda: heatmap_sheet(Z, {"grad_cam": Z}, signed={"cam": True}), r"signed names 'cam'"),
        (
            lambda: heatmap_sheet(Z, {"a": Z - [-1, 0, 1, 2]}, signed={"a": False}),
            r"positive but goes down to -2.*signed=",
        ),
        (lambda: heatmap_sheet(Z, {}, overlay=2), r"overlay is 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_cure(call: Callable[[], Figure], message: str):
    with pytest.raises(InputError, match=message):
        call()
