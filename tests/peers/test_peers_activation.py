"""Class activation maps from gradients and activations, beside pytorch-grad-cam, torchcam and captum, in float64.

Maps are compared with their sign at the layer's resolution, before any scaling. Only torchcam clips first.
"""

from __future__ import annotations

import pytest
import torch
from architectures import LAYERS, POOLED, VggLike, VitLike, images, network
from comparison import TARGET, Centre, Times, activations, behind, close, grad_cam_package, per_image_unit, torchcam_package
from torch import nn

from pellucid import explain
from pellucid.core.errors import UnsupportedError

# Architecture and layer. The patch embedding's values have both signs.
PLACES = [*LAYERS.items(), (VitLike, "patches")]
POSITIVE = list(LAYERS.items())


def ours(name, model, x, layer, **options):
    return explain(model, x, {name: options}, target=TARGET, layer=layer)[name]


@pytest.mark.parametrize(("kind", "layer"), PLACES)
@pytest.mark.parametrize(("name", "theirs"), [("grad_cam", "GradCAM"), ("hires_cam", "HiResCAM"), ("layer_cam", "LayerCAM")])
def test_pytorch_grad_cam(name, theirs, kind, layer):
    pytest.importorskip("pytorch_grad_cam")
    model, x = network(kind), images()
    close(ours(name, model, x, layer).raw, grad_cam_package(theirs, model, model.get_submodule(layer), x, TARGET))


@pytest.mark.parametrize(("kind", "layer"), POSITIVE)
def test_grad_cam_plus_plus(kind, layer):
    """Activations a millionth of their size, so a million times the gradient: the peer's 1e-6 beside g^2 does not count."""
    pytest.importorskip("pytorch_grad_cam")
    model, x = network(kind), images()
    layer = behind(model, layer, Times(1e-6), Times(1e6))
    theirs = grad_cam_package("GradCAMPlusPlus", model, model.get_submodule(layer), x, TARGET)
    close(ours("grad_cam_plus_plus", model, x, layer).raw, theirs)


@pytest.mark.parametrize(("kind", "layer"), POSITIVE)
def test_xgrad_cam(kind, layer):
    """A million times the activations: what the peers add to a channel's sum (1e-7, 1e-8) does not count."""
    pytest.importorskip("pytorch_grad_cam")
    pytest.importorskip("torchcam")
    model, x = network(kind), images()
    layer = behind(model, layer, Times(1e6), Times(1e-6))
    raw, place = ours("xgrad_cam", model, x, layer).raw, model.get_submodule(layer)
    close(raw, grad_cam_package("XGradCAM", model, place, x, TARGET))
    close(raw.relu(), torchcam_package("XGradCAM", model, place, x, TARGET))


@pytest.mark.parametrize(("kind", "layer"), PLACES)
@pytest.mark.parametrize(("name", "theirs"), [("grad_cam", "GradCAM"), ("layer_cam", "LayerCAM")])
def test_torchcam(name, theirs, kind, layer):
    pytest.importorskip("torchcam")
    model, x = network(kind), images()
    close(ours(name, model, x, layer).raw.relu(), torchcam_package(theirs, model, model.get_submodule(layer), x, TARGET))


@pytest.mark.parametrize(("kind", "layer"), PLACES)
def test_captum_grad_cam(kind, layer):
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    theirs = attr.LayerGradCam(model, model.get_submodule(layer)).attribute(x, target=TARGET)
    close(ours("grad_cam", model, x, layer).raw, theirs[:, 0])


@pytest.mark.parametrize("kind", POOLED)
def test_cam(kind):
    """torchcam reads the weights of the linear layer that it is told; ours are Z times the gradient."""
    pytest.importorskip("torchcam")
    model, x = network(kind), images()
    place = model.get_submodule(LAYERS[kind])
    head = next(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    close(ours("cam", model, x, LAYERS[kind]).raw, torchcam_package("CAM", model, place, x, TARGET, fc_layer=head))


def test_cam_refuses_what_is_not_pooled_and_linear():
    with pytest.raises(UnsupportedError, match=r"(?i)grad.?cam"):
        ours("cam", network(VggLike), images(), "features")


@pytest.mark.parametrize(("kind", "layer"), POSITIVE)
def test_picture_of_pytorch_grad_cam(kind, layer):
    """Their finished picture: clipped, scaled, enlarged between cell centres. 1e-5: float32 and a 1e-7 in the scaling."""
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, x = network(kind), images()
    with package.GradCAM(model, [model.get_submodule(layer)]) as cam:
        theirs = torch.as_tensor(cam(x, [ClassifierOutputTarget(c) for c in TARGET]))
    close(per_image_unit(ours("grad_cam", model, x, layer).map()), theirs, 1e-5)


@pytest.mark.parametrize(("kind", "layer"), PLACES)
def test_eigen_cam(kind, layer):
    """pytorch-grad-cam subtracts each channel's mean first; on maps without one both project on the same vector.

    Without a mean the sum of the map is zero and says nothing about its sign. 1e-6: theirs is rounded to float32.
    """
    pytest.importorskip("pytorch_grad_cam")
    model, x = network(kind), images()
    layer = behind(model, layer, Centre())
    raw = ours("eigen_cam", model, x, layer).raw
    theirs = grad_cam_package("EigenCAM", model, model.get_submodule(layer), x, TARGET)
    close(raw * (raw * theirs).sum((1, 2), keepdim=True).sign(), theirs, 1e-6)


@pytest.mark.parametrize(("kind", "layer"), POSITIVE)
def test_eigen_cam_is_not_centred(kind, layer):
    """The paper projects the activations as they are: on positive ones a map without negative parts, nothing to clip."""
    pytest.importorskip("pytorch_grad_cam")
    model, x = network(kind), images()
    raw = ours("eigen_cam", model, x, layer).raw
    for a, mine in zip(activations(model, layer, x).flatten(2), raw.flatten(1)):
        _, _, v = torch.linalg.svd(a.T, full_matrices=False)
        close(mine, (a.T @ v[0]).abs())
    theirs = grad_cam_package("EigenCAM", model, model.get_submodule(layer), x, TARGET)
    assert (theirs.amin((1, 2)) < -0.3 * theirs.amax((1, 2))).all()
