"""F3: intervals for a test error."""

import numpy as np
import pytest
from scipy import stats

from pellucid.core.errors import InputError
from pellucid.evaluation.intervals import bootstrap, clopper_pearson, hoeffding


@pytest.mark.parametrize(("errors", "samples"), [(0, 20), (3, 20), (20, 20), (137, 1000)])
def test_clopper_pearson_is_the_inverted_binomial_test(errors, samples):
    """F3: P(X >= errors | lower) = P(X <= errors | upper) = 2.5 %; 0 and 1 at the ends."""
    found = clopper_pearson(errors, samples)
    if errors:
        assert stats.binom.sf(errors - 1, samples, found.lower) == pytest.approx(0.025, abs=1e-9)
    else:
        assert found.lower == 0
    if errors < samples:
        assert stats.binom.cdf(errors, samples, found.upper) == pytest.approx(0.025, abs=1e-9)
    else:
        assert found.upper == 1


@pytest.mark.parametrize("interval", [clopper_pearson, hoeffding])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_the_true_rate_is_inside_at_least_as_often_as_promised(interval, rate):
    """F3: coverage over 50 samples, added up exactly over the binomial distribution and by simulation."""
    inside = np.array([interval(k, 50).lower <= rate <= interval(k, 50).upper for k in range(51)])
    assert stats.binom.pmf(np.arange(51), 50, rate) @ inside >= 0.95
    drawn = np.random.default_rng(0).binomial(50, rate, 4000)
    assert inside[drawn].mean() > 0.94  # 0.95 less three standard errors


def test_the_coverage_check_can_fail():
    """A 95 % normal interval covers a rate of 2 % far too rarely."""
    k = np.arange(51)
    half = 1.96 * np.sqrt(k / 50 * (1 - k / 50) / 50)
    inside = np.abs(k / 50 - 0.02) <= half
    assert stats.binom.pmf(k, 50, 0.02) @ inside < 0.95


def test_hoeffding_is_its_closed_form():
    """F3: rate +- sqrt(log(2 / delta) / 2n); four times the samples, half the width; cut at 0."""
    found = hoeffding(400, 1000, level=0.9)
    assert found.upper - 0.4 == pytest.approx(np.sqrt(np.log(20) / 2000), abs=1e-12)
    wide, narrow = hoeffding(50, 100), hoeffding(200, 400)
    assert wide.upper - wide.lower == pytest.approx(2 * (narrow.upper - narrow.lower), abs=1e-12)
    assert hoeffding(0, 10).lower == 0


def test_the_bootstrap_is_near_the_normal_interval_and_follows_its_seed():
    """F3: mean of 2,000 normal numbers."""
    values = np.random.default_rng(1).normal(3, 1, 2000)
    found = bootstrap(values, np.positive, seed=4)
    assert found == bootstrap(values, np.positive, seed=4) != bootstrap(values, np.positive, seed=5)
    half = 1.96 * values.std() / np.sqrt(2000)
    # 1,000 resamples place an end to about a tenth of the half width.
    assert found.lower == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.15 * half)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((3, 2), "3 errors in 2 samples"), ((0, 0), "samples is 0"), ((-1, 2), "errors is -1"), ((0.5, 2), "errors is 0.5")],
)
def test_impossible_counts_are_refused(arguments, message):
    for interval in (clopper_pearson, hoeffding):
        with pytest.raises(InputError, match=message):
            interval(*arguments)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_impossible_levels_are_refused(level):
    for call in (lambda: clopper_pearson(1, 2, level=level), lambda: hoeffding(1, 2, level=level)):
        with pytest.raises(InputError, match=f"level is {level}"):
            call()
