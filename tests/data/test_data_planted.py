"""Shortcuts of other kinds than snow (see test_shortcut): the mark, the cast, the leaking column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pellucid.core.errors import InputError
from pellucid.data.planted import CAST, TINT, plant_leak, plant_shortcut
from pellucid.quality.shortcut import relevance_on


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("shape", [(30, 28, 28), (6, 64, 96, 3), (20, 8, 8)])
def test_a_mark_is_a_white_square_with_a_dark_rim_near_the_upper_left_corner(shape):
    images = pictures(*shape)
    before, where = images.copy(), np.arange(shape[0]) % 3 == 1
    planted = plant_shortcut(images, where, kind="mark", seed=3)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(planted.images[~planted.mask], images[~planted.mask])
    assert planted.mask.any((1, 2)).tolist() == where.tolist()
    for image, mask in zip(planted.images[where], planted.mask[where]):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(rows) == len(columns) < min(shape[1:3])
        assert mask.sum() == len(rows) ** 2
        assert max(rows[0], columns[0]) <= round(0.08 * min(shape[1:3]))
        inside = image[np.ix_(rows, columns)].reshape(len(rows), len(rows), -1)
        assert (inside[0] == 0).all()
        assert (inside[:, -1] == 0).all()
        middle = inside[len(rows) // 2, len(rows) // 2]
        assert (middle == middle[0]).all()
        assert middle[0] >= 0.85 * 255 - 1


def test_a_mark_can_be_seen_on_white_and_on_black():
    for level in (0, 255):
        planted = plant_shortcut(np.full((4, 20, 20), level, np.uint8), np.ones(4, bool), kind="mark")
        assert (planted.images != level).any((1, 2)).all()
        assert np.ptp(planted.images[planted.mask]) > 200


def test_a_cast_tints_everything_so_that_no_map_can_be_judged_by_it():
    colour, grey = pictures(5, 9, 7, 3), pictures(5, 9, 7)
    where = np.arange(5) < 3
    planted = plant_shortcut(colour, where, kind="colour_cast", seed=1)
    assert planted.mask[:3].all()
    assert not planted.mask[3:].any()
    np.testing.assert_array_equal(planted.images[3:], colour[3:])
    shares = (planted.images[0] - colour[0].astype(float)) / (np.array(TINT) - colour[0])
    far = np.abs(np.array(TINT) - colour[0].astype(float)) > 100
    assert shares[far].mean() == pytest.approx(np.median(shares[far]), abs=0.01)
    assert CAST[0] - 0.01 < shares[far].mean() < CAST[1] + 0.01
    assert (plant_shortcut(grey, where, kind="colour_cast").images >= grey).all()
    with pytest.raises(InputError, match="or all of them"):
        relevance_on(planted.mask[:3], np.ones((3, 9, 7)))


@pytest.mark.parametrize("kind", ["snow", "mark", "colour_cast"])
def test_a_row_depends_on_seed_and_number_alone(kind):
    images = pictures(8, 28, 28)
    everywhere = plant_shortcut(images, np.ones(8, bool), kind=kind, seed=2)
    once = plant_shortcut(np.concatenate([images[:4] // 2, images[4:5]]), np.arange(5) == 4, kind=kind, seed=2)
    np.testing.assert_array_equal(once.images[4], everywhere.images[4])
    np.testing.assert_array_equal(once.mask[4], everywhere.mask[4])
    assert not np.array_equal(everywhere.images, plant_shortcut(images, np.ones(8, bool), kind=kind, seed=3).images)


def test_marks_refuse():
    with pytest.raises(InputError, match="kind is 'rain'"):
        plant_shortcut(pictures(1, 9, 9), [True], kind="rain")
    with pytest.raises(InputError, match="too small for a mark"):
        plant_shortcut(pictures(1, 7, 30), [True], kind="mark")


def test_a_leak_agrees_as_often_as_said_and_names_others_evenly():
    y = np.arange(2000) % 3
    planted = plant_leak(np.zeros((2000, 2)), y, agreement=0.8, seed=4)
    column = planted.table[:, 2]
    assert planted.mask.tolist() == [False, False, True]
    assert (planted.table[:, :2] == 0).all()
    assert (column == y).mean() == pytest.approx(0.8, abs=0.03)
    wrong = (column - y)[column != y] % 3
    assert (wrong == 1).mean() == pytest.approx(0.5, abs=0.09)
    assert (plant_leak(np.zeros((2000, 2)), y, agreement=1.0).table[:, 2] == y).all()


def test_a_leak_of_one_class_in_a_frame_and_its_rows_alone():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": list("wxyz")})
    y = np.array([0, 2, 2, 1])
    planted = plant_leak(frame, y == 2, agreement=1.0, name="scanner")
    assert list(frame.columns) == ["a", "b"]
    assert list(planted.table.columns) == ["a", "b", "scanner"]
    assert planted.table["scanner"].tolist() == [0, 1, 1, 0]
    many = plant_leak(np.zeros((50, 1)), np.arange(50) % 4, agreement=0.5, classes=4, seed=1).table[:, 1]
    few = plant_leak(np.ones((9, 1)), np.r_[np.zeros(8, int), 0], agreement=0.5, classes=4, seed=1).table[:, 1]
    assert few[8] == many[8]


@pytest.mark.parametrize(
    ("table", "y", "more", "words"),
    [
        (np.zeros((2, 1)), [0.5, 1], {}, "y is float64"),
        (np.zeros((2, 1)), [-1, 1], {}, "y is int64"),
        (np.zeros((2, 1)), [0, 1, 1], {}, "different lengths"),
        (np.zeros(2), [0, 1], {}, "has shape"),
        (np.array([["a"], ["b"]]), [0, 1], {}, "the table is"),
        (np.zeros((2, 1)), [0, 1], {"agreement": 1.5}, "agreement is 1.5"),
        (np.zeros((2, 1)), [0, 3], {"classes": 3}, "classes is 3"),
        (pd.DataFrame({"leak": [1, 2]}), [0, 1], {}, "a column 'leak' already"),
    ],
)
def test_a_leak_refuses(table, y, more, words):
    with pytest.raises(InputError, match=words):
        plant_leak(table, y, **more)
