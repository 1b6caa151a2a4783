"""The mask engine: features, what stands in their place, and that no coalition is evaluated twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from networks import Dense, GapLinear, Sequence, Volume, network, samples
from pellucid import explain, kernel_shap, lime, shapley
from pellucid.core.errors import InputError
from pellucid.explanation.borrowing import borrowed
from pellucid.explanation.game import game_of
from pellucid.explanation.removal import inpainted
from pellucid.explanation.score import Score


class Counting:
    """A function of rows that keeps every row it was asked about."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.rows.append(rows.clone())
        return torch.stack([rows.flatten(1).sum(1), rows.flatten(1).pow(2).sum(1)], 1)


def test_no_distinct_coalition_is_evaluated_twice():
    model, x = Counting(), torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    explain(model, x, {"lime": {}, "shapley": {}, "kernel_shap": {}, "shapley_sampling": {"samples": 8}}, target=0)
    rows = torch.cat(model.rows)
    assert len(rows) == 3 * 128
    assert len(torch.unique(rows, dim=0)) == 3 * 128 - 2  # the empty coalition is the same for all three


def test_pairs_of_samples_and_masks_fill_the_batches():
    model, x = Counting(), torch.randn(5, 6, dtype=torch.float64)
    kernel_shap(model, x, target=0, batch=64)
    sizes = [len(rows) for rows in model.rows]
    assert sizes[0] == 5  # the samples themselves
    assert sizes[1:] == [64, 64, 64, 64, 5 * 63 - 256]


def test_a_feature_that_cannot_change_the_input_is_no_player():
    model, x = Counting(), torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    e = shapley(model, x, target=1)
    assert sum(map(len, model.rows)) == 3 + 3 + 1
    torch.testing.assert_close(e.relevance, x**2, rtol=0, atol=1e-12)
    nothing = lime(model, x[2:], target=1)
    assert nothing.relevance.abs().max() == 0


REMOVALS = {
    "a number": 0.5,
    "mean": "mean",
    "blur": "blur",
    "segment_mean": "segment_mean",
    "inpaint": "inpaint",
    "an input": torch.full((1, 8, 8), 0.25, dtype=torch.float64),
    "a background": samples(GapLinear, 3, seed=8),
    "a function": lambda x, keep: x.flip(3) * keep.any(),
}


@pytest.mark.parametrize("removal", REMOVALS, ids=list(REMOVALS))
def test_every_removal_is_named_and_sums_up(removal):
    model, x = network(GapLinear), samples(GapLinear, 2)
    options = {"features": [list(range(20)), list(range(20, 64))], "baseline": REMOVALS[removal], "target": 1}
    e = shapley(model, x, **options)
    assert e.removal
    assert e.gap.abs().max() < 1e-12
    torch.testing.assert_close(e.relevance.sum((1, 2, 3)), e.score - e.base, rtol=0, atol=1e-12)
    torch.testing.assert_close(shapley(model, x[1:], **options).relevance, e.relevance[1:], rtol=0, atol=1e-12)


def test_the_removal_is_kept_with_the_result(tmp_path):
    e = shapley(network(Dense), samples(Dense, 2), baseline=samples(Dense, 4, seed=3))
    assert type(e).load(e.save(tmp_path / "e")).removal == "the mean over 4 rows of a background"


def test_painting_in():
    """Constant surroundings give the constant; visible places stay; a gradient is continued between its ends."""
    x = torch.full((2, 3, 9, 7), 4.0, dtype=torch.float64)
    keep = torch.rand(2, 1, 9, 7, generator=torch.Generator().manual_seed(0)) > 0.7
    torch.testing.assert_close(inpainted(x, keep), x, rtol=0, atol=1e-12)
    ramp = torch.arange(16, dtype=torch.float64).view(1, 1, 16)
    keep = torch.ones(1, 1, 16, dtype=torch.bool)
    keep[..., 6:10] = False
    filled = inpainted(ramp, keep)
    assert torch.equal(filled[keep], ramp[keep])
    assert (filled - ramp).abs().max() < 3
    assert inpainted(ramp, torch.zeros_like(keep)).abs().max() == 0
    volume = torch.randn(1, 2, 3, 5, 4)
    assert inpainted(volume, torch.rand(1, 1, 3, 5, 4) > 0.5).isfinite().all()


KINDS = {
    "positions of a table": (Dense, "auto", 7),
    "positions of a sequence": (Sequence, "auto", 12),
    "windows": (Sequence, 4, 4),
    "boxes of a volume": (Volume, 8, None),
    "segments of an image": (GapLinear, "slic", None),
    "quickshift": (GapLinear, "quickshift", None),
    "felzenszwalb": (GapLinear, "felzenszwalb", None),
    "a grid": (GapLinear, "grid", None),
}


@pytest.mark.parametrize("kind", KINDS, ids=list(KINDS))
def test_features_of_every_kind_cover_every_position(kind):
    network_kind, given, expected = KINDS[kind]
    x = samples(network_kind, 2)
    score = Score(network(network_kind), x)
    with borrowed(score.model):
        game = game_of(score, given, 0.0, 0)
    sizes = game.features.sizes
    assert (sizes.sum(1) == x[0, 0].numel() if x.ndim > 2 else sizes.sum(1) == x.shape[1]).all()
    assert game.features.labels.min() == 0
    for labels, count in zip(game.features.labels, game.features.present.sum(1).tolist()):
        assert len(torch.unique(labels)) == count  # numbered from 0 without gaps
    if expected is not None:
        assert game.features.present.sum(1).tolist() == [expected] * 2


def test_maps_of_labels_for_each_sample_follow_their_batch():
    model, x = network(GapLinear), samples(GapLinear, 3)
    labels = torch.randint(0, 4, (3, 8, 8), generator=torch.Generator().manual_seed(1))
    together = shapley(model, x, features=labels, target=0)
    apart = shapley(model, x, features=labels, target=0, batch=1)
    torch.testing.assert_close(together.relevance, apart.relevance, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="map of features"):
        shapley(model, x, features=labels[:2], target=0)


def test_a_function_that_returns_another_shape_is_named():
    with pytest.raises(InputError, match=r"function that removes features gave \(511, 8\)"):
        shapley(network(GapLinear), samples(GapLinear, 1), features="grid", baseline=lambda x, keep: x[:, 0, 0])


def test_lower_precision_for_masked_inputs_only():
    model = network(GapLinear, dtype=torch.float32)
    x = samples(GapLinear, 2, dtype=torch.float32)
    full, half = (kernel_shap(model, x, features="grid", target=0, precision=p) for p in ("float32", "bfloat16"))
    assert torch.equal(full.score, half.score)
    assert half.relevance.dtype == torch.float32
    assert 0 < (full.relevance - half.relevance).abs().max() < 0.05 * full.relevance.abs().max()
    with pytest.raises(InputError, match="precision is 'bf16'"):
        kernel_shap(model, x, precision="bf16")
