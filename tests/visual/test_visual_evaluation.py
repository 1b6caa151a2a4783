"""Confusion, calibration, ROC, precision and recall, residuals, samples of each class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from pellucid.core.errors import InputError
from pellucid.visual.evaluation import calibration_curve, confusion_matrix, pr_curves, residuals, roc_curves
from pellucid.visual.samples import class_samples

LINE = np.linspace(0, 1, 20)


def test_colour_is_the_share_of_the_row_and_numbers_are_counts(look):
    figure = confusion_matrix([[30, 10], [0, 0]], ["cat", "dog"])
    shown = figure.axes[0].images[0]
    assert shown.get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert shown.get_clim() == (0, 1)
    words = look.words(figure)
    for expected in ("30 75.0 %", "10 25.0 %", "0", "true class", "predicted class", "cat", "dog"):
        assert expected in words


@pytest.mark.parametrize(
    ("k", "name"),
    [(1, "{}"), (2, "a rather long class name {}"), (6, "{}"), (10, "a class {}"), (15, "a rather long class name {}"),
     (30, "a rather long class name {}"), (120, "{}")],
)  # fmt: skip
def test_confusion_is_readable_for_any_number_of_classes(k: int, name: str, rng, look):
    figure = confusion_matrix(rng.poisson(3, (k, k)) + np.diag(rng.integers(0, 200000, k)), [name.format(i) for i in range(k)])
    texts = look.texts(figure)
    assert look.cut(figure) == []
    assert look.overlapping(texts) == []
    assert len(figure.axes[0].texts) == (k * k if k <= 15 else 0)
    assert max(figure.get_size_inches()) < 16


def test_numbers_stay_inside_their_cells(rng, look):
    for k, most in ((2, 9_999_999), (15, 5_000_000_000)):
        figure = confusion_matrix(np.full((k, k), most), [str(i) for i in range(k)])
        box = figure.axes[0].get_window_extent()
        assert (
            look.boxes(figure.axes[0].texts)[:, 2:] - look.boxes(figure.axes[0].texts)[:, :2] <= box.width / k * 72 / figure.dpi
        ).all()


def test_calibration_leaves_empty_bins_out_and_says_the_error(look):
    figure = calibration_curve([np.nan, 0.3, 0.9], [np.nan, 0.5, 0.8], [0, 5, 20], 0.123)
    upper, lower = figure.axes
    model = next(line for line in upper.lines if line.get_label() == "model")
    assert model.get_xydata().tolist() == [[0.3, 0.5], [0.9, 0.8]]
    assert [bar.get_height() for bar in lower.patches] == [0, 5, 20]
    assert [bar.get_x() for bar in lower.patches] == pytest.approx([0, 1 / 3, 2 / 3])
    words = look.words(figure)
    assert "expected calibration error 0.123" in words
    assert {"confidence", "accuracy", "predictions"} <= set(words)


@pytest.mark.parametrize("classes", [1, 10, 30])
def test_curves_of_many_classes(classes: int, look):
    names = [f"a class with a long name {i}" for i in range(classes)]
    areas = {name: 0.5 + i / 100 for i, name in enumerate(names)}
    for figure in (
        roc_curves({name: (LINE, LINE ** (1 / (1 + i)), areas[name]) for i, name in enumerate(names)}),
        pr_curves({name: (LINE, 1 - LINE / (2 + i), areas[name]) for i, name in enumerate(names)}, 0.1),
    ):
        entries = [t.get_text().replace("\n", " ") for t in figure.legends[0].get_texts()]
        named = [e for e in entries if e.startswith("a class")]
        assert len(named) == min(classes, 20)
        assert ("10 classes of greater" in " ".join(entries)) == (classes == 30)
        assert named[0].startswith(
            "a class with a long name 0: A" if "AP" in named[0] else "a class with a long name 0: area 0.500"
        )
        assert look.cut(figure) == []
        assert look.overlapping(figure.legends[0].get_texts()) == []
        assert look.boxes(figure.legends[0].get_texts())[:, 0].min() > look.boxes([figure.axes[0].xaxis.label])[0, 2]


def test_what_guessing_attains_is_drawn_and_written(look):
    figure = pr_curves({"a": (LINE, 1 - LINE, 0.7), "b": (LINE, 1 - LINE, float("nan"))}, {"a": 0.25, "b": 0.75})
    assert sorted(line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":") == [0.25, 0.75]
    words = look.words(figure)
    assert "a: AP 0.700, chance 0.250" in words
    assert "b: AP not defined, chance 0.750" in words
    assert "chance" in look.words(roc_curves({"a": (LINE, LINE, 0.5)}))


def test_residuals_are_true_minus_predicted(look):
    figure = residuals([1.0, 2, 3, np.nan], [0.0, 2, 5, 1], "mm")
    first, second, third = figure.axes
    assert first.collections[0].get_offsets().tolist() == [[1, 0], [2, 2], [3, 5]]
    assert second.collections[0].get_offsets().tolist() == [[0, 1], [2, 0], [5, -2]]
    assert sum(bar.get_height() for bar in third.patches) == 3
    words = look.words(figure)
    assert "mean −0.333" in words
    assert any("1 of 4 samples left out" in w for w in words)
    assert any("(mm)" in w for w in words)
    assert look.cut(figure) == []


@pytest.mark.parametrize("n", [1, 2000])
def test_residuals_of_one_and_of_many(n: int, rng, look):
    figure = residuals(np.zeros(n), rng.normal(size=n))
    assert figure.axes[0].collections[0].get_rasterized() is (n > 500)
    assert look.cut(figure) == []


def test_class_samples_shows_the_first_of_each_class(rng, look):
    images = rng.random((6, 5, 5))
    long = "a class with an enormously long name that goes on"
    figure = class_samples(images, [1, 0, 1, 1, 1, 0], ["cat", "dog", long], per_class=3)
    shown = [axes.images[0].get_array().tolist() for axes in figure.axes if axes.images]
    assert shown == images[[1, 5, 0, 2, 3]].tolist()
    words = look.words(figure)
    for expected in ("cat", "2 images", "dog", "4 images", "0 images", "no image", long):
        assert expected in words
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion_matrix([[1, 2]], ["a", "b"]), r"counts has shape \(1, 2\)\. Give an array of shape \(2, 2\)"),
        (lambda: confusion_matrix([[1, -2], [0, 1]], ["a", "b"]), "counts holds a negative number"),
        (lambda: calibration_curve([1], [1, 2], [1, 2], 0.1), "different lengths: confidence 1, accuracy 2"),
        (lambda: roc_curves({"a": ([1, 2], [1], 0.5)}), "different lengths: false positive rate 2, true positive rate 1"),
        (lambda: pr_curves({"a": ([[1]], [1], 0.5)}), r"recall of 'a' has shape \(1, 1\)"),
        (lambda: residuals([1, 2], [1]), "different lengths: y 2, predicted 1"),
        (lambda: class_samples(np.zeros((2, 3, 3)), [0], ["a"]), "different lengths: images 2, labels 1"),
        (lambda: class_samples(np.zeros((2, 3, 3)), [0, 7], ["a"]), r"label 7 \(image 1\)\. Give whole numbers from 0 to 0"),
        (lambda: class_samples(np.zeros((2, 3, 3)), [0, 0], ["a"], 0), "per_class is 0"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_cure(call: Callable[[], Figure], message: str):
    with pytest.raises(InputError, match=message):
        call()
