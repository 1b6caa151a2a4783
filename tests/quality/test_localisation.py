"""Q4: the pointing game, the energy in a box and the first k positions, by hand and by their laws; boxes as masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from networks import GapLinear, network, samples
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.quality.localisation import boxes_to_masks, energy_in_box, pointing_game, top_k_intersection
from pellucid.quality.shortcut import relevance_on

MASK = np.array([[[1, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0]]], dtype=bool)
MAPS = np.array(
    [
        [[4.0, 1.0, 2.0], [-3.0, 0.0, 1.0]],  # peak on the mask, 5 of 8; first two 4 (on) and 2 (off)
        [[1.0, 3.0, 3.0], [0.0, 3.0, -9.0]],  # a third of the peaks; 3 of 10; the first place is shared by three
        [[-1.0, -2.0, 0.0], [-1.0, -4.0, -2.0]],  # nothing speaks for the class
    ]
)
ALL = {"pointing_game": pointing_game, "energy_in_box": energy_in_box, "top_k_intersection": top_k_intersection}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pointing_game", [1, 1 / 3, np.nan]),
        ("energy_in_box", [5 / 8, 3 / 10, np.nan]),
        ("top_k_intersection", [1 / 2, 1 / 3, np.nan]),
    ],
)
def test_by_hand(name, values):
    found = ALL[name](MASK, MAPS)
    np.testing.assert_allclose(found.values, values, rtol=1e-12)
    assert found.measure == name
    assert found.passes == 0
    assert found.notes == ("1 of 3 maps without positive relevance: no value",)
    assert float(found) == pytest.approx(np.mean(values[:2]))
    assert ALL[name](MASK[:2], MAPS[:2]).notes == ()


def test_k_by_hand():
    """Of the first map in order: 4 on, 2 off, then 1 on and 1 off, which share the third place."""
    values = [top_k_intersection(MASK[:1], MAPS[:1], k=k).values[0] for k in range(1, 7)]
    np.testing.assert_allclose(values, [1, 1 / 2, 1.5 / 3, 2 / 4, 2 / 5, 2 / 6], rtol=1e-12)


def test_tolerance_by_hand():
    """The peak is two to the right and one below: a distance of sqrt(5) between centres, which must be undercut."""
    mask, maps = np.zeros((1, 5, 6), bool), np.zeros((1, 5, 6))
    mask[0, 1, 1], maps[0, 2, 3] = True, 1
    hits = {t: pointing_game(mask, maps, tolerance=t).values[0] for t in (0, 1, 2.2, 5**0.5, 2.24, 3)}
    assert hits == {0: 0, 1: 0, 2.2: 0, 5**0.5: 0, 2.24: 1, 3: 1}
    line = pointing_game([[True, False, False, False]], np.array([[0.0, 0.0, 1.0, 0.0]]), tolerance=2.5)  # a sequence
    assert line.values == [1]


@pytest.mark.parametrize("name", list(ALL))
def test_the_best_map_the_worst_and_one_that_knows_nothing(name):
    mask = np.random.default_rng(0).random((7, 6, 5)) < 0.3
    assert (ALL[name](mask, mask * 2.0).values == 1).all()
    assert (ALL[name](mask, ~mask * 2.0).values == 0).all()
    np.testing.assert_allclose(ALL[name](mask, np.full(mask.shape, 3.0)).values, mask.mean((1, 2)), rtol=1e-12)
    rng = np.random.default_rng(1)
    noise = [float(ALL[name](mask, rng.normal(size=mask.shape))) for _ in range(300)]
    assert abs(np.mean(noise) - mask.mean()) < 4 * np.std(noise) / 300**0.5 + 1e-3


@pytest.mark.parametrize("name", list(ALL))
def test_of_a_sample_alone_and_of_any_positive_scale(name):
    rng = np.random.default_rng(2)
    mask, maps = rng.random((5, 4, 6)) < 0.4, rng.normal(size=(5, 4, 6))
    whole = ALL[name](mask, maps)
    alone = [ALL[name](mask[i : i + 1], maps[i : i + 1]).values[0] for i in range(5)]
    np.testing.assert_array_equal(whole.values, alone)
    np.testing.assert_allclose(ALL[name](mask, 1e-3 * maps).values, whole.values, rtol=1e-9)
    np.testing.assert_array_equal(ALL[name](torch.from_numpy(mask), torch.from_numpy(maps)).values, whole.values)
    turned = ALL[name](mask[:, ::-1], maps[:, ::-1])  # negative strides; sums in another order
    np.testing.assert_allclose(turned.values, whole.values, rtol=1e-12)
    np.testing.assert_array_equal(ALL[name](mask[0], maps).values, ALL[name](np.stack([mask[0]] * 5), maps).values)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(ALL))
def test_explanations_of_grey_and_colour(name, channels):
    if channels == 1:
        model, x = network(GapLinear), samples(GapLinear, 3)
    else:
        with pellucid.core.seeds.scoped(0, "colour"):
            model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).double().eval()
            x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    mask = torch.zeros(x.shape[2:], dtype=torch.bool)
    mask[2:5, 1:4] = True
    for method in ("gradient", "gradient_times_input"):  # the maximum over channels, and their sum
        made = pellucid.explain(model, x, method, target=1)[method]
        by_hand = made.relevance.amax(1) if method == "gradient" else made.relevance.sum(1)
        np.testing.assert_array_equal(ALL[name](mask, made).values, ALL[name](mask, by_hand).values)


def test_they_are_what_relevance_on_measures():
    rng = np.random.default_rng(3)
    mask, maps = rng.random((6, 9)) < 0.4, rng.normal(size=(6, 9))
    np.testing.assert_array_equal(energy_in_box(mask, maps).values, relevance_on(mask, maps).share)
    np.testing.assert_array_equal(pointing_game(mask, maps).values, relevance_on(mask, maps).peak)
    first = np.array([row[np.argsort(-r)[: row.sum()]].mean() for row, r in zip(mask, maps)])
    np.testing.assert_allclose(top_k_intersection(mask, maps).values, first, rtol=1e-12)


@pytest.mark.parametrize("name", list(ALL))
def test_they_are_among_the_measures(name):
    entry = MEASURES[name]
    assert entry.family == "localisation"
    assert {"asks": "truth", "mission": "Q4", "cost": "0", "larger_is_better": True}.items() <= entry.facts.items()
    assert all(entry.facts[word] for word in ("paper", "reading", "bias"))


def test_boxes_by_hand():
    masks = boxes_to_masks([[1, 0, 3, 2]], (3, 4))
    np.testing.assert_array_equal(masks, [[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]])
    assert masks.dtype == np.bool_
    several = boxes_to_masks([[[0, 0, 1, 1], [2, 1, 4, 3]], [0, 0, 4, 3]], (3, 4))
    np.testing.assert_array_equal(several[0], [[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    assert several[1].all()
    np.testing.assert_array_equal(boxes_to_masks(torch.tensor([[1, 3], [0, 1]]), (4,)), [[0, 1, 1, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize(("left", "right", "inside"), [(0.5, 2.5, [0, 1]), (0.51, 2.51, [1, 2]), (0, 3, [0, 1, 2])])
def test_a_pixel_is_inside_where_its_centre_is(left, right, inside):
    assert np.flatnonzero(boxes_to_masks([[left, right]], (5,))[0]).tolist() == inside


def test_a_box_of_the_object_gives_all_its_energy():
    maps = np.zeros((1, 6, 8))
    maps[0, 2:4, 5:8] = 1
    assert energy_in_box(boxes_to_masks([[5, 2, 8, 4]], (6, 8)), maps).values == [1]
    assert energy_in_box(boxes_to_masks([[5, 3, 7, 5]], (6, 8)), maps).values == pytest.approx(2 / 6)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([[0, 0, 5, 2]], r"the box \(0, 0, 5, 2\) is upside down or not inside \(3, 4\) \(sample 0\)"),
        ([[0, 0, 2, 2], [-1, 0, 2, 2]], "sample 1"),
        ([[2, 0, 2, 2]], "upside down"),
        ([[2, 2, 1, 3]], "not a width and a height"),
        ([[0, 0, np.nan, 2]], "upside down"),
        ([[0.6, 0, 1.4, 2]], "the centre of no pixel"),
        ([[]], r"shape \(0,\)"),
        ([[[0, 0, 1, 1]], []], "sample 1"),
        ([], "no boxes"),
        ([[0, 1]], "Give 4 numbers"),
    ],
)
def test_boxes_refuse(boxes, words):
    with pytest.raises(InputError, match=words):
        boxes_to_masks(boxes, (3, 4))


@pytest.mark.parametrize("name", list(ALL))
@pytest.mark.parametrize(
    ("mask", "maps", "words"),
    [
        (MASK, MAPS[:2], "shape"),
        (MASK * 0.5, MAPS, "other values"),
        (MASK & False, MAPS, "no cell"),
        (MASK | True, MAPS, "or all"),
        (MASK, MAPS * np.nan, "nan"),
    ],
)
def test_refusals(name, mask, maps, words):
    with pytest.raises(InputError, match=words):
        ALL[name](mask, maps)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: top_k_intersection(MASK, MAPS, k=0), "k is 0"),
        (lambda: top_k_intersection(MASK, MAPS, k=7), "a map has 6 positions"),
        (lambda: pointing_game(MASK, MAPS, tolerance=-1), "tolerance is -1"),
        (lambda: pointing_game(MASK, MAPS, tolerance=15), r"every position is nearer than 15 to the mask \(sample 0\)"),
    ],
)
def test_options_refuse(call, words):
    with pytest.raises(InputError, match=words):
        call()
