"""F10: the multi-layer perceptron."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from pellucid.core.errors import InputError
from pellucid.models.building import build
from pellucid.models.foundations.mlp import MLP


@pytest.mark.parametrize("hidden", [(), [7], (5, 4, 3), [2] * 12])
def test_any_depth_and_width(hidden):
    """F10: the parameters are those of the chain of layers; the input is flattened."""
    model = MLP(inputs=12, classes=3, hidden=hidden)
    widths = [12, *hidden, 3]
    assert sum(p.numel() for p in model.parameters()) == sum((a + 1) * b for a, b in pairwise(widths))
    assert model(torch.zeros(2, 3, 2, 2)).shape == (2, 3)


def test_without_hidden_layers_it_is_linear():
    """F10: f(x) = W x + b exactly."""
    model = MLP(inputs=4, classes=2, hidden=()).double()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (model(x) - (x @ model.head.weight.T + model.head.bias)).abs().max() < 1e-12


def test_it_is_the_formula_written_out():
    """F10: logits = W2 f(W1 x + b1) + b2 with f = tanh."""
    model = MLP(inputs=4, classes=2, hidden=(6,), activation="tanh", dropout=0.5).double().eval()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = model.features.linear1
    a = torch.tanh(x @ first.weight.T + first.bias)
    assert (model(x) - (a @ model.head.weight.T + model.head.bias)).abs().max() < 1e-12


def test_dropout_follows_each_hidden_layer_only_where_it_is_asked_for():
    """F16."""
    rates = [m.p for m in MLP(dropout=0.25).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.25, 0.25]
    assert not any(isinstance(m, nn.Dropout) for m in MLP().modules())


def test_xor_is_solved_with_a_hidden_layer_and_not_without():
    """F10: at best three of four points by a linear model; all four by eight hidden units."""
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([0, 1, 1, 0])
    right = {}
    for hidden in ((), (8,)):
        model = build("mlp", input_shape=(2,), outputs=2, hidden=hidden, activation="tanh")
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        right[hidden] = int((model(x).argmax(1) == y).sum())
    assert right[(8,)] == 4
    assert right[()] <= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 64}, r"hidden is 64\. Give a list"),
        ({"hidden": "64"}, "hidden is '64'"),
        ({"hidden": [8, 0]}, r"hidden\[1\] is 0"),
        ({"hidden": [8.5]}, r"hidden\[0\] is 8.5"),
        ({"activation": "tahn"}, "no activation 'tahn'.*Did you mean 'tanh'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": "half"}, "dropout is 'half'"),
        ({"inputs": 0}, "inputs is 0"),
        ({"classes": -1}, "classes is -1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        MLP(**options)
