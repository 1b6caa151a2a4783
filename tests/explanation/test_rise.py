"""RISE: its masks, its estimate against the sum written out, its standard error, and when it stops."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from networks import SHAPES, Dense, GapLinear, Sequence, Volume, network, samples
from pellucid import explain
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.explanation.rise import BLOCK, random_masks, rise


def linear(weight: Tensor):
    """A model with one output: the sum of weight times input."""
    return lambda x: (x * weight).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("kind", [GapLinear, Sequence, Volume, Dense])
def test_masks_lie_between_zero_and_one_and_depend_on_seed_and_number_only(kind):
    x = samples(kind, 1)
    masks = random_masks(3, 0, 2 * BLOCK + 5, x)
    assert masks.shape == (2 * BLOCK + 5, *(SHAPES[kind][1:] or SHAPES[kind]))
    assert masks.min() >= 0
    assert masks.max() <= 1
    for start, stop in ((0, 1), (BLOCK - 1, BLOCK + 2), (7, 2 * BLOCK + 5)):
        assert torch.equal(random_masks(3, start, stop, x), masks[start:stop])
    assert not torch.equal(random_masks(4, 0, 9, x), masks[:9])


def test_a_mask_is_its_grid_enlarged_and_cut_out():
    """Against torch's own two-dimensional enlarging of a grid: each mask is one of the places where it can be cut out."""
    x = torch.zeros(1, 1, 10, 15, dtype=torch.float64)
    masks = random_masks(0, 0, 6, x, cells=3)
    matched = 0
    for grid in itertools.product((0.0, 1.0), repeat=9):
        whole = torch.nn.functional.interpolate(
            torch.tensor(grid, dtype=torch.float64).view(1, 1, 3, 3), (16, 20), mode="bilinear", align_corners=False
        )[0, 0]
        cut = whole.unfold(0, 10, 1).unfold(1, 15, 1)[:4, :5].flatten(0, 1)
        matched += sum(bool(((cut - mask).abs().amax((1, 2)) < 1e-12).any()) for mask in masks)
    assert matched == len(masks)


def test_keep_is_the_mean_of_the_masks():
    for keep in (0.2, 0.5, 0.9):
        x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
        mean = random_masks(0, 0, 640, x, keep=keep).mean()
        assert mean == pytest.approx(keep, abs=0.02)  # 640 masks of 49 cells: standard error 0.003


@pytest.mark.parametrize("kind", [GapLinear, Sequence, Volume, Dense])
def test_the_estimate_is_the_sum_written_out(kind):
    """One mask after another, with a baseline other than zero; the standard error from the terms themselves."""
    model, x = network(kind), samples(kind, 2)
    found = rise(model, x, masks=70, cells=3, keep=0.4, baseline=0.3, target=1)
    masks = random_masks(0, 0, 70, x, cells=3, keep=0.4)
    for i in range(2):
        with torch.no_grad():
            seen = [model((0.3 + (m if x.ndim == 2 else m[None]) * (x[i] - 0.3))[None])[0, 1] for m in masks]
        kept = sum(s * m for s, m in zip(seen, masks)) / masks.sum(0)
        mean = sum(seen) / 70
        torch.testing.assert_close(found.raw[i], kept, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.map()[i], kept - mean, rtol=0, atol=1e-9)
        terms = torch.stack([m * (s - kept) / masks.mean(0) - (s - mean) for s, m in zip(seen, masks)])
        error = terms.std(0) / 70**0.5
        torch.testing.assert_close(found.details["standard_error"][i], error, rtol=0, atol=1e-9)


def test_a_constant_model_has_a_map_that_is_exactly_flat():
    """METHODS B: coverage varies from place to place, which must not show."""
    x = samples(GapLinear, 2)
    found = rise(lambda v: torch.full((len(v), 2), 0.7, dtype=v.dtype), x, masks=50, target=0)
    assert torch.equal(found.relevance, torch.zeros_like(x))
    assert torch.equal(found.raw, torch.full((2, 8, 8), 0.7, dtype=x.dtype))
    assert torch.equal(found.details["standard_error"], torch.zeros(2, 8, 8, dtype=x.dtype))


def test_the_map_of_a_linear_score_over_all_masks_of_a_table():
    """Cov(s, M_j) / keep = w_j x_j (1 - keep): the mean over many draws comes close, as its standard error says."""
    weight = torch.tensor([2.0, -1.0, 0.0, 0.5], dtype=torch.float64)
    x = torch.tensor([[1.0, 1.0, 3.0, -2.0]], dtype=torch.float64)
    found = rise(linear(weight), x, masks=4000, keep=0.25, target=0)
    off = (found.relevance - 0.75 * weight * x).abs() / found.details["standard_error"]
    assert off.max() < 4
    assert found.details["standard_error"].max() < 0.06
    assert off.max() > 0.01


def test_the_standard_error_is_the_spread_over_seeds():
    model, x = network(GapLinear), samples(GapLinear, 1)
    runs = [rise(model, x, masks=100, seed=seed) for seed in range(40)]
    spread = torch.stack([r.map()[0] for r in runs]).std(0).pow(2).mean().sqrt()
    said = torch.stack([r.details["standard_error"][0] for r in runs]).pow(2).mean().sqrt()
    assert said / spread == pytest.approx(1, abs=0.2)  # the spread over 40 seeds is known to a tenth


def test_it_finds_the_place_that_matters():
    weight = torch.zeros(1, 14, 14, dtype=torch.float64)
    weight[0, 3:5, 9:11] = 1
    found = rise(linear(weight), torch.ones(1, 1, 14, 14, dtype=torch.float64), masks=600, target=0)
    row, column = divmod(int(found.map()[0].argmax()), 14)
    assert 2 <= row <= 5
    assert 8 <= column <= 11


def test_tolerance_stops_each_sample_by_itself():
    weight = torch.zeros(1, 8, 8, dtype=torch.float64)
    weight[0, :4] = 1
    x = torch.ones(2, 1, 8, 8, dtype=torch.float64)
    x[1, :, :4] = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # much to and fro
    options = {"masks": 300, "tolerance": 0.4}
    both = explain(linear(weight), x, {"rise": options}, target=0)["rise"]
    drawn = both.details["samples"]
    assert drawn[0] < drawn[1] <= 300
    assert drawn[0] in (8, 16, 32, 64, 128, 256)
    assert both.counts["masks"] == drawn.double().mean()
    assert both.passes["forward"] == 1 + drawn.double().mean()
    error = both.details["standard_error"].flatten(1).pow(2).mean(1) / both.map().flatten(1).pow(2).mean(1)
    assert error[0] <= 0.4**2
    for i in range(2):
        alone = rise(linear(weight), x[i : i + 1], target=0, masks=int(drawn[i]))
        torch.testing.assert_close(alone.relevance[0], both.relevance[i], rtol=0, atol=1e-9)


def test_a_place_that_was_never_kept():
    found = rise(network(Dense), samples(Dense, 1), masks=2, keep=0.1)
    never = random_masks(0, 0, 2, samples(Dense, 1), keep=0.1).sum(0) == 0
    assert never.any()
    assert (found.relevance[0][never] == 0).all()
    assert found.details["standard_error"][0][never].isinf().all()


def test_what_is_refused():
    model, x = network(GapLinear), samples(GapLinear)
    for options, words in [
        ({"masks": 0}, "masks is 0"),
        ({"cells": 0}, "cells is 0"),
        ({"keep": 1.0}, "keep is 1.0"),
        ({"tolerance": 0}, "tolerance is 0"),
        ({"baseline": torch.zeros(3, 1, 8, 8)}, "3 baselines"),
    ]:
        with pytest.raises(InputError, match=words):
            rise(model, x, **options)
    with pytest.raises(UnsupportedError, match="masks weigh real numbers"):
        rise(lambda v: v.double(), torch.zeros(2, 3, dtype=torch.long))
