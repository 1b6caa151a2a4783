"""Extremal perturbations: the parts against their formulas, and masks for networks of which one knows where they look."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from networks import Dense, GapLinear, Sequence, Volume, network, samples
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.explanation.baselines import blurred
from pellucid.explanation.extremal_perturbation import BLUR, LEVELS, Adam, Levels, SmoothMasks, extremal_perturbation, template
from pellucid.explanation.score import Score

double = torch.float64


def looking_at(rows: slice, columns: slice):
    """A model that sees the roughness of one patch only."""
    return lambda x: (x[:, 0, rows, columns] ** 2).mean((1, 2))[:, None]


def rough(n: int = 1, size: int = 24) -> torch.Tensor:
    """Images that a blur makes zero nearly everywhere."""
    sign = (-1.0) ** torch.arange(size, dtype=double)
    return (sign[:, None] * sign).expand(n, 1, size, size).clone()


def test_smooth_masks_against_the_formula():
    made = SmoothMasks((6, 9), torch.zeros(1, dtype=double), sigma=2.0, step=1.0)
    assert made.nodes == (6, 9)
    p = torch.rand(2, 6, 9, generator=torch.Generator().manual_seed(0), dtype=double)
    found = made.made(p)
    for n, y, x in ((0, 0, 0), (0, 3, 4), (1, 5, 8), (1, 2, 7)):
        f = []
        for v, u in itertools.product(range(-4, 5), repeat=2):
            k = math.exp(-(max(0.0, 3 * math.hypot(v, u) / 2 - 1) ** 2) / 4)
            at = min(max(y + v, 0), 5), min(max(x + u, 0), 8)  # the nodes at the edge go on beyond it
            f.append(k * float(p[n, *at]))
        assert float(found[n, y, x]) == pytest.approx(max(f), abs=1e-12)


@pytest.mark.parametrize("size", [(200,), (48, 64), (16, 16, 16)])
def test_one_node_covers_a_fiftieth_and_all_of_them_everything(size):
    made = SmoothMasks(size, torch.zeros(1, dtype=double))
    p = torch.zeros(1, *made.nodes, dtype=double)
    p[(0, *(n // 2 for n in made.nodes))] = 1
    assert float((made.made(p) > 0.5).double().mean()) == pytest.approx(0.022, abs=0.008)
    everything = made.made(torch.ones_like(p))
    assert everything.min() > 0.9
    assert everything.max() <= 1


def test_template():
    m = torch.tensor([[[0.9, 0.1, 0.5, 0.3], [0.2, 0.2, 0.2, 0.8]]], dtype=double)
    share = torch.tensor([0.5, 0.5], dtype=double)
    assert template(m, share).tolist() == [[[1, 0, 1, 0], [pytest.approx(1 / 3)] * 3 + [1]]]
    assert template(m[:, :1], torch.tensor([0.375], dtype=double)).tolist() == [[[1, 0, 0.5, 0]]]
    tiny = torch.tensor([0.05, 0.95], dtype=double)
    torch.testing.assert_close(template(m, tiny).sum(2), 4 * tiny[None], rtol=0, atol=1e-12)


@pytest.mark.parametrize("baseline", ["blur", 0.25, "mean"])
def test_levels_between_baseline_and_sample_and_their_slope(baseline):
    x = samples(GapLinear, 2)
    levels = Levels(x, baseline, Score(network(GapLinear), x))
    sample = torch.tensor([1, 0, 1])
    whole = torch.ones(3, 8, 8, dtype=double)
    torch.testing.assert_close(levels.mixed(sample, whole)[0], x[sample], rtol=0, atol=1e-12)
    expected = {"blur": blurred(x, BLUR), "mean": x.mean((2, 3), keepdim=True).expand_as(x)}.get(baseline, 0.25 + 0 * x)
    torch.testing.assert_close(levels.mixed(sample, 0 * whole)[0], expected[sample], rtol=0, atol=1e-12)
    m = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=double)
    mixed, slope = levels.mixed(sample, m)
    nudged = levels.mixed(sample, m + 1e-7)[0]
    torch.testing.assert_close((nudged - mixed) / 1e-7, slope, rtol=0, atol=1e-6)  # differences of 1e-7
    if baseline == "blur":
        assert len(levels.stack) == LEVELS + 1
    else:
        torch.testing.assert_close(mixed, expected[sample] + m[:, None] * (x - expected)[sample], rtol=0, atol=1e-12)


def test_adam_goes_as_torchs_own():
    start = torch.rand(5, generator=torch.Generator().manual_seed(0), dtype=double) * 0.2 + 0.4
    ours, theirs = Adam(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for step in range(3):
        g = torch.tensor([1.0, -2.0, 0.0, 1e-3, 5.0], dtype=double) * (0.7 - step)
        ours.descend(g)
        theirs.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close(ours.value, theirs.detach(), rtol=0, atol=1e-9)
    for _ in range(20):
        ours.descend(torch.ones(5, dtype=double))
    assert (ours.value == 0).all()


def test_the_mask_sits_on_the_patch_that_the_network_looks_at():
    patch = torch.zeros(24, 24, dtype=torch.bool)
    patch[4:12, 13:21] = True  # a ninth of the image
    x = rough()
    found = extremal_perturbation(looking_at(slice(4, 12), slice(13, 21)), x, areas=(0.05, 0.11, 0.25), steps=60, target=0)
    inside = (found.raw[0] * patch).sum((1, 2)) / found.raw[0].sum((1, 2))
    assert inside[0] > 0.85
    assert inside[1] > 0.7
    assert (found.details["areas"] - torch.tensor([0.05, 0.11, 0.25])).abs().max() < 0.02
    scores = found.details["scores"][0]
    assert (scores.diff() > -1e-3).all()
    assert scores[2] > 0.8 * found.score[0]
    assert found.map()[0][patch].mean() > 5 * found.map()[0][~patch].mean()
    torch.testing.assert_close(found.map(), found.raw.sum(1), rtol=0, atol=1e-12)
    assert not found.notes


def test_the_unit_of_the_score_does_not_matter():
    model, x = looking_at(slice(2, 8), slice(2, 8)), rough(1, 16)
    one = extremal_perturbation(model, x, steps=10, target=0)
    thousandth = extremal_perturbation(lambda v: model(v) / 1024, x, steps=10, target=0)
    torch.testing.assert_close(one.raw, thousandth.raw, rtol=0, atol=1e-9)


def test_samples_do_not_see_each_other():
    model = network(GapLinear)
    x = samples(GapLinear, 4)
    together = extremal_perturbation(model, x, areas=(0.1, 0.3), steps=12)
    for i in range(4):
        alone = extremal_perturbation(model, x[i : i + 1], areas=(0.1, 0.3), steps=12)
        torch.testing.assert_close(alone.relevance[0], together.relevance[i], rtol=0, atol=1e-9)
    assert together.passes == {"forward": 2 + 2 * 12 + 2, "backward": 24, "head": 0, "tail": 0}


@pytest.mark.parametrize("kind", [Sequence, Volume])
def test_sequences_and_volumes(kind):
    x = samples(kind, 2)
    found = extremal_perturbation(network(kind), x, areas=(0.3,), steps=40)
    assert found.relevance.shape == x.shape
    assert (found.details["areas"] - 0.3).abs().max() < 0.09  # few places: the edge of a mask is much of it


def test_a_missed_area_is_said():
    found = extremal_perturbation(network(GapLinear), samples(GapLinear), areas=(0.1,), steps=1)
    assert found.notes == ["extremal_perturbation: a mask misses its area by more than 0.03; see details['areas']"]


def test_parameters_keep_their_gradients_and_flags():
    model = network(GapLinear)
    wants = [p.requires_grad for p in model.parameters()]
    extremal_perturbation(model, samples(GapLinear, 1), areas=(0.2,), steps=2)
    assert [p.requires_grad for p in model.parameters()] == wants
    assert all(p.grad is None for p in model.parameters())


def test_what_is_refused():
    with pytest.raises(UnsupportedError, match="Use occlusion or rise"):
        extremal_perturbation(network(Dense), samples(Dense))
    for options, words in [
        ({"areas": ()}, "no areas"),
        ({"areas": (0.1, 1.0)}, "areas is 1.0"),
        ({"areas": "0.1"}, "areas is '0.1'"),
        ({"steps": 0}, "steps is 0"),
        ({"sigma": 0}, "sigma is 0"),
        ({"step": -1.0}, "step is -1.0"),
        ({"penalty": -1}, "penalty is -1"),
        ({"growth": 0}, "growth is 0"),
        ({"baseline": "blurr"}, "Did you mean 'blur'"),
    ]:
        with pytest.raises(InputError, match=words):
            extremal_perturbation(network(GapLinear), samples(GapLinear), **options)
