"""Relevance propagation and DeepLIFT beside zennit, captum and shap, in float64 at 1e-9 of the largest value.

Epsilon and stabiliser are the same on both sides. These networks are made of modules, which all of them find; those with
functions, plain sums and reused modules are in test_peers_faults.py.
"""

from __future__ import annotations

import functools

import pytest
import torch
from architectures import CLASSES, Signed, VggLike, VggNormLike, images, network
from comparison import TARGET, Times, activations, at_target, close, zennit_composite, zennit_package
from torch import Tensor, nn

from pellucid import explain
from pellucid.explanation import rules

LOW, HIGH = -5.0, 5.0  # outside everything that images() gives
COMPOSITES = {
    "epsilon_plus": "EpsilonPlus",
    "epsilon_plus_flat": "EpsilonPlusFlat",
    "epsilon_alpha2_beta1": "EpsilonAlpha2Beta1",
    "epsilon_alpha2_beta1_flat": "EpsilonAlpha2Beta1Flat",
    "epsilon_gamma_box": "EpsilonGammaBox",
}


def ours(name, model, x, **options):
    return explain(model, x, {name: options}, target=TARGET)[name]


# --- zennit -----------------------------------------------------------------------------------------------------------


def beside_zennit(name, model, x, canonizer, epsilon=1e-6, stabiliser=1e-6):
    """One composite on both sides; batch norms with next to no epsilon, which zennit 0.5.1 divides by twice."""
    composites = pytest.importorskip("zennit.composites")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-14
    bounds = {"low": LOW, "high": HIGH} if name == "epsilon_gamma_box" else {}
    found = ours("lrp", model, x, composite=name, epsilon=epsilon, stabiliser=stabiliser, **bounds)
    theirs = getattr(composites, COMPOSITES[name])(
        epsilon=epsilon, stabilizer=stabiliser, canonizers=[canonizer] if canonizer else None, **bounds
    )
    close(found.relevance, zennit_package(model, x, at_target(TARGET), theirs))


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("kind", [VggLike, VggNormLike, Signed])
@pytest.mark.parametrize(("epsilon", "stabiliser"), [(1e-6, 1e-6), (0.1, 0.01)])
def test_zennit_composites(kind, name, epsilon, stabiliser):
    canonizers = pytest.importorskip("zennit.canonizers")
    canonizer = canonizers.SequentialMergeBatchNorm() if kind is VggNormLike else None
    beside_zennit(name, network(kind), images(), canonizer, epsilon, stabiliser)


@functools.cache
def residual_network(depth):
    from torchvision.models import resnet

    return network(functools.partial(getattr(resnet, f"resnet{depth}"), num_classes=CLASSES))


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("depth", [18, 50])
def test_zennit_composites_on_torchvision_resnets(depth, name):
    """Its canonizer puts a module in the place of every ``+``; ours takes the network as torchvision has it."""
    pytest.importorskip("zennit")
    canonizer = pytest.importorskip("zennit.torchvision").ResNetCanonizer()
    beside_zennit(name, residual_network(depth), images()[..., :32, :32], canonizer)


RULES = [
    ("zero", {}, "Epsilon", {}),
    ("epsilon", {"epsilon": 0.1}, "Epsilon", {"epsilon": 0.1}),
    ("gamma", {"gamma": 0.0}, "Gamma", {"gamma": 0.0}),
    ("gamma", {"gamma": 0.3}, "Gamma", {"gamma": 0.3}),
    ("gamma", {"gamma": 5.0}, "Gamma", {"gamma": 5.0}),
    ("alpha_beta", {"alpha": 1.0}, "AlphaBeta", {"alpha": 1.0, "beta": 0.0}),
    ("alpha_beta", {"alpha": 1.5}, "AlphaBeta", {"alpha": 1.5, "beta": 0.5}),
    ("alpha_beta", {"alpha": 2.0}, "AlphaBeta", {"alpha": 2.0, "beta": 1.0}),
    ("z_plus", {}, "ZPlus", {}),
    ("w_square", {}, "WSquare", {}),
    ("flat", {}, "Flat", {}),
    ("z_box", {"low": LOW, "high": HIGH}, "ZBox", {"low": LOW, "high": HIGH}),
]


def both_rules(name, mine, theirs, options, bias=True, stabiliser=1e-3):
    """A rule of ours and zennit's; its epsilon is what it calls the stabiliser of that rule."""
    kinds = pytest.importorskip("zennit.rules")
    given = {} if theirs == "Epsilon" and options else {"epsilon" if theirs == "Epsilon" else "stabilizer": stabiliser}
    rule = getattr(kinds, theirs)(**options, **given, zero_params=None if bias else "bias")
    return rules.RULES[name](**mine, bias=bias, **({} if name == "epsilon" else {"stabiliser": stabiliser})), rule


# For gamma without biases see test_peers_faults.py.
WITHOUT_BIAS = [rule for rule in RULES if rule[0] != "gamma" or rule[1]["gamma"] == 0]


@pytest.mark.parametrize(
    ("name", "mine", "theirs", "options", "bias"),
    [*((*rule, True) for rule in RULES), *((*rule, False) for rule in WITHOUT_BIAS)],
)
def test_zennit_rules(name, mine, theirs, options, bias):
    """One rule for every layer, inputs of both signs."""
    model, x = network(Signed), images()
    rule, other = both_rules(name, mine, theirs, options, bias)
    found = ours("lrp", model, x, composite=rule, stabiliser=1e-3)
    close(found.relevance, zennit_package(model, x, at_target(TARGET), zennit_composite(other, 1e-3)))


@pytest.mark.parametrize(("name", "mine", "theirs", "options"), [rule for rule in RULES if rule[0] != "gamma"])
def test_zennit_rules_by_the_name_of_the_layer(name, mine, theirs, options):
    """A rule in the first layer, one inside and one at the end, each under the module's name."""
    composites = pytest.importorskip("zennit.composites")
    model, x = network(Signed), images()
    rule, other = both_rules(name, mine, theirs, options)
    gamma, their_gamma = both_rules("gamma", {"gamma": 0.3}, "Gamma", {"gamma": 0.3})
    epsilon, their_epsilon = both_rules("epsilon", {"epsilon": 0.1}, "Epsilon", {"epsilon": 0.1})
    table = {"0": rule, "5": rule, "2": gamma, "11": epsilon, "dense": gamma}
    names = composites.NameMapComposite(
        [(["0", "5"], other), (["2", "9"], their_gamma), (["11"], their_epsilon)],
    )
    both = composites.MixedComposite([names, composites.LayerMapComposite(composites.layer_map_base(1e-3))])
    found = ours("lrp", model, x, composite=table, stabiliser=1e-3)
    close(found.relevance, zennit_package(model, x, at_target(TARGET), both))


def test_epsilon_of_a_layers_own_scale():
    """zennit takes a function in the place of a number."""
    kinds = pytest.importorskip("zennit.rules")
    model, x = network(Signed), images()

    def away(z: Tensor) -> Tensor:
        scale = z.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (z.ndim - 1))
        return z + torch.copysign(0.25 * scale, z)

    found = ours("lrp", model, x, composite="epsilon", epsilon=0.25, relative=True, stabiliser=1e-6)
    close(found.relevance, zennit_package(model, x, at_target(TARGET), zennit_composite(kinds.Epsilon(away))))


def plus_and(first, stabiliser=1e-14):
    """z+ without biases everywhere, something else in the first layer; ours adds no stabiliser here."""
    kinds = pytest.importorskip("zennit.rules")
    plus = kinds.ZPlus(stabilizer=stabiliser, zero_params="bias")
    rule = plus if first == "ZPlus" else getattr(kinds, first)(stabilizer=stabiliser, zero_params="bias")
    return zennit_composite(plus, stabiliser, rule)


def boxed(stabiliser=1e-14):
    """z^B in the first layer, z+ without biases behind it."""
    kinds = pytest.importorskip("zennit.rules")
    plus = kinds.ZPlus(stabilizer=stabiliser, zero_params="bias")
    return zennit_composite(plus, stabiliser, kinds.ZBox(LOW, HIGH, stabilizer=stabiliser, zero_params="bias"))


BOUNDS = {"low": LOW, "high": HIGH}


def test_deep_taylor():
    """zennit has its rules and no such method; the start is ReLU(logit). 1e-14 in its denominators, nothing in ours."""
    pytest.importorskip("zennit")
    model, x = network(VggLike), images()
    start = lambda z: at_target(TARGET)(z).clamp(min=0)  # noqa: E731
    assert start(model(x)).sum(1).tolist().count(0.0) == 1
    close(ours("deep_taylor", model, x, **BOUNDS).raw, zennit_package(model, x, start, boxed()))
    squared = plus_and("WSquare")
    close(ours("deep_taylor", model, x, first="w_square").raw, zennit_package(model, x, start, squared))


def test_contrastive_lrp():
    """zennit is handed both starts: the class's logit by size, and the same spread over the others."""
    pytest.importorskip("zennit")
    model, x = network(VggLike), images()
    mine = zennit_package(model, x, lambda z: at_target(TARGET)(z).abs(), boxed())

    def others(z: Tensor) -> Tensor:
        one = at_target(TARGET)(torch.ones_like(z))
        return (1 - one) * (one * z.detach()).sum(1, keepdim=True).abs() / (CLASSES - 1)

    theirs = zennit_package(model, x, others, boxed())
    share = mine.flatten(1).sum(1) / theirs.flatten(1).sum(1)
    close(ours("contrastive_lrp", model, x, **BOUNDS).raw, mine - theirs * share.view(-1, 1, 1, 1))


def test_softmax_gradient_lrp():
    """zennit starts from the gradient of the class's probability."""
    pytest.importorskip("zennit")
    model, x = network(VggLike), images()

    def gradient(z: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            (found,) = torch.autograd.grad(leaf.softmax(1)[range(len(z)), TARGET].sum(), leaf)
        return found

    close(ours("softmax_gradient_lrp", model, x, **BOUNDS).relevance, zennit_package(model, x, gradient, boxed()))


def test_relevance_cam():
    """zennit explains what is behind the layer, with the layer's output as input."""
    pytest.importorskip("zennit")
    model, x = network(VggLike), images()
    a = activations(model, "features.9", x)
    tail = nn.Sequential(*model.features[10:], nn.Flatten(), *model.classifier)
    start = lambda z: torch.full_like(z, -1 / CLASSES).scatter(1, torch.tensor(TARGET)[:, None], 1)  # noqa: E731
    r = zennit_package(tail, a, start, plus_and("ZPlus"))
    found = explain(model, x, ["relevance_cam"], target=TARGET, layer="features.9")["relevance_cam"]
    close(found.raw, (r.mean((2, 3), keepdim=True) * a).sum(1))


def test_zennit_starts_from_every_class():
    """Unless told otherwise: the relevance of the sum of the logits. 1e-12 in all denominators, that of the sum among them."""
    composites = pytest.importorskip("zennit.composites")
    attribution = pytest.importorskip("zennit.attribution")
    model, x = network(VggLike), images()
    with attribution.Gradient(model, composites.EpsilonPlus(epsilon=1e-12, stabilizer=1e-12)) as attributor:
        _, theirs = attributor(x.clone())
    options = {"composite": "epsilon_plus", "epsilon": 1e-12, "stabiliser": 1e-12}
    found = explain(model, x, {"lrp": options}, target=lambda z: z.sum(1))["lrp"]
    close(found.relevance, theirs)


class TwoStems(nn.Module):
    """Two convolutions that both see the input."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)
        self.relu, self.pool, self.flat = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.relu(torch.cat([self.one(x), self.two(x)], 1)))))


def test_first_is_every_layer_that_the_input_enters():
    """zennit's first layer is the one that was registered first; the other that sees the input is one like any other."""
    composites = pytest.importorskip("zennit.composites")
    kinds = pytest.importorskip("zennit.rules")
    model, x = network(TwoStems), images()
    theirs = zennit_package(model, x, at_target(TARGET), composites.EpsilonPlusFlat())
    found = ours("lrp", model, x, composite="epsilon_plus_flat", stabiliser=1e-6).relevance
    assert (found - theirs).abs().max() > 0.1 * found.abs().max()
    names = composites.NameMapComposite([(["one", "two"], kinds.Flat()), (["head"], kinds.Epsilon())])
    both = composites.MixedComposite([names, composites.LayerMapComposite(composites.layer_map_base())])
    close(found, zennit_package(model, x, at_target(TARGET), both))


# --- captum's and shap's DeepLIFT -------------------------------------------------------------------------------------


def apart(*modules):
    """A network of modules; between two without weights one that hands its input on as another tensor.

    captum's DeepLIFT needs it, see test_peers_faults.py.
    """
    found: list[nn.Module] = []
    for module in modules:
        if found and not isinstance(module, nn.Linear | nn.Conv2d) and not isinstance(found[-1], nn.Linear | nn.Conv2d):
            found.append(Times(1.0))
        found.append(module)
    return nn.Sequential(*found)


def rectified():
    return apart(
        nn.Conv2d(3, 6, 5, 2, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 12),
        nn.ReLU(),
        nn.Linear(12, CLASSES),
    )


def smooth():
    return apart(
        nn.Conv2d(3, 6, 5, 2, 2),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 12),
        nn.Softplus(),
        nn.Linear(12, 12),
        nn.ELU(),
        nn.Linear(12, 12),
        nn.LeakyReLU(0.1),
        nn.Linear(12, CLASSES),
    )


@pytest.mark.parametrize("kind", [rectified, smooth])
@pytest.mark.parametrize("baseline", [0.0, -0.7, "image", "images"])
def test_captum_deep_lift(kind, baseline):
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    if baseline == "images":
        baseline, theirs = images(3, seed=5), attr.DeepLiftShap(model)
    else:
        baseline, theirs = images(1, seed=5) if baseline == "image" else baseline, attr.DeepLift(model)
    answer, delta = theirs.attribute(x, baselines=baseline, target=TARGET, return_convergence_delta=True)
    found = ours("deep_lift", model, x, baseline=baseline)
    close(found.relevance, answer)
    torch.testing.assert_close(found.gap, torch.zeros_like(found.gap), rtol=0, atol=1e-12)
    assert delta.abs().max() < 1e-12


@pytest.mark.parametrize("kind", [rectified, smooth])
def test_shap_deep_explainer(kind):
    """A set of references, averaged; also where activations follow on one another directly."""
    shap = pytest.importorskip("shap")
    model, x, references = network(kind), images(), images(3, seed=5)
    model = nn.Sequential(*[module for module in model if not isinstance(module, Times)])
    values = torch.as_tensor(shap.DeepExplainer(model, references).shap_values(x))
    theirs = torch.stack([value[..., c] for value, c in zip(values, TARGET)])
    close(ours("deep_lift", model, x, baseline=references).relevance, theirs)


# --- captum's LRP -----------------------------------------------------------------------------------------------------


def given_epsilon(model, epsilon):
    """captum reads rules from attributes of the modules."""
    kinds = pytest.importorskip("captum.attr._utils.lrp_rules")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            module.rule = kinds.EpsilonRule(epsilon)
    return model


class Averaged(nn.Module):
    """Convolutions of inputs of both signs, average pooling, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 5, 2, 2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


@pytest.mark.parametrize("epsilon", [1e-9, 0.1])
def test_captum_lrp(epsilon):
    attr = pytest.importorskip("captum.attr")
    model, x = network(Averaged), images()
    found = ours("lrp", model, x, composite="epsilon", epsilon=epsilon, stabiliser=epsilon)
    close(found.relevance, attr.LRP(given_epsilon(model, epsilon)).attribute(x, target=TARGET))


@pytest.mark.parametrize("kind", [VggLike, VggNormLike])
def test_captum_lrp_as_epsilon_vanishes(kind):
    """captum has an epsilon at max pools, and one at a batch norm beside that of its convolution: 1e-13 in all of them."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    found = ours("lrp", model, x, composite="epsilon", epsilon=1e-13)
    close(found.relevance, attr.LRP(given_epsilon(model, 1e-13)).attribute(x, target=TARGET))


def test_captum_lrp_of_a_layer():
    """The relevance of a layer's output."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(Averaged), images()
    found = ours("lrp", model, x, composite="epsilon", epsilon=0.1, stabiliser=0.1, layers=["features.2"])
    theirs = attr.LayerLRP(given_epsilon(model, 0.1), model.features[2]).attribute(x, target=TARGET)
    close(found.details["relevance at features.2"], theirs)
