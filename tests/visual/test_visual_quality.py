"""Faithfulness and randomisation curves."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.visual.quality import quality_curves, randomisation_curves

T = np.linspace(0, 1, 11)
LONG = ["_underscored", "score_cam_with_a_very_long_name_that_never_ends", *(f"method_{i}" for i in range(14))]


def curves(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {key: rng.random(11) for key in ("api", "apd", "ir", "dr")}


@pytest.mark.parametrize("count", [1, 16])
def test_four_panels_with_full_names_and_directions(count: int, rng, look):
    methods = {name: curves(rng) for name in LONG[:count]}
    figure = quality_curves(T, methods)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "API: average probability increase", "APD: average probability decrease", "IR: increase rate", "DR: decrease rate",
    ]  # fmt: skip
    directions = [axes.texts[0].get_text()[:6] for axes in figure.axes]
    assert directions == ["higher", "lower ", "higher", "lower "]
    for axes, key in zip(figure.axes, ("api", "apd", "ir", "dr")):
        assert [line.get_ydata().tolist() for line in axes.lines] == [m[key].tolist() for m in methods.values()]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == len({str(line.get_marker()) for line in figure.axes[0].lines}) == count
    names = [t.get_text().replace("\n", "") for t in figure.legends[0].get_texts()]
    assert names == list(methods)
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []
    legend = figure.legends[0].get_window_extent()
    assert all(axes.get_window_extent().x1 < legend.x0 for axes in figure.axes)


def test_gaps_are_allowed(rng):
    methods = {"a": {**curves(rng), "api": np.full(11, np.nan)}}
    assert np.isnan(quality_curves(T, methods).axes[0].lines[0].get_ydata()).all()


def test_curves_start_at_the_untouched_model_and_chance_is_drawn(look):
    methods = {"gradient": {"ssim": [0.5, 0.2], "rank": [0.4, 0.1]}, "grad_cam": {"ssim": [0.9, 0.8]}}
    figure = randomisation_curves(["fc", "conv.1"], methods, {"ssim": 0.15, "rank": {"gradient": -0.1, "grad_cam": 0.1}})
    first, second = figure.axes
    assert [line.get_ydata().tolist() for line in first.lines[:2]] == [[1, 0.5, 0.2], [1, 0.9, 0.8]]
    assert [list(line.get_ydata()) for line in first.lines[2:]] == [[0.15, 0.15]]
    assert second.lines[0].get_ydata().tolist() == [1, 0.4, 0.1]
    assert second.patches[0].get_y() == pytest.approx(-0.1)
    assert second.patches[0].get_height() == pytest.approx(0.2)
    assert [t.get_text() for t in first.get_xticklabels()] == ["none", "fc", "conv.1"]
    words = look.words(figure)
    assert "chance" in words
    assert "similarity to the original explanation" in words
    assert look.cut(figure) == []


def test_no_chance_no_entry(look):
    assert "chance" not in look.words(randomisation_curves(["fc"], {"a": {"ssim": [0.5]}}, {"ssim": None, "rank": 0.0}))


@pytest.mark.parametrize("layers", [1, 8, 50])
def test_many_long_layer_names(layers: int, look):
    names = [f"backbone.layer{i}.block{i}.a_convolution_of_some_kind_{i}" for i in range(layers)]
    figure = randomisation_curves(names, {m: {"ssim": np.ones(layers), "rank_absolute": np.ones(layers)} for m in LONG})
    assert look.cut(figure) == []
    ticks = figure.axes[0].get_xticks()
    gap = np.diff(ticks).min() * figure.axes[0].get_window_extent().width / (layers + 0.6) * 72 / figure.dpi
    lines = max(t.get_text().count("\n") + 1 for t in figure.axes[0].get_xticklabels())
    assert gap * np.sin(np.radians(55)) > 7.5 * 1.1 * lines  # slanted names lie side by side


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quality_curves(T, {"a": {"api": T}}), "'a' has no curve 'apd'. Give api, apd, ir, dr for each method"),
        (
            lambda: quality_curves(T, {"a": {"api": T[1:]}}),
            r"'api' of 'a' has shape \(10,\)\. Give .* \(11,\)",
        ),
        (lambda: randomisation_curves(["fc"], {"a": {"ssim": [1, 2]}}), r"'ssim' of 'a' has shape \(2,\)"),
        (lambda: randomisation_curves(["fc"], {"a": {}}), "no measure in the randomisation curves. Give one of ssim"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
