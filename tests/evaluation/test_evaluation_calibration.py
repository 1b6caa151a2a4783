"""L3: the calibration curve and the expected calibration error."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from pellucid.core.errors import InputError
from pellucid.evaluation.calibration import calibration_bins, expected_calibration_error


def simulated(samples, *, overconfident=1.0):
    """Labels drawn from the stated probabilities, which are then sharpened."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet((1, 1, 1), samples)
    y = (rng.random(samples)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    sharp = p**overconfident
    return y, sharp / sharp.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("by", ["width", "mass"])
def test_labels_drawn_from_the_probabilities_are_calibrated_and_sharpened_ones_are_not(by):
    """L3: chance alone gives about 10 bins * 0.8 * sqrt(0.25 / 2,000) / 10 = 0.009 at most."""
    assert expected_calibration_error(*simulated(20_000), by=by) < 0.01
    assert expected_calibration_error(*simulated(20_000, overconfident=3), by=by) > 0.1


def test_bins_counted_by_hand():
    """L3: (0.5, 0.6] holds 0.6 and 0.55, (0.9, 1] holds 1; Guo et al.'s edges belong to the bin below."""
    y, p = [1, 0, 1], [0.6, 0.55, 1.0]
    bins = calibration_bins(y, p)
    assert [b.count for b in bins] == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert (bins[5].confidence, bins[5].accuracy) == (pytest.approx(0.575), 0.5)
    assert (bins[5].lower, bins[5].upper) == (pytest.approx(0.5), pytest.approx(0.6))
    assert np.isnan(bins[0].confidence)
    assert expected_calibration_error(y, p) == pytest.approx(2 / 3 * 0.075, abs=1e-9)


def test_the_bins_equal_scikit_learn_on_the_event_of_being_right():
    """L3."""
    y, p = simulated(3000, overconfident=2)
    for by, strategy in (("width", "uniform"), ("mass", "quantile")):
        right, confidence = calibration_curve(p.argmax(axis=1) == y, p.max(axis=1), n_bins=10, strategy=strategy)
        bins = [b for b in calibration_bins(y, p, by=by) if b.count]
        # scikit-learn interpolates the quantiles and we take a row's value, which may move one row of 300.
        atol = 1e-9 if by == "width" else 4e-3
        assert np.allclose([b.accuracy for b in bins], right, atol=atol)
        assert np.allclose([b.confidence for b in bins], confidence, atol=atol)


def test_bins_of_equal_mass_hold_equally_many_rows():
    y, p = simulated(1000)
    assert {b.count for b in calibration_bins(y, p, bins=8, by="mass")} == {125}


def test_bins_of_equal_mass_merge_where_all_rows_agree():
    (low, high) = calibration_bins([0, 1, 1], [0.7, 0.7, 0.7], by="mass")
    assert (low.count, high.count) == (3, 0)


def test_always_sure_and_always_wrong_is_the_worst_there_is():
    assert expected_calibration_error([0, 0], [1.0, 1.0]) == 1
    assert expected_calibration_error([1, 1], [1.0, 1.0]) == 0


@pytest.mark.parametrize(("options", "message"), [({"bins": 0}, "bins is 0"), ({"by": "weight"}, "by is 'weight'.*'width'")])
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        expected_calibration_error([0], [0.5], **options)
