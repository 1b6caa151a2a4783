"""pellucid.lrp against the slow matrices of matrix_rules.py, float64 at 1e-9 of the largest value (METHODS D).

The tests named by_hand need no engine: they hold the matrices against numbers worked out on paper, and against torch.
"""

from __future__ import annotations

import importlib
import zlib
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from references import matrix_rules as slow

TARGETS = [1, 0, 2]
NAMED = ["epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_gamma_box"]
LOW, HIGH = -2.5, 3.0
CLASSES = {
    "zero": "Zero",
    "epsilon": "Epsilon",
    "gamma": "Gamma",
    "alpha_beta": "AlphaBeta",
    "z_plus": "ZPlus",
    "w_square": "WSquare",
    "flat": "Flat",
    "z_box": "ZBox",
}


class Mean(nn.Module):
    """The mean over all positions, as a function."""

    def forward(self, x):
        return x.mean(tuple(range(2, x.ndim)))


def mlp():
    return (6,), nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 4))


def rectified():
    """Piecewise linear with overlapping windows: where zero is gradient times input."""
    features = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 2), nn.LeakyReLU(0.2)]
    return (2, 7, 7), nn.Sequential(*features, nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 4))


def conv2d():
    """Groups, a stride, overlapping windows, a nested module, a hidden dense layer."""
    features = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.Tanh(),
        nn.AvgPool2d(2, 1),
    )
    return (2, 10, 10), nn.Sequential(features, nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 4))


def conv1d():
    """Dilation, averages that may be 0 / 0 and reach into the padding, and an overhang that no window of the stride sees."""
    features = [nn.Conv1d(3, 4, 3, dilation=2, padding=1), nn.ReLU(), nn.AvgPool1d(2, 2, 1), nn.Conv1d(4, 5, 2, stride=3)]
    return (3, 15), nn.Sequential(*features, nn.Sigmoid(), nn.Flatten(), nn.Linear(10, 4))


def conv3d():
    features = [nn.Conv3d(1, 3, (2, 3, 3), padding=(0, 1, 1)), nn.Tanh(), nn.MaxPool3d((1, 2, 2)), nn.Conv3d(3, 6, 2, groups=3)]
    return (1, 4, 6, 6), nn.Sequential(*features, nn.ReLU(), Mean(), nn.Linear(6, 4))


def transposed1d():
    features = [nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), nn.ReLU(), nn.Conv1d(6, 4, 3)]
    return (4, 5), nn.Sequential(*features, nn.Tanh(), nn.Flatten(), nn.Linear(32, 4))


def transposed2d():
    features = [nn.Conv2d(2, 4, 2), nn.ReLU(), nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1), nn.Tanh(), nn.AvgPool2d(2)]
    return (2, 4, 4), nn.Sequential(*features, nn.Flatten(), nn.Linear(12, 4))


def transposed3d():
    features = [nn.ConvTranspose3d(2, 3, (2, 3, 2), stride=(1, 2, 1), dilation=(2, 1, 1)), nn.ReLU(), Mean()]
    return (2, 2, 3, 3), nn.Sequential(*features, nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))


def norm_behind():
    features = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2, bias=False)]
    return (2, 6, 6), nn.Sequential(*features, nn.BatchNorm2d(5), nn.Tanh(), nn.Flatten(), nn.Linear(20, 4))


def norm_before():
    """Batch norm at the input and behind a ReLU, both before a convolution whose padding it does not reach."""
    features = [nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, padding=1)]
    return (2, 6, 6), nn.Sequential(*features, nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.BatchNorm1d(20), nn.Linear(20, 4))


def norm_dense():
    """Batch norm behind a linear layer, behind a bias-free one, and on both sides of one."""
    body = [nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh()]
    return (6,), nn.Sequential(*body, nn.BatchNorm1d(8), nn.Linear(8, 4), nn.BatchNorm1d(4))


def unpadded():
    """Where all rules conserve: no padding, no overhang, every activation of both signs."""
    features = [nn.Conv2d(2, 6, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 2), nn.Tanh(), nn.Flatten()]
    return (2, 8, 8), nn.Sequential(*features, nn.Linear(20, 9), nn.Tanh(), nn.Linear(9, 4))


NETS = [mlp, conv2d, conv1d, conv3d, transposed1d, transposed2d, transposed3d, norm_behind, norm_before, norm_dense]


@cache
def built(net, bias=True):
    """(model, x, steps) of a net: signed weights, biases and inputs, some weights exactly 0, batch norms that do something."""
    shape, model = net()
    noise = torch.Generator().manual_seed(zlib.crc32(net.__name__.encode()))

    def draw(like, scale=1.0):
        return scale * torch.randn(like.shape, generator=noise, dtype=torch.float64)

    model = model.double().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, slow.NORMS):
            module.weight.copy_(draw(module.weight).abs() + 0.4)
            module.weight[::2] *= -1
            module.bias.copy_(draw(module.bias, 0.5))
            module.running_mean.copy_(draw(module.running_mean, 0.5))
            module.running_var.copy_(draw(module.running_var).abs() + 0.3)
        elif isinstance(module, (nn.Linear, *slow.CONVOLUTIONS)):
            module.weight.copy_(draw(module.weight, 1.5 / module.weight[0].numel() ** 0.5))
            module.weight.view(-1)[::7] = 0
            if module.bias is not None:
                module.bias.copy_(draw(module.bias, 0.4 * bias))
    x = torch.randn(len(TARGETS), *shape, generator=noise, dtype=torch.float64).clamp(LOW, HIGH)
    return model, x, slow.steps_of(model, shape, linear=(Mean,))


def expected(net, composite, bias=True):
    """The relevance by matrices; `composite` may be a function of the sample."""
    _, x, steps = built(net, bias)
    rows = zip(x, TARGETS)
    maps = [slow.relevance(steps, one, t, composite(one) if callable(composite) else composite) for one, t in rows]
    return torch.from_numpy(np.stack(maps)).reshape(x.shape)


def found(net, composite, has_bias=True, **options):
    """The relevance by the package."""
    model, x, _ = built(net, has_bias)
    return pellucid.lrp(model, x, target=TARGETS, composite=composite, **options).relevance


def close(ours, theirs):
    largest = float(theirs.abs().max())
    assert 0 < largest < float("inf")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9 * largest)


def rule(name, **options):
    """A rule object of the package."""
    return getattr(importlib.import_module("pellucid.explanation.rules"), CLASSES[name])(**options)


def bounds(name):
    return {"low": LOW, "high": HIGH} if name in ("z_box", "epsilon_gamma_box") else {}


def every(name, **options):
    """The table that has one rule everywhere, with bounds for z_box."""
    return {"every": (name, {**bounds(name), **options})}


# The matrices themselves

A, W, B, R = (
    np.array(v, dtype=float) for v in ([1, -2], [[2, -1], [1, 3]], [1, 1], [3, 6])
)  # c [[2, -1], [-2, -6]], z [1, -6]

Q = 74**0.5  # twice the root mean square of z


@pytest.mark.parametrize(
    ("name", "options", "answer"),
    [
        ("zero", {}, [6 + 1, -6 + 6]),
        ("zero", {"bias": False}, [6 / 7, 36 / 7]),  # z [0, -7]: the first unit passes nothing
        ("zero", {"bias": False, "stabiliser": 1.0}, [6 + 6 / 8, -6 + 36 / 8]),  # 0 becomes +1
        ("zero", {"stabiliser": 1.0}, [3 + 6 / 7, -3 + 36 / 7]),
        ("epsilon", {"epsilon": 1.0}, [3 + 6 / 7, -3 + 36 / 7]),
        ("epsilon", {"epsilon": 1.0, "stabiliser": 1.0}, [2 + 6 / 8, -2 + 36 / 8]),
        (
            "epsilon",
            {"epsilon": 2.0, "relative": True},
            [6 / (1 + 74**0.5) + 6 / (6 + 74**0.5), -6 / (1 + 74**0.5) + 36 / (6 + 74**0.5)],
        ),
        ("gamma", {"gamma": 1.0}, [3 + 12 / 13, -1.5 + 72 / 13]),  # (4, -2) / 4, (-2, -12) / -13
        ("gamma", {"gamma": 1.0, "bias": False}, [12 / 14, 72 / 14]),
        ("gamma", {"gamma": 0.0}, [7, 0]),
        ("alpha_beta", {}, [4 - 6 / 7, -3 - 36 / 7]),  # 2 (2, 0) / 3 - (0, 1), 2 (0, 0) / 1 - (1, 6) / 7
        ("alpha_beta", {"bias": False}, [6 - 6 / 7, -3 - 36 / 7]),
        ("alpha_beta", {"alpha": 1.0}, [2, 0]),
        ("z_plus", {}, [2, 0]),
        ("z_plus", {"bias": False}, [3, 0]),
        ("w_square", {}, [2 + 6 / 11, 0.5 + 54 / 11]),
        ("w_square", {"bias": False}, [3, 6]),
        ("flat", {}, [4.5, 4.5]),
        ("flat", {"stabiliser": 1.0}, [3, 3]),
        ("z_box", {"low": -3, "high": 1}, [8 / 3, 1 / 3 + 6]),  # [[8, 0], [1, 3]]
        ("z_box", {"low": -2, "high": 1}, [3, 0]),  # [[6, 0], [0, 0]]: the second unit passes nothing
        ("z_box", {"low": np.array([-1.0, -3.0]), "high": 2}, [12 / 5 + 6 / 4, 3 / 5 + 18 / 4]),  # [[4, 1], [1, 3]]
    ],
)
def test_by_hand_rules(name, options, answer):
    w = np.ones((2, 2)) if name == "flat" else W
    np.testing.assert_allclose(slow.RULES[name](A, w, B, R, **options), answer, rtol=1e-14, atol=1e-14)


def test_by_hand_nothing_in_nothing_out():
    """Inputs of 0 and no bias: every denominator made of contributions is 0; those of weights alone are not."""
    for name in ("zero", "gamma", "alpha_beta", "z_plus"):
        np.testing.assert_array_equal(slow.RULES[name](0 * A, W, 0 * B, R), [0, 0])
    np.testing.assert_allclose(slow.w_square(0 * A, W, 0 * B, R), [3, 6], rtol=1e-14)


def test_by_hand_convolution():
    """Kernel (1, 2, 0) over three places with one place of padding, its taps (the 0 is one), its transpose, and a group's."""
    conv = nn.Conv1d(1, 1, 3, padding=1).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[1.0, 2.0, 0.0]]]))
        conv.bias.fill_(10)
    weights, taps, biases = slow.as_matrix(conv, (1, 3))
    np.testing.assert_array_equal(weights, [[2, 1, 0], [0, 2, 1], [0, 0, 2]])
    np.testing.assert_array_equal(taps, [[1, 1, 0], [1, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(biases, [10, 10, 10])
    np.testing.assert_allclose(slow.flat(np.zeros(3), taps, biases, np.array([2, 3, 4])), [1 + 1, 1 + 1 + 2, 1 + 2])
    np.testing.assert_allclose(
        slow.w_square(np.zeros(3), weights, 0 * biases, np.array([2, 5, 10])), [2 + 1, 4 + 2, 8], rtol=1e-14
    )
    back = nn.ConvTranspose1d(1, 1, 3, padding=1).double()
    with torch.no_grad():
        back.weight.copy_(conv.weight)
    np.testing.assert_array_equal(slow.as_matrix(back, (1, 3))[0], weights.T)
    grouped = slow.as_matrix(nn.Conv1d(2, 2, 1, groups=2).double(), (2, 2))[1]
    np.testing.assert_array_equal(grouped, np.eye(4))
    with pytest.raises(ValueError, match="zero padding"):
        slow.as_matrix(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), (1, 3))


def test_by_hand_batch_norm():
    """-2 x + 3 before a padded convolution reaches no padding; behind it, it scales the bias too."""
    norm, conv = nn.BatchNorm1d(1, eps=0.75).double().eval(), nn.Conv1d(1, 1, 3, padding=1).double()
    with torch.no_grad():
        norm.running_var.fill_(0.25)  # a deviation of 1 with eps
        norm.running_mean.fill_(0.5)
        norm.weight.fill_(-2)
        norm.bias.fill_(2)
        conv.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0]]]))
        conv.bias.fill_(10)
    (before,) = slow.steps_of(nn.Sequential(norm, conv), (1, 3))
    np.testing.assert_array_equal(before.weights, [[-4, -2, 0], [-6, -4, -2], [0, -6, -4]])
    np.testing.assert_array_equal(before.biases, [10 + 15, 10 + 18, 10 + 9])
    (behind,) = slow.steps_of(nn.Sequential(conv, norm), (1, 3))
    np.testing.assert_array_equal(behind.weights, before.weights)
    np.testing.assert_array_equal(behind.biases, [-17, -17, -17])
    with pytest.raises(ValueError, match="no affine operation"):
        slow.steps_of(nn.Sequential(norm, nn.ReLU(), conv), (1, 3))


def test_by_hand_pooling():
    a = np.array([1.0, 3.0, -2.0, 2.0])
    average, largest = slow.steps_of(nn.Sequential(nn.AvgPool1d(2), nn.MaxPool1d(2)), (1, 4))
    np.testing.assert_array_equal(average.backward(a, np.array([8.0, 5.0])), [2, 6, 0, 0])  # 0 / 0 in the second window
    assert largest.members.shape == (2, 1)
    (largest,) = slow.steps_of(nn.Sequential(nn.MaxPool1d(2)), (1, 4))
    np.testing.assert_array_equal(largest.backward(a, np.array([8.0, 5.0])), [0, 8, 0, 5])
    np.testing.assert_array_equal(largest.backward(0 * a, np.array([8.0, 5.0])), [8, 0, 5, 0])  # the first of equals
    (overlapping,) = slow.steps_of(nn.Sequential(nn.MaxPool1d(3, 2, 1)), (1, 4))
    np.testing.assert_array_equal(overlapping.backward(a, np.array([8.0, 5.0])), [0, 13, 0, 0])


@pytest.mark.parametrize("net", [*NETS, rectified, unpadded])
def test_by_hand_the_steps_are_the_model(net):
    model, x, steps = built(net)
    for one, output in zip(x, model(x)):
        np.testing.assert_allclose(slow.values(steps, one)[-1], output.numpy(), rtol=0, atol=1e-12)
    assert [s.first for s in steps if isinstance(s, slow.Affine)].count(True) == 1


@pytest.mark.parametrize("net", [mlp, conv2d, norm_before])
def test_by_hand_no_two_rules_agree(net):
    """Agreement with one of them is worth something: on these nets all maps differ, and so does every composite's."""
    tables = [every(name) for name in slow.RULES if name != "epsilon"] + [every("epsilon", epsilon=0.1)]
    tables += [slow.composite_named(name, **bounds(name), epsilon=0.1) for name in NAMED if net is not mlp]
    maps = [expected(net, table) for table in tables]
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert (one - other).abs().max() > 1e-3 * one.abs().max()


@pytest.mark.parametrize("name", ["zero", "gamma", "z_plus", "alpha_beta", "w_square", "flat", "z_box"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_by_hand_conservation(name, has_bias):
    model, x, _ = built(unpadded, has_bias)
    total = expected(unpadded, every(name, bias=not has_bias), has_bias).sum((1, 2, 3))
    torch.testing.assert_close(total, model(x)[range(len(x)), TARGETS], rtol=1e-9, atol=0)


def gradient_times_input(net):
    model, x, _ = built(net)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf)[range(len(x)), TARGETS].sum(), leaf)
    return x * grad


def test_by_hand_zero_is_gradient_times_input():
    close(expected(rectified, every("zero")), gradient_times_input(rectified))


# The package against the matrices


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", slow.RULES)
def test_one_rule_everywhere(net, name):
    close(found(net, name, **bounds(name)), expected(net, every(name)))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", NAMED)
def test_named_composites(net, name):
    close(found(net, name, **bounds(name)), expected(net, slow.composite_named(name, **bounds(name))))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("zero", {}),
        ("epsilon", {"epsilon": 0.2}),
        ("epsilon", {"epsilon": 0.2, "relative": True}),
        ("gamma", {"gamma": 0.6}),
        ("alpha_beta", {"alpha": 1.5}),
        ("z_plus", {}),
        ("w_square", {}),
        ("flat", {}),
        ("z_box", {"low": -1.0, "high": 4}),
    ],
)
@pytest.mark.parametrize("shared", [{}, {"bias": False}, {"stabiliser": 0.05}, {"bias": False, "stabiliser": 0.05}])
def test_rule_objects(name, options, shared):
    """`relative` with `bias=False`: the root mean square of what the denominators are made of."""
    for net in (mlp, conv2d, norm_behind):
        close(found(net, rule(name, **options, **shared)), expected(net, every(name, **options, **shared)))


@pytest.mark.parametrize("net", [mlp, norm_dense, norm_before])
@pytest.mark.parametrize("name", slow.RULES)
def test_without_bias(net, name):
    """What a folded batch norm adds is a bias as well."""
    close(found(net, name, bias=False, **bounds(name)), expected(net, every(name, bias=False)))


@pytest.mark.parametrize("net", [mlp, norm_dense])
@pytest.mark.parametrize("name", slow.RULES)
def test_stabiliser(net, name):
    """For all rules asked for by name but epsilon, which has one of its own."""
    own = {} if name == "epsilon" else {"stabiliser": 0.1}
    close(found(net, name, stabiliser=0.1, **bounds(name)), expected(net, every(name, **own)))


@pytest.mark.parametrize("net", [mlp, conv2d, norm_behind, norm_before, transposed2d])
def test_options_of_the_call(net):
    relative = {"epsilon": 0.3, "relative": True}
    close(found(net, "epsilon", **relative), expected(net, every("epsilon", **relative)))
    close(found(net, "epsilon", epsilon=0.3), expected(net, every("epsilon", epsilon=0.3)))
    close(found(net, "gamma", gamma=1.5), expected(net, every("gamma", gamma=1.5)))
    close(found(net, "epsilon_plus", **relative), expected(net, slow.composite_named("epsilon_plus", **relative)))


@pytest.mark.parametrize("net", [conv2d, conv1d, conv3d, transposed1d, norm_behind, norm_before])
def test_bounds_per_channel(net):
    """Bounds of shape (C, 1, 1), on both sides of 0 and not; none given: this sample's smallest and largest value."""
    shape = net()[0]
    low = torch.linspace(-3, -2, shape[0], dtype=torch.float64).reshape(-1, *[1] * (len(shape) - 1))
    high = torch.linspace(4, 2, shape[0], dtype=torch.float64).reshape(low.shape)
    for box in ({"low": low, "high": high}, {"low": low, "high": 3.5}, {"low": low.abs(), "high": high.abs() + 3}, {}):
        numbers = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in box.items()}
        named = expected(net, slow.composite_named("epsilon_gamma_box", **numbers))
        close(found(net, "epsilon_gamma_box", **box), named)
        gamma = ("gamma", {})
        table = {"first": ("z_box", numbers), "convolution": gamma, "dense": gamma}
        objects = {"first": rule("z_box", **box), "convolution": rule("gamma"), "dense": rule("gamma")}
        close(found(net, objects), expected(net, table))


@pytest.mark.parametrize(
    ("net", "table"),
    [
        (mlp, {"dense": ("epsilon", {"epsilon": 0.1}), "2": ("gamma", {"gamma": 2.0})}),
        (mlp, {"first": ("z_box", bounds("z_box")), "dense": ("zero", {}), "4": ("w_square", {})}),
        (mlp, {"0": ("flat", {}), "first": ("w_square", {}), "dense": ("alpha_beta", {"alpha": 3.0})}),
        (conv2d, {"first": ("w_square", {}), "convolution": ("z_plus", {}), "dense": ("zero", {}), "0.3": ("gamma", {})}),
        (conv2d, {"0.0": ("flat", {}), "0.3": ("alpha_beta", {}), "2": ("epsilon", {"epsilon": 1.0}), "4": ("zero", {})}),
        (norm_before, {"1": ("flat", {}), "convolution": ("gamma", {}), "dense": ("z_plus", {"bias": False})}),
        (transposed2d, {"convolution": ("gamma", {"gamma": 1.0}), "2": ("z_plus", {}), "dense": ("zero", {})}),
    ],
)
def test_tables_of_rules(net, table):
    close(found(net, {key: rule(name, **options) for key, (name, options) in table.items()}), expected(net, table))


@pytest.mark.parametrize("name", ["zero", "gamma", "z_plus", "alpha_beta", "w_square", "flat", "z_box"])
def test_conservation(name):
    """Without a bias, or with the bias outside the denominators, the shares of every unit add up to 1."""
    for has_bias in (True, False):
        model, x, _ = built(unpadded, has_bias)
        total = found(unpadded, name, has_bias, bias=not has_bias, **bounds(name)).sum((1, 2, 3))
        torch.testing.assert_close(total, model(x)[range(len(x)), TARGETS], rtol=1e-9, atol=0)


def test_zero_is_gradient_times_input():
    close(found(rectified, "zero"), gradient_times_input(rectified))


class Joined(nn.Module):
    """A sum with a shortcut and a constant, a fork, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.enter, self.inner, self.side, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(9, 4)

    def forward(self, x):
        h = torch.tanh(self.enter(x))
        y = self.inner(h) + h + 0.7
        return self.last(torch.relu(torch.cat([self.side(y), y], 1)))


@pytest.mark.parametrize("name", slow.RULES)
def test_sums_forks_and_concatenations(name):
    """u and v of u + v + constant get their shares, the constant's is lost, and what comes back to a fork adds up."""
    noise = torch.Generator().manual_seed(3)
    model = Joined().double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.6 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    x = torch.randn(3, 5, generator=noise, dtype=torch.float64)
    parts = {key: slow.steps_of(nn.Sequential(part), (part.in_features,))[0] for key, part in model.named_children()}

    def back(key, a, r):
        return parts[key].backward(a, r, name, bounds(name))

    maps = []
    for one, target in zip(x.numpy(), TARGETS):
        h = np.tanh(parts["enter"].forward(one))
        u = parts["inner"].forward(h)
        y = u + h + 0.7
        joined = np.maximum(np.concatenate([parts["side"].forward(y), y]), 0)
        out = parts["last"].forward(joined)
        r_joined = back("last", joined, np.where(np.arange(4) == target, out, 0))
        r_y = r_joined[3:] + back("side", y, r_joined[:3])
        maps.append(back("enter", one, h / y * r_y + back("inner", h, u / y * r_y)))
    ours = pellucid.lrp(model, x, target=TARGETS, composite=name, **bounds(name)).relevance
    close(ours, torch.from_numpy(np.stack(maps)))
