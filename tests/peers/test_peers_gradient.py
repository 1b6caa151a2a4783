"""Gradient methods beside captum, float64 at 1e-9 of the largest value; where both draw, both get the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import ALL, CONVOLUTIONAL, VggLike, images, network
from comparison import TARGET, close, recorded

from pellucid import explain

attr = pytest.importorskip("captum.attr")


@pytest.mark.parametrize("kind", ALL)
def test_gradient(kind):
    model, x = network(kind), images()
    found = explain(model, x, ["gradient", "gradient_times_input"], target=TARGET)
    leaf = x.clone().requires_grad_()
    close(found["gradient"].raw, attr.Saliency(model).attribute(leaf, target=TARGET, abs=False))
    close(found["gradient"].relevance, attr.Saliency(model).attribute(leaf, target=TARGET))
    close(found["gradient_times_input"].relevance, attr.InputXGradient(model).attribute(leaf, target=TARGET))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("baseline", [0.0, -0.7])
def test_integrated_gradients(kind, baseline):
    """1e-7: captum holds its quadrature weights in float32."""
    model, x = network(kind), images()
    options = {"steps": 20, "baseline": baseline}
    found = explain(model, x, {"integrated_gradients": options}, target=TARGET)["integrated_gradients"]
    theirs, delta = attr.IntegratedGradients(model).attribute(
        x, baselines=baseline, target=TARGET, n_steps=20, method="gausslegendre", return_convergence_delta=True
    )
    close(found.relevance, theirs, 1e-7)
    torch.testing.assert_close(found.gap, -delta, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("name", "theirs"), [("smoothgrad", "smoothgrad"), ("smoothgrad_squared", "smoothgrad_sq"), ("vargrad", "vargrad")]
)
def test_noisy_gradients(kind, name, theirs, monkeypatch):
    """captum draws from torch.normal; here it is handed the noise that we drew (images in order, draws within an image)."""
    model, x, samples = network(kind), images(), 6
    with recorded(model) as rows:
        found = explain(model, x, {name: {"samples": samples, "noise": 0.2}}, target=TARGET, seed=3)[name]
    noise = torch.stack(rows) - x.repeat_interleave(samples, 0)
    assert noise.std() > 0.1
    monkeypatch.setattr(torch, "normal", lambda mean, std: noise)
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    expected = tunnel.attribute(x, target=TARGET, nt_type=theirs, nt_samples=samples, abs=False)
    close(found.relevance if found.raw is None else found.raw, expected)


def test_noise_is_a_share_of_each_images_range():
    model, x = network(VggLike), images()
    x[1] *= 5
    with recorded(model) as rows:
        explain(model, x, {"smoothgrad": {"samples": 4, "noise": 0.1}}, target=TARGET)
    spread = (torch.stack(rows) - x.repeat_interleave(4, 0)).unflatten(0, (2, 4)).flatten(1).std(1)
    sigma = 0.1 * (x.flatten(1).amax(1) - x.flatten(1).amin(1))
    torch.testing.assert_close(spread, sigma, rtol=0.02, atol=0)  # 49,152 draws: their spread is known to 0.3 %


def recovered(rows: torch.Tensor, x: torch.Tensor, references: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference and position of every draw, from the point r + a (x - r) at which the gradient was taken."""
    step = x[:, None] - references[None]  # (n, R, ...), n draws of one image each
    a = ((rows[:, None] - references[None]) * step).flatten(2).sum(2) / step.pow(2).flatten(2).sum(2)
    miss = (rows[:, None] - references[None] - a.view(*a.shape, 1, 1, 1) * step).flatten(2).norm(dim=2)
    best = miss.argmin(1)
    assert miss.gather(1, best[:, None]).max() < 1e-9 * rows.norm()
    return best, a.gather(1, best[:, None])[:, 0]


@pytest.mark.parametrize("kind", ALL)
def test_expected_gradients(kind, monkeypatch):
    """captum's GradientShap, which draws from numpy, is handed our references and positions."""
    model, x, references, samples = network(kind), images(), images(5, seed=8), 7
    options = {"samples": samples, "references": references}
    with recorded(model) as rows:
        found = explain(model, x, {"expected_gradients": options}, target=TARGET, seed=3)["expected_gradients"]
    chosen, position = recovered(torch.stack(rows), x.repeat_interleave(samples, 0), references)
    monkeypatch.setattr(np.random, "choice", lambda n, size: chosen.numpy())
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: position.numpy())
    close(found.relevance, attr.GradientShap(model).attribute(x, references, n_samples=samples, target=TARGET))


def test_expected_gradients_draws_evenly():
    """Every reference equally often and every position on the way equally likely, within five standard errors."""
    model, x, references, samples = network(CONVOLUTIONAL[1]), images(1), images(4, seed=8), 400
    with recorded(model) as rows:
        explain(model, x, {"expected_gradients": {"samples": samples, "references": references}}, target=1)
    chosen, position = recovered(torch.stack(rows), x.repeat_interleave(samples, 0), references)
    share = torch.bincount(chosen, minlength=4) / samples
    assert (share - 0.25).abs().max() < 5 * (0.25 * 0.75 / samples) ** 0.5
    assert position.min() >= 0
    assert position.max() <= 1
    assert (position.mean() - 0.5).abs() < 5 * (1 / 12 / samples) ** 0.5
    assert (position.var() - 1 / 12).abs() < 5 * (1 / 180 / samples) ** 0.5
