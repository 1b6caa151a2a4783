"""F3, L3: regression against scikit-learn and closed forms."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pellucid.evaluation import regression as r

ATOL = 1e-9


def problem(samples=200, noise=1.0, shrink=1.0):
    rng = np.random.default_rng(0)
    y = rng.normal(5, 3, samples)
    return y, shrink * (y - 5) + 5 + noise * rng.normal(size=samples)


def test_the_measures_equal_scikit_learn():
    """F3, L3."""
    y, f = problem()
    expected = {
        r.mse: metrics.mean_squared_error,
        r.rmse: metrics.root_mean_squared_error,
        r.mae: metrics.mean_absolute_error,
        r.r2: metrics.r2_score,
        r.explained_variance: metrics.explained_variance_score,
        r.median_absolute_error: metrics.median_absolute_error,
        r.max_error: metrics.max_error,
        r.correlation: lambda y, f: np.corrcoef(y, f)[0, 1],
        r.bias: lambda y, f: f.mean() - y.mean(),
    }
    for measure, oracle in expected.items():
        assert measure(y, f) == pytest.approx(oracle(y, f), abs=ATOL), measure.__name__


def test_a_case_counted_by_hand():
    """F3: residuals 1, 0, -1, 2."""
    report = r.evaluate_regression([1, 2, 3, 6], [0, 2, 4, 4], y_train=[2, 4])
    assert (report.mse, report.mae, report.max_error, report.median_absolute_error, report.bias) == (1.5, 1, 2, 1, -0.5)
    assert report.r2 == pytest.approx(1 - 6 / 14, abs=ATOL)
    assert report.residuals.quantiles[0] == (0.0, -1.0)
    assert report.residuals.quantiles[-1] == (1.0, 2.0)


def test_the_baseline_is_the_training_mean():
    """F3: on the rows it comes from, its R2 is 0 and its MSE the variance."""
    y, f = problem()
    baseline = r.evaluate_regression(y, f, y_train=y).baseline
    assert baseline.prediction == [pytest.approx(y.mean())]
    assert baseline.scores["r2"] == pytest.approx(0, abs=ATOL)
    assert baseline.scores["mse"] == pytest.approx(y.var(), abs=ATOL)
    assert np.isnan(baseline.scores["correlation"])


def test_the_residuals_say_what_is_left_to_learn():
    """L3: predictions shrunk by a half leave a residual of the fitted value's own size, slope 1; skewed noise has skew."""
    y, f = problem(noise=0, shrink=0.5)
    assert r.evaluate_regression(y, f).residuals.slope == pytest.approx(1, abs=ATOL)
    rng = np.random.default_rng(0)
    normal = r.evaluate_regression(rng.normal(size=5000), np.zeros(5000)).residuals
    skewed = r.evaluate_regression(rng.exponential(size=5000), np.zeros(5000)).residuals
    assert abs(normal.skew) < 0.1  # three standard errors of sqrt(6 / 5,000)
    assert abs(normal.excess_kurtosis) < 0.21  # and of sqrt(24 / 5,000)
    assert skewed.skew == pytest.approx(2, abs=0.4)
    assert np.isnan(normal.slope)


def test_the_intervals_hold_the_value_and_follow_the_seed():
    """F3."""
    y, f = problem()
    one, same, other = (r.evaluate_regression(y, f, seed=s) for s in (1, 1, 2))
    assert one.mae_interval.lower < one.mae < one.mae_interval.upper
    assert one.rmse_interval.lower < one.rmse < one.rmse_interval.upper
    assert one == same
    assert one.mae_interval != other.mae_interval


def test_the_intervals_cover_the_true_error():
    """F3: 95 % bootstrap, 40 normal errors, E|e| = sqrt(2 / pi); a percentile interval falls a little short of its level."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        found = r.evaluate_regression(rng.normal(size=40), np.zeros(40)).mae_interval
        inside += found.lower <= np.sqrt(2 / np.pi) <= found.upper
    assert 86 <= inside <= 99


def test_what_is_undefined_is_noted_and_none_in_json():
    """L3: constant truth."""
    report = r.evaluate_regression([2.0, 2.0], [1.0, 3.0], y_train=[2.0])
    plain = report.to_json()
    assert plain["r2"] is plain["correlation"] is plain["explained_variance"] is None
    assert report.notes == ["all true values are equal, so R2 and correlation are undefined"]
    perfect = r.evaluate_regression([1.0], [1.0])
    assert (perfect.mae, perfect.mae_interval.upper) == (0, 0)


NUMBERS = st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: round(v, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_what_holds_for_any_prediction(pairs):
    """F3: |bias| <= MAE <= RMSE <= max error; R2 <= explained variance; the report survives JSON."""
    y, f = np.array(pairs).T
    report = r.evaluate_regression(y, f, y_train=y)
    slack = 1e-6
    assert abs(report.bias) <= report.mae + slack
    assert report.mae <= report.rmse + slack
    assert report.rmse <= report.max_error + slack
    assert not report.r2 > report.explained_variance + slack
    assert not abs(report.correlation) > 1 + slack
    plain = report.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert [name for name, *_ in report.headline()][:3] == ["rmse", "mae", "r2"]


def test_a_constant_has_no_correlation():
    """Its standard deviation may round to something above 0, and once gave a correlation of 1.97."""
    y = np.random.default_rng(0).uniform(25, 346, 90)
    assert np.isnan(r.correlation(y, np.full(90, y.mean())))
    assert np.isnan(r.correlation(np.full(90, 1.1), y))
    assert r.correlation(y, 2 * y + 1) == pytest.approx(1)
