import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.core.errors import InputError
from pellucid.core.table import OBJECTIVES
from pellucid.training.objectives import from_state, made_for, objective, suited

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 1, 2, 0])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
VALUES = torch.tensor([25.0, 346.0, 100.0, 200.0])


def close(found, expected):
    assert torch.allclose(torch.as_tensor(found).double(), torch.as_tensor(expected).double(), atol=1e-9, rtol=0)


def test_multiclass_by_hand():
    aim = objective("multiclass", CLASSES)
    p = LOGITS.exp() / LOGITS.exp().sum(1, keepdim=True)
    close(aim.loss(LOGITS, CLASSES), -p[range(4), CLASSES].log().mean())
    close(aim.predict(LOGITS), p)
    assert aim.error(LOGITS, CLASSES).tolist() == [0, 0, 0, 1]
    assert aim.metrics(LOGITS, CLASSES)["accuracy"] == 0.75
    assert aim.outputs() == 3
    assert aim.outputs(["a", "b"]) == 2
    assert aim.outputs(torch.tensor([0, 6])) == 7


def test_balanced_class_weights():
    """N/(K n_k), the mean over the weights."""
    aim = objective("multiclass", CLASSES, class_weights="balanced")
    weights = torch.tensor([4 / 6, 4 / 3, 4 / 3], dtype=torch.float64)
    close(aim.class_weights, weights)
    each = -LOGITS.log_softmax(1)[range(4), CLASSES]
    close(aim.loss(LOGITS, CLASSES), (weights[CLASSES] * each).sum() / weights[CLASSES].sum())


def test_binary_by_hand():
    aim, z, y = objective("binary"), torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64), torch.tensor([1, 0, 0])
    p = 1 / (1 + torch.exp(-z[:, 0]))
    close(aim.loss(z, y), -torch.stack([p[0].log(), (1 - p[1]).log(), (1 - p[2]).log()]).mean())
    close(aim.loss(z[:, 0], y), aim.loss(z, y))
    close(aim.predict(z), torch.stack([1 - p, p], 1))
    assert aim.error(z, y).tolist() == [0, 0, 1]
    assert aim.outputs() == aim.outputs(["no", "yes"]) == 1
    with pytest.raises(InputError, match="cannot tell 3 classes"):
        aim.outputs(3)


def test_multilabel_by_hand():
    aim = objective("multilabel", LABELS)
    p = 1 / (1 + torch.exp(-LOGITS))
    close(aim.loss(LOGITS, LABELS), -(LABELS * p.log() + (1 - LABELS) * (1 - p).log()).mean())
    close(aim.predict(LOGITS), p)
    assert aim.error(LOGITS, LABELS).shape == (4, 3)
    assert aim.error(LOGITS, LABELS)[2].tolist() == [0, 0, 0]
    assert aim.outputs() == 3


@pytest.mark.parametrize("penalty", ["squared", "absolute", "huber"])
def test_regression_has_no_unit(penalty):
    """The same standardised loss for y and for 1000 y + 7, and predictions in the target's own unit."""
    first, second = (
        objective("regression", VALUES, penalty=penalty),
        objective("regression", 1000 * VALUES + 7, penalty=penalty),
    )
    output = torch.tensor([[0.1], [1.0], [-1.0], [2.5]], dtype=torch.float64)
    close(first.loss(output, VALUES.double()), second.loss(output, 1000 * VALUES.double() + 7))
    close(first.predict(output), VALUES.double().mean() + output[:, 0] * VALUES.double().std(correction=0))
    zero = torch.zeros(4, 1, dtype=torch.float64)
    if penalty == "squared":
        close(first.loss(zero, VALUES.double()), 1.0)
        assert first.metrics(zero, VALUES)["r2"] == pytest.approx(0.0, abs=1e-9)
        assert first.metrics(zero, VALUES)["rmse"] == pytest.approx(float(VALUES.std(correction=0)))
    assert first.error(output, VALUES) is None


def test_regression_does_not_broadcast():
    """(N, 1) against (N,) is N residuals, not N x N."""
    aim = objective("regression", VALUES)
    z = (VALUES - VALUES.mean()) / VALUES.std(correction=0)
    assert float(aim.loss(z[:, None], VALUES)) == pytest.approx(0.0, abs=1e-12)


def test_regression_of_several_columns_and_of_a_constant():
    y = torch.stack([VALUES, torch.full((4,), 3.0)], 1)
    aim = objective("regression", y)
    assert aim.outputs() == 2
    assert aim.scale[1] == 1.0
    assert aim.predict(torch.zeros(2, 2)).tolist() == [[167.75, 3.0]] * 2
    assert math.isnan(objective("regression", VALUES[:1]).metrics(torch.zeros(1, 1), VALUES[:1])["r2"])


@pytest.mark.parametrize(
    ("name", "y", "options"),
    [
        ("multiclass", CLASSES, {"class_weights": "balanced", "label_smoothing": 0.1}),
        ("binary", CLASSES.clamp(max=1), {}),
        ("multilabel", LABELS, {}),
        ("regression", VALUES, {"penalty": "huber"}),
    ],
)
def test_state_gives_the_same_objective(name, y, options):
    aim = objective(name, y, **options)
    again = from_state(json.loads(json.dumps(aim.state())))
    output = LOGITS[:, : aim.outputs()]
    assert type(again) is type(aim)
    assert again.state() == aim.state()
    assert torch.equal(again.loss(output, y), aim.loss(output, y))
    assert torch.equal(again.predict(output), aim.predict(output))


def test_every_objective_has_a_summary():
    assert OBJECTIVES.names() == ["binary", "multiclass", "multilabel", "regression"]
    assert all(entry.summary for entry in OBJECTIVES)


def test_auto_looks_at_the_targets():
    assert [suited(y) for y in (CLASSES, LABELS, VALUES)] == ["multiclass", "multilabel", "regression"]
    assert objective(y=np.array([0, 1, 2])).name == "multiclass"


@pytest.mark.parametrize(
    ("name", "y", "words"),
    [
        ("multiclass", VALUES, "targets are float32, 'multiclass' needs class numbers"),
        ("multiclass", LABELS.long(), r"targets have shape \(4, 3\)"),
        ("multiclass", torch.tensor([0, -1, 1]), r"class number -1 .*row 1"),
        ("binary", torch.tensor([0, 1, 2]), r"class number 2 .*knows 0 to 1 .*row 2"),
        ("multilabel", CLASSES, r"targets have shape \(4,\)"),
        ("multilabel", LABELS * 2, r"target 2\.0 is neither 0 nor 1 \(row 0, label 0\)"),
        ("regression", torch.tensor([1.0, float("nan")]), r"target holds nan \(sample 1"),
        ("regression", torch.zeros(2, 2, 2), r"shape \(2, 2, 2\)"),
        ("multiclass", CLASSES[:0], "no training targets"),
        ("multiklass", CLASSES, "Did you mean 'multiclass'"),
    ],
)
def test_wrong_targets(name, y, words):
    with pytest.raises(InputError, match=words) as caught:
        objective(name, y)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("name", "y", "options", "words"),
    [
        ("multiclass", CLASSES, {"classes": 2}, "class number 2 .*knows 0 to 1"),
        ("multiclass", CLASSES, {"class_weights": [1.0, 2.0]}, "Give 3 numbers"),
        ("multiclass", CLASSES, {"class_weights": "balance"}, "class_weights is 'balance'"),
        ("multiclass", CLASSES, {"label_smoothin": 0.1}, "Did you mean 'label_smoothing'"),
        ("multiclass", None, {}, "does not know its classes"),
        ("multilabel", None, {}, "does not know its labels"),
        ("regression", None, {}, "does not know its targets"),
        ("regression", VALUES, {"penalty": "square"}, "Did you mean 'squared'"),
        ("auto", None, {}, "needs targets to look at"),
    ],
)
def test_wrong_options(name, y, options, words):
    with pytest.raises(InputError, match=words) as caught:
        objective(name, y, **options)
    assert caught.value.cure


def test_made_for_checks_all_targets():
    class Rows:
        y = CLASSES

    aim = objective("multiclass", classes=5)
    assert made_for(Rows(), aim) is aim
    with pytest.raises(InputError, match="class number 2"):
        made_for(Rows(), objective("multiclass", classes=2))
    with pytest.raises(InputError, match="no attribute y"):
        made_for(object(), "binary")


def test_check_of_the_model():
    aim = objective("multiclass", CLASSES)
    x = torch.zeros(4, 6)
    aim.check(nn.Linear(6, 3), x, CLASSES)
    aim.check(nn.Linear(6, 8), x, CLASSES)  # the rows may lack the last classes
    with pytest.raises(InputError, match=r"returns shape \(2, 8\)"):
        objective("multiclass", CLASSES, classes=3).check(nn.Linear(6, 8), x, CLASSES)
    with pytest.raises(InputError, match="returns a tuple"):
        aim.check(nn.LSTM(6, 3), x, CLASSES)
    with pytest.raises(InputError, match=r"cannot take inputs of shape \(2, 6\)"):
        aim.check(nn.Linear(5, 3), x, CLASSES)
