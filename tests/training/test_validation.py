import copy

import pytest
import torch
from small_training import network, same, samples

from pellucid.training.batches import InMemory
from pellucid.training.objectives import objective
from pellucid.training.validation import outputs, predict, validation


def test_outputs_in_evaluation_mode_without_touching_the_model():
    """Dropout off, running statistics used and not moved, in pieces as at once."""
    x, y = samples()
    model = network()
    model.train()
    model[1].eval()
    before, modes = copy.deepcopy(model), [m.training for m in model.modules()]
    found, targets = outputs(model, InMemory(x, y), batch=37)
    assert torch.allclose(found, before.eval()(x), atol=1e-6)  # float32 sums in another order
    assert torch.equal(targets, y)
    assert not found.requires_grad
    assert [m.training for m in model.modules()] == modes
    assert same(model, before)


def test_precision_follows_the_model():
    x, y = samples()
    assert outputs(network().double(), InMemory(x, y))[0].dtype == torch.float64
    assert outputs(torch.nn.Flatten(), InMemory(x, y))[0].shape == (len(x), 10)


def test_metrics_do_not_depend_on_the_batch():
    x, y = samples()
    data, aim, model = InMemory(x, y), objective("multiclass", y), network().double()
    whole, parts = validation(data, aim)(model), validation(data, aim, batch=7)(model)
    assert whole == pytest.approx(parts, abs=1e-9)
    p, targets = predict(model, data, aim)
    assert whole["accuracy"] == pytest.approx(float((p.argmax(1) == targets).double().mean()))
    assert torch.allclose(p.sum(1), torch.ones(len(x), dtype=torch.float64), atol=1e-9)
