"""F12: activations by their names."""

import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.table import ACTIVATIONS
from pellucid.nn.activations import activation

X = torch.linspace(-4, 4, 81, dtype=torch.float64)
FORMULAS = {
    "sigmoid": 1 / (1 + torch.exp(-X)),
    "tanh": (torch.exp(X) - torch.exp(-X)) / (torch.exp(X) + torch.exp(-X)),
    "scaled_tanh": 1.7159 * torch.tanh(2 * X / 3),
    "relu": torch.where(X > 0, X, 0),
    "leaky_relu": torch.maximum(0.1 * X, X),
    "elu": torch.where(X > 0, X, torch.exp(X) - 1),
}


def test_the_table_holds_exactly_the_activations_checked_here():
    """F12."""
    assert sorted(ACTIVATIONS.names()) == sorted(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_follows_its_formula_and_leaves_its_input_alone(name):
    """F12: to 1e-12 in float64, not in place, and a fresh module each time."""
    x = X.clone()
    assert (activation(name)(x) - FORMULAS[name]).abs().max() < 1e-12
    assert torch.equal(x, X)
    assert activation(name) is not activation(name)
    assert ACTIVATIONS[name].facts["formula"]


def test_the_scaled_tanh_passes_through_one():
    """C4: f(1) = 1 and f(-1) = -1 to the four digits of the constants."""
    ends = activation("scaled_tanh")(torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([1.0, -1.0], dtype=torch.float64), atol=1e-4)


def test_an_unknown_activation_names_the_nearest():
    with pytest.raises(InputError, match=r"no activation 'rellu'.*Did you mean 'relu'"):
        activation("rellu")
