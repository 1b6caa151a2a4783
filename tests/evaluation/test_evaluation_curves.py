"""L3: ROC and precision-recall."""

import numpy as np
import pytest
from sklearn import metrics

from pellucid.evaluation import curves

ATOL = 1e-9


def columns(samples=400, classes=3, digits=None):
    rng = np.random.default_rng(0)
    y = (rng.random((samples, classes)) < [0.5, 0.2, 0.05][:classes]).astype(int)
    p = 1 / (1 + np.exp(-(2 * y - 1 + rng.normal(size=y.shape))))
    return y, p if digits is None else p.round(digits)


@pytest.mark.parametrize("digits", [None, 1], ids=["distinct", "ties"])
def test_the_areas_equal_scikit_learn(digits):
    """L3: AUC by pairs, average precision by steps."""
    y, p = columns(digits=digits)
    roc, pr = curves.roc_curves(y, p), curves.pr_curves(y, p)
    for k in range(3):
        assert roc[k].area == pytest.approx(metrics.roc_auc_score(y[:, k], p[:, k]), abs=ATOL)
        assert pr[k].area == pytest.approx(metrics.average_precision_score(y[:, k], p[:, k]), abs=ATOL)


def test_the_auc_is_the_share_of_pairs_in_order():
    """L3: a tie counts half."""
    y, p = columns(60, 1, digits=1)
    one, zero = p[y == 1][:, None], p[y == 0][None]
    assert curves.auc(y[:, 0], p[:, 0]) == pytest.approx(np.mean((one > zero) + (one == zero) / 2), abs=ATOL)


def test_the_curves_are_thinned_for_drawing_and_their_areas_are_not():
    """L3: at most 101 points, both ends kept, the ROC never falls."""
    y, p = columns(20_000, 1)
    (roc,), (pr,) = curves.roc_curves(y, p, ["a"]), curves.pr_curves(y, p, ["a"])
    for curve in (roc, pr):
        assert curve.name == "a"
        assert len(curve.x) == len(curve.y) <= curves.POINTS
        assert (np.diff(curve.x) >= 0).all()
        assert (curve.x[0], curve.x[-1]) == (0, 1)
    assert (np.diff(roc.y) >= 0).all()
    assert (roc.y[0], roc.y[-1]) == (0, 1)
    assert roc.area == pytest.approx(metrics.roc_auc_score(y[:, 0], p[:, 0]), abs=ATOL)


def test_a_perfect_order_has_area_1_and_a_constant_one_half():
    y = np.array([0, 0, 1, 1])
    assert curves.auc(y, [0.1, 0.2, 0.3, 0.4]) == curves.average_precision(y, [0.1, 0.2, 0.3, 0.4]) == 1
    assert curves.auc(y, [0.3] * 4) == curves.average_precision(y, [0.3] * 4) == 0.5


def test_columns_that_cannot_have_a_curve_have_none():
    y, p = np.array([[0, 1, 1], [0, 1, 0]]), np.full((2, 3), 0.5)
    assert [c.name for c in curves.roc_curves(y, p)] == ["2"]
    assert [c.name for c in curves.pr_curves(y, p)] == ["1", "2"]
    assert np.isnan(curves.mean_area([]))
