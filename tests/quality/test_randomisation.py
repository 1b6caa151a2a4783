"""Q2: cascading randomisation passes what follows the model and fails what does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from networks import DenseHead, GapLinear, Residual, network, samples
from pellucid import explain
from pellucid.core.errors import UnsupportedError
from pellucid.quality.randomisation import (
    Randomisation,
    cascading_randomisation,
    randomisable_layers,
    randomise,
    rank_correlation,
    structural_similarity_index,
)


def maps(methods, x, target):
    return lambda model: {n: e.map() for n, e in explain(model, x, methods, target=target).items()}


def smooth(n, seed=0):
    """Inputs with structure, so that the edge detector has something to find."""
    coarse = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear")


def test_edge_detector_fails_and_gradient_passes():
    """X25: the edge detector never looks at the model, so randomising the model cannot change it."""
    x = smooth(12)
    model = network(DenseHead)
    found = cascading_randomisation(model, maps(["edge_detector", "gradient"], x, 1), seed=0)
    edges, gradient = found["edge_detector"], found["gradient"]
    assert np.allclose(edges.similarity["ssim"], 1)
    assert np.allclose(edges.similarity["rank"], 1)
    assert edges.kept == pytest.approx(1)
    assert not edges.passed
    assert "does not depend" in edges.verdict
    assert gradient.passed
    assert gradient.kept < edges.kept
    assert gradient.layers[0] == "head.4"  # from the output down
    assert gradient.layers[-1] == "features.0"


def test_model_untouched_and_seeded():
    model, x = network(Residual), samples(Residual, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.get_rng_state()
    runs = [cascading_randomisation(model, maps(["gradient"], x, 0), seed=s)["gradient"].similarity["rank"] for s in (0, 0, 1)]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_every_layer_gets_its_own_draw():
    """Quantus re-seeds identically per layer (METHODS F): two equal layers must not become equal."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    for name in randomisable_layers(model):
        randomise(model.get_submodule(name), 0, name)
    assert not torch.equal(model[0].weight, model[1].weight)


def test_a_module_without_its_own_initialisation_is_randomised_too():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.s = nn.Parameter(torch.linspace(1, 2, 6))

    scale = Scale()
    before = scale.s.clone()
    randomise(scale, 0, "scale")
    assert not torch.equal(before, scale.s)


def test_similarities():
    a, b = np.random.default_rng(0).normal(size=(2, 12, 12))
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert rank_correlation(a, a * 0) == 0
    assert structural_similarity_index(a, a) == pytest.approx(1)
    assert structural_similarity_index(a, 5 * a + 3) == pytest.approx(1)  # scaled to [0, 1] each
    assert abs(structural_similarity_index(a, b)) < 0.5
    for shape in ((5, 5), (7,), (1, 9)):
        small = np.random.default_rng(1).normal(size=shape)
        assert structural_similarity_index(small, small) == pytest.approx(1)


def test_refusals():
    with pytest.raises(UnsupportedError, match="no parameters"):
        cascading_randomisation(nn.ReLU(), lambda m: {"m": torch.rand(2, 3, 3)})
    with pytest.raises(UnsupportedError, match="too few"):
        cascading_randomisation(network(GapLinear), maps(["gradient"], samples(GapLinear, 1), 0))


@pytest.mark.parametrize(
    ("end", "passed", "words"),
    [
        (0.1, True, "passes: "),
        (0.4, True, "passes narrowly"),
        (0.7, False, "depends more on the input"),
        (1.0, False, "does not depend"),
    ],
)
def test_verdicts_say_what_was_measured(end, passed, words):
    """Chance 0.1: from there to 1 is the whole way."""
    found = Randomisation(
        ("a",), {k: np.array([end]) for k in ("ssim", "rank_absolute")}, dict.fromkeys(("ssim", "rank_absolute"), 0.1)
    )
    assert found.passed is passed
    assert words in found.verdict
    assert f"{100 * max(0, (end - 0.1) / 0.9):.0f} %" in found.verdict
