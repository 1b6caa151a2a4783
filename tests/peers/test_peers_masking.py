"""Class activation maps that need no gradient: Score-CAM and Ablation-CAM beside captum, pytorch-grad-cam and torchcam."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from architectures import LAYERS, ResNetLike, VggLike, VitLike, images, network
from comparison import TARGET, activations, close, grad_cam_package, score_of, torchcam_package
from torch import nn

from pellucid import explain

PLACES = list(LAYERS.items())


def ours(name, model, x, layer, **options):
    return explain(model, x, {name: options}, target=TARGET, layer=layer)[name]


@pytest.mark.parametrize(("kind", "layer"), [*PLACES, (VitLike, "patches")])
def test_ablation_cam_beside_captum(kind, layer):
    """captum returns the drop of the score per channel; over the score's size it is the weight."""
    attr = pytest.importorskip("captum.attr")
    model, x = network(kind), images()
    a = activations(model, layer, x)
    channels = torch.arange(a.shape[1]).view(1, -1, 1, 1).expand(1, *a.shape[1:])
    drop = attr.LayerFeatureAblation(model, model.get_submodule(layer)).attribute(x, target=TARGET, layer_mask=channels)
    weights = drop / score_of(model, x, TARGET).abs().view(-1, 1, 1, 1)
    close(ours("ablation_cam", model, x, layer).raw, (weights * a).sum(1))


@pytest.mark.parametrize(("kind", "layer"), PLACES)
def test_ablation_cam_beside_pytorch_grad_cam(kind, layer):
    """It divides by the score with its sign; 1e-4: it keeps scores in float32, and the drops are differences of them."""
    pytest.importorskip("pytorch_grad_cam")
    model, x = network(kind), images()
    assert (activations(model, layer, x).amin((1, 2, 3)) == 0).all(), "above zero it would not set channels to zero"
    theirs = grad_cam_package("AblationCAM", model, model.get_submodule(layer), x, TARGET)
    close(ours("ablation_cam", model, x, layer).raw, theirs * score_of(model, x, TARGET).sign().view(-1, 1, 1), 1e-4)


def test_score_cam_where_nothing_is_enlarged():
    """A layer at the input's resolution: all three agree. float32 scores in one peer, 1e-8 beside the range in both."""
    pytest.importorskip("pytorch_grad_cam")
    pytest.importorskip("torchcam")
    model, x = network(VggLike), images()
    raw = ours("score_cam", model, x, "features.1").raw
    assert (activations(model, "features.1", x).flatten(2).std(2) > 0).all()
    place = model.features[1]
    close(raw, grad_cam_package("ScoreCAM", model, place, x, TARGET), 1e-5)
    close(raw.relu(), torchcam_package("ScoreCAM", model, place, x, TARGET), 1e-6)


def per_image_share(maps):
    return maps / maps.abs().amax((1, 2), keepdim=True)


@pytest.mark.parametrize(("kind", "layer"), PLACES)
def test_score_cam(kind, layer, monkeypatch):
    """pytorch-grad-cam enlarges between corners and torchcam scales before it enlarges; here both get our masks.

    A dead channel has no range: their mask is 0, ours 1. It adds nothing to the map, but it takes part in the softmax, so
    the maps agree up to one factor per image.
    """
    pytest.importorskip("pytorch_grad_cam")
    methods = pytest.importorskip("torchcam.methods")
    model, x = network(kind), images()
    place = model.get_submodule(layer)
    mine = per_image_share(ours("score_cam", model, x, layer).raw)
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", partial(nn.Upsample, mode="bilinear", align_corners=False))
    close(mine, per_image_share(grad_cam_package("ScoreCAM", model, place, x, TARGET)), 1e-5)
    enlarge = methods.ScoreCAM._upsample
    monkeypatch.setattr(methods.ScoreCAM, "_upsample", lambda self, maps: self._normalize(enlarge(self, maps), 2))
    close(mine.relu(), per_image_share(torchcam_package("ScoreCAM", model, place, x, TARGET)), 1e-6)


def test_score_cam_of_probabilities():
    """The same weights from a peer that is handed the probabilities as its model's answer."""
    pytest.importorskip("torchcam")
    model, x = network(VggLike), images()
    found = explain(model, x, ["score_cam"], target=TARGET, layer="features.1", of="probability")["score_cam"]
    answering = nn.Sequential(model, nn.Softmax(1))
    close(found.raw.relu(), torchcam_package("ScoreCAM", answering, model.features[1], x, TARGET), 1e-6)


@pytest.mark.parametrize("kind", [ResNetLike, VggLike])
def test_layer_cam_of_several_layers(kind):
    """Each layer's map over its maximum, all but the last through tanh(2 m), enlarged, the larger value kept.

    The single maps are torchcam's. Fused by torchcam itself the last one is bent too, and a map's minimum is subtracted.
    """
    pytest.importorskip("torchcam")
    model, x = network(kind), images()
    names = {ResNetLike: ["stem", "blocks.0", "blocks"], VggLike: ["features.4", "features.9", "features"]}[kind]
    maps = [torchcam_package("LayerCAM", model, model.get_submodule(name), x, TARGET) for name in names]
    maps = [m / m.amax((1, 2), keepdim=True) for m in maps]
    maps[:-1] = [torch.tanh(2 * m) for m in maps[:-1]]
    enlarged = [nn.functional.interpolate(m[:, None], (64, 64), mode="bilinear", align_corners=False)[:, 0] for m in maps]
    found = explain(model, x, ["layer_cam"], target=TARGET, layer=names)["layer_cam"]
    close(found.map(), torch.stack(enlarged).amax(0))
