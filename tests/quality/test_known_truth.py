"""Q7, the measures: rank agreement and mass on truth, by hand, against slow ones, and by their laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import pellucid
from networks import Dense, network, samples
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.quality.known_truth import mass_on_truth, rank_agreement
from pellucid.quality.shortcut import relevance_on

NAN = np.nan


def slow(truth, relevance):
    """The definition, pair by pair."""
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0 for (t, a), (u, b) in itertools.permutations(zip(truth, relevance), 2) if t > u
    ]
    return np.mean(wins)


@pytest.mark.parametrize(
    ("truth", "relevance", "value"),
    [
        ([1, 1, 0, 0], [4, 2, 3, 1], 3 / 4),
        ([1, 1, 0, 0], [-4, 2, 3, 1], 3 / 4),  # the size counts, not the sign
        ([1, 1, 0, 0], [2, 2, 2, 0], (0.5 + 1 + 0.5 + 1) / 4),
        ([2, 1, 0], [3, 1, 2], 2 / 3),
        ([0.2, -0.1, 7], [1, 1, 1], 1 / 2),
        ([1, NAN, 0, NAN], [2, 9, 1, 0], 1),
        ([2, NAN, 1, 0], [1, 9, 2, 0], 2 / 3),
    ],
)
def test_rank_agreement_by_hand(truth, relevance, value):
    assert rank_agreement([truth], np.array([relevance], dtype=float)).values == pytest.approx([value], rel=1e-12)


def test_signed_relevance_asks_for_evidence_in_favour():
    maps = np.array([[-4.0, 2.0, 3.0, 1.0]])
    assert rank_agreement([[1, 1, 0, 0]], maps, absolute=False).values == [1 / 4]
    assert rank_agreement([[1, 1, 0, 0]], -maps, absolute=False).values == [3 / 4]


@pytest.mark.parametrize("levels", [2, 3, 5, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_rank_agreement_against_the_definition(levels, ties):
    rng = np.random.default_rng(levels)
    truth, maps = rng.integers(0, levels, (8, 4, 5)).astype(float), rng.normal(size=(8, 4, 5))
    maps = np.round(maps) if ties else maps
    unknown = rng.random(truth.shape) < 0.2
    for t in (truth, np.where(unknown, NAN, truth)):
        for absolute in (True, False):
            found = rank_agreement(t, maps, absolute=absolute).values
            r = abs(maps) if absolute else maps
            wanted = [slow(a[~np.isnan(a)], b[~np.isnan(a)]) for a, b in zip(t, r)]
            np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_of_a_truth_of_0_and_1_it_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(1)
    truth, maps = rng.random((6, 30)) < 0.3, rng.normal(size=(6, 30))
    wanted = [roc_auc_score(t, r) for t, r in zip(truth, maps)]
    np.testing.assert_allclose(rank_agreement(truth, maps, absolute=False).values, wanted, rtol=1e-12)


def test_graded_and_other_rows_in_one_batch():
    truth = np.array([[0, 0, 1, 1], [0, 1, 2, 3], [5, 5, 7, NAN]])
    maps = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [1, 2, 0, 9]])
    np.testing.assert_allclose(rank_agreement(truth, maps).values, [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("graded", [False, True])
def test_the_best_map_the_worst_a_constant_one_and_noise(graded):
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 4 if graded else 2, (40, 6, 7)).astype(float)
    assert rank_agreement(truth, 1 + truth).values == pytest.approx(np.ones(40))
    assert rank_agreement(truth, 9 - truth).values == pytest.approx(np.zeros(40))
    assert rank_agreement(truth, np.full(truth.shape, -2.0)).values == pytest.approx(np.full(40, 0.5))
    noise = rank_agreement(truth, rng.normal(size=truth.shape)).values
    assert abs(noise.mean() - 0.5) < 4 * noise.std() / 40**0.5


def test_any_growing_scale_and_the_batch_leave_it_alone():
    rng = np.random.default_rng(5)
    truth, maps = rng.integers(0, 3, (5, 9)).astype(float), rng.normal(size=(5, 9))
    whole = rank_agreement(truth, maps).values
    np.testing.assert_array_equal(rank_agreement(truth, maps**3 * 1e-9).values, whole)
    np.testing.assert_array_equal(rank_agreement(10 * truth - 3, maps).values, whole)
    np.testing.assert_array_equal([rank_agreement(t[None], r[None]).values[0] for t, r in zip(truth, maps)], whole)
    np.testing.assert_array_equal(rank_agreement(truth[:, ::-1], maps[:, ::-1]).values, whole)  # turned: negative strides
    np.testing.assert_array_equal(rank_agreement(truth[0], maps).values, rank_agreement(np.stack([truth[0]] * 5), maps).values)


def test_maps_that_say_nothing_have_no_value():
    truth, maps = np.array([[1, 0, 0]] * 3), np.array([[0.0, 0, 0], [-1, 0, 0], [1, 0, 0]])
    ranks, mass = rank_agreement(truth, maps), mass_on_truth(truth, maps)
    np.testing.assert_array_equal(ranks.values, [NAN, 1, 1])
    np.testing.assert_array_equal(mass.values, [NAN, NAN, 1])
    assert ranks.notes == ("1 of 3 maps are zero everywhere: no value",)
    assert mass.notes == ("2 of 3 maps without positive relevance: no value",)
    assert (ranks.passes, ranks.measure, mass.measure) == (0, "rank_agreement", "mass_on_truth")
    assert rank_agreement(truth[1:], maps[1:]).notes == ()


def test_mass_by_hand_and_either_of_two_copies_is_right():
    """Columns: one that counts, two copies, one that says nothing. A model that uses one copy is not wrong."""
    truth = [1, NAN, NAN, 0]
    for maps in ([3.0, 6, 0, 1], [3.0, 0, 6, 1], [3.0, 3, 3, 1]):
        assert mass_on_truth(truth, np.array([maps])).values == pytest.approx([0.9])
        assert rank_agreement(truth, np.array([maps])).values == [1]
    assert mass_on_truth([0.5, 2, 0, 0], np.array([[1.0, 2, 1, -7]])).values == [0.75]  # graded: wherever there is any


def test_mass_is_the_share_of_relevance_on_the_truth():
    rng = np.random.default_rng(6)
    truth, maps = rng.random((5, 4, 6)) < 0.4, rng.normal(size=(5, 4, 6))
    np.testing.assert_array_equal(mass_on_truth(truth, maps).values, relevance_on(truth, maps).share)
    np.testing.assert_array_equal(
        mass_on_truth(torch.from_numpy(truth), torch.from_numpy(maps)).values, relevance_on(truth, maps).share
    )
    turned = mass_on_truth(truth[:, ::-1], maps[:, ::-1])  # negative strides; sums in another order
    np.testing.assert_allclose(turned.values, relevance_on(truth, maps).share, rtol=1e-12)
    assert (mass_on_truth(truth, truth * 3.0).values == 1).all()
    assert (mass_on_truth(truth, ~truth * 3.0).values == 0).all()
    np.testing.assert_allclose(mass_on_truth(truth, np.ones(truth.shape)).values, truth.mean((1, 2)), rtol=1e-12)


def test_explanations():
    made = pellucid.gradient_times_input(network(Dense), samples(Dense, 3))
    truth = np.arange(made.relevance.shape[1]) < 2
    maps = made.relevance.numpy()
    np.testing.assert_array_equal(rank_agreement(truth, made).values, rank_agreement(truth, maps).values)
    np.testing.assert_array_equal(mass_on_truth(truth, made).values, mass_on_truth(truth, maps).values)


@pytest.mark.parametrize("name", ["rank_agreement", "mass_on_truth"])
def test_they_are_among_the_measures(name):
    entry = MEASURES[name]
    assert entry.family == "known truth"
    assert {"asks": "truth", "mission": "Q7", "cost": "0", "larger_is_better": True}.items() <= entry.facts.items()
    assert all(entry.facts[word] for word in ("paper", "reading", "bias"))


@pytest.mark.parametrize(
    ("measure", "truth", "maps", "words"),
    [
        (rank_agreement, [[1, 0]], np.ones((2, 2)), "a truth of shape"),
        (rank_agreement, [1, 0], np.ones(2), "a truth of shape"),
        (rank_agreement, np.ones((0, 2)), np.ones((0, 2)), "a truth of shape"),
        (rank_agreement, [[1, 0], [1, 1]], np.ones((2, 2)), r"tells no two positions apart \(sample 1\)"),
        (rank_agreement, [[1, NAN]], np.ones((1, 2)), "tells no two positions apart"),
        (rank_agreement, [[1, np.inf]], np.ones((1, 2)), r"infinite or unknown \(sample 0\)"),
        (rank_agreement, [[NAN, NAN]], np.ones((1, 2)), "infinite or unknown"),
        (rank_agreement, [[1, 0]], np.array([[1, NAN]]), "nan"),
        (mass_on_truth, [[1, 0]], np.ones((2, 2)), "shape"),
        (mass_on_truth, [[0, 0]], np.ones((1, 2)), "no cell"),
        (mass_on_truth, [[1, NAN]], np.ones((1, 2)), "or all"),
        (mass_on_truth, [[1, 0]], np.array([[1, NAN]]), "nan"),
    ],
)  # fmt: skip
def test_refusals(measure, truth, maps, words):
    with pytest.raises(InputError, match=words):
        measure(truth, maps)
