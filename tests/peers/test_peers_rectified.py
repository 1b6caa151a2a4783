"""Deconvnet, guided backpropagation and guided Grad-CAM beside captum, zennit and pytorch-grad-cam, in float64."""

from __future__ import annotations

import pytest
import torch
from architectures import ResNetLike, VggLike, VggNormLike, images, network
from comparison import TARGET, close, zennit_package
from torch.nn import functional as F

from pellucid import explain

NAMES = [("guided_backpropagation", "GuidedBackprop"), ("deconvnet", "Deconvolution")]
# Every ReLU is a module; the other networks also call it as a function, which only ours sees.
MODULES = (VggLike, VggNormLike, ResNetLike)


def ours(name, model, x, **options):
    return explain(model, x, [name], target=TARGET, **options)[name]


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize(("name", "theirs"), NAMES)
def test_captum(kind, name, theirs):
    """In-place and reused ReLUs among them."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    leaf = x.clone().requires_grad_()
    close(ours(name, model, x).relevance, getattr(attr, theirs)(model).attribute(leaf, target=TARGET))


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize(("name", "theirs"), [("guided_backpropagation", "GuidedBackprop"), ("deconvnet", "DeconvNet")])
def test_zennit(kind, name, theirs):
    composites = pytest.importorskip("zennit.composites")
    model, x = network(kind), images()
    start = lambda z: torch.zeros_like(z).scatter(1, torch.tensor(TARGET)[:, None], 1)  # noqa: E731
    close(ours(name, model, x).relevance, zennit_package(model, x, start, getattr(composites, theirs)()))


@pytest.mark.parametrize("kind", MODULES)
def test_pytorch_grad_cam(kind):
    """One image at a time."""
    package = pytest.importorskip("pytorch_grad_cam")
    model, x = network(kind), images()
    found = ours("guided_backpropagation", model, x).relevance
    guided = package.GuidedBackpropReLUModel(model, torch.device("cpu"))
    for i, c in enumerate(TARGET):
        theirs = torch.as_tensor(guided(x[i : i + 1].clone(), c)).movedim(-1, 0)
        close(found[i], theirs)


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.2"])
@pytest.mark.parametrize("kind", [VggLike, VggNormLike])
def test_guided_grad_cam_where_nothing_is_enlarged(kind, layer):
    """Layers at the input's resolution."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    theirs = attr.GuidedGradCam(model, model.get_submodule(layer)).attribute(x.clone().requires_grad_(), target=TARGET)
    close(ours("guided_grad_cam", model, x, layer=layer).relevance, theirs)


@pytest.mark.parametrize(("kind", "layer"), [(VggLike, "features"), (VggNormLike, "features"), (ResNetLike, "blocks")])
def test_guided_grad_cam(kind, layer):
    """captum enlarges the map in squares, we linearly; squares of our map times our guided backpropagation are its answer."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    theirs = attr.GuidedGradCam(model, model.get_submodule(layer)).attribute(x.clone().requires_grad_(), target=TARGET)
    found = ours("guided_grad_cam", model, x, layer=layer)
    guided = ours("guided_backpropagation", model, x).relevance
    cam = found.raw.clamp(min=0)[:, None]
    close(guided * F.interpolate(cam, x.shape[2:], mode="nearest"), theirs)
    close(found.relevance, guided * F.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False))
    assert (found.relevance - theirs).abs().max() > 0.1 * theirs.abs().max()
