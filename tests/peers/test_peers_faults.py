"""Where a peer is wrong or wasteful: its answer and ours on the very same input, shown rather than claimed.

A test here fails when the peer mends its fault. Then the line in docs/peers.md goes, and the test with it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import CLASSES, LAYERS, DenseNetLike, ResNetLike, VggLike, VggNormLike, images, network
from comparison import (
    TARGET,
    Times,
    activations,
    at_target,
    behind,
    close,
    recorded,
    score_of,
    torchcam_package,
    zennit_composite,
    zennit_package,
)
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid import explain
from pellucid.core.errors import InputError

CAM = {"target": TARGET, "layer": "features"}


def ours(name, model, x, *, target=TARGET, layer=None, **options):
    return explain(model, x, {name: options}, target=target, layer=layer)[name]


def targets_of(classes):
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return [ClassifierOutputTarget(c) for c in classes]


class Pooled(nn.Module):
    """A layer, its mean over positions, a linear head: what each channel adds to a score can be written down."""

    def __init__(self, layer: nn.Module, weights: list[list[float]], bias: float = 0.0) -> None:
        super().__init__()
        self.features = layer
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(len(weights[0]), len(weights))
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(weights))
            self.head.bias.fill_(bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))

    def channel_cam(self, a: Tensor, target: list[int]) -> Tensor:
        """Ablation-CAM by hand: without channel k the score falls by its weight times its mean."""
        scores = self.head(a.mean((2, 3)))[torch.arange(len(a)), target]
        drops = self.head.weight[target] * a.mean((2, 3))
        return ((drops / scores.abs()[:, None])[:, :, None, None] * a).sum(1).detach()


# --- train mode and quadrature ----------------------------------------------------------------------------------------


def test_captum_answers_at_random_in_train_mode():
    """Dropout stays on, so two calls differ; nothing is said. Ours are those of evaluation mode, and the mode is kept."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(VggLike), images()
    expected = ours("gradient", model, x).relevance
    model.train()
    torch.manual_seed(0)
    first, second = (attr.Saliency(model).attribute(x.clone().requires_grad_(), target=TARGET) for _ in range(2))
    assert (first - second).abs().max() > 0.1 * first.abs().max()
    for _ in range(2):
        assert torch.equal(ours("gradient", model, x).relevance, expected)
    assert all(module.training for module in model.modules())


def test_torchcam_answers_at_random_in_train_mode():
    """It reads the caller's own pass, whatever mode that was in; one of two maps may even be blank."""
    pytest.importorskip("torchcam")
    model, x = network(VggLike), images()
    expected = ours("grad_cam", model, x, target=[0, 0], layer="features").raw
    model.train()
    torch.manual_seed(0)
    first, second = (torchcam_package("GradCAM", model, model.features, x, [0, 0]) for _ in range(2))
    assert (first - second).abs().max() > 0.1 * first.abs().max()
    assert torch.equal(ours("grad_cam", model, x, target=[0, 0], layer="features").raw, expected)


def test_captum_moves_the_statistics_of_batch_norm_in_train_mode():
    attr = pytest.importorskip("captum.attr")
    model, x = network(ResNetLike).train(), images()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    ours("gradient", model, x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    attr.Saliency(model).attribute(x.clone().requires_grad_(), target=TARGET)
    assert not any(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("steps", [2, 10, 50])
def test_captum_trapezoid_falls_short(steps):
    """Its trapezoid weights sum to (n - 1) / n, so that share is all of the answer that arrives, here of a linear score."""
    attr = pytest.importorskip("captum.attr")
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)).double(), images()
    truth = model[1].weight[TARGET].detach().view_as(x) * x
    options = {"target": TARGET, "n_steps": steps, "method": "riemann_trapezoid"}
    theirs = attr.IntegratedGradients(model).attribute(x, **options)
    close((steps - 1) / steps * truth, theirs, 1e-6)
    close(ours("integrated_gradients", model, x, steps=steps).relevance, truth, 1e-12)


def test_captum_loses_half_the_digits_of_float64():
    """Its quadrature weights are float32: on a linear score it misses by 1e-9 and more what ours meets to 1e-12."""
    attr = pytest.importorskip("captum.attr")
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)).double(), images()
    truth = model[1].weight[TARGET].detach().view_as(x) * x
    theirs = attr.IntegratedGradients(model).attribute(x, target=TARGET, n_steps=20)
    assert theirs.dtype == torch.float64
    assert (theirs - truth).abs().max() > 1e-9 * truth.abs().max()
    close(ours("integrated_gradients", model, x, steps=20).relevance, truth, 1e-12)


def test_captum_noise_does_not_know_the_range_of_the_images():
    """A thousand times the image, the same noise. Ours is a share of the image's range, so it grows along."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(VggLike), images(1)
    spread = {}
    for size in (1, 1000):
        with recorded(model) as rows:
            attr.NoiseTunnel(attr.Saliency(model)).attribute(size * x, target=1, nt_samples=4, stdevs=0.2)
        theirs = torch.stack(rows)
        with recorded(model) as rows:
            ours("smoothgrad", model, size * x, target=1, samples=4, noise=0.2)
        spread[size] = [(found - size * x).std().item() for found in (theirs, torch.stack(rows))]
    assert spread[1000][0] == pytest.approx(spread[1][0], rel=0.05)
    assert spread[1000][1] == pytest.approx(1000 * spread[1][1], rel=0.05)


# --- pytorch-grad-cam: Ablation-CAM -----------------------------------------------------------------------------------


def signed(weights, bias=0.0):
    torch.manual_seed(0)
    model = Pooled(nn.Conv2d(3, len(weights[0]), 8, 8), weights, bias).double().eval()
    x = images()
    assert (activations(model, "features", x).amin((1, 2, 3)) < 0).all()
    return model, x


def test_grad_cam_ablates_with_ever_larger_values():
    """Channels are not set to zero but to the minimum less 1e7, of a batch in which earlier ones already are."""
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = signed([[1.0, -1.0, 0.5, 2.0], [-1.0, 0.3, 1.0, 0.2]])
    seen: list[Tensor] = []
    handle = model.pool.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].detach().clone()))
    with package.AblationCAM(model, [model.features]) as cam:
        cam(x[:1], targets_of([0]))
    assert seen[-1].shape[0] == 4
    for k, row in enumerate(seen[-1]):
        assert row[k].max() == pytest.approx(-1e7 * (k + 1), rel=1e-6)
    seen.clear()
    found = ours("ablation_cam", model, x, target=[0, 1], layer="features")
    handle.remove()
    assert max(float(a.abs().max()) for a in seen) < 100
    close(found.raw, model.channel_cam(activations(model, "features", x), [0, 1]), 1e-9)


def test_grad_cam_ablation_of_signed_channels_is_not_the_paper():
    """The weights become millions. By hand each is the channel's share of the score, and so are ours."""
    pytest.importorskip("pytorch_grad_cam")
    from comparison import grad_cam_package

    model, x = signed([[1.0, -1.0, 0.5, 2.0], [-1.0, 0.3, 1.0, 0.2]])
    truth = model.channel_cam(activations(model, "features", x), [0, 1])
    theirs = grad_cam_package("AblationCAM", model, model.features, x, [0, 1])
    assert theirs.abs().max() > 1e5 * truth.abs().max()
    close(ours("ablation_cam", model, x, target=[0, 1], layer="features").raw, truth)


def test_grad_cam_turns_ablation_weights_round_where_the_score_is_negative():
    """Every channel speaks for the class, the bias makes its logit negative: a blank picture from it, evidence from us.

    The paper divides by the score as well; we divide by its size.
    """
    package = pytest.importorskip("pytorch_grad_cam")
    from comparison import grad_cam_package

    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU())
    model, x = Pooled(layer, [[1.0, 2.0, 0.5, 1.0]], bias=-50.0).double().eval(), images()
    assert (score_of(model, x, [0, 0]) < 0).all()
    truth = model.channel_cam(activations(model, "features", x), [0, 0])
    assert truth.amin() >= 0
    close(-truth, grad_cam_package("AblationCAM", model, model.features, x, [0, 0]), 1e-4)
    with package.AblationCAM(model, [model.features]) as cam:
        assert (cam(x, targets_of([0, 0])) == 0).all()
    found = ours("ablation_cam", model, x, target=[0, 0], layer="features")
    close(found.raw, truth)
    assert found.positive.all()


def test_grad_cam_leaves_its_layer_in_a_model_that_raised():
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(VggLike), images()
    own = model.features

    def fail(module, inputs):
        if len(inputs[0]) > len(x):  # only where channels are cut, many at a time
            raise RuntimeError("too many at once")

    handle = model.classifier.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="too many at once"):
        ours("ablation_cam", model, x, layer="features")
    assert model.features is own
    assert not own._forward_hooks
    with pytest.raises(RuntimeError, match="too many at once"), package.AblationCAM(model, [own]) as cam:
        cam(x, targets_of(TARGET))
    handle.remove()
    assert type(model.features).__name__ == "AblationLayer"
    model.features = own
    assert ours("ablation_cam", model, x, layer="features").positive.shape == (2,)


def test_ablation_runs_what_is_before_the_layer_once():
    """pytorch-grad-cam and captum run it again for every channel; rows that arrive at the first convolution are counted."""
    package = pytest.importorskip("pytorch_grad_cam")
    attr = pytest.importorskip("captum.attr")
    model, x = network(VggLike), images()
    layer, channels = model.features[14], 12
    rows: list[int] = []
    model.features[0].register_forward_pre_hook(lambda m, i: rows.append(len(i[0])))
    found = ours("ablation_cam", model, x, layer="features.14")
    assert sum(rows) == len(x) + 1  # and one edited row, which the replays are compared with
    assert found.raw.shape == (2, 8, 8)
    rows.clear()
    with package.AblationCAM(model, [layer]) as cam:
        cam(x, targets_of(TARGET))
    assert sum(rows) >= channels * len(x)
    rows.clear()
    mask = torch.arange(channels).view(1, -1, 1, 1).expand(1, channels, 8, 8)
    attr.LayerFeatureAblation(model, layer).attribute(x, target=TARGET, layer_mask=mask)
    assert sum(rows) >= channels * len(x)


# --- pytorch-grad-cam: what it does to the model ----------------------------------------------------------------------


def test_grad_cam_spends_the_gradients_of_the_parameters():
    """What was accumulated for the next step of training is gone, and its own is there instead."""
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(VggLike), images()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    ours("grad_cam", model, x, layer="features")
    assert all((parameter.grad == 7).all() for parameter in model.parameters())
    with package.GradCAM(model, [model.features]) as cam:
        cam(x, targets_of(TARGET))
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any((parameter.grad == 7).all() for parameter in model.parameters())
    model.zero_grad()
    ours("grad_cam", model, x, layer="features")
    assert all(parameter.grad is None for parameter in model.parameters())


def test_grad_cam_leaves_the_model_in_evaluation_mode():
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(VggLike).train(), images()
    ours("grad_cam", model, x, layer="features")
    assert all(module.training for module in model.modules())
    with package.GradCAM(model, [model.features]):
        pass
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("peer", ["pytorch_grad_cam", "torchcam"])
def test_peers_fail_on_a_frozen_model(peer):
    """captum does not."""
    pytest.importorskip(peer)
    attr = pytest.importorskip("captum.attr")
    model, x = network(VggLike), images()
    expected = ours("grad_cam", model, x, layer="features").raw
    model.requires_grad_(False)
    close(ours("grad_cam", model, x, layer="features").raw, expected, 1e-12)
    close(attr.LayerGradCam(model, model.features).attribute(x, target=TARGET)[:, 0], expected)
    if peer == "torchcam":
        with pytest.raises(RuntimeError, match="not connected"):
            torchcam_package("GradCAM", model, model.features, x, TARGET)
        return
    package = pytest.importorskip(peer)
    with pytest.raises(RuntimeError, match="does not require grad"), package.GradCAM(model, [model.features]) as cam:
        cam(x, targets_of(TARGET))


def test_grad_cam_swallows_an_index_error(capsys):
    """A class that the model does not have: its context manager prints a line and goes on. Ours says what is wrong."""
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(VggLike), images()
    answer = None
    with package.GradCAM(model, [model.features]) as cam:
        answer = cam(x, targets_of([4, 99]))
    assert answer is None
    assert "exception occurred" in capsys.readouterr().out
    with pytest.raises(InputError, match="99"):
        ours("grad_cam", model, x, target=[4, 99], layer="features")


# --- scaling for display ----------------------------------------------------------------------------------------------


def strengths():
    """One map for three classes: as it is, a 1024th of it (exact in binary), and its negative."""
    torch.manual_seed(0)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0])
    layer = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU())
    model = Pooled(layer, [weights.tolist(), (weights / 1024).tolist(), (-weights).tolist()]).double().eval()
    return model, images(1).expand(3, -1, -1, -1).clone(), [0, 1, 2]


def test_scaled_pictures_hide_how_strong_a_map_is():
    """pytorch-grad-cam and torchcam: the same picture for a map and a 1024th of it, none for a negative one."""
    package = pytest.importorskip("pytorch_grad_cam")
    methods = pytest.importorskip("torchcam.methods")
    model, x, target = strengths()
    with package.GradCAM(model, [model.features]) as cam:
        theirs = torch.as_tensor(cam(x, targets_of(target)))
    with methods.GradCAM(model, model.features) as extractor:
        other = extractor(target, model(x))[0].detach()
    for strong, faint, negative in (theirs, other):
        close(strong.double(), faint.double(), 1e-3)
        assert (negative == 0).all()
    found = ours("grad_cam", model, x, target=target, layer="features")
    close(found.raw[0], 1024 * found.raw[1])
    close(found.raw[2], -found.raw[0])
    assert found.positive.tolist() == [True, True, False]
    assert (found.evidence()[2] == 0).all()


def test_torchcam_shows_a_negative_map_as_a_strong_one():
    """Its CAM is not clipped before it is scaled: evidence against the class ends at 1, where it is weakest."""
    methods = pytest.importorskip("torchcam.methods")
    model, x, target = strengths()
    with methods.CAM(model, model.features, fc_layer="head") as extractor:
        theirs = extractor(target, model(x))[0].detach()
    close(theirs.amax((1, 2)), torch.ones(3), 1e-4)
    close(theirs[2], 1 - theirs[0], 1e-4)
    found = ours("cam", model, x, target=target, layer="features")
    assert found.raw[2].max() <= 0
    assert found.positive.tolist() == [True, True, False]
    assert (found.evidence()[2] == 0).all()


def test_quantus_divides_a_blank_map_by_its_sum():
    """No positive evidence is a map of zeros, and its complexity not a number; ``positive`` says so beforehand."""
    quantus = pytest.importorskip("quantus")
    model, x = network(VggLike, dtype=torch.float32), images(dtype=torch.float32)
    found = ours("grad_cam", model, x, layer="features")
    assert found.positive.tolist() == [False, True]
    metric = quantus.Complexity(disable_warnings=True)
    blank, other = metric(model, x.numpy(), np.array(TARGET), a_batch=found.to_numpy(), device="cpu")
    assert np.isnan(blank)
    assert other > 0


# --- torchcam: Grad-CAM++ and Smooth Grad-CAM++ -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(LAYERS))
def test_torchcam_grad_cam_plus_plus_never_divides(kind):
    """The denominator of its alpha goes into a copy, so a channel's weight is the sum of max(g, 0)^3."""
    pytest.importorskip("torchcam")
    model, x = network(kind), images()
    layer = behind(model, LAYERS[kind], Times(1.0))
    a, place = activations(model, layer, x).requires_grad_(), model.get_submodule(layer)
    handle = place.register_forward_hook(lambda module, inputs, output: a)
    (g,) = torch.autograd.grad(model(x)[torch.arange(2), TARGET].sum(), a)
    handle.remove()
    a = a.detach()
    cubed = (g.relu().pow(3).sum((2, 3), keepdim=True) * a).sum(1).relu()
    theirs = torchcam_package("GradCAMpp", model, place, x, TARGET)
    close(theirs, cubed)
    alpha = torch.where(g == 0, 0, g**2 / (2 * g**2 + g**3 * a.sum((2, 3), keepdim=True)))
    paper = ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1)
    close(ours("grad_cam_plus_plus", model, x, layer=layer).raw, paper)
    assert (theirs - paper.relu()).abs().max() > 0.5 * paper.abs().max()


def smooth(model, x, target, noises):
    methods = pytest.importorskip("torchcam.methods")
    left = list(noises)
    with methods.SmoothGradCAMpp(model, model.features, num_samples=len(left)) as extractor:
        extractor._distrib.sample = lambda size: left.pop(0).expand(size)
        scores = model(x)
        return extractor(target, scores, normalized=False)[0].detach()


def test_torchcam_smooth_grad_cam_depends_on_the_order_of_its_draws():
    """A mean over noisy copies cannot: the same four draws, another one last. We offer no Smooth Grad-CAM++."""
    pytest.importorskip("torchcam")
    model, x = network(VggLike), images()
    noises = list(torch.randn(4, 1, *x.shape[1:], dtype=x.dtype, generator=torch.Generator().manual_seed(0)))
    one, two = smooth(model, x, TARGET, noises), smooth(model, x, TARGET, noises[1:] + noises[:1])
    close(smooth(model, x, TARGET, [noises[i] for i in (2, 0, 1, 3)]), one)  # the same one last
    assert (one - two).abs().max() > 0.01 * one.abs().max()


def test_torchcam_smooth_grad_cam_is_blank_when_the_last_draw_is():
    """Behind the layer a ReLU that the last draw shuts: seven draws have a gradient, and the map is zero."""
    pytest.importorskip("torchcam")

    class Shut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Identity()
            self.gate = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.gate(torch.relu(self.features(x * self.one)).mean((2, 3)))

    model = Shut()
    model.one = nn.Parameter(torch.ones(1, dtype=torch.float64))
    x = torch.ones(1, 3, 4, 4, dtype=torch.float64)
    calm, shutting = torch.zeros(3, 4, 4, dtype=torch.float64), torch.full((3, 4, 4), -5.0, dtype=torch.float64)
    assert smooth(model, x, [0], [calm] * 7 + [shutting]).abs().max() == 0
    assert smooth(model, x, [0], [shutting] + [calm] * 7).max() > 0


# --- captum: LRP ------------------------------------------------------------------------------------------------------


def drawn(make):
    """A network of a few linear layers, seeded, in float64, and three rows of four values."""
    torch.manual_seed(0)
    model = make().double().eval()
    return model, torch.randn(3, 4, dtype=torch.float64)


class Skip(nn.Module):
    """Two linear layers and a way past them, without biases; ``add`` in the place of the plain ``+``."""

    def __init__(self, add: nn.Module | None = None) -> None:
        super().__init__()
        self.one, self.relu, self.two = nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 2, bias=False)
        if add is not None:
            self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(self.relu(self.one(x)))
        return self.head(self.add(x, y) if hasattr(self, "add") else x + y)


def test_captum_lrp_copies_relevance_through_a_plus():
    """Both summands get all of it, and the sum is another number than the score; right with a module of captum's for ``+``.

    PEERS row 1.
    """
    attr = pytest.importorskip("captum.attr")
    common = pytest.importorskip("captum.attr._utils.custom_modules")
    model, x = drawn(Skip)
    found = ours("lrp", model, x, target=[0, 1, 0], composite="epsilon", epsilon=1e-12)
    theirs = attr.LRP(model).attribute(x, target=[0, 1, 0])
    assert ((theirs.sum(1) - found.score).abs() > 0.2 * found.score.abs()).all()
    close(found.relevance.sum(1), found.score)
    twin, _ = drawn(lambda: Skip(common.Addition_Module()))
    close(found.relevance, attr.LRP(twin).attribute(x, target=[0, 1, 0]), 1e-7)  # captum's epsilon is 1e-9


def test_captum_lrp_of_a_resnet_is_off_by_orders_of_magnitude():
    """torchvision's resnet18 as it is drawn: logits below one, relevance in millions. Ours misses what biases took, no more.

    PEERS row 2.
    """
    attr = pytest.importorskip("captum.attr")
    resnet = pytest.importorskip("torchvision.models.resnet")
    torch.manual_seed(0)
    model, x = resnet.resnet18(num_classes=CLASSES).double().eval(), images()
    theirs = attr.LRP(model).attribute(x, target=TARGET).flatten(1).sum(1)
    found = ours("lrp", model, x, composite="zero")
    assert (found.score.abs() < 1).all()
    assert (theirs.abs() > 1e6).all()
    assert (found.relevance.flatten(1).sum(1) - found.score).abs().max() < 0.1
    close(found.ledger[:, :, 1].sum(1), found.gap)
    whole = ours("lrp", model, x, composite="zero", bias=False)
    close(whole.relevance.flatten(1).sum(1), whole.score)


class Between(nn.Module):
    """A linear layer, something, a linear layer; three rows of sixteen values in."""

    def __init__(self, what: nn.Module) -> None:
        super().__init__()
        self.one, self.what, self.two = nn.Linear(16, 16), what, nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.flatten(self.what(self.one(x)), 1))


@pytest.mark.parametrize(
    "what",
    [
        nn.Flatten(),
        nn.Identity(),
        nn.Conv1d(3, 3, 3, padding=1, bias=False),
        nn.BatchNorm1d(3),
        nn.LayerNorm(16),
        nn.GELU(),
        nn.SiLU(),
        nn.Hardswish(),
        nn.ReLU6(),
        nn.LeakyReLU(),
        nn.Sigmoid(),
        nn.Softmax(-1),
    ],
    ids=lambda what: type(what).__name__,
)
def test_captum_lrp_knows_few_modules(what):
    """It raises on all of these. Ours explains, and the relevance is the score once biases take no share.

    PEERS row 3.
    """
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    model, x = Between(what).double().eval(), torch.randn(2, 3, 16, dtype=torch.float64)
    with pytest.raises(TypeError, match="has no rule defined"):
        attr.LRP(model).attribute(x, target=TARGET)
    found = ours("lrp", model, x, composite="zero", bias=False)
    assert found.gap.abs().max() < 1e-9 * found.relevance.abs().max()


def test_captum_lrp_forgets_the_rules_it_was_given():
    """The first call deletes them; the second answers by its defaults without a word. Activations stay on the modules.

    PEERS row 4.
    """
    attr = pytest.importorskip("captum.attr")
    kinds = pytest.importorskip("captum.attr._utils.lrp_rules")
    model, x = network(VggLike), images()
    default = attr.LRP(network(VggLike)).attribute(x, target=TARGET)
    table = {"features": "gamma", "classifier": "epsilon"}
    found = [ours("lrp", model, x, composite=table).relevance for _ in range(2)]
    assert torch.equal(*found)
    for i in (0, 2, 5, 7, 10, 12):
        model.features[i].rule = kinds.GammaRule()
    first, second = (attr.LRP(model).attribute(x, target=TARGET) for _ in range(2))
    assert (first - second).abs().max() > 0.1 * first.abs().max()
    assert torch.equal(second, default)
    assert all(len(model.features[i].activations) > 0 for i in (0, 2, 5, 7, 10, 12))


def test_captum_alpha1_beta0_is_wrong_for_signed_inputs():
    """Inputs (1, -2) times weights (2, -1) contribute 2 each; captum clamps the weights and gives all to the first.

    Its gamma rule clamps weights too. Where no input is negative its alpha1beta0 is ours. PEERS row 5.
    """
    attr = pytest.importorskip("captum.attr")
    kinds = pytest.importorskip("captum.attr._utils.lrp_rules")
    model = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    model[0].weight.data = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    by_hand = {"z_plus": [[2.0, 2.0]], "gamma": [[2.0, 2.0]]}
    wrong = {"z_plus": (kinds.Alpha1_Beta0_Rule(), [[4.0, 0.0]]), "gamma": (kinds.GammaRule(1.0), [[8 / 3, 4 / 3]])}
    for name, (rule, answer) in wrong.items():
        model[0].rule = rule
        close(torch.tensor(answer, dtype=torch.float64), attr.LRP(model).attribute(x, target=0), 1e-8)
        found = ours("lrp", model, x, target=0, composite=name, gamma=1.0)
        close(found.relevance, torch.tensor(by_hand[name]))
    model, x = network(VggLike), images().abs()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.rule = kinds.Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif isinstance(module, nn.MaxPool2d):
            module.rule = kinds.EpsilonRule(1e-14)
    found = ours("lrp", model, x, composite="z_plus", bias=False, stabiliser=1e-9)
    close(found.relevance, attr.LRP(model).attribute(x, target=TARGET))


# --- captum and shap: DeepLIFT ----------------------------------------------------------------------------------------


def test_captum_deep_lift_softmax_mixes_the_batch():
    """A row beside others gets another answer than alone, and the sum misses the difference; ours does neither.

    PEERS row 6.
    """
    attr = pytest.importorskip("captum.attr")
    model, x = drawn(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), nn.Softmax(1)))
    target = [0, 1, 2]
    beside, delta = attr.DeepLift(model).attribute(x, target=target, return_convergence_delta=True)
    alone = attr.DeepLift(model).attribute(x[:1], target=0)
    assert (beside[0] - alone[0]).abs().max() > 0.5 * alone.abs().max()
    found = ours("deep_lift", model, x, target=target)
    assert delta.abs().max() > 0.5 * (found.score - found.base).abs().max()
    close(found.relevance[:1], ours("deep_lift", model, x[:1], target=0).relevance, 1e-12)
    assert found.gap.abs().max() < 1e-12


class Inside(nn.Module):
    """A function between two linear layers, and a ReLU that captum sees."""

    def __init__(self, function) -> None:
        super().__init__()
        self.one, self.two, self.relu, self.three = nn.Linear(4, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.relu(self.two(self.function(self.one(x)))))


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        torch.square,
        lambda v: v.softmax(1),
        lambda v: v * v.sigmoid(),
        nn.GELU(),
        nn.SiLU(),
        nn.SELU(),
        nn.Hardswish(),
        nn.LayerNorm(8),
    ],
    ids=["relu", "square", "softmax", "product", "GELU", "SiLU", "SELU", "Hardswish", "LayerNorm"],
)
def test_captum_deep_lift_takes_functions_for_linear(function):
    """More than an eighth of the difference is missing from the sum, and nothing is said. PEERS row 7."""
    attr = pytest.importorskip("captum.attr")
    model, x = drawn(lambda: Inside(function))
    x = 2 * x
    _, delta = attr.DeepLift(model).attribute(x, target=0, return_convergence_delta=True)
    found = ours("deep_lift", model, x, target=0)
    assert delta.abs().max() > (found.score - found.base).abs().max() / 8
    assert found.gap.abs().max() < 1e-12


class Twice(nn.Module):
    """One ReLU module behind both linear layers, or one behind each."""

    def __init__(self, reused: bool) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu = nn.ReLU()
        self.other = self.relu if reused else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.other(self.two(self.relu(self.one(x)))))


def test_captum_and_shap_fail_on_a_reused_module():
    """Both are right about the same network with two ReLUs, and so are we about either. PEERS row 8."""
    attr = pytest.importorskip("captum.attr")
    shap = pytest.importorskip("shap")
    (twice, x), (twin, _) = drawn(lambda: Twice(True)), drawn(lambda: Twice(False))
    base = torch.zeros(1, 4, dtype=torch.float64)
    found = ours("deep_lift", twice, x, target=0)
    close(found.relevance, attr.DeepLift(twin).attribute(x, target=0))
    close(found.relevance, torch.as_tensor(shap.DeepExplainer(twin, base).shap_values(x))[..., 0])
    with pytest.raises(RuntimeError, match="used more than once"):
        attr.DeepLift(twice).attribute(x, target=0)
    with pytest.raises(AssertionError, match="do not sum up"):
        shap.DeepExplainer(twice, base).shap_values(x)


def test_shap_leaves_its_hooks_in_a_model_that_raised():
    """An in-place ReLU is enough. Behind it captum fails too, which knows how to explain this network. PEERS row 8."""
    shap = pytest.importorskip("shap")
    attr = pytest.importorskip("captum.attr")
    model, x = network(VggLike), images()
    assert attr.GuidedBackprop(model).attribute(x, target=TARGET).abs().max() > 0
    found = ours("deep_lift", model, x)
    assert found.gap.abs().max() < 1e-12
    assert not any(module._backward_hooks for module in model.modules())
    with pytest.raises(RuntimeError, match="modified inplace"):
        shap.DeepExplainer(model, images(2, seed=4)).shap_values(x)
    assert any(module._backward_hooks for module in model.modules())
    with pytest.raises(RuntimeError, match="modified inplace"):
        attr.GuidedBackprop(model).attribute(x, target=TARGET)


@pytest.mark.parametrize("kind", [VggLike, VggNormLike])
def test_captum_deep_lift_is_wrong_where_one_activation_follows_another(kind):
    """ReLU, then a max pool, as in every VGG: the ReLU is handed the pool's gradient, not its multiplier.

    With anything between the two that returns another tensor it is right, and equal to ours.
    """
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    found = ours("deep_lift", model, x, baseline=-0.7)
    _, delta = attr.DeepLift(model).attribute(x, baselines=-0.7, target=TARGET, return_convergence_delta=True)
    assert delta.abs().max() > 0.01 * (found.score - found.base).abs().max()
    assert found.gap.abs().max() < 1e-12
    for name, module in list(model.features.named_children()):
        if isinstance(module, nn.MaxPool2d):
            model.features[int(name)] = nn.Sequential(Times(1.0), module)
    theirs, delta = attr.DeepLift(model).attribute(x, baselines=-0.7, target=TARGET, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12
    close(found.relevance, theirs)


def test_captum_and_shap_lose_what_overlapping_windows_share():
    """A value that wins two windows, as in the stem of a ResNet: both keep what came from the last of them."""
    attr = pytest.importorskip("captum.attr")
    shap = pytest.importorskip("shap")
    model = network(lambda: nn.Sequential(nn.Conv2d(3, 4, 5, 2, 2), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(1024, 5)))
    x = images()
    _, delta = attr.DeepLift(model).attribute(x, target=TARGET, return_convergence_delta=True)
    found = ours("deep_lift", model, x)
    assert delta.abs().max() > 0.1 * (found.score - found.base).abs().max()
    assert found.gap.abs().max() < 1e-12
    with pytest.raises(AssertionError, match="do not sum up"):
        shap.DeepExplainer(model, torch.zeros_like(x[:1])).shap_values(x)


def test_captum_deep_lift_max_pool_hands_on_the_first_rows_gradient():
    """Where nothing differs from the baseline the gradient is meant; it takes that of the first row for all of them."""
    attr = pytest.importorskip("captum.attr")

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv1d(1, 1, 2, 2, bias=False), nn.MaxPool1d(2)
            self.conv.weight.data.fill_(1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.conv(x))[:, 0]

    model = Pairs().double()
    x = torch.tensor([[[1.0, -1.0, -1.0, -1.0]], [[-1.0, -1.0, 1.0, 1.0]]], dtype=torch.float64)  # sums 0, -2 and -2, 2
    truth = torch.tensor([[[1.0, -1.0, 0.0, 0.0]]], dtype=torch.float64)
    close(truth, attr.DeepLift(model).attribute(x[:1], target=0))
    beside = attr.DeepLift(model).attribute(x.flip(0), target=0)
    assert (beside[1] == 0).all()
    close(ours("deep_lift", model, x[:1], target=0).relevance, truth)
    close(ours("deep_lift", model, x.flip(0), target=0).relevance[1:], truth)


# --- captum and pytorch-grad-cam: guided backpropagation --------------------------------------------------------------


class Written(nn.Module):
    """Two convolutions with a ReLU behind each: as modules, or as functions."""

    def __init__(self, function=None) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 6, 5, 2, 2), nn.Conv2d(6, 8, 3), nn.Linear(8, CLASSES)
        if function is None:
            self.first, self.second = nn.ReLU(), nn.ReLU()
        else:
            self.first = self.second = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.two(self.first(self.one(x)))).mean((2, 3)))


@pytest.mark.parametrize(("name", "theirs"), [("guided_backpropagation", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_captum_guided_backpropagation_does_not_see_a_functional_relu(name, theirs):
    """Its answer is the plain gradient, without a warning. Ours is that of the same network with modules. PEERS row 9."""
    attr = pytest.importorskip("captum.attr")
    modules, functions, x = network(Written), network(lambda: Written(F.relu)), images()
    truth = getattr(attr, theirs)(modules).attribute(x, target=TARGET)
    gradient = ours("gradient", functions, x).raw
    assert (truth - gradient).abs().max() > 0.1 * truth.abs().max()
    close(gradient, getattr(attr, theirs)(functions).attribute(x, target=TARGET))
    close(ours(name, functions, x).relevance, truth)
    smooth = network(lambda: Written(nn.GELU()))
    close(ours("gradient", smooth, x).raw, getattr(attr, theirs)(smooth).attribute(x, target=TARGET))
    mine = ours(name, smooth, x).relevance
    assert (mine - ours("gradient", smooth, x).raw).abs().max() > 0.1 * mine.abs().max()


def test_grad_cam_guided_backpropagation_answers_for_the_first_image():
    """One map for a batch of two; asked again about the same tensor it adds to the first answer, which changes too."""
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(VggLike), images()
    found = ours("guided_backpropagation", model, x).relevance
    guided = package.GuidedBackpropReLUModel(model, torch.device("cpu"))
    first = guided(x, TARGET[0])
    assert first.shape == (64, 64, 3)
    assert x.requires_grad
    close(found[0], torch.as_tensor(first).movedim(-1, 0))
    second = guided(x, TARGET[0])
    close(2 * found[0], torch.as_tensor(second).movedim(-1, 0))
    close(2 * found[0], torch.as_tensor(first).movedim(-1, 0))
    x = images()
    for _ in range(2):
        assert torch.equal(ours("guided_backpropagation", model, x).relevance, found)
    assert not x.requires_grad


def test_grad_cam_guided_backpropagation_leaves_other_relus_in_the_model():
    """All of them become one module, which is not in place."""
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(VggLike), images()
    before = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    ours("guided_backpropagation", model, x)
    assert [module for module in model.modules() if isinstance(module, nn.ReLU)] == before
    assert len(before) == 7
    assert all(module.inplace for module in before)
    package.GuidedBackpropReLUModel(model, torch.device("cpu"))(x, 0)
    after = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    assert len(after) == 1
    assert not after[0].inplace


# --- zennit -----------------------------------------------------------------------------------------------------------


def test_zennit_doubles_relevance_through_a_plus():
    """A plain ``+`` hands all of it to both summands; resnet18 without its canonizer is off by a factor of a hundred.

    PEERS row 24.
    """
    composites = pytest.importorskip("zennit.composites")
    canonizers = pytest.importorskip("zennit.torchvision")
    resnet = pytest.importorskip("torchvision.models.resnet")
    model, x = drawn(Skip)
    target = [0, 1, 0]
    theirs = zennit_package(model, x, at_target(target), composites.EpsilonPlus(epsilon=1e-12))
    found = ours("lrp", model, x, target=target, composite="epsilon", epsilon=1e-12)
    close(found.relevance.sum(1), found.score)
    close(2 * found.score, theirs.sum(1))
    torch.manual_seed(0)
    model, x = resnet.resnet18(num_classes=CLASSES).double().eval(), images()
    found = ours("lrp", model, x, stabiliser=1e-6).relevance.flatten(1).sum(1)
    bare = zennit_package(model, x, at_target(TARGET), composites.EpsilonPlus()).flatten(1).sum(1)
    assert ((bare / found).abs() > 100).all()
    composite = composites.EpsilonPlus(canonizers=[canonizers.ResNetCanonizer()])
    close(found, zennit_package(model, x, at_target(TARGET), composite).flatten(1).sum(1), 1e-3)  # see its batch norms below


def test_zennit_layer_norm_leaves_nothing():
    """No rule, so its derivative, and that of a normalised row along the row is zero. PEERS row 24."""
    composites = pytest.importorskip("zennit.composites")
    norm = nn.LayerNorm(8, elementwise_affine=False)
    model, x = drawn(lambda: nn.Sequential(nn.Linear(4, 8, bias=False), norm, nn.Linear(8, 3, bias=False)))
    target = [0, 1, 2]
    theirs = zennit_package(model, x, at_target(target), composites.EpsilonPlus(epsilon=1e-12))
    found = ours("lrp", model, x, target=target, composite="epsilon", epsilon=1e-12)
    assert (theirs.sum(1).abs() < 1e-4 * found.score.abs()).all()
    close(found.relevance.sum(1), found.score)


def test_zennit_of_a_convnext():
    """Layer norms, plain sums and a scale per channel: values of thousands for a score of hundredths. PEERS row 24."""
    composites = pytest.importorskip("zennit.composites")
    convnext = pytest.importorskip("torchvision.models.convnext")
    torch.manual_seed(0)
    blocks = [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 1)]
    model, x = convnext.ConvNeXt(blocks, layer_scale=0.7, num_classes=CLASSES).double().eval(), images()
    theirs = zennit_package(model, x, at_target(TARGET), composites.EpsilonPlus())
    found = ours("lrp", model, x, epsilon=1e-12)
    assert theirs.abs().max() > 1e4 * found.score.abs().max()
    assert found.relevance.abs().max() < found.score.abs().max()
    close(found.relevance.flatten(1).sum(1), found.score)


class Forked(nn.Module):
    """A convolution whose output is read by a batch norm and, past it, by the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv, self.pool, self.head = nn.Conv2d(6, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        return self.head(torch.flatten(self.pool(torch.cat([a, self.conv(self.relu(self.norm(a)))], 1)), 1))


def zennit_logits_once_merged(model, x):
    """The logits of the targets that zennit explains, which are those of the model with its batch norms merged."""
    composites = pytest.importorskip("zennit.composites")
    attribution = pytest.importorskip("zennit.attribution")
    canonizers = pytest.importorskip("zennit.canonizers")
    composite = composites.EpsilonPlus(canonizers=[canonizers.SequentialMergeBatchNorm()])
    with attribution.Gradient(model, composite) as attributor:
        theirs, _ = attributor(x.clone(), at_target(TARGET))
    return theirs[torch.arange(2), TARGET]


def test_zennit_merges_a_batch_norm_that_is_not_the_only_reader():
    """It looks at the order of the modules: the network that it explains gives other logits. Ours are the network's own."""
    model, x = network(Forked), images()
    logits = score_of(model, x, TARGET)
    assert ((zennit_logits_once_merged(model, x) - logits).abs() > 0.05 * logits.abs()).all()
    close(ours("lrp", model, x).score, logits)


def test_zennit_cannot_merge_a_batch_norm_before_its_convolution():
    """A DenseNet: it raises, and the convolution keeps a bias of one value, with which the model itself no longer runs."""
    composites = pytest.importorskip("zennit.composites")
    canonizers = pytest.importorskip("zennit.canonizers")
    model, x = network(DenseNetLike), images()
    found = ours("lrp", model, x, composite="zero")
    close(found.ledger[:, :, 1].sum(1), found.gap)
    composite = composites.EpsilonPlus(canonizers=[canonizers.SequentialMergeBatchNorm()])
    with pytest.raises(RuntimeError, match="must match the size"):
        zennit_package(model, x, at_target(TARGET), composite)
    with pytest.raises(RuntimeError, match="expected bias"):
        model(x)


def test_zennit_divides_a_merged_batch_norm_by_its_epsilon_again():
    """0.5.1 leaves eps where it sets the variance to one: every batch norm takes 5e-6 away. Mended in 1.0.0."""
    model, x = network(VggNormLike), images()
    logits = score_of(model, x, TARGET)
    missed = (zennit_logits_once_merged(model, x) - logits).abs() / logits.abs()
    assert (missed > 1e-6).all()
    assert (missed < 1e-3).all()
    close(ours("lrp", model, x).score, logits, 1e-12)


def test_zennit_gamma_without_biases_asks_the_sign_with_biases():
    """Contributions 1 and -2, bias 3: it takes the unit for positive and divides by 1 + 1 - 2, which is zero.

    We divide by the sum that the sign is of: (1, -4) / -3.
    """
    kinds = pytest.importorskip("zennit.rules")
    model = nn.Sequential(nn.Linear(2, 1)).double()
    model[0].weight.data = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    model[0].bias.data.fill_(3.0)
    x = torch.ones(1, 2, dtype=torch.float64)
    theirs = zennit_package(model, x, at_target([0]), zennit_composite(kinds.Gamma(gamma=1.0, zero_params="bias")))
    assert theirs.abs().max() > 1e5
    found = ours("lrp", model, x, target=0, composite="gamma", gamma=1.0, bias=False)
    close(found.relevance, torch.tensor([[-2 / 3, 8 / 3]], dtype=torch.float64))


class Means(nn.Module):
    """A global average: by a module, or by ``mean``."""

    def __init__(self, module: bool) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 6, 5, 2, 2), nn.ReLU(), nn.Linear(6, CLASSES)
        if module:
            self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.conv(x))
        return self.head(torch.flatten(self.pool(a), 1) if hasattr(self, "pool") else a.mean((2, 3)))


def test_zennit_explains_the_same_network_otherwise_when_it_has_no_modules():
    """A mean that is no module spreads relevance evenly over the positions, empty ones too."""
    composites = pytest.importorskip("zennit.composites")
    modules, functions, x = network(lambda: Means(True)), network(lambda: Means(False)), images()
    right, wrong = (zennit_package(m, x, at_target(TARGET), composites.EpsilonPlus()) for m in (modules, functions))
    assert (right - wrong).abs().max() > 0.1 * right.abs().max()
    for model in (modules, functions):
        close(ours("lrp", model, x, stabiliser=1e-6).relevance, right)
