"""Where a peer is wrong or wasteful: its answer and ours on the very same input, shown rather than claimed.

A test here fails when the peer mends its fault. Then the line in docs/peers.md goes, and the test with it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import LAYERS, ResNetLike, VggLike, images, network
from comparison import TARGET, Times, activations, behind, close, recorded, score_of, torchcam_package
from torch import Tensor, nn

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
