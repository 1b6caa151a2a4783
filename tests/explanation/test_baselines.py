"""Integrated gradients and its relatives: baselines of every kind, and paths (X12, X13)."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter

from networks import Dense, DenseHead, GapLinear, Sequence, network, samples
from pellucid import InputError, explain


def ig(kind, baseline, steps=50, **more):
    x = more.pop("x", samples(kind))
    return explain(network(kind), x, {"integrated_gradients": {"baseline": baseline, "steps": steps}}, target=1, **more)[
        "integrated_gradients"
    ]


@pytest.mark.parametrize("kind", [DenseHead, Sequence, Dense])
def test_mean_baseline(kind):
    x = samples(kind)
    axes = tuple(range(2, x.ndim)) or (1,)
    with torch.no_grad():
        expected = network(kind)(x.mean(axes, keepdim=True).expand_as(x))[:, 1]
    torch.testing.assert_close(ig(kind, "mean").base, expected, rtol=0, atol=1e-12)


def test_blur_is_a_gaussian_with_repeated_edges():
    x = samples(DenseHead)
    blurred = torch.stack(
        [torch.as_tensor(gaussian_filter(one[0].numpy(), 0.8, mode="nearest", truncate=3.75))[None] for one in x]
    )
    with torch.no_grad():
        expected = network(DenseHead)(blurred)[:, 1]
    torch.testing.assert_close(ig(DenseHead, "blur").base, expected, rtol=0, atol=1e-9)
    flat = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    assert ig(DenseHead, "blur", x=flat).relevance.abs().max() < 1e-12  # what is flat already has nothing to lose


def test_a_set_of_references_is_averaged():
    references = samples(DenseHead, 4, seed=8)
    whole = ig(DenseHead, references)
    singles = [ig(DenseHead, r) for r in references]
    torch.testing.assert_close(whole.relevance, torch.stack([s.relevance for s in singles]).mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.base, torch.stack([s.base for s in singles]).mean(0), rtol=0, atol=1e-12)
    assert whole.counts["baselines"] == 4
    sums = whole.relevance.flatten(1).sum(1)
    torch.testing.assert_close(sums + whole.gap, whole.score - whole.base, rtol=0, atol=1e-12)


def test_bad_baselines_are_named():
    for baseline, message in [
        ("zero", "baseline is 'zero'"),
        (torch.zeros(3, 3), r"a baseline of shape \(3, 3\) for an input of shape \(3, 1, 8, 8\)"),
        (torch.tensor(torch.nan), "the baseline holds nan"),
        (None, "a baseline None"),
    ]:
        with pytest.raises(InputError, match=message):
            ig(GapLinear, baseline)
    with pytest.raises(InputError, match="cannot be blurred"):
        ig(Dense, "blur")
    for name in ("guided_ig", "integrated_gradients_smoothgrad"):
        with pytest.raises(InputError, match="2 baselines"):
            explain(network(GapLinear), samples(GapLinear), {name: {"baseline": samples(GapLinear, 2)}})
    for options, message in [({}, "needs references"), ({"references": torch.zeros(2, 3, 8, 8)}, "references of shape")]:
        with pytest.raises(InputError, match=message):
            explain(network(GapLinear), samples(GapLinear), {"expected_gradients": options})


def guided(kind, x=None, **options):
    x = samples(kind) if x is None else x
    return explain(network(kind), x, {"guided_ig": options}, target=1)["guided_ig"]


@pytest.mark.parametrize("kind", [DenseHead, Dense])
def test_guided_ig_without_freedom_is_the_left_riemann_sum(kind):
    """max_distance 0 leaves no choice but the straight line (METHODS C)."""
    model, x, steps = network(kind), samples(kind), 20
    total = torch.zeros_like(x)
    for i in range(steps):
        point = (x * i / steps).requires_grad_()
        total += torch.autograd.grad(model(point)[:, 1].sum(), point)[0]
    torch.testing.assert_close(guided(kind, steps=steps, max_distance=0.0).relevance, x * total / steps, rtol=0, atol=1e-12)


def path(kind, x, b, steps, fraction, distance):
    """The published algorithm, step by step for one sample, in its own words and no batch."""
    model = network(kind)
    x, here, attribution = x.flatten(), b.flatten().clone(), torch.zeros(x.numel(), dtype=x.dtype)
    start, whole = b.flatten(), (x - b.flatten()).abs().sum()
    for step in range(steps):
        leaf = here.clone().view(1, *samples(kind).shape[1:]).requires_grad_()
        g = torch.autograd.grad(model(leaf)[0, 1], leaf)[0].flatten()
        alpha = (step + 1) / steps
        low, high = (start + (x - start) * min(1, max(0, alpha + d)) for d in (-distance, distance))
        wanted, size = whole * (1 - alpha), g.abs().clone()
        gamma = torch.inf
        while gamma > 1:
            before = here.clone()
            behind = (here - start) / (x - start) < max(0, alpha - distance)
            here[behind] = low[behind]
            now = (here - x).abs().sum()
            if torch.isclose(now, wanted, rtol=1e-9, atol=1e-9):
                attribution += (here - before) * g
                break
            size[here == high] = torch.inf
            limit = torch.quantile(size, fraction, interpolation="lower")
            chosen = (size <= limit) & size.isfinite()
            room = (here - high).abs()[chosen].sum()
            gamma = float((now - wanted) / room) if room > 0 else torch.inf
            here[chosen] = high[chosen] if gamma > 1 else (here + (high - here) * gamma)[chosen]
            attribution += (here - before) * g
    return attribution


@pytest.mark.parametrize(("fraction", "distance"), [(0.25, 0.02), (0.1, 0.3), (0.5, 1.0)])
def test_guided_ig_follows_the_published_path(fraction, distance):
    x = samples(DenseHead, 2)
    found = guided(DenseHead, x, steps=12, fraction=fraction, max_distance=distance).relevance
    for mine, one in zip(found, x):
        expected = path(DenseHead, one, torch.zeros_like(one), 12, fraction, distance)
        torch.testing.assert_close(mine.flatten(), expected, rtol=0, atol=1e-8)


def test_guided_ig_is_complete_in_the_limit():
    gaps = [guided(DenseHead, steps=steps).gap.abs().max() for steps in (10, 100, 400)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3
