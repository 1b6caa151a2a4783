"""Our answers in the hands of other packages: shap's plots, metrics of Quantus and captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import VggLike, images, network
from comparison import TARGET
from torch import nn

import pellucid
from pellucid import Attribution, explain


def table():
    """A small network on rows of six columns, four rows, and the class that is asked about."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Softplus(), nn.Linear(12, 3)).double().eval()
    return model, torch.randn(4, 6, dtype=torch.float64), [0, 1, 2, 1]


WITH_EVIDENCE = [0, 0]  # classes for which even Grad-CAM finds something positive
NAMES = ["age", "dose", "height", "pulse", "sodium", "weight"]


@pytest.mark.parametrize(
    ("method", "options"), [("integrated_gradients", {"steps": 50, "baseline": 0.2}), ("gradient_times_input", {})]
)
def test_shap_holds_a_table(method, options):
    """base + sum(values) is the score: also of a method without a baseline, whose base is what is left over."""
    shap = pytest.importorskip("shap")
    model, x, target = table()
    found = explain(model, x, {method: options}, target=target)[method]
    there = found.to_shap(NAMES)
    assert isinstance(there, shap.Explanation)
    assert there.values.shape == (4, 6)
    np.testing.assert_array_equal(there.values, found.relevance.numpy())
    np.testing.assert_array_equal(there.data, x.numpy())
    assert list(there.feature_names) == NAMES
    score = model(x).detach()[torch.arange(4), target].numpy()
    np.testing.assert_allclose(there.base_values + there.values.sum(1), score, rtol=0, atol=1e-9)


@pytest.mark.parametrize("plot", ["bar", "waterfall"])
def test_shap_draws_a_row(plot):
    shap = pytest.importorskip("shap")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    model, x, target = table()
    there = explain(model, x, ["integrated_gradients"], target=target)["integrated_gradients"].to_shap(NAMES)
    axes = getattr(shap.plots, plot)(there[0], show=False)
    axes.figure.canvas.draw()
    words = " ".join(text.get_text() for text in axes.figure.findobj(matplotlib.text.Text))
    assert all(name in words for name in NAMES)
    pyplot.close("all")


def test_shap_holds_images():
    pytest.importorskip("shap")
    model, x = network(VggLike), images()
    found = explain(model, x, {"integrated_gradients": {"steps": 20}}, target=TARGET)["integrated_gradients"]
    there = found.to_shap()
    assert there.values.shape == there.data.shape == x.shape
    total = there.base_values + there.values.sum((1, 2, 3)) + found.gap.numpy()
    np.testing.assert_allclose(total, found.score.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "gradient_times_input"},
        {"method": "integrated_gradients", "steps": 8},
        {"method": "grad_cam", "layer": "features"},
    ],
    ids=lambda asked: asked["method"],
)
def test_quantus_measures_ours(asked):
    """A metric that reads relevance and one that explains again; the first against its number for the same array."""
    quantus = pytest.importorskip("quantus")
    model, x, y = network(VggLike, dtype=torch.float32), images(dtype=torch.float32).numpy(), np.array(WITH_EVIDENCE)
    given = {
        "model": model, "x_batch": x, "y_batch": y, "device": "cpu",
        "explain_func": pellucid.explain_func, "explain_func_kwargs": dict(asked),  # it writes its device in there
    }  # fmt: skip
    quiet = {"disable_warnings": True}
    ours = quantus.Complexity(**quiet)(a_batch=None, **given)
    handed = pellucid.explain_func(model, x, y, **asked)
    beside = quantus.Complexity(**quiet)(a_batch=handed, **given)
    np.testing.assert_allclose(ours, beside, rtol=1e-5)
    assert len(ours) == 2
    assert all(0 < value < np.log(x[0].size) for value in ours)  # the entropy of 12,288 shares
    moved = quantus.MaxSensitivity(nr_samples=2, **quiet)(a_batch=None, **given)
    assert len(moved) == 2
    assert all(np.isfinite(value) and value > 0 for value in moved)


def test_captum_finds_ours_as_infidel_as_its_own():
    """The same draws for either: integrated gradients of both packages have the same infidelity."""
    attr = pytest.importorskip("captum.attr")
    metrics = pytest.importorskip("captum.metrics")
    model, x = network(VggLike), images()

    @metrics.infidelity_perturb_func_decorator(True)
    def moved(inputs):
        return inputs - 0.1 * torch.randn_like(inputs)

    found = []
    for relevance in (
        Attribution("integrated_gradients", model, steps=20).attribute(x, 0.0, target=TARGET),
        attr.IntegratedGradients(model).attribute(x, 0.0, target=TARGET, n_steps=20),
        torch.zeros_like(x),
    ):
        torch.manual_seed(0)
        found.append(metrics.infidelity(model, moved, x, relevance, target=TARGET, n_perturb_samples=6))
    ours, theirs, nothing = found
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    assert ours.shape == (2,)
    assert not torch.allclose(ours, nothing, rtol=0.01)


def test_captum_explains_again_with_ours():
    """``sensitivity_max`` calls an explanation of ours on moved inputs; the gradient's size has the number of its own."""
    attr = pytest.importorskip("captum.attr")
    metrics = pytest.importorskip("captum.metrics")
    model, x = network(VggLike), images()
    saliency, gradient = attr.Saliency(model), Attribution("gradient", model)
    found = []
    for function in (
        lambda inputs, target: gradient.attribute(inputs, target=target),
        lambda inputs, target: saliency.attribute(inputs, target=target),
    ):
        torch.manual_seed(0)
        found.append(metrics.sensitivity_max(function, x, target=TARGET, n_perturb_samples=3, perturb_radius=0.1))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=0)
    assert (found[0] > 0).all()
    cam = Attribution("grad_cam", model, layer="features")
    again = metrics.sensitivity_max(lambda inputs: cam.attribute(inputs, target=1), x, n_perturb_samples=2)
    assert torch.isfinite(again).all()
