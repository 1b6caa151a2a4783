"""Side by side with captum, float32 at 1e-6 of the largest value (acceptance 5)."""

from __future__ import annotations

import pytest
import torch

from networks import Dense, DenseHead, GapLinear, Residual, Sequence, network, samples
from pellucid import explain

attr = pytest.importorskip("captum.attr")
KINDS = [GapLinear, DenseHead, Residual, Sequence, Dense]
TARGET = torch.tensor([2, 0, 1])


def close(ours, theirs):
    theirs = theirs.detach()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * float(theirs.abs().max().clamp(min=1)))


def pair(kind):
    return network(kind, dtype=torch.float32), samples(kind, dtype=torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    model, x = pair(kind)
    found = explain(
        model, x, {"gradient": {}, "gradient_times_input": {}, "integrated_gradients": {"steps": 50}}, target=TARGET
    )
    close(found["gradient"].relevance, attr.Saliency(model).attribute(x.clone().requires_grad_(), target=TARGET))
    close(found["gradient"].raw, attr.Saliency(model).attribute(x.clone().requires_grad_(), target=TARGET, abs=False))
    theirs = attr.InputXGradient(model).attribute(x.clone().requires_grad_(), target=TARGET)
    close(found["gradient_times_input"].relevance, theirs)
    close(
        found["integrated_gradients"].relevance,
        attr.IntegratedGradients(model).attribute(x.clone().requires_grad_(), target=TARGET, n_steps=50).float(),
    )


@pytest.mark.parametrize(
    ("kind", "layer"), [(GapLinear, "features"), (DenseHead, "features"), (Residual, "norm"), (Sequence, "features")]
)
def test_grad_cam(kind, layer):
    model, x = pair(kind)
    found = explain(model, x, ["grad_cam"], target=TARGET, layer=layer)["grad_cam"]
    theirs = attr.LayerGradCam(model, model.get_submodule(layer)).attribute(x.clone().requires_grad_(), target=TARGET)
    close(found.raw, theirs[:, 0])


@pytest.mark.parametrize(("kind", "window", "stride"), [(GapLinear, 3, 1), (DenseHead, 4, 2), (Dense, 1, 1)])
def test_occlusion(kind, window, stride):
    model, x = pair(kind)
    ours = explain(model, x, {"occlusion": {"window": window, "stride": stride}}, target=TARGET)["occlusion"].relevance
    shape = (window,) if x.ndim == 2 else (1, window, window)
    theirs = attr.Occlusion(model).attribute(
        x,
        target=TARGET,
        sliding_window_shapes=shape,
        strides=stride if x.ndim == 2 else (1, stride, stride),
        perturbations_per_eval=8,
    )
    close(ours, theirs)
