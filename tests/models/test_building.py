"""L2: a model for the data at hand."""

import pytest
import torch
from torch import nn

from pellucid.core.errors import InputError
from pellucid.core.table import MODELS, Entry
from pellucid.models.building import build

IMAGE = {"input_shape": (1, 28, 28), "outputs": 10}


@pytest.fixture
def foreign(monkeypatch):
    """Puts a model of the test's own into the table, and takes it out again."""
    MODELS.names()

    def add(model, **facts):
        monkeypatch.setitem(MODELS._entries, "foreign", Entry("foreign", "tests", model, facts))

    return add


def test_the_shape_arguments_come_from_the_data():
    """L2: channels, size, inputs and classes."""
    lenet = build("lenet5", input_shape=(3, 32, 32), outputs=7)
    assert (lenet.features.c1.in_channels, lenet.head.output.out_features) == (3, 7)
    assert build("mlp", input_shape=(3, 4, 5), outputs=1).features.linear1.in_features == 60
    assert build("mlp", input_shape=(4, 60), outputs=3)(torch.zeros(2, 4, 60)).shape == (2, 3)


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    one, same, other = (build("lenet5", seed=s, **IMAGE).state_dict() for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not torch.equal(one["features.c1.weight"], other["features.c1.weight"])


def test_a_built_model_is_in_training_mode_without_hooks_or_gradients():
    model = build("lenet5", **IMAGE)
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lenet", IMAGE, "no model 'lenet'.*Did you mean 'lenet5'"),
        ("lenet5", {**IMAGE, "from": "relu"}, "'lenet5' has no option 'from'.*Did you mean 'form'"),
        ("mlp", {**IMAGE, "width": 3}, "'mlp' has no option 'width'"),
        ("lenet5", {**IMAGE, "classes": 3}, "option 'classes' of 'lenet5' is 3, and the data has 10.*Leave 'classes' out"),
        ("lenet5", {"input_shape": (1, 8, 8), "outputs": 10}, "8 x 8 are too small.*12 x 12"),
        ("lenet5", {"input_shape": (1, 28, 30), "outputs": 10}, "square images.*28 x 30.*size: 30"),
        ("lenet5", {"input_shape": (13,), "outputs": 3}, r"takes samples such as \(1, 28, 28\).*\(13,\).*mlp"),
        ("lenet5", {"input_shape": (4, 60), "outputs": 3}, r"takes samples such as.*\(4, 60\)"),
        ("mlp", {"input_shape": (13,), "outputs": 0}, "outputs is 0"),
        ("mlp", {"input_shape": (0,), "outputs": 2}, r"input_shape\[0\] is 0"),
    ],
)
def test_what_does_not_fit_is_refused(name, arguments, message):
    """L2: what is wrong, and the cure."""
    with pytest.raises(InputError, match=message):
        build(name, **arguments)


def test_an_option_that_agrees_with_the_data_is_allowed():
    assert build("lenet5", classes=10, size=28, **IMAGE).head.output.out_features == 10


def test_a_model_that_does_not_take_its_input_is_found_out_by_one_forward_pass(foreign):
    """The message names the layer that refused."""

    class Broken(nn.Module):
        def __init__(self, inputs=4, classes=2):
            super().__init__()
            self.first, self.second = nn.Linear(inputs, 5), nn.Linear(6, classes)

        def forward(self, x):
            return self.second(self.first(x))

    foreign(Broken)
    with pytest.raises(InputError, match=r"refuses an input of shape 4 \(layer 'second' \(Linear\): mat1 and mat2"):
        build("foreign", input_shape=(4,), outputs=2)


def test_a_required_option_is_asked_for(foreign):
    class Needy(nn.Module):
        def __init__(self, width):
            super().__init__()

    foreign(Needy)
    with pytest.raises(InputError, match=r"'foreign' needs the option 'width'.*Add width:"):
        build("foreign", input_shape=(4,), outputs=2)


def test_a_function_with_keyword_only_options_is_a_model_too(foreign):
    """Registered variants are functions."""

    def small(*, inputs, classes, width=3):
        return nn.Sequential(nn.Linear(inputs, width), nn.Linear(width, classes))

    foreign(small)
    assert build("foreign", input_shape=(4,), outputs=2, width=9)[0].out_features == 9
