"""Relatives of LRP, and DeepLIFT, against the slow ones of matrix_relatives.py, float64 at 1e-9 of the largest value.

The tests named by_hand need no engine: they hold the slow ones against numbers worked out on paper. Those named worked hold
both against such numbers.
"""

from __future__ import annotations

import copy
import zlib

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from references import matrix_relatives as relatives
from references import matrix_rules as slow
from references.test_matrix_rules import (
    HIGH,
    LOW,
    NETS,
    Joined,
    Mean,
    built,
    close,
    conv1d,
    conv2d,
    mlp,
    norm_before,
    norm_behind,
    norm_dense,
    rectified,
    transposed2d,
)

BOXES = [{}, {"low": LOW, "high": HIGH}]
VARIANTS = ["rescale", "reveal_cancel", "genomics"]


def dense_relu():
    return (6,), nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4))


def plain():
    """Nothing but ReLU, and windows that do not overlap."""
    features = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.ReLU(), nn.AvgPool2d(2)]
    return (2, 6, 6), nn.Sequential(*features, nn.Flatten(), nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4))


def lifted():
    features = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.Tanh(), nn.Flatten()]
    return (2, 8, 8), nn.Sequential(*features, nn.Linear(45, 9), nn.ReLU(), nn.Linear(9, 4))


def shallow():
    """One affine operation: the first and the last."""
    return (6,), nn.Sequential(nn.Linear(6, 4))


def shallow_convolution():
    return (2, 5, 5), nn.Sequential(nn.Conv2d(2, 4, 3), Mean())


MORE = [*NETS, dense_relu, plain, lifted]


def targets(net, bias=True):
    """The largest logit of the first samples and the smallest of the last, so that both signs occur."""
    model, x, _ = built(net, bias)
    logits = model(x)
    return [*logits[:-1].argmax(1).tolist(), int(logits[-1].argmin())]


def expected(net, function, bias=True, **options):
    _, x, steps = built(net, bias)
    maps = [function(steps, one, t, **options) for one, t in zip(x, targets(net, bias))]
    return torch.from_numpy(np.stack(maps)).reshape(x.shape)


def found(net, name, has_bias=True, **options):
    model, x, _ = built(net, has_bias)
    return getattr(pellucid, name)(model, x, target=targets(net, has_bias), **options)


def logits_of(net, bias=True):
    model, x, _ = built(net, bias)
    return model(x)[range(len(x)), targets(net, bias)]


# Seeds and rules by hand: c [[2, -1], [-2, -6]]

A, W, R = np.array([1.0, -2.0]), np.array([[2.0, -1.0], [1.0, 3.0]]), np.array([3.0, 6.0])


def test_by_hand_rap():
    """First column (1, 1/2) of 3, second (1/7, 6/7) of 6: 1.5 too much, shared by the active; a third input is idle."""
    np.testing.assert_allclose(relatives.by_size(A, W, R), [1.5 + 6 / 7, 1.5 + 36 / 7], rtol=1e-14)
    expected = [3 + 6 / 7 - 0.75, 1.5 + 36 / 7 - 0.75]
    np.testing.assert_allclose(relatives.by_influence(A, W, R), expected, rtol=1e-14)
    idle = relatives.by_influence(np.append(A, 0.0), np.vstack([W, [5.0, 5.0]]), R)
    np.testing.assert_allclose(idle, [*expected, 0], rtol=1e-14)
    np.testing.assert_array_equal(relatives.by_influence(0 * A, W, R), [0, 0])


def test_by_hand_seeds():
    y = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(relatives.softmax_seed(np.log(y) + 7, 1), [-0.15, 0.21, -0.06], rtol=1e-12)


def test_worked_contrast():
    """x = (1, 2), logits (3, 1) from weights [[1, -1], [1, 1]]: seeds 3 and 3, box from 1 to 2."""
    model = wired(([[1, 1], [-1, 1]], [0, 0]))
    steps, x = slow.steps_of(model, (2,)), np.array([1.0, 2.0])
    # parts a w - 1 w+ - 2 w-: unit 0 [0, 1], unit 1 [1, 1]; negated unit 0 [1, 0]
    np.testing.assert_allclose(relatives.deep_taylor(steps, x, 0), [0, 3], atol=1e-14)
    np.testing.assert_allclose(relatives.contrastive_lrp(steps, x, 0, clip=False), [-1.5, 1.5], atol=1e-14)
    np.testing.assert_allclose(relatives.contrastive_lrp(steps, x, 0), [0, 1.5], atol=1e-14)
    np.testing.assert_allclose(relatives.contrastive_lrp(steps, x, 0, dual="negated"), [0, 3], atol=1e-14)
    ours = pellucid.contrastive_lrp(model, torch.from_numpy(x)[None], target=[0], clip=False).relevance
    np.testing.assert_allclose(ours.numpy(), [[-1.5, 1.5]], atol=1e-14)


@pytest.mark.parametrize("net", MORE)
def test_by_hand_rap_keeps_the_total(net):
    """At every step, where averages are none of zeros alone with relevance."""
    _, x, steps = built(net)
    for one, target, logit in zip(x, targets(net), logits_of(net)):
        for r in relatives.rap(steps, one, target):
            assert abs(r.sum() - float(logit)) < 1e-11


# The package against the matrices


@pytest.mark.parametrize("net", [*MORE, shallow, shallow_convolution])
@pytest.mark.parametrize("options", [*BOXES, {"first": "w_square"}])
def test_deep_taylor(net, options):
    theirs = expected(net, relatives.deep_taylor, **options)
    ours = found(net, "deep_taylor", **options)
    assert float(ours.relevance.min()) >= 0
    if (logits_of(net) <= 0).all():
        assert float(ours.relevance.abs().max()) == 0
    else:
        close(ours.relevance, theirs)


@pytest.mark.parametrize("net", [dense_relu, plain])
@pytest.mark.parametrize("first", ["z_box", "w_square"])
def test_deep_taylor_sums_to_the_rectified_logit(net, first):
    """Without biases an active unit has a positive contribution, and only active units have relevance."""
    total = found(net, "deep_taylor", has_bias=False, first=first).relevance.flatten(1).sum(1)
    theirs = logits_of(net, bias=False).clamp(min=0)
    assert float(theirs.max()) > 0
    torch.testing.assert_close(total, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("net", [*MORE, shallow, shallow_convolution])
@pytest.mark.parametrize("dual", ["others", "negated"])
def test_contrastive_lrp(net, dual):
    for options in ({}, {"clip": False, "low": LOW, "high": HIGH}):
        ours = found(net, "contrastive_lrp", dual=dual, **options).relevance
        close(ours, expected(net, relatives.contrastive_lrp, dual=dual, **options))
    if dual == "others":  # the last, unclipped one: as much against as for; without negative weights "negated" is empty
        assert float(ours.flatten(1).sum(1).abs().max()) < 1e-12


@pytest.mark.parametrize("net", [*MORE, shallow, shallow_convolution])
@pytest.mark.parametrize("options", BOXES)
def test_softmax_gradient_lrp(net, options):
    ours = found(net, "softmax_gradient_lrp", **options).relevance
    close(ours, expected(net, relatives.softmax_gradient_lrp, **options))


@pytest.mark.parametrize("net", [*MORE, shallow])
def test_softmax_gradient_lrp_by_lrp_zero(net):
    """Without the shares of the biases, as everywhere in this family."""
    rule = ("zero", {})
    theirs = expected(net, relatives.softmax_gradient_lrp, rule=lambda _: rule)
    close(found(net, "softmax_gradient_lrp", composite="zero").relevance, theirs)


@pytest.mark.parametrize("net", [dense_relu, plain, rectified])
def test_softmax_gradient_lrp_by_lrp_zero_in_closed_form(net):
    """A seed s at logit k arrives as s x dz_k/dx / z_k, so the whole is sum_k s_k / z_k x dz_k/dx (no biases)."""
    model, x, _ = built(net, False)
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    y, theirs = logits.softmax(1).detach(), torch.zeros_like(x)
    at = torch.tensor(targets(net, False))
    for k in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)
        y_t = y[range(len(x)), at]
        seed = torch.where(at == k, y_t * (1 - y_t), -y_t * y[:, k])
        theirs += (seed / logits[:, k].detach()).reshape(-1, *[1] * (x.ndim - 1)) * x * gradient
    ours = found(net, "softmax_gradient_lrp", has_bias=False, composite="zero").relevance
    close(ours, theirs)
    torch.testing.assert_close(ours.flatten(1).sum(1), torch.zeros(len(x), dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("net", [*MORE, shallow, shallow_convolution])
@pytest.mark.parametrize("options", BOXES)
def test_rap(net, options):
    ours = found(net, "rap", **options).relevance
    close(ours, expected(net, lambda *given, **more: relatives.rap(*given, **more)[0], **options))
    torch.testing.assert_close(ours.flatten(1).sum(1), logits_of(net), rtol=0, atol=1e-11)


@pytest.mark.parametrize("net", [plain, lifted, norm_before])
def test_bounds_per_channel(net):
    """Bounds of shape (C, 1, 1); one of them alone, and the sample's own for the other."""
    low = torch.linspace(-3, -2.6, 2, dtype=torch.float64).reshape(-1, 1, 1)
    for box in ({"low": low, "high": low + 6}, {"low": low}, {"high": low + 6}):
        for name in ("deep_taylor", "contrastive_lrp", "softmax_gradient_lrp"):
            close(found(net, name, **box).relevance, expected(net, getattr(relatives, name), **box))
        theirs = expected(net, lambda *given, **more: relatives.rap(*given, **more)[0], **box)
        close(found(net, "rap", **box).relevance, theirs)


@pytest.mark.parametrize("net", [net for net in MORE if len(net()[0]) > 1])
def test_relevance_cam(net):
    """At every layer with maps but batch norms before their convolution, whose output a folded rule does not see."""
    model, x, steps = built(net)
    leaves = [(name, module) for name, module in model.named_modules() if not isinstance(module, nn.Sequential)]
    tried = 0
    for i, (name, module) in enumerate(leaves):
        head = nn.Sequential(*(part for _, part in leaves[: i + 1])).eval()
        maps = head(x)
        folds_forward = isinstance(module, slow.NORMS) and not (i and isinstance(leaves[i - 1][1], slow.CONVOLUTIONS))
        if maps.ndim < 3 or folds_forward:
            continue
        depth = len(slow.steps_of(head, tuple(x.shape[1:]), linear=(Mean,)))
        rows = zip(x, targets(net), maps.numpy())
        theirs = np.stack([relatives.relevance_cam(steps, one, t, depth, each) for one, t, each in rows])
        close(found(net, "relevance_cam", layer=name).raw, torch.from_numpy(theirs))
        tried += 1
    assert tried >= 2


class Branches(nn.Module):
    """Two operations where the input enters; a third sees the input too, but also what they made of it."""

    def __init__(self, dense):
        super().__init__()
        kind = nn.Linear if dense else nn.Conv1d
        more = () if dense else (3, 1, 1)
        self.left, self.right = kind(4, 5, *more), kind(4, 3, *more)
        self.inner, self.last = kind(12, 6, *more), nn.Linear(6 if dense else 6 * 7, 4)

    def forward(self, x):
        h = torch.cat([torch.relu(self.left(x)), torch.tanh(self.right(x)), x], 1)
        return self.last(torch.relu(self.inner(h)).flatten(1))


def by_branches(parts, one, other, target, dense):
    """What each method makes of one sample, and DeepLIFT of its difference from another."""
    relu, tanh = slow.Activation(nn.ReLU()), slow.Activation(nn.Tanh())
    ends = np.cumsum([parts["left"].weights.shape[1], parts["right"].weights.shape[1]])
    box = {"low": one.min(), "high": one.max()}

    def forward(a):
        h = np.concatenate([relu.forward(parts["left"].forward(a)), tanh.forward(parts["right"].forward(a)), a])
        top = relu.forward(parts["inner"].forward(h))
        return h, top, parts["last"].forward(top)

    def rule(name, key, a, r, **options):
        return parts[key].backward(a, r, name, {"bias": False, **options})

    def influence(key, a, r):
        return relatives.by_influence(a, parts[key].weights, r)

    def boxed(r):
        left, right, direct = np.split(r, ends)
        return rule("z_box", "left", one, left, **box) + rule("z_box", "right", one, right, **box) + direct

    (h, top, out), (h_other, _, _) = forward(one), forward(other)
    seeds = {
        "deep_taylor": relatives.one_hot(len(out), target) * max(out[target], 0),
        "softmax_gradient_lrp": relatives.softmax_seed(out, target),
    }
    found = {key: boxed(rule("z_plus", "inner", h, rule("z_plus", "last", top, r))) for key, r in seeds.items()}
    r = relatives.by_size(top, parts["last"].weights, relatives.one_hot(len(out), target) * out[target])
    r = influence("inner", h, r)
    left, right, direct = np.split(r, ends)
    found["rap"] = influence("left", one, left) + influence("right", one, right) + direct if dense else boxed(r)

    def back(key, step, a, b, m, reveals):
        if reveals:
            return relatives.reveal_cancel(parts[key], step, a, b, m)
        return parts[key].weights @ (m * relatives.rescale(step, parts[key].forward(a), parts[key].forward(b)))

    for variant, reveals in zip(VARIANTS, (False, True, dense)):
        m = back("inner", relu, h, h_other, parts["last"].weights[:, target], reveals)
        left, right, direct = np.split(m, ends)
        m = back("left", relu, one, other, left, reveals) + back("right", tanh, one, other, right, reveals) + direct
        found[variant] = (one - other) * m
    return found


@pytest.mark.parametrize("dense", [True, False])
def test_branches(dense):
    noise = torch.Generator().manual_seed(5)
    model = Branches(dense).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    model.last.bias += 1  # some logits above 0, for Deep Taylor
    shape = (4,) if dense else (4, 7)
    x, reference = (torch.randn(n, *shape, generator=noise, dtype=torch.float64) for n in (3, 1))
    chosen = [*model(x)[:2].argmax(1).tolist(), 2]
    shapes = {"left": shape, "right": shape, "inner": (12, *shape[1:]), "last": (model.last.in_features,)}
    parts = {key: slow.steps_of(nn.Sequential(part), shapes[key])[0] for key, part in model.named_children()}
    other = reference.flatten().numpy()
    answers = [by_branches(parts, one, other, target, dense) for one, target in zip(x.flatten(1).numpy(), chosen)]
    for name in answers[0]:
        if name in VARIANTS:
            ours = pellucid.deep_lift(model, x, target=chosen, variant=name, baseline=reference[0])
        else:
            ours = getattr(pellucid, name)(model, x, target=chosen)
        close(ours.relevance, torch.from_numpy(np.stack([each[name] for each in answers])).reshape(x.shape))


def by_sums(parts, one, target):
    """u and h share what reaches u + h + 0.7, the constant gets nothing; in Deep Taylor only where they are positive."""
    h = np.tanh(parts["enter"].forward(one))
    u = parts["inner"].forward(h)
    y = u + h + 0.7
    joined = np.maximum(np.concatenate([parts["side"].forward(y), y]), 0)
    out = parts["last"].forward(joined)
    side = parts["side"].weights.shape[1]
    box = {"low": one.min(), "high": one.max(), "bias": False}

    def share(part, r, positive=False):
        terms = np.array([np.maximum(v, 0) if positive else v for v in (u, h, part)])
        total = terms[0] + terms[1]
        return terms[2] / np.where(total != 0, total, np.inf) * r

    def plus(key, a, r):
        return parts[key].backward(a, r, "z_plus", {"bias": False})

    found = {}
    for name, seed in (
        ("deep_taylor", relatives.one_hot(len(out), target) * max(out[target], 0)),
        ("softmax_gradient_lrp", relatives.softmax_seed(out, target)),
    ):
        positive = name == "deep_taylor"
        r = plus("last", joined, seed)
        r = r[side:] + plus("side", y, r[:side])
        r = share(h, r, positive) + plus("inner", h, share(u, r, positive))
        found[name] = parts["enter"].backward(one, r, "z_box", box)

    def influence(key, a, r):
        return relatives.by_influence(a, parts[key].weights, r)

    r = relatives.by_size(joined, parts["last"].weights, relatives.one_hot(len(out), target) * out[target])
    r = r[side:] + influence("side", y, r[:side])
    found["rap"] = influence("enter", one, share(h, r) + influence("inner", h, share(u, r)))
    return found


def test_sums():
    noise = torch.Generator().manual_seed(3)
    model = Joined().double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.6 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    x = torch.randn(4, 5, generator=noise, dtype=torch.float64)
    chosen = model(x).argmax(1).tolist()
    parts = {key: slow.steps_of(nn.Sequential(part), (part.in_features,))[0] for key, part in model.named_children()}
    answers = [by_sums(parts, one, target) for one, target in zip(x.numpy(), chosen)]
    for name in answers[0]:
        ours = getattr(pellucid, name)(model, x, target=chosen).relevance
        close(ours, torch.from_numpy(np.stack([each[name] for each in answers])))


@pytest.mark.parametrize("name", ["deep_taylor", "contrastive_lrp", "softmax_gradient_lrp", "rap", "deep_lift"])
def test_nothing_from_nothing(name):
    """No unit of the first layer is active: the logits are biases, and no map of them has anything to share."""
    model = wired(([[1, 2], [2, 1], [1, 1]], [-90, -90, -90]), "relu", ([[1, 2, 3], [3, 2, 1]], [2, 1]))
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    ours = getattr(pellucid, name)(model, x, target=[0, 1]).relevance
    torch.testing.assert_close(ours, torch.zeros_like(x), rtol=0, atol=0)


# DeepLIFT by hand (Shrikumar et al. 2017, sections 3.3 to 3.5)


def wired(*layers):
    """Linear layers from (weights, biases), and activations by name."""
    made = []
    for layer in layers:
        if isinstance(layer, str):
            made.append({"relu": nn.ReLU, "tanh": nn.Tanh}[layer]())
        else:
            weights, biases = (torch.tensor(v, dtype=torch.float64) for v in layer)
            made.append(nn.Linear(*weights.shape[::-1], dtype=torch.float64))
            with torch.no_grad():
                made[-1].weight.copy_(weights)
                made[-1].bias.copy_(biases)
    return nn.Sequential(*made).eval().requires_grad_(False)


SATURATED = wired(([[-1, -1]], [1]), "relu", ([[-1]], [1]))  # 1 - max(0, 1 - (i1 + i2))
THRESHOLD = wired(([[1]], [-10]), "relu", ([[1]], [0]))  # max(0, x - 10)
SMALLER = wired(([[1, 0], [1, -1]], [0, 0]), "relu", ([[1, -1]], [0]))  # i1 - max(0, i1 - i2) for i1 >= 0
BOTH = wired(([[1, 1]], [-1]), "relu", ([[1]], [0]))  # max(0, i1 + i2 - 1)
EITHER = wired(([[-1, 0], [0, -1]], [1, 1]), "relu", ([[-1, -1]], [1.5]), "relu")  # max(0, 1.5 - the two that are missing)
DIFFERENCE = wired(([[1, -1]], [0]), "tanh", ([[1]], [0]))
FIRST = ([[1, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], [-0.5, 0, 0])  # max(0, i1 - i2 - 0.5), i3, i4
HALVES = wired(FIRST, "relu", ([[1, 1, -1]], [0]), "relu")
SLOPES = wired(FIRST, "relu", ([[1, 1, 0]], [0]), "tanh")

t1, t2 = np.tanh(1), np.tanh(2)

CASES = {
    # 1 - (i1 + i2) falls from 1 to -1, its ReLU from 1 to 0: half of -2, where the gradient is 0
    "saturated": (SATURATED, [1, 1], [0.5, 0.5], [0.5, 0.5]),
    "saturated once": (SATURATED, [1, 0], [1, 0], [1, 0]),
    "saturated twice": (SATURATED, [3, 1], [0.75, 0.25], [0.75, 0.25]),
    "threshold": (THRESHOLD, [11], [1], [1]),
    # h = max(0, i1 - i2). Rescale: h rises by 2 of 2, so i1 gets 5 - 5 and i2 gets 3.
    # RevealCancel: D+ 5, D- -3; dy+ (5 - 0 + 2 - 0) / 2 = 3.5, dy- (0 - 0 + 2 - 5) / 2 = -1.5; i1 5 - 3.5, i2 1.5
    "smaller, the first larger": (SMALLER, [5, 3], [0, 3], [1.5, 1.5]),
    # Rescale: h stays 0, so i1 gets 3. RevealCancel: D+ 3, D- -5; dy+ (3 - 0 + 0 - 0) / 2 = 1.5, dy- -1.5; i1 3 - 1.5, i2 1.5
    "smaller, the second larger": (SMALLER, [3, 5], [3, 0], [1.5, 1.5]),
    "both": (BOTH, [1, 1], [0.5, 0.5], [0.5, 0.5]),
    "both, one there": (BOTH, [1, 0], [0, 0], [0, 0]),
    "both, one stronger": (BOTH, [2, 1], [4 / 3, 2 / 3], [4 / 3, 2 / 3]),
    # from -1 by 2 and -1 to 0. dy+ (1 - 0 + 0 - 0) / 2, dy- (0 - 0 + 0 - 1) / 2; Rescale: 0 / 1
    "both, one against": (BOTH, [2, -1], [0, 0], [0.5, -0.5]),
    "either": (EITHER, [1, 1], [0.75, 0.75], [0.75, 0.75]),
    # the last unit is at -0.5 and gets +1 and -1: dy+ (0.5 - 0 + 0 - 0) / 2, dy- (0 - 0 + 0 - 0.5) / 2
    "either, one against": (EITHER, [1, -1], [0, 0], [0.25, -0.25]),
    # what cancels: the derivative 1 at 0; tanh(1) - 0 + 0 - tanh(-1) over 2
    "difference": (DIFFERENCE, [1, 1], [1, -1], [t1, -t1]),
    # the first unit does not change, but by (0.5 - 0) / 2 upwards and as much downwards. Behind it D+ 2 and D- -1:
    # dy+ (2 - 0 + 1 - 0) / 2 = 1.5, dy- (0 - 0 + 1 - 2) / 2 = -0.5; multipliers 0.75 and 0.5; the first unit gets half of each
    "halves": (HALVES, [1, 1, 2, 1], [0, 0, 2, -1], [0.25 * 0.625, -0.25 * 0.625, 1.5, -0.5]),
    # as before, D- 0: its multiplier is the derivative at the sample
    "slopes": (
        SLOPES,
        [1, 1, 2, 1],
        [0, 0, t2, 0],
        [0.25 * (t2 / 2 + 1 - t2**2) / 2, -0.25 * (t2 / 2 + 1 - t2**2) / 2, t2, 0],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_worked_cases(case, variant):
    """From a baseline of 0. All layers are dense, so genomics is RevealCancel."""
    model, x, rescaled, revealed = CASES[case]
    theirs = rescaled if variant == "rescale" else revealed
    x = np.array(x, dtype=np.float64)
    steps = slow.steps_of(model, x.shape)
    np.testing.assert_allclose(relatives.deep_lift(steps, x, [0.0], 0, variant)[0], theirs, rtol=0, atol=1e-14)
    ours = pellucid.deep_lift(model, torch.from_numpy(x)[None], target=[0], variant=variant)
    np.testing.assert_allclose(ours.relevance[0].numpy(), theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_jump_at_a_threshold(variant):
    """max(0, x - 10), where the gradient times x jumps from 0 to 10."""
    x = torch.tensor([[9.0], [9.999], [10.0], [10.001], [10.5], [20.0]], dtype=torch.float64)
    ours = pellucid.deep_lift(THRESHOLD, x, target=[0] * len(x), variant=variant).relevance
    torch.testing.assert_close(ours, (x - 10).clamp(min=0), rtol=0, atol=1e-14)
    jump = pellucid.gradient_times_input(THRESHOLD, x, target=[0] * len(x)).relevance
    torch.testing.assert_close(jump, torch.where(x > 10, x, 0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_worked_max_pool(variant):
    """From 2 to 3 the winner of the sample rises by 1; from 5 to 2 that of the reference falls by 3."""
    model = nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), *wired(([[8, 5]], [1])))
    x, reference = ([1.0, 3.0, -2.0, 2.0], [2.0, 0.0, 5.0, 1.0])
    steps = slow.steps_of(model, (1, 4))
    np.testing.assert_allclose(relatives.deep_lift(steps, x, [reference], 0, variant)[0], [0, 8, -15, 0], atol=1e-14)
    x, reference = (torch.tensor([v], dtype=torch.float64) for v in (x, reference))
    ours = pellucid.deep_lift(model, x[None], target=[0], baseline=reference, variant=variant).relevance
    torch.testing.assert_close(ours.flatten().tolist(), [0.0, 8.0, -15.0, 0.0], rtol=0, atol=1e-14)


# DeepLIFT against the matrices


def reference_of(net, count=1):
    shape = net()[0]
    noise = torch.Generator().manual_seed(zlib.crc32(net.__name__.encode()) + 1)
    return torch.randn(count, *shape, generator=noise, dtype=torch.float64)


def lift(net, variant, references, bias=True):
    """(relevance, score, base), each stacked; `references` may be a function of the sample."""
    _, x, steps = built(net, bias)
    rows = [
        relatives.deep_lift(steps, one, references(one) if callable(references) else references, t, variant)
        for one, t in zip(x, targets(net, bias))
    ]
    relevance, score, base = (torch.from_numpy(np.stack(part)) for part in zip(*rows))
    return relevance.reshape(x.shape), score, base


def check_lift(net, variant, baseline, references):
    ours = found(net, "deep_lift", variant=variant, baseline=baseline)
    relevance, score, base = lift(net, variant, references)
    close(ours.relevance, relevance)
    torch.testing.assert_close(ours.base, base, rtol=0, atol=1e-12 * max(1, float(base.abs().max())))
    for maps in (relevance, ours.relevance):
        allowed = 1e-12 * max(1.0, float(score.abs().max()))
        torch.testing.assert_close(maps.flatten(1).sum(1), score - base, rtol=0, atol=allowed)


@pytest.mark.parametrize("net", MORE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_deep_lift(net, variant):
    """From one random input, and from zeros, where all windows inside the padding tie exactly."""
    (reference,) = reference_of(net)
    check_lift(net, variant, reference, [reference])
    check_lift(net, variant, 0.0, [0.0])


@pytest.mark.parametrize("net", [mlp, dense_relu, conv1d, norm_before, transposed2d])
@pytest.mark.parametrize("variant", VARIANTS)
def test_deep_lift_from_constants(net, variant):
    """No max pooling: under a constant input its windows tie up to rounding, and rounding would choose the winner."""
    check_lift(net, variant, 0.3, [0.3])
    axes = tuple(range(1, len(net()[0]))) or (0,)
    check_lift(net, variant, "mean", lambda one: [one.mean(axes, keepdim=True).expand_as(one)])


@pytest.mark.parametrize("net", [mlp, lifted, conv2d])
@pytest.mark.parametrize("variant", VARIANTS)
def test_deep_lift_from_a_set(net, variant):
    references = reference_of(net, 3)
    check_lift(net, variant, references, list(references))


@pytest.mark.parametrize("net", [mlp, lifted, conv2d])
@pytest.mark.parametrize("variant", VARIANTS)
def test_deep_lift_where_much_is_alike(net, variant):
    """Half of the input, and so some units, are as in the reference: derivatives and halves in the place of 0 / 0."""
    model, x, steps = built(net)
    keep = torch.arange(x[0].numel()).reshape(x.shape[1:]) < x[0].numel() // 2
    reference = torch.where(keep, x[0], reference_of(net)[0])
    ours = pellucid.deep_lift(model, x[:1], target=targets(net)[:1], variant=variant, baseline=reference).relevance
    theirs = relatives.deep_lift(steps, x[0], [reference], targets(net)[0], variant)[0].reshape(x[:1].shape)
    close(ours, torch.from_numpy(theirs))
    assert float(ours[0][keep].abs().max()) == 0


def test_by_hand_variants_differ():
    """Agreement with one of them is worth something."""
    for net in (lifted, conv2d, norm_behind):
        references = list(reference_of(net))
        maps = [lift(net, variant, references)[0] for variant in VARIANTS]
        pairs = [(0, 1), (1, 2)] if net is norm_behind else [(0, 1), (0, 2), (1, 2)]  # no hidden dense layer there
        for i, j in pairs:
            assert float((maps[i] - maps[j]).abs().max()) > 1e-3 * float(maps[i].abs().max())


# Identities


def linear_net():
    features = [nn.Conv2d(2, 4, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(4, 3, 2), nn.Flatten()]
    return (2, 6, 6), nn.Sequential(*features, nn.Linear(12, 7), nn.Linear(7, 4))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_linear_net_has_one_answer(variant):
    baseline = reference_of(linear_net)[0]
    paths = found(linear_net, "integrated_gradients", baseline=baseline).relevance
    lifts = found(linear_net, "deep_lift", baseline=baseline, variant=variant).relevance
    torch.testing.assert_close(lifts, paths, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_reveal_cancel_is_rescale_where_nothing_cancels(activation):
    """Signs s of inputs and units, weights s_j s_k |w_jk|, differences s_j |dx_j|: all contributions to k have the sign s_k."""
    noise = torch.Generator().manual_seed(9)

    def draw(*shape):
        return torch.randn(*shape, generator=noise, dtype=torch.float64)

    sizes = [6, 9, 8, 4]
    signs = [draw(n).sign() for n in sizes]
    layers = [(0.3 * draw(b, a).abs() * t[:, None] * s, draw(b)) for a, b, s, t in zip(sizes, sizes[1:], signs, signs[1:])]
    layers = [(w.tolist(), b.tolist()) for w, b in layers]
    model = wired(layers[0], activation, layers[1], activation, layers[2])
    reference = draw(6)
    x = reference + draw(3, 6).abs() * signs[0]
    maps = [
        pellucid.deep_lift(model, x, target=[1, 0, 2], baseline=reference, variant=variant).relevance
        for variant in ("rescale", "reveal_cancel")
    ]
    close(maps[1], maps[0])
    steps = slow.steps_of(model, (6,))
    theirs = [relatives.deep_lift(steps, one, [reference], t, "reveal_cancel")[0] for one, t in zip(x, [1, 0, 2])]
    close(maps[1], torch.from_numpy(np.stack(theirs)))


@pytest.mark.parametrize("net", [dense_relu, plain])
def test_four_ways_to_one_map(net):
    """METHODS 0.2: without biases and from a baseline of 0 the net is positively homogeneous."""
    maps = {
        "lrp": found(net, "lrp", has_bias=False, composite="zero").relevance,
        "gradient_times_input": found(net, "gradient_times_input", has_bias=False).relevance,
        "deep_lift": found(net, "deep_lift", has_bias=False).relevance,
        "integrated_gradients": found(net, "integrated_gradients", has_bias=False, steps=200).relevance,
    }
    for name, each in maps.items():
        torch.testing.assert_close(each, maps["gradient_times_input"], rtol=0, atol=1e-12, msg=name)
        torch.testing.assert_close(each.flatten(1).sum(1), logits_of(net, False), rtol=0, atol=1e-12, msg=name)


def normed():
    """Batch norms behind convolutions, behind a dense layer, and before it."""
    features = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2, bias=False)]
    head = [nn.BatchNorm1d(20), nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)]
    return (2, 6, 6), nn.Sequential(*features, nn.BatchNorm2d(5), nn.Tanh(), nn.Flatten(), *head)


def merged(model):
    """The same function without batch norms: each in the weights of the layer before it, else of the one behind it."""
    parts, waiting = [], None
    for module in copy.deepcopy(model):
        if not isinstance(module, slow.NORMS):
            if waiting is not None:
                g, c = waiting
                module.bias += module.weight @ c
                module.weight *= g
                waiting = None
            parts.append(module)
            continue
        g = module.weight / (module.running_var + module.eps).sqrt()
        c = module.bias - g * module.running_mean
        if not isinstance(parts[-1], (nn.Linear, nn.Conv2d)):
            waiting = (g, c)
            continue
        layer = parts[-1]
        old = 0 if layer.bias is None else layer.bias
        layer.weight *= g.reshape(-1, *[1] * (layer.weight.ndim - 1))
        layer.bias = nn.Parameter(g * old + c, requires_grad=False)
    return nn.Sequential(*parts).eval()


@pytest.mark.parametrize("net", [normed, norm_behind, norm_dense])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradient_times_input", {}),
        ("lrp", {"composite": "zero"}),
        *[("deep_lift", {"variant": variant}) for variant in VARIANTS],
        *[("deep_lift", {"variant": variant, "baseline": "random"}) for variant in VARIANTS],
    ],
)
def test_merging_batch_norms_changes_nothing(net, name, options):
    model, x, _ = built(net)
    bare = merged(model)
    torch.testing.assert_close(bare(x), model(x), rtol=0, atol=1e-12)
    assert not any(isinstance(module, slow.NORMS) for module in bare)
    if "baseline" in options:
        options = {**options, "baseline": reference_of(net)[0]}
    first, second = (getattr(pellucid, name)(m, x, target=targets(net), **options).relevance for m in (model, bare))
    close(first, second)
