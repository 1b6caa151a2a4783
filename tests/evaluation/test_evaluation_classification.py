"""F3, L3, C12: classification against scikit-learn and closed forms."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pellucid.core.errors import InputError
from pellucid.evaluation import classification as c
from pellucid.evaluation.curves import auc, average_precision

ATOL = 1e-9


def problem(seed, samples=300, classes=4, strength=1.5):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes)) + strength * np.eye(classes)[y]
    p = np.exp(logits)
    return y, p / p.sum(axis=1, keepdims=True)


@st.composite
def problems(draw):
    """Any size, coarse probabilities with ties and zeros."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    weights = draw(st.lists(st.lists(st.integers(0, 3), min_size=k, max_size=k).filter(any), min_size=n, max_size=n))
    p = np.array(weights, dtype=float)
    return np.array(draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))), p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_measures_equal_scikit_learn(classes):
    """F3, L3."""
    y, p = problem(0, classes=classes)
    predicted, every = p.argmax(axis=1), list(range(classes))
    score = p[:, 1] if classes == 2 else p
    onehot = np.eye(classes)[y]
    expected = {
        c.accuracy: metrics.accuracy_score(y, predicted),
        c.error_rate: metrics.zero_one_loss(y, predicted),
        c.log_loss: metrics.log_loss(y, p, labels=every),
        c.brier: np.mean((p - onehot) ** 2) * (1 if classes == 2 else classes),
        c.balanced_accuracy: metrics.balanced_accuracy_score(y, predicted),
        c.macro_f1: metrics.f1_score(y, predicted, average="macro"),
        auc: metrics.roc_auc_score(y, score, multi_class="ovr"),
        average_precision: metrics.average_precision_score(y if classes == 2 else onehot, score),
    }
    for measure, value in expected.items():
        assert measure(y, p) == pytest.approx(value, abs=ATOL), measure.__name__
    assert (c.confusion_matrix(y, p) == metrics.confusion_matrix(y, predicted, labels=every)).all()


def test_the_rows_per_class_equal_scikit_learn():
    """L3."""
    y, p = problem(1)
    rows = c.evaluate_classification(y, p).per_class
    expected = metrics.precision_recall_fscore_support(y, p.argmax(axis=1))
    for field, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert np.allclose([getattr(row, field) for row in rows], values, atol=ATOL)


def test_a_case_counted_by_hand():
    """F3, L3: four rows, one wrong."""
    y, p = [0, 0, 1, 1], [0.2, 0.4, 0.4, 0.9]
    report = c.evaluate_classification(y, p, ["no", "yes"], y_train=[1, 1, 1, 0])
    assert report.confusion.tolist() == [[2, 0], [1, 1]]
    assert (report.error, report.accuracy, report.balanced_accuracy) == (0.25, 0.75, 0.75)
    assert report.risk == pytest.approx(-np.log([0.8, 0.6, 0.4, 0.9]).mean(), abs=ATOL)
    assert report.brier == pytest.approx((0.04 + 0.16 + 0.36 + 0.01) / 4, abs=ATOL)
    assert report.auc == pytest.approx(3.5 / 4, abs=ATOL)  # of four pairs three in order and one tie
    assert report.per_class[1] == c.ClassRow("yes", 1.0, 0.5, 2 / 3, 2)
    assert [curve.name for curve in report.roc] == ["yes"]
    assert report.error_interval.lower < 0.25 < report.error_interval.upper


def test_the_baseline_is_the_class_prior():
    """F3: always the most frequent training class; with the test's own frequencies the risk is the entropy."""
    y = np.repeat([0, 1, 2], [5, 3, 2])
    baseline = c.evaluate_classification(y, problem(0, 10, 3)[1], ["a", "b", "c"], y_train=np.repeat(y, 2)).baseline
    assert baseline.what.startswith("always 'a'")
    assert baseline.prediction == [0.5, 0.3, 0.2]
    assert baseline.scores["error"] == 0.5
    assert baseline.scores["risk"] == pytest.approx(-sum(q * np.log(q) for q in (0.5, 0.3, 0.2)), abs=ATOL)
    assert baseline.scores["auc"] == pytest.approx(0.5, abs=ATOL)
    assert baseline.scores["balanced_accuracy"] == pytest.approx(1 / 3, abs=ATOL)
    assert baseline.scores["ece"] == pytest.approx(0.0, abs=ATOL)


def test_the_headline_is_the_measures_beside_the_baseline():
    """L3: (name, value, baseline), the names those of the table."""
    y, p = problem(2)
    report = c.evaluate_classification(y, p, y_train=y)
    rows = report.headline()
    assert [name for name, *_ in rows][:3] == ["accuracy", "error_rate", "log_loss"]
    for name, value, against in rows:
        field = {"error_rate": "error", "log_loss": "risk", "expected_calibration_error": "ece"}.get(name, name)
        assert (value, against) == (getattr(report, field), report.baseline.scores[field])
    assert all(against is None for *_, against in c.evaluate_classification(y, p).headline())


def test_classes_without_rows_or_predictions_are_undefined_and_noted():
    """L3: not a number in Python, None in JSON, a note in words, and no warning from anybody."""
    y, p = [0, 0, 1], [[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.7, 0.0], [0.6, 0.3, 0.1, 0.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = c.evaluate_classification(y, p, ["a", "b", "c", "d"], y_train=[0, 1, 1, 2])
    a, b, third, d = report.per_class
    assert (a.precision, a.recall, a.f1) == (0.5, 0.5, 0.5)
    assert np.isnan(b.precision)
    assert (b.recall, b.f1) == (0, 0)
    assert np.isnan(third.recall)
    assert (third.precision, third.f1, third.support) == (0, 0, 0)
    assert np.isnan([d.precision, d.recall, d.f1]).all()
    assert report.balanced_accuracy == 0.25
    assert report.macro_f1 == pytest.approx((0.5 + 0 + 0) / 3, abs=ATOL)
    assert [curve.name for curve in report.roc] == ["a", "b"]
    assert report.to_json()["per_class"][3] == {"name": "d", "precision": None, "recall": None, "f1": None, "support": 0}
    assert report.notes == [
        "without a row here, so without recall and curves: c, d",
        "never predicted, so without precision: b, d",
        "without a training row, so without probability in the baseline: d",
    ]


def test_a_single_class_leaves_the_auc_undefined():
    report = c.evaluate_classification([1, 1], [0.9, 0.4])
    assert np.isnan(report.auc)
    assert report.to_json()["auc"] is None
    assert report.notes[1] == "holds for every row here, so without a ROC curve: 1"


def test_a_wrong_certainty_costs_much_and_stays_finite():
    """F3: -log of the smallest number that counts."""
    assert c.log_loss([0], [[0.0, 1.0]]) == pytest.approx(52 * np.log(2), abs=ATOL)


def test_top_k_counts_as_ilsvrc():
    """C12: right if the truth is among the k first; a tie is listed before the truth; K of K are never wrong."""
    p = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]
    assert [c.top_k_error([1, 0, 2], p, k=k) for k in (1, 2, 3, 4)] == [1.0, pytest.approx(2 / 3), pytest.approx(2 / 3), 0.0]


def test_top_k_equals_scikit_learn_where_nothing_ties():
    """C12."""
    y, p = problem(3, classes=10)
    report = c.evaluate_classification(y, p)
    assert list(report.top_k) == [1, 2, 3, 5]
    for k, error in report.top_k.items():
        assert error == pytest.approx(1 - metrics.top_k_accuracy_score(y, p, k=k), abs=ATOL)
    assert report.top_k[1] == report.error


def test_a_k_above_the_number_of_classes_is_refused():
    for k, message in ((4, "k is 4 with 3 classes"), (0, "k is 0")):
        with pytest.raises(InputError, match=message):
            c.top_k_error([0], [[0.5, 0.3, 0.2]], k=k)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_what_holds_for_any_prediction(problem):
    """F3, C12, L3: sums, bounds, orders, and a report that survives JSON."""
    y, p = problem
    k = p.shape[1]
    report = c.evaluate_classification(y, p, y_train=y)
    assert report.confusion.sum() == len(y)
    assert report.confusion.sum(axis=1).tolist() == np.bincount(y, minlength=k).tolist()
    assert report.error + report.accuracy == pytest.approx(1, abs=ATOL)
    assert report.error_interval.lower <= report.error <= report.error_interval.upper
    errors = [c.top_k_error(y, p, k=i) for i in range(1, k + 1)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0
    assert errors[0] >= report.error
    assert 0 <= report.ece <= 1
    assert 0 <= report.brier <= 2
    assert sum(b.count for b in report.calibration) == len(y)
    plain = report.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


@settings(max_examples=30, deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_of_classes_does_not_matter(problem, random):
    """L3: for probabilities without ties between classes."""
    y, p = problem
    p = p + np.arange(p.shape[1]) * 1e-3
    p = p / p.sum(axis=1, keepdims=True)
    rows, columns = list(range(len(y))), list(range(p.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    moved = np.argsort(columns)[y][rows], p[rows][:, columns]
    for measure in (c.error_rate, c.log_loss, c.brier, c.macro_f1):
        assert measure(*moved) == pytest.approx(measure(y, p), abs=ATOL)


def test_a_thousand_classes_make_a_short_note():
    report = c.evaluate_classification([0], np.full((1, 1000), 1e-3))
    assert report.notes[0].endswith("and 979 more")
