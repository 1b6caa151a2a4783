"""Q6: relevance on a mark by hand and by its laws, the planted snow, and a model that is known to use the mark."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid
from networks import GapLinear, network, samples
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.data.planted import COVER, FAINTEST, HEIGHT, STRENGTH, WIDTH, plant_shortcut
from pellucid.quality.shortcut import relevance_on

MASK = np.array([[[True, False], [False, False]], [[True, True], [False, False]], [[False, True], [False, False]]])
MAPS = np.array([[[3.0, -9.0], [1.0, 0.0]], [[-1.0, -2.0], [0.0, -3.0]], [[2.0, 2.0], [-5.0, 2.0]]])


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 200, shape).astype(np.uint8)


def test_by_hand():
    found = relevance_on(MASK, MAPS)
    np.testing.assert_allclose(found.share, [0.75, np.nan, 1 / 3], rtol=1e-12)
    np.testing.assert_allclose(found.peak, [1, np.nan, 1 / 3], rtol=1e-12)
    np.testing.assert_array_equal(found.area, [0.25, 0.5, 0.25])
    assert found.blank.tolist() == [False, True, False]
    assert float(found) == pytest.approx((0.75 + 1 / 3) / 2)
    assert found.chance == pytest.approx(1 / 3)
    assert len(found) == 3


def test_maps_without_positive_relevance_have_no_share():
    assert np.isnan(float(relevance_on(MASK[:1], -np.ones((1, 2, 2)))))


@pytest.mark.parametrize("factor", [1e-200, 1e300, 7.0])
def test_the_scale_of_a_map_and_its_negative_part_do_not_matter(factor):
    maps = np.random.default_rng(0).normal(size=(6, 5, 4))
    mask = np.random.default_rng(1).random((6, 5, 4)) < 0.3
    plain, other = relevance_on(mask, maps), relevance_on(mask, factor * np.where(maps < 0, maps * 1e-3, maps))
    np.testing.assert_allclose(other.share, plain.share, rtol=1e-9)
    np.testing.assert_array_equal(other.peak, plain.peak)


def test_the_parts_of_a_map_add_up_and_an_even_map_is_at_chance():
    maps = np.random.default_rng(2).random((4, 3, 7))
    mask = np.random.default_rng(3).random((4, 3, 7)) < 0.4
    inside, outside = relevance_on(mask, maps), relevance_on(~mask, maps)
    np.testing.assert_allclose(inside.share + outside.share, 1, rtol=1e-12)
    even = relevance_on(mask, np.ones((4, 3, 7)))
    np.testing.assert_allclose(even.share, even.area, rtol=1e-12)
    np.testing.assert_allclose(even.peak, even.area, rtol=1e-12)


def test_an_explanation_a_shared_mask_and_other_axes():
    model, x = network(GapLinear), samples(GapLinear, 3)
    made = pellucid.gradient_times_input(model, x)
    mask = torch.zeros(made.map().shape[1:], dtype=torch.bool)
    mask[:2] = True
    by_hand = made.relevance.sum(1).clamp(min=0)
    np.testing.assert_allclose(
        relevance_on(mask, made).share, by_hand[:, :2].sum((1, 2)) / by_hand.sum((1, 2)), rtol=1e-9, equal_nan=True
    )
    assert relevance_on([True, False, False], torch.tensor([[1.0, 1.0, 2.0]])).share == pytest.approx([0.25])  # a table's row


@pytest.mark.parametrize(
    ("mask", "maps", "words"),
    [
        (MASK, MAPS[:2], "shape"),
        (MASK[0, 0], MAPS[0, 0], "shape"),
        (MASK[:0], MAPS[:0], "shape"),
        (MASK * 0.5, MAPS, "other values"),
        (MASK & False, MAPS, "no cell"),
        (MASK | True, MAPS, "or all"),
        (MASK, MAPS * np.nan, "nan"),
    ],
)
def test_refusals(mask, maps, words):
    with pytest.raises(InputError, match=words):
        relevance_on(mask, maps)


def test_it_is_among_the_measures():
    assert MEASURES["relevance_on"].family == "shortcut"


class Bright(nn.Module):
    """Two classes told apart by nothing but the brightness of the lowest rows: a model that has learned the snow."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        seen = x[..., self.rows, :].mean((1, 2, 3))
        return torch.stack([1 - seen, seen], 1)


def test_methods_point_at_the_mark_where_it_is_all_that_the_model_uses_and_nowhere_near_it_otherwise():
    planted = plant_shortcut(np.zeros((3, 28, 28), np.uint8), np.ones(3, bool), seed=1)
    x = torch.from_numpy(planted.images / 255)[:, None]
    lowest = int(np.flatnonzero(planted.mask.any((0, 2))).min())
    for name in ("gradient_times_input", "occlusion"):
        on = relevance_on(planted.mask, pellucid.explain(Bright(slice(lowest, None)), x, name, target=1)[name])
        assert (on.share > (0.999 if name == "gradient_times_input" else 0.4)).all(), name
        assert relevance_on(planted.mask, pellucid.explain(Bright(slice(0, 4)), x, name, target=1)[name]).blank.all(), name


@pytest.mark.parametrize("shape", [(40, 28, 28), (6, 64, 96, 3)])
def test_snow_lies_on_the_lower_edge_of_the_chosen_pictures_and_only_brightens(shape):
    images = pictures(*shape)
    before, where = images.copy(), np.arange(shape[0]) % 2 == 1
    planted = plant_shortcut(images, where, seed=3)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(planted.images[~where], images[~where])
    assert planted.mask.any((1, 2)).tolist() == where.tolist()
    changed = (planted.images != images).reshape(*shape[:3], -1).any(3)
    assert (planted.images >= images).all()
    assert not (changed & ~planted.mask).any()
    assert changed[where].any((1, 2)).all()
    for mask in planted.mask[where]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert rows[-1] == shape[1] - 1
        assert mask.sum() == len(rows) * len(columns)
        assert HEIGHT[0] - 0.5 / shape[1] <= len(rows) / shape[1] <= HEIGHT[1] + 0.5 / shape[1]
        assert WIDTH[0] - 0.5 / shape[2] <= len(columns) / shape[2] <= WIDTH[1] + 0.5 / shape[2]


def test_snow_varies_in_place_size_and_strength_within_what_is_said():
    planted = plant_shortcut(np.zeros((60, 28, 28), np.uint8), np.ones(60, bool))
    assert len(np.unique(planted.mask.reshape(60, -1), axis=0)) > 40
    flakes = planted.images[planted.mask]
    cover = (flakes > 0).mean()
    assert COVER[0] < cover < COVER[1]
    seen = flakes[flakes > 0] / 255
    assert STRENGTH[0] * FAINTEST - 1 / 255 <= seen.min() < seen.max() <= STRENGTH[1]
    assert np.ptp(planted.images.max((1, 2)) / 255) > 0.15


def test_snow_of_a_row_depends_on_the_seed_and_its_number_alone():
    images = pictures(8, 28, 28)
    everywhere = plant_shortcut(images, np.ones(8, bool), seed=2)
    once = plant_shortcut(images[:5] // 2, np.arange(5) == 4, seed=2)
    np.testing.assert_array_equal(once.mask[4], everywhere.mask[4])
    assert not np.array_equal(everywhere.mask, plant_shortcut(images, np.ones(8, bool), seed=3).mask)


@pytest.mark.parametrize(
    ("images", "where", "words"),
    [
        (np.zeros((2, 28, 28)), np.ones(2, bool), "float64"),
        (np.zeros((2, 28), np.uint8), np.ones(2, bool), "images are"),
        (np.zeros((2, 28, 28), np.uint8), [0, 1], "where is"),
        (np.zeros((2, 28, 28), np.uint8), np.ones(3, bool), "different lengths"),
    ],
)
def test_snow_refuses(images, where, words):
    with pytest.raises(InputError, match=words):
        plant_shortcut(images, where)


def test_arrays_in_any_order_of_memory():
    mask, maps = np.eye(3, dtype=bool), np.arange(18.0).reshape(2, 3, 3)
    np.testing.assert_array_equal(relevance_on(mask[:, ::-1], maps[..., ::-1]).share, relevance_on(mask, maps).share)
