"""F3: what the measures refuse, in every measure alike, and what they accept in more than one form."""

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES
from pellucid.evaluation import inputs
from pellucid.evaluation.classification import evaluate_classification
from pellucid.evaluation.multilabel import evaluate_multilabel
from pellucid.evaluation.regression import evaluate_regression

BY_TASK = {
    task: [e.value for e in MEASURES if e.family == "evaluation" and e.facts["task"] == task]
    for task in ("classification", "regression", "multilabel")
}
P = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])

BAD = [
    ("classification", [0, 1], [[0.5, 0.5], [np.nan, 0.5]], r"probabilities holds nan \(sample 1, position \[0\]\)"),
    ("classification", [0, 1], [[0.5, 0.5], [1.5, -0.5]], r"probabilities hold 1.5 \(sample 1\).*not logits"),
    ("classification", [0, 1], [[0.5, 0.5], [0.2, 0.2]], r"probabilities add up to 0.4 \(sample 1\)"),
    ("classification", [0, 2], [[0.5, 0.5], [0.5, 0.5]], r"labels hold 2 \(sample 1\).*from 0 to 1"),
    ("classification", [-1, 1], [[0.5, 0.5], [0.5, 0.5]], r"labels hold -1 \(sample 0\)"),
    ("classification", [0.5, 1], [[0.5, 0.5], [0.5, 0.5]], r"labels hold 0.5 \(sample 0\)"),
    ("classification", ["a", "b"], [[0.5, 0.5], [0.5, 0.5]], "labels are not numbers"),
    ("classification", [0, 1, 1], [[0.5, 0.5], [0.5, 0.5]], "different lengths: labels 3, probabilities 2"),
    ("classification", [[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]], r"labels have the shape \(2, 2\)"),
    ("classification", [0], [[[0.5, 0.5]]], r"probabilities have the shape \(1, 1, 2\).*\(samples, classes\)"),
    ("classification", [], np.zeros((0, 2)), "probabilities have no rows"),
    ("regression", [1.0, np.inf], [1.0, 2.0], r"true values holds inf \(sample 1"),
    ("regression", [1.0, 2.0], [1.0, np.nan], r"predictions holds nan \(sample 1"),
    ("regression", [1.0, 2.0], [[1.0, 2.0], [1.0, 2.0]], r"predictions have the shape \(2, 2\)"),
    ("regression", [1.0, 2.0], [1.0], "different lengths: true_values 2, predictions 1"),
    ("regression", [], [], "true values have no rows"),
    ("multilabel", [[0, 1], [2, 0]], [[0.5, 0.5], [0.5, 0.5]], r"labels hold 2 \(sample 1\).*Give 1 where"),
    ("multilabel", [[0, 1], [1, 0]], [[0.5, 0.5], [0.5, 3.0]], r"probabilities hold 3 \(sample 1\)"),
    ("multilabel", [[0, 1]], [[0.5, 0.5], [0.5, 0.5]], r"labels are \(1, 2\), probabilities \(2, 2\)"),
    ("multilabel", [0, 1], [[0.5, 0.5], [0.5, 0.5]], r"labels have the shape \(2,\)"),
]
REPORTS = {"classification": evaluate_classification, "regression": evaluate_regression, "multilabel": evaluate_multilabel}


@pytest.mark.parametrize(("task", "y", "p", "message"), BAD)
def test_bad_input_is_refused_by_every_measure_and_by_the_report(task, y, p, message):
    """F3: what, which sample, cure."""
    for measure in [*BY_TASK[task], REPORTS[task]]:
        with pytest.raises(InputError, match=message):
            measure(y, p)


@pytest.mark.parametrize("measure", BY_TASK["classification"], ids=lambda m: m.__name__)
def test_binary_probabilities_may_come_as_one_or_two_columns(measure):
    """F1: (N,), (N, 1) and (N, 2) are the same thing."""
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 40), rng.random(40)
    options = {"k": 1} if measure.__name__ == "top_k_error" else {}
    wide = measure(y, np.stack([1 - p, p], axis=1), **options)
    assert measure(y, p, **options) == pytest.approx(wide, abs=1e-12)
    assert measure(y, p[:, None], **options) == pytest.approx(wide, abs=1e-12)


def test_tensors_lists_and_float_labels_are_arrays_too():
    y, p = inputs.classification(torch.tensor([0, 1]), torch.tensor(P, dtype=torch.float32))
    assert y.dtype == np.int64
    assert p.dtype == np.float64
    assert inputs.classification([0.0, 1.0], P.tolist())[0].tolist() == [0, 1]
    assert inputs.regression([[1.0], [2.0]], np.array([1, 2]))[0].shape == (2,)


def test_rounding_of_a_float32_softmax_is_forgiven():
    p = torch.softmax(torch.randn(500, 1000, generator=torch.Generator().manual_seed(0)), 1).numpy()
    assert inputs.classification(np.zeros(500), p)[1].max() <= 1
    assert inputs.classification([0], [[1 + 1e-7, 0.0]])[1][0, 0] == 1


def test_names_are_given_one_per_column_or_are_the_numbers():
    assert evaluate_classification([0, 1], P).classes == ("0", "1", "2")
    with pytest.raises(InputError, match="2 class names for 3 columns"):
        evaluate_classification([0, 1], P, ["a", "b"])


def test_every_measure_says_what_it_is_for_and_which_way_is_better():
    entries = [e for e in MEASURES if e.family == "evaluation"]
    assert len(entries) == 25
    for entry in entries:
        assert entry.facts["task"] in BY_TASK
        assert entry.facts["larger_is_better"] in (True, False, None)
        assert entry.facts["mission"]
        assert entry.summary
