"""Signed bars of table rows."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.visual.style import AGAINST, FOR
from pellucid.visual.tables import table_sheet


def widths(axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches]


def test_features_come_by_mean_relevance_and_the_rest_is_added_up(look):
    relevance = np.array([[1.0, -8, 0.5, 4, 0.25], [1, 8, -0.5, -4, 0.25]])
    figure = table_sheet(np.arange(10).reshape(2, 5), {"gradient": relevance}, list("abcde"), ["x", "y"], top=2)
    assert widths(figure.axes[0]) == [-8, 4, 1.75]
    assert widths(figure.axes[1]) == [8, -4, 0.75]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == pytest.approx((-8.64, 8.64))
    words = look.words(figure)
    for expected in ("b = 1", "d = 3", "other (3)", "b = 6", "x", "y", "gradient", "−8", "8"):
        assert expected in words


def test_one_leftover_feature_is_shown_and_not_pooled(look):
    words = look.words(table_sheet([[1, 2, 3]], {"a": [[3.0, 2, 1]]}, list("abc"), top=2))
    assert "c = 3" in words
    assert not any("other" in w for w in words)


def test_each_method_counts_the_same_in_the_order(look):
    figure = table_sheet([[0, 0]], {"small": [[0.9, 0.1]], "large": [[400.0, 600]]}, ["a", "b"])
    assert widths(figure.axes[0]) == [0.9, 0.1]  # 0.9 + 0.4 against 0.1 + 0.6


def test_colours_follow_the_sign(look):
    bars = table_sheet([[0, 0]], {"m": [[1.0, -1]]}, ["a", "b"]).axes[0].patches
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [FOR.upper(), AGAINST.upper()]


def test_values_are_written_as_a_person_would(look):
    values = np.array([["red", -0.123456, np.nan, 1e7]], dtype=object)
    words = look.words(table_sheet(values, {"m": [[4.0, 3, 2, 1]]}, ["colour", "b", "c", "d"]))
    for expected in ("colour = red", "b = −0.1235", "c = missing", "d = 1e+07"):
        assert expected in words


@pytest.mark.parametrize(
    ("end", "tick", "words"),
    [
        (0.3, 0.3, "0.3"),
        (88, 80, "80"),
        (1000, 1000, "1000"),
        (34567, 3e4, "3e4"),
        (0.0047, 4e-3, "4e-3"),
        (0.047, 0.04, "0.04"),
    ],
)
def test_numbers_under_the_bars_are_short_and_stand_where_they_are(end: float, tick: float, words: str, look):
    axes = table_sheet([[0, 0]], {"m": [[end, 0]]}, ["a", "b"]).axes[0]
    assert axes.get_xticks() == pytest.approx([-tick, 0, tick])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["−" + words, "0", words]


def test_no_evidence_and_nan(look):
    relevance = np.array([[0.0, 0, 0], [np.nan] * 3, [1, np.nan, -1]])
    words = look.words(table_sheet(np.zeros((3, 3)), {"m": relevance}, list("abc")))
    assert words.count("no evidence") == 1
    assert words.count("NaN") + words.count(" NaN") == 2


def test_numbers_under_narrow_panels_never_meet(look):
    ends = [1.01, 1.5, 1.99, 2.0, 2.9, 4.4, 9.9, 11.5, 19, 99, 150, 1900, 0.019, 0.0019, 2.9e-7, 1.9e12]
    figure = table_sheet([[0, 0]], {f"m{i}": [[end, 0]] for i, end in enumerate(ends)}, ["a", "b"])
    assert figure.axes[0].get_position().width * figure.get_figwidth() == pytest.approx(0.8)
    assert look.overlapping(look.texts(figure)) == []
    assert look.cut(figure) == []


@pytest.mark.parametrize("methods", [1, 12])
def test_nothing_overlaps_and_nothing_is_cut(methods: int, rng, look):
    relevance = {f"method_with_a_long_name_{i}": rng.normal(size=(2, 30)) * 10.0**i for i in range(methods)}
    features = [f"feature {i}" for i in range(29)] + ["an extraordinarily long name of a feature that nobody would ever write"]
    relevance["method_with_a_long_name_0"][:, 29] = 50
    figure = table_sheet(
        rng.normal(size=(2, 30)), relevance, features, ["benign, predicted malignant 0.5", "a class of a very long name " * 12]
    )
    assert look.cut(figure) == []
    assert look.overlapping(look.texts(figure)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 2]], {"a": [[1, 2, 3]]}, ["a", "b"]), r"maps\['a'\] has shape \(1, 3\)"),
        (([[1, 2]], {"a": [[1, 2]]}, ["a"]), r"values have shape \(1, 2\) with 1 features"),
        (([[1, 2]], {"a": [[1, 2]]}, ["a", "b"], ["x", "y"]), "2 titles for 1"),
        (([[1, 2]], {"a": [[1, 2]]}, ["a", "b"], ["x"], 0), "top is 0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, message: str):
    with pytest.raises(InputError, match=message):
        table_sheet(*arguments)
