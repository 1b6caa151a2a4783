"""Localisation beside Quantus, on the same maps and masks; where it counts otherwise, and where it is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.quality.known_truth import mass_on_truth, rank_agreement
from pellucid.quality.localisation import energy_in_box, pointing_game, top_k_intersection

SHAPE = (12, 9, 7)


def cases():
    """(N, H, W) masks and maps without a negative value or two alike."""
    rng = np.random.default_rng(0)
    return rng.random(SHAPE) < 0.3, rng.random(SHAPE)


def theirs(name, mask, maps, **options):
    quantus = pytest.importorskip("quantus")
    metric = getattr(quantus, name)(disable_warnings=True, **options)
    given = {"model": None, "x_batch": maps[:, None], "y_batch": np.zeros(len(maps), int), "softmax": False}
    return np.array(metric(**given, a_batch=maps[:, None], s_batch=mask[:, None]), dtype=float)


@pytest.mark.parametrize(
    ("name", "options", "ours", "more"),
    [
        ("PointingGame", {}, pointing_game, {}),
        ("TopKIntersection", {"k": 20}, top_k_intersection, {"k": 20}),
        ("RelevanceRankAccuracy", {}, top_k_intersection, {}),
        ("RelevanceMassAccuracy", {}, energy_in_box, {}),
        ("RelevanceMassAccuracy", {}, mass_on_truth, {}),
        ("AUC", {}, rank_agreement, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_quantus_localisation(name, options, ours, more):
    mask, maps = cases()
    wanted = theirs(name, mask, maps, **options)
    assert 0 < wanted.mean() < 1
    np.testing.assert_allclose(ours(mask, maps, **more).values, wanted, rtol=1e-9)


def even():
    """Maps that are the same but in the middle, where they are less: of constant ones Quantus says that it cannot judge."""
    maps = np.ones(SHAPE)
    maps[:, 4, 3] = 0.5
    return maps


def test_quantus_counts_one_of_several_greatest_positions_as_a_hit():
    mask, _ = cases()
    mask[:, 4, 3] = False
    assert (theirs("PointingGame", mask, even()) == 1).all()
    np.testing.assert_allclose(pointing_game(mask, even()).values, mask.sum((1, 2)) / 62, rtol=1e-12)


def test_quantus_takes_equals_in_an_order_of_its_own():
    """Where a mask lies decides what an even map is worth; here it does not."""
    corner = np.zeros(SHAPE, bool)
    corner[:, 0, :3] = True
    found = [theirs("TopKIntersection", mask, even(), k=3)[0] for mask in (corner, corner[:, ::-1, ::-1])]
    assert found[0] != found[1]
    for mask in (corner, corner[:, ::-1, ::-1]):
        np.testing.assert_allclose(top_k_intersection(mask, even(), k=3).values, 3 / 62, rtol=1e-12)


def test_quantus_divides_by_a_sum_with_signs():
    """Signed relevance has no share: what lies on the mask can be more than all of it, or less than nothing."""
    mask, maps = cases()
    signed = maps - 0.4
    found = theirs("RelevanceMassAccuracy", mask, signed)
    assert found.max() > 1 or found.min() < 0
    ours = energy_in_box(mask, signed).values
    np.testing.assert_allclose(ours, theirs("RelevanceMassAccuracy", mask, signed.clip(min=0)), rtol=1e-9)


def test_quantus_counts_an_empty_mask_as_a_hit():
    """Its not-a-number is written into truth values, where it is true; ``weighted`` cannot be written there at all."""
    mask, maps = cases()
    mask[0] = False
    found = theirs("PointingGame", mask, maps)
    assert found[0] == 1
    with pytest.raises(TypeError, match="boolean array indexing"):
        theirs("PointingGame", mask, maps, weighted=True)
    with pytest.raises(InputError, match="no cell"):
        pointing_game(mask, maps)
