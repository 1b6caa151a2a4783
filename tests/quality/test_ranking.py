"""Ranks with paired intervals, on numbers whose order is known."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.quality.ranking import Column, rank


def columns(n=60, seed=0):
    """A hard-to-see but certain lead of a over b: every sample differs a lot, the pair never does by less than 0.05."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 10, n)
    return {
        "a": hard + 0.1,
        "b": hard + rng.uniform(-0.02, 0.02, n),
        "c": hard - 1,
        "nothing": hard - 1 + rng.normal(0, 0.01, n),
    }


def test_pairs_tell_what_intervals_cannot():
    found = rank({"m": Column(columns(), True, ["nothing"])}, seed=1).places["m"]
    assert found["a"].lower < found["b"].mean < found["a"].upper
    assert [found[name].rank for name in "abc"] == [1, 2, 3]
    assert found["nothing"].rank is None
    assert found["a"].best
    assert not found["b"].best
    assert found["a"].beats
    assert found["b"].beats
    assert not found["c"].beats


def test_smaller_may_be_better_and_equals_share():
    values = {name: -v for name, v in columns().items()}
    found = rank({"m": Column(values, False, ["nothing"])}).places["m"]
    assert [found[name].rank for name in "abc"] == [1, 2, 3]
    same = rank({"m": Column({"a": np.ones(5), "b": np.ones(5)}, True)})
    assert [same.places["m"][name].rank for name in "ab"] == [1.5, 1.5]
    assert same.places["m"]["a"].best
    assert same.places["m"]["b"].best
    assert same.places["m"]["a"].beats is None


def test_overall_is_the_mean_rank_over_the_measures():
    one = columns()
    swapped = {"a": one["b"], "b": one["a"], "c": one["c"], "nothing": one["nothing"]}
    both = rank({"m": Column(one, True, ["nothing"]), "w": Column(swapped, True, ["nothing"])})
    assert list(both.overall) in (["a", "b", "c"], ["b", "a", "c"])
    assert both.overall["a"] == both.overall["b"] == (1.5, 1.5, 1.5)
    assert both.overall["c"] == (3, 3, 3)
    noise = {name: np.random.default_rng(i).normal(0, 1, 40) for i, name in enumerate("xyz")}
    mean, lower, upper = rank({"m": Column(noise, True)}).overall["x"]
    assert lower <= mean <= upper
    assert upper - lower >= 1


def test_what_has_no_value_is_left_out():
    values = {"a": np.array([1.0, np.nan, 3.0]), "b": np.array([0.0, 1.0, np.nan]), "c": np.full(3, np.nan)}
    found = rank({"m": Column(values, True)})
    assert found.places["m"]["a"].mean == 2
    assert found.places["m"]["a"].samples == 2
    assert found.places["m"]["b"].mean == 0.5
    assert found.places["m"]["c"].rank is None
    assert np.isnan(found.places["m"]["c"].mean)
    assert "c" not in found.overall


def test_repeatable_and_refusals():
    assert rank({"m": Column(columns(), True)}, seed=4) == rank({"m": Column(columns(), True)}, seed=4)
    with pytest.raises(InputError, match="no measure"):
        rank({})
    with pytest.raises(InputError, match="different lengths"):
        Column({"a": np.ones(3), "b": np.ones(4)}, True)


def test_a_control_without_values_is_not_compared_with():
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=20), "constant_map": np.full(20, np.nan)}
    assert rank({"m": Column(values, True, ["constant_map"])}).places["m"]["a"].beats is None


def test_saying_nothing_of_hard_samples_is_no_advantage():
    hard = np.array([0.1] * 40 + [0.9] * 40)
    found = rank({"m": Column({"whole": hard, "blank": np.where(hard < 0.5, np.nan, hard)}, True)}).places["m"]
    assert found["blank"].mean == pytest.approx(0.9)
    assert found["blank"].samples == 40
    assert found["whole"].rank == found["blank"].rank == 1.5
    spread = {"a": np.arange(10.0), "b": np.arange(10.0) - 1, "blank": np.where(np.arange(10) < 5, np.nan, np.arange(10.0))}
    places = rank({"m": Column(spread, True)}).places["m"]
    assert [places[name].rank for name in ("a", "blank", "b")] == [1, 2, 3]
