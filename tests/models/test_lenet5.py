"""C4: LeNet-5 in its three forms."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from pellucid.core.errors import InputError
from pellucid.models.building import build
from pellucid.models.convolutional.lenet5 import LeNet5
from pellucid.nn.activations import ScaledTanh

FORMS = {"relu": (nn.ReLU, nn.MaxPool2d), "1998": (ScaledTanh, nn.AvgPool2d), "sigmoid": (nn.Sigmoid, nn.AvgPool2d)}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("form", FORMS)
def test_it_has_61706_parameters_at_28_and_at_32(form, size):
    """C4: 156 + 2,416 + 48,120 + 10,164 + 850."""
    assert parameters(LeNet5(size=size, form=form)) == 61_706


@pytest.mark.parametrize("form", FORMS)
def test_a_form_has_its_activation_four_times_and_its_pooling_twice(form):
    """C4: sigmoid or tanh with average pooling; ReLU with max-pooling."""
    kinds = [type(m) for m in LeNet5(form=form).modules()]
    activation, pooling = FORMS[form]
    assert kinds.count(activation) == 4
    assert kinds.count(pooling) == 2


def test_the_features_have_the_shapes_of_figure_2():
    """C4: C1 6 x 28 x 28, S2 6 x 14 x 14, C3 16 x 10 x 10, S4 16 x 5 x 5."""
    x, shapes = torch.zeros(1, 1, 32, 32), {}
    for name, layer in LeNet5(size=32).features.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    assert {k: shapes[k] for k in ("c1", "s2", "c3", "s4")} == {
        "c1": (6, 28, 28),
        "s2": (6, 14, 14),
        "c3": (16, 10, 10),
        "s4": (16, 5, 5),
    }


@pytest.mark.parametrize("size", [12, 13, 17, 28, 31, 32, 33, 47, 64])
def test_any_size_from_12_on_works(size):
    model = LeNet5(channels=3, classes=4, size=size)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 4)


def test_a_size_below_12_is_refused_with_the_smallest_one():
    with pytest.raises(InputError, match=r"11 x 11 are too small.*12 x 12"):
        LeNet5(size=11)


def test_the_year_may_come_as_a_number_as_yaml_reads_it():
    assert isinstance(LeNet5(form=1998).features.a1, ScaledTanh)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "rleu"}, "form is 'rleu'.*Did you mean 'relu'"),
        ({"channels": 0}, "channels is 0"),
        ({"classes": 2.5}, "classes is 2.5"),
        ({"size": "big"}, "size is 'big'"),
    ],
)
def test_a_value_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        LeNet5(**options)


@pytest.mark.parametrize("form", ["1998", "sigmoid"])
def test_the_saturating_forms_start_from_xavier_weights_and_zero_biases(form):
    """C4: bound sqrt(6 / (fan in + fan out)) times the gain, 1 at the output."""
    model = build("lenet5", input_shape=(1, 28, 28), outputs=10, form=form)
    gain = {"1998": 1.0, "sigmoid": 4.0}[form]
    for layer, scale in ((model.head.c5, gain), (model.head.output, 1.0)):
        bound = scale * (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max().item() <= bound
        assert not layer.bias.any()


@pytest.mark.parametrize("form", FORMS)
def test_training_starts_at_once_in_every_form(form):
    """C4: 25 steps of AdamW take the loss on real digits well below chance (2.30); the sigmoid at gain 1 is still at 2.2."""
    digits = load_digits()
    x = torch.tensor(digits.images[:256], dtype=torch.float32)[:, None]
    x = nn.functional.interpolate((x - x.mean()) / x.std(), 28)
    y = torch.tensor(digits.target[:256])
    model = build("lenet5", input_shape=(1, 28, 28), outputs=10, form=form, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(25):
        rows = slice(64 * (step % 4), 64 * (step % 4) + 64)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.7
