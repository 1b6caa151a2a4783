"""What every figure keeps to, whatever it shows: one sweep over the table of figures."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pellucid.core.table import FIGURES
from pellucid.visual.style import new_figure, png, svg, theme

N = np.random.default_rng(0)
LINE = np.linspace(0, 1, 5)
FOUR = dict.fromkeys(("api", "apd", "ir", "dr"), LINE)
ROWS = [{"epoch": e, "train_loss": 1 / e, "loss": 1.1 / e, "accuracy": 1 - 0.5 / e} for e in (1, 2, 3)]

# One ordinary call and one with nothing to show for each figure.
ORDINARY: dict[str, tuple] = {
    "heatmap_sheet": (N.random((2, 6, 6)), {"gradient": N.normal(size=(2, 6, 6)), "grad_cam": N.random((2, 6, 6))}),
    "table_sheet": (N.normal(size=(2, 3)), {"gradient": N.normal(size=(2, 3))}, ["a", "b", "c"], ["x", "y"]),
    "dna_sheet": (["ACGTACGT"], {"gradient": N.normal(size=(1, 8))}, ["promoter"]),
    "learning_curves": (ROWS, 2),
    "confusion_matrix": (N.integers(0, 9, (3, 3)), ["a", "b", "c"]),
    "calibration_curve": (LINE, LINE**2, np.arange(5), 0.1),
    "roc_curves": ({"a": (LINE, LINE**0.5, 0.7), "b": (LINE, LINE**0.3, 0.8)},),
    "pr_curves": ({"a": (LINE, 1 - LINE / 2, 0.7)}, {"a": 0.3}),
    "residuals": (N.normal(size=20), N.normal(size=20), "mm"),
    "class_samples": (N.random((4, 6, 6)), [0, 1, 1, 0], ["a", "b"]),
    "quality_curves": (LINE, {"gradient": FOUR, "grad_cam": FOUR}),
    "shortcut_shares": ({"lime": {"shortcut": [0.4, 0.3, 0.5], "control": [0.1, 0.0, 0.2], "verdict": "reveals it"}}, 0.05),
    "shortcut_maps": (N.random((2, 6, 6)), np.ones((2, 6, 6), bool), {"shortcut": {"gradient": N.random((2, 6, 6))}}),
    "leaderboard": (
        {"occlusion": (1.4, 1.1, 1.9), "gradient": (2.2, 1.8, 2.6), "deconvnet": (3.0, 2.9, 3.0)},
        {"occlusion": True, "gradient": None, "deconvnet": False},
        {"occlusion": 0.02, "gradient": 0.0004, "deconvnet": 0.0004},
    ),
    "randomisation_curves": (["fc", "conv"], {"gradient": {"ssim": [0.5, 0.2], "rank": [0.3, 0.1]}}, {"ssim": 0.1}),
    "waterfall": ([61, "female", 23.4], 150.0, [12.5, -3, 20], ["age", "sex", "body mass index"]),
    "force": ([61, "female", 23.4], 150.0, [12.5, -3, 20], ["age", "sex", "body mass index"]),
    "beeswarm": (N.normal(size=(30, 3)), N.normal(size=(30, 3)), ["a", "b", "c"]),
    "importance": ({"one": N.normal(size=(30, 3)), "two": N.normal(size=(9, 3))}, ["a", "b", "c"]),
    "dependence": (N.normal(size=(30, 3)), N.normal(size=(30, 3)), "b", ["a", "b", "c"]),
    "text_sheet": ([["a", "fine", "film"], ["dull"]], {"gradient": [[0.1, 2, -1], [-3]]}, ["x", "y"]),
    "superpixel_sheet": (N.random((2, 6, 6)), np.arange(72).reshape(2, 6, 6) // 12, {"lime": [[1, -2, 3], [0, 1, 2]]}),
    "sequence_logo": (N.normal(size=(5, 4, 12)),),
}
EMPTY: dict[str, tuple] = {
    "heatmap_sheet": (np.zeros((0, 6, 6)), {}),
    "table_sheet": (np.zeros((0, 3)), {}, ["a", "b", "c"]),
    "dna_sheet": ([], {}),
    "learning_curves": ([],),
    "confusion_matrix": ([], []),
    "calibration_curve": ([], [], [], 0.0),
    "roc_curves": ({},),
    "pr_curves": ({},),
    "residuals": ([], []),
    "class_samples": ([], [], []),
    "quality_curves": ([], {}),
    "randomisation_curves": ([], {}),
    "leaderboard": ({},),
    "shortcut_shares": ({}, 0.05),
    "shortcut_maps": (np.zeros((0, 6, 6)), None, {}),
    "waterfall": ([], 0.0, [], []),
    "force": ([], 0.0, [], []),
    "beeswarm": ([], [], ["a", "b"]),
    "importance": (np.zeros((0, 2)), ["a", "b"]),
    "dependence": (np.zeros((0, 2)), np.zeros((0, 2)), "a", ["a", "b"]),
    "text_sheet": ([], {"gradient": []}),
    "superpixel_sheet": (np.zeros((0, 6, 6)), [], {}),
    "sequence_logo": (np.zeros((0, 4, 12)),),
}


@cache
def draw(name: str) -> Figure:
    """The ordinary figure of this name."""
    return FIGURES[name].value(*ORDINARY[name])


every_figure = pytest.mark.parametrize("name", sorted(ORDINARY))


def test_the_sweep_covers_the_whole_table():
    assert set(ORDINARY) == set(EMPTY) == set(FIGURES.names())
    assert set(FIGURES.families()) == {"explanation", "training", "evaluation", "quality", "data"}
    assert all(inspect.getdoc(entry.value) for entry in FIGURES)


@every_figure
def test_the_same_bytes_each_time_under_any_settings_which_stay_as_they_are(name: str):
    first = draw(name)
    bitmap, text = png(first, dpi=50), svg(first)
    assert png(first, dpi=50) == bitmap
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "mine", "text.color": "red"}):
        before = dict(matplotlib.rcParams)
        second = FIGURES[name].value(*ORDINARY[name])
        assert (png(second, dpi=50), svg(second)) == (bitmap, text)
        assert dict(matplotlib.rcParams) == before
    assert text.startswith("<svg ")
    assert "<text" in text
    assert "<dc:date>" not in text


@every_figure
def test_white_background_own_canvas_no_small_letters_nothing_cut(name: str, look):
    figure = draw(name)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert min(t.get_size() for t in look.texts(figure)) >= 7
    assert look.cut(figure) == []


@every_figure
def test_nothing_to_show_is_said_in_words(name: str, look):
    figure = FIGURES[name].value(*EMPTY[name])
    (words,) = look.words(figure)
    assert words.startswith(("There", "No"))
    assert look.cut(figure) == []


def test_settings_come_back_after_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), theme():
        matplotlib.rcParams["font.size"] = 1 / 0
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported():
    code = (
        "import sys; from pellucid.core.table import FIGURES; from pellucid.visual.style import png;"
        "png(FIGURES['confusion_matrix'].value([[1]], ['a'])); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spoil", [lambda f: f.text(0.95, 0.5, "too long to fit"), lambda f: f.text(0.5, 1.0, "x")])
def test_the_look_at_the_border_can_fail(spoil: Callable[[Figure], object], look):
    figure = new_figure(2, 1, constrained=False)
    figure.text(0.1, 0.5, "fits")
    assert look.cut(figure) == []
    spoil(figure)
    assert len(look.cut(figure)) == 1


def test_the_look_for_overlaps_can_fail(look):
    figure = new_figure(2, 1, constrained=False)
    texts = [figure.text(0.1, 0.5, "one"), figure.text(0.6, 0.5, "two")]
    assert look.overlapping(texts) == []
    texts.append(figure.text(0.12, 0.52, "three"))
    assert look.overlapping(texts) == [("one", "three")]
