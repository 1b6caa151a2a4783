import pytest
import torch
from torch import nn

from pellucid.core.errors import InputError
from pellucid.core.table import OPTIMIZERS
from pellucid.training.optimizers import Update, optimizer


def test_table_holds_torchs_by_their_names():
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam"} <= set(OPTIMIZERS.names())
    assert not {"LBFGS", "SparseAdam", "Optimizer"} & set(OPTIMIZERS.names())


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_moves_the_weights(name):
    w = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    made = optimizer(name, [w], lr=0.1)
    update = Update([made], schedule=lambda step: 1.0)
    update.at(0)
    start = float((w.detach() ** 2).sum())
    for _ in range(3):
        update(0, (w**2).sum())
    assert float((w.detach() ** 2).sum()) < start
    assert OPTIMIZERS[name].summary


def test_weight_decay_holds_for_biases_too():
    """Plain torch: gradient 0, so SGD gives w - lr * decay * w."""
    layer = nn.Linear(2, 2).double()
    before = [p.detach().clone() for p in layer.parameters()]
    update = Update([optimizer("SGD", list(layer.parameters()), lr=0.5, weight_decay=0.1)], schedule=lambda step: 1.0)
    update.at(0)
    update(0, 0.0 * layer(torch.ones(1, 2, dtype=torch.float64)).sum())
    for old, new in zip(before, layer.parameters()):
        assert torch.allclose(new, old * 0.95, atol=1e-12, rtol=0)


def test_several_optimizers_step_apart():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    update = Update([optimizer("SGD", [a], lr=1.0), optimizer("SGD", [b], lr=1.0)], schedule=lambda step: 0.5)
    update.at(0)
    update(1, (a * b).sum())
    assert (a.item(), b.item()) == (1.0, 0.5)
    assert update.lr == 0.5


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("Adamw", {}, "Did you mean 'AdamW'"),
        ("LBFGS", {}, "no optimiser 'LBFGS'"),
        ("SGD", {"options": {"momentun": 0.9}}, "Did you mean 'momentum'"),
        ("SGD", {"options": {"lr": 0.9}}, "it is an argument of train"),
        ("SGD", {"options": {"params": []}}, "has no option 'params'"),
        ("SGD", {"options": {"nesterov": True}}, "SGD refuses its options: Nesterov"),
        ("Adam", {"options": {"betas": [0.9, 2.0]}}, "Adam refuses its options"),
        ("SGD", {"lr": 0.0}, "lr is 0.0"),
        ("SGD", {"lr": "fast"}, "lr is 'fast'"),
        ("SGD", {"weight_decay": -1.0}, "weight_decay is -1.0"),
        ("Rprop", {"weight_decay": 0.1}, "'Rprop' has no weight decay"),
    ],
)
def test_wrong_options(name, given, words):
    with pytest.raises(InputError, match=words) as caught:
        optimizer(name, [nn.Parameter(torch.ones(2))], **given)
    assert caught.value.cure
