"""A feature's value against its relevance, and the choice of its partner."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.visual.dependence import WIDE, dependence, interaction


def table(rng: np.random.Generator, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Feature 0 interacts with the number 2, feature 2 with the category 1, feature 3 with nothing."""
    x = rng.normal(size=(n, 4))
    raw = x.astype(object)
    raw[:, 1] = np.where(x[:, 1] > 0, "yes", "no")
    r = np.zeros((n, 4))
    r[:, 0] = 3 * x[:, 0] + x[:, 0] * x[:, 2] + 0.1 * rng.normal(size=n)
    r[:, 2] = x[:, 2] * np.where(x[:, 1] > 0, 1, -1)
    r[:, 3] = x[:, 3] ** 3
    return raw, r


def test_the_partner_is_the_feature_that_explains_the_spread(rng):
    raw, r = table(rng)
    share = interaction(raw, r[:, 0], 0)
    assert share[2] > 0.8
    assert share[[0, 1, 3]].max() < 0.2
    share = interaction(raw, r[:, 2], 2)
    assert share[1] > 0.8
    assert share[[0, 2, 3]].max() < 0.2
    noise = interaction(raw, rng.normal(size=len(raw)), 3)
    assert noise.max() < 0.1
    missing = raw.copy()
    missing[::5, 0] = np.nan
    assert np.argmax(interaction(missing, r[:, 0], 0)) == 2


def test_what_the_own_value_explains_is_no_interaction():
    x = np.linspace(-1, 1, 200)
    raw = np.column_stack([x, x + 0.01 * np.sin(50 * x)])  # nearly the same feature
    assert interaction(raw, 5 * x, 0).tolist() == [0, 0]
    assert interaction(raw[:2], x[:2], 0).tolist() == [0, 0]


def test_points_stand_at_value_and_relevance_in_the_colour_of_the_partner(rng, look):
    raw, r = table(rng)
    figure = dependence(raw, r, "b0", ["b0", "b1", "b2", "b3"], unit="mm", title="how it depends")
    points = figure.axes[0].collections[0]
    x, y = np.asarray(points.get_offsets()).T
    assert y == pytest.approx(r[:, 0])
    own = raw[:, 0].astype(float)
    slope, start = np.polyfit(own, x, 1)
    assert x == pytest.approx(start + slope * own)
    assert 0 < x.min() < x.max() < WIDE
    words = look.words(figure)
    assert {"b0 (mm)", "relevance of b0", "b2", "how it depends"} <= set(words)
    assert any("b2 explains" in w and "at about equal b0" in w for w in words)


def test_the_colour_can_be_chosen_or_left_out(rng, look):
    raw, r = table(rng)
    names = ["b0", "b1", "b2", "b3"]
    words = look.words(dependence(raw, r, 0, names, colour="b1"))
    assert {"b1", "yes", "no"} <= set(words)
    assert not any("explains" in w for w in words)
    plain = dependence(raw, r, 3, names)
    assert len(plain.axes[0].collections[0].get_facecolors()) == 1
    assert len(plain.axes) == 1


def test_categories_stand_on_ticks_and_missing_values_at_the_side(rng, look):
    values = np.array([["b", 1.0], ["a", 2.0], [None, 3.0], ["b", np.nan]], dtype=object)
    figure = dependence(values, [[1.0, 1], [2, 1], [3, 1], [1, 1]], 0, ["kind", "size"])
    x = np.asarray(figure.axes[0].collections[0].get_offsets())[:, 0]
    assert x[2] < x[1] < min(x[0], x[3])
    assert x[0] != x[3]  # one value, one relevance: beside each other
    assert {"missing", "a", "b"} <= set(look.words(figure))
    figure = dependence(values, [[1.0, 1], [2, 5], [3, 2], [1, 3]], "size", ["kind", "size"])
    x = np.asarray(figure.axes[0].collections[0].get_offsets())[:, 0]
    assert x[3] < x[0] < x[1] < x[2]
    assert "missing" in look.words(figure)


def test_rare_categories_are_put_together(rng, look):
    values = np.array([[f"kind {i % 40}"] for i in range(200)], dtype=object)
    assert "other (28)" in look.words(dependence(values, rng.normal(size=(200, 1)), 0, ["kind"]))


@pytest.mark.parametrize(("own", "colour", "scale"), [(0, 1, 1e-9), (1, 0, 1e9), (2, 2, 1.0), (2, 0, 1e9)])
def test_nothing_overlaps_and_nothing_is_cut(own: int, colour: int, scale: float, rng, look):
    n = 60
    raw = (rng.normal(size=(n, 3)) * scale).astype(object)
    raw[:, 1] = rng.choice([f"a category of a long name {i}" for i in range(20)], n)
    raw[::7] = None
    names = ["a very long name of a feature " * 4, "kind " * 20, "c"]
    figure = dependence(raw, rng.normal(size=(n, 3)) * scale, own, names, colour=colour, title="title " * 40)
    assert look.cut(figure) == []
    assert look.overlapping([t for t in look.texts(figure) if t.get_rotation() != 45]) == []


def test_no_evidence_and_nan(look):
    assert "no evidence" in look.words(dependence([[1.0], [2]], [[0.0], [0]], 0, ["a"]))
    assert "NaN" in look.words(dependence([[1.0], [2]], [[np.nan], [np.nan]], 0, ["a"]))
    figure = dependence([[1.0], [2], [3]], [[1.0], [np.nan], [2]], 0, ["a"])
    assert len(figure.axes[0].collections[0].get_offsets()) == 2
    assert any("1 of 3 relevances are NaN and left out" in w for w in look.words(figure))
    assert len(dependence([[np.nan]], [[1.0]], 0, ["a"]).axes[0].collections[0].get_offsets()) == 1


@pytest.mark.parametrize(
    ("feature", "colour", "message"),
    [
        ("agee", None, "feature is 'agee'. Did you mean 'age'"),
        (2, None, "feature is 2 of 2 features. Give a feature's name or position"),
        (0, "sexx", "colour is 'sexx'. Did you mean 'sex'"),
    ],
)
def test_unknown_features_are_refused(feature, colour, message: str):
    with pytest.raises(InputError, match=message):
        dependence(np.zeros((2, 2)), np.zeros((2, 2)), feature, ["age", "sex"], colour=colour)
