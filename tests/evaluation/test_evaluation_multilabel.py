"""F3, L3: several labels per row."""

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics

from pellucid.core.errors import InputError
from pellucid.evaluation import multilabel as m

ATOL = 1e-9


def problem(samples=300):
    rng = np.random.default_rng(0)
    y = (rng.random((samples, 3)) < (0.5, 0.3, 0.1)).astype(int)
    return y, 1 / (1 + np.exp(-(2 * y - 1 + rng.normal(size=y.shape))))


def test_the_measures_equal_scikit_learn():
    """F3, L3."""
    y, p = problem()
    predicted = p >= 0.5
    expected = {
        m.subset_error: metrics.zero_one_loss(y, predicted),
        m.hamming_loss: metrics.hamming_loss(y, predicted),
        m.multilabel_log_loss: np.mean([metrics.log_loss(y[:, k], p[:, k]) for k in range(3)]),
        m.multilabel_f1: metrics.f1_score(y, predicted, average="macro"),
        m.multilabel_auc: metrics.roc_auc_score(y, p),
        m.multilabel_average_precision: metrics.average_precision_score(y, p),
    }
    for measure, value in expected.items():
        assert measure(y, p) == pytest.approx(value, abs=ATOL), measure.__name__
    rows = m.evaluate_multilabel(y, p).per_label
    precision, recall, f1, support = metrics.precision_recall_fscore_support(y, predicted)
    for k, row in enumerate(rows):
        assert (row.precision, row.recall, row.f1) == pytest.approx((precision[k], recall[k], f1[k]), abs=ATOL)
        assert row.support == support[k]


def test_the_report_stands_beside_the_label_frequencies():
    """F3: with the test's own frequencies the baseline's risk is the mean entropy of the labels."""
    y, p = problem()
    report = m.evaluate_multilabel(y, p, ["a", "b", "c"], y_train=y)
    q = y.mean(axis=0)
    assert report.baseline.prediction == pytest.approx(q.tolist())
    assert report.baseline.scores["risk"] == pytest.approx(-np.mean(q * np.log(q) + (1 - q) * np.log(1 - q)), abs=ATOL)
    assert report.error < report.baseline.scores["error"]
    assert report.headline()[0] == ("subset_error", report.error, report.baseline.scores["error"])
    assert report.error_interval.lower < report.error < report.error_interval.upper
    assert [c.name for c in report.pr] == ["a", "b", "c"]
    plain = report.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_labels_that_never_or_always_hold_are_noted_without_a_warning():
    """L3."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = m.evaluate_multilabel([[0, 1], [0, 1]], [[0.1, 0.9], [0.2, 0.4]])
    assert np.isnan([report.auc, report.per_label[0].recall, report.per_label[0].f1]).all()
    assert report.macro_f1 == pytest.approx(2 / 3)
    assert report.notes == [
        "without a row here, so without recall and curves: 0",
        "holds for every row here, so without a ROC curve: 1",
        "never predicted, so without precision: 0",
    ]
    assert np.isnan(m.multilabel_f1([[0]], [[0.1]]))


def test_training_labels_of_another_width_are_refused():
    with pytest.raises(InputError, match="training labels have 3 columns, labels 2"):
        m.evaluate_multilabel([[0, 1]], [[0.1, 0.9]], y_train=[[0, 1, 1]])
