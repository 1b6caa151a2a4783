"""Sampled methods: shared draws, standard errors that are right, and stopping when they are small (X11, X12)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from networks import Dense, DenseHead, GapLinear, network, samples
from pellucid import InputError, explain


def noisy(**options):
    return dict.fromkeys(("smoothgrad", "smoothgrad_squared", "vargrad"), options)


class Quadratic(nn.Module):
    """x^T H x / 2 in its first output: the gradient is H x, and its variance under noise known."""

    def __init__(self, n=5):
        super().__init__()
        h = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.h = nn.Parameter(h + h.mT)

    def forward(self, x):
        return torch.stack([((x @ self.h) * x).sum(1) / 2, x.sum(1)], 1)


def test_noisy_gradients_of_a_quadratic_are_known():
    """SmoothGrad -> H x; VarGrad -> sigma^2 sum_j H_ij^2; the mean square is their sum; errors as the spread over seeds."""
    model, x = Quadratic(), torch.linspace(-1, 1, 5, dtype=torch.float64)[None]
    sigma, n = 0.3 * 2, 400
    options = noisy(samples=n, noise=0.3)
    runs = [explain(model, x, options, target=0, seed=s) for s in range(12)]
    h = model.h.detach()
    spread = sigma**2 * h.pow(2).sum(1)
    for name, expected in {"smoothgrad": h @ x[0], "vargrad": spread, "smoothgrad_squared": (h @ x[0]) ** 2 + spread}.items():
        found = torch.stack([(run[name].raw if name == "smoothgrad" else run[name].relevance)[0] for run in runs])
        error = torch.stack([run[name].details["standard_error"][0] for run in runs])
        assert ((found.mean(0) - expected).abs() < 5 * error.mean(0) / 12**0.5).all(), name
        ratio = found.std(0) / error.mean(0)
        assert 0.6 < float(ratio.mean()) < 1.5, name


def test_standard_errors_are_those_of_the_draws():
    """Against the draws themselves, taken one seed's noise at a time."""
    model, x = network(DenseHead), samples(DenseHead, 2)
    found = explain(model, x, noisy(samples=9, noise=0.2), target=1, seed=4)
    rows = []
    handle = model.register_forward_pre_hook(lambda m, i: rows.append(i[0].detach()) if i[0].requires_grad else None)
    explain(model, x, {"smoothgrad": {"samples": 9, "noise": 0.2}}, target=1, seed=4)
    handle.remove()
    points = torch.cat(rows).requires_grad_()
    g = torch.autograd.grad(model(points)[:, 1].sum(), points)[0].unflatten(0, (2, 9))
    expected = {
        "smoothgrad": (g.mean(1), g.std(1) / 3),
        "smoothgrad_squared": (g.pow(2).mean(1), g.pow(2).std(1, correction=0) / 3),
        "vargrad": (g.var(1, correction=0), ((g - g.mean(1, keepdim=True)) ** 2).std(1, correction=0) / 3),
    }
    for name, (value, error) in expected.items():
        mine = found[name].raw if name == "smoothgrad" else found[name].relevance
        torch.testing.assert_close(mine, value, rtol=0, atol=1e-12)
        torch.testing.assert_close(found[name].details["standard_error"], error, rtol=1e-6, atol=1e-12)


def test_a_linear_network_has_no_variance_at_all():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    found = explain(model, samples(GapLinear), noisy(tolerance=0.01), target=1)
    assert (found["vargrad"].relevance == 0).all()
    assert (found["smoothgrad"].details["standard_error"] == 0).all()
    assert (found["smoothgrad"].details["samples"] == 8).all()  # one look is enough


@pytest.mark.parametrize(
    "name", ["smoothgrad", "smoothgrad_squared", "vargrad", "integrated_gradients_smoothgrad", "expected_gradients"]
)
def test_a_tolerance_stops_each_sample_when_it_is_reached(name):
    model, x = network(DenseHead), samples(DenseHead, 3)
    x[0] *= 0.01  # little noise: done early
    options = {"references": samples(DenseHead, 6, 9)} if name == "expected_gradients" else {"noise": 0.15}
    options |= {"samples": 64, "tolerance": 0.12}
    found = explain(model, x, {name: options}, target=1)[name]
    drawn = found.details["samples"]
    assert found.counts["samples"] == drawn.double().mean()
    per_draw = options.get("steps", 16) if name == "integrated_gradients_smoothgrad" else 1
    assert found.passes["backward"] == pytest.approx(float(drawn.double().mean()) * per_draw)
    if name in noisy():
        assert drawn[0] == 8
    assert (drawn <= 64).all()
    alone = explain(model, x[:1], {name: options}, target=1)[name]
    torch.testing.assert_close(found.relevance[:1], alone.relevance, rtol=0, atol=1e-12)
    if name == "smoothgrad":
        done = drawn < 64
        error, size = (t.flatten(1).pow(2).mean(1).sqrt() for t in (found.details["standard_error"], found.raw))
        assert done.any()
        assert (error[done] <= 0.12 * size[done]).all()
    for bad in (0, -1.0, "small"):
        with pytest.raises(InputError, match="tolerance is"):
            explain(model, x, {name: options | {"tolerance": bad}}, target=1)


def test_one_draw_has_no_standard_error():
    found = explain(network(Dense), samples(Dense), {"smoothgrad": {"samples": 1}}, target=1)["smoothgrad"]
    assert found.details["standard_error"].isinf().all()
