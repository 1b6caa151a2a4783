"""F3: training and test side by side."""

import json

import numpy as np
import pytest

from pellucid.evaluation.generalisation import hold_out
from pellucid.evaluation.regression import mae, mse


def test_the_rates_the_risks_and_the_gap():
    """F3: as a 0/1 rate and as risk, with exact and Hoeffding intervals for the test error."""
    found = hold_out([0, 1], [0.1, 0.9], [0, 1, 1, 0], [0.1, 0.9, 0.8, 0.7])
    rate, risk = found.rows
    assert (rate.name, rate.training, rate.test, rate.gap) == ("error_rate", 0.0, 0.25, 0.25)
    assert risk.training == pytest.approx(-np.log(0.9), abs=1e-9)
    assert risk.gap == risk.test - risk.training
    assert (found.training_samples, found.test_samples) == (2, 4)
    assert found.hoeffding.lower <= found.exact.lower < 0.25 < found.exact.upper <= found.hoeffding.upper
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_other_measures_have_a_gap_and_no_interval_for_a_rate():
    """F3: regression."""
    found = hold_out([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [2.0, 2.0], measures=(mse, mae))
    assert [(row.name, row.gap) for row in found.rows] == [("mse", 0.5), ("mae", 0.5)]
    assert found.exact is found.hoeffding is None


def test_memorising_noise_shows_as_a_gap_and_honest_chance_does_not():
    """F3: labels that are coin flips."""
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    memorised = hold_out(train, train.astype(float), test, rng.random(400)).rows[0]
    honest = hold_out(train, rng.random(400), test, rng.random(400)).rows[0]
    assert memorised.gap > 0.4
    assert abs(honest.gap) < 0.11  # three standard errors
