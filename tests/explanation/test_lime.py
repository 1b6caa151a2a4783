"""LIME: additive models recovered, numbering, seeds, tables with training rows, and what it says of bad fits (X2)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from networks import Dense, GapLinear, Sequence, network, samples
from pellucid import explain, lime, shapley
from pellucid.core.errors import InputError

W = torch.linspace(-2, 3, 30, dtype=torch.float64)


def additive(rows: Tensor) -> Tensor:
    return torch.stack([(torch.sin(rows) @ W) + 4, -(rows @ W)], 1)


def test_an_additive_model_is_recovered_as_the_penalty_goes_to_zero():
    x = torch.randn(3, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.sin(x) * W
    errors = []
    for penalty in (1e-2, 1e-5, 0.0):
        e = lime(additive, x, target=0, penalty=penalty, samples=300)
        errors.append((e.relevance - expected).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-9
    assert e.details["r2"].min() > 1 - 1e-9
    assert e.details["stability"].min() > 1 - 1e-9
    assert e.notes == []


def test_neither_the_scale_of_the_score_nor_the_number_of_samples_shrinks_the_effects():
    """Captum's default gives 0 of 16 coefficients on probabilities."""
    x = torch.ones(1, 30, dtype=torch.float64)
    for factor in (1e-6, 1.0, 1e6):
        for count in (200, 2000):
            e = lime(lambda rows, f=factor: f * additive(rows), x, target=1, samples=count)
            torch.testing.assert_close(e.relevance / factor, -W[None], rtol=0.02, atol=0.02)


def test_segments_numbered_from_zero_from_one_or_with_gaps_give_the_same():
    """lime's own segments from 1 leave the last one always visible."""
    model, x = network(GapLinear), samples(GapLinear, 2)
    labels = (torch.arange(8)[:, None] // 3) * 3 + torch.arange(8) // 3
    found = [lime(model, x, features=given, baseline=0.0) for given in (labels, labels + 1, labels * 7 - 3, labels.numpy())]
    for e in found[1:]:
        assert torch.equal(e.relevance, found[0].relevance)
    assert found[0].details["segments"].max() == 8

    def last(images: Tensor) -> Tensor:
        return images[:, 0, 6:, 6:].sum((1, 2))[:, None]

    e = lime(last, x.abs(), features=labels + 1, baseline=0.0, penalty=0.0)
    assert e.raw[0, 7, 7].item() == pytest.approx(x[0, 0, 6:, 6:].abs().sum().item(), abs=1e-9)
    assert e.raw[0, :6].abs().max() < 1e-9


def test_the_same_seed_gives_the_same_whatever_the_batch():
    model, x = network(Sequence), samples(Sequence, 5)
    e = lime(model, x, samples=200, seed=4)
    torch.testing.assert_close(lime(model, x, samples=200, seed=4, batch=2).relevance, e.relevance, rtol=0, atol=1e-12)
    torch.testing.assert_close(lime(model, x[3:4], samples=200, seed=4, target=e.target[3:4]).relevance, e.relevance[3:4])
    other = lime(model, x, samples=200, seed=5)
    assert not torch.equal(other.relevance, e.relevance)
    spread = (other.relevance - e.relevance).flatten(1).norm(dim=1)
    # two draws differ by what the errors said: a factor of sqrt(2), within two
    said = (e.details["standard_error"] / 1).flatten(1).norm(dim=1)
    positions = e.raw.flatten(1) - other.raw.flatten(1)
    assert ((positions.norm(dim=1) / (said * 2**0.5)).log2().abs() < 1).all()
    assert spread.min() > 0


def test_few_features_need_no_chance_at_all():
    model, x = network(Dense), samples(Dense, 2)
    a, b = (lime(model, x, seed=seed) for seed in (0, 1))
    assert torch.equal(a.relevance, b.relevance)
    assert a.passes["forward"] == 128
    assert a.details["standard_error"].max() == 0
    together = explain(model, x, {"lime": {}, "shapley": {}})
    assert together["shapley"].passes["forward"] + together["lime"].passes["forward"] == 128


def test_what_is_said_of_poor_unstable_and_blank_fits():
    x = torch.ones(2, 12, dtype=torch.float64)
    blank = lime(lambda rows: rows.new_full((len(rows), 1), 3.0), x)
    assert blank.notes == ["samples 0, 1: every effect is zero; with 0 in their place no feature changes the score"]
    assert blank.relevance.abs().max() == 0
    parity = lime(lambda rows: (-1.0) ** rows.sum(1, keepdim=True), x, samples=500)
    assert any("a linear model explains as little as" in note for note in parity.notes)
    assert parity.details["r2"].max() < 0.2
    noise = torch.randn(4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes = 2 ** torch.arange(12)
    shaky = lime(lambda rows: (noise[(rows.long() * codes).sum(1)] + 0.15 * rows.sum(1))[:, None], x, samples=60, penalty=1.0)
    assert any("explains as little" in note or "unstable" in note for note in shaky.notes)


def test_top_keeps_the_strongest_and_fits_again():
    x = torch.ones(1, 30, dtype=torch.float64)
    e = lime(additive, x, target=1, top=3, penalty=0.0, samples=500)
    kept = e.relevance[0].nonzero()[:, 0]
    assert set(kept.tolist()) == set(W.abs().topk(3).indices.tolist())


def test_tables_with_training_rows():
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 6, generator=g, dtype=torch.float64)
    x = rows[:5] * 1.0

    calls: list[int] = []

    def model(z: Tensor) -> Tensor:
        calls.append(len(z))
        return torch.stack([2 * (z[:, 0] > 0.0).double() - (z[:, 1] > 0).double(), z[:, 2]], 1)

    e = lime(model, x, target=0, references=rows, samples=3000)
    assert sum(calls) == 3000 + 5  # the neighbours serve all samples
    assert (e.relevance[:, 0] > 0).eq(x[:, 0] > 0).all()
    assert (e.relevance[:, 1] < 0).eq(x[:, 1] > 0).all()
    assert e.relevance[:, 2:].abs().max() < 0.25 * e.relevance[:, :2].abs().min()
    alone = lime(model, x[2:3], target=0, references=rows, samples=3000)
    torch.testing.assert_close(alone.relevance, e.relevance[2:3], rtol=0, atol=1e-12)
    slopes = torch.tensor([1.0, -2, 0, 3, 0, 0.5], dtype=torch.float64)
    e = lime(lambda z: (z @ slopes)[:, None], x, references=rows, discretise=False, samples=300, penalty=0.0)
    torch.testing.assert_close(e.raw, (slopes * rows.std(0, correction=0)).expand(5, -1), rtol=0, atol=1e-9)
    torch.testing.assert_close(e.relevance, slopes * (x - rows.mean(0)), rtol=0, atol=1e-9)


def test_against_a_weighted_regression_written_out():
    """Every coalition of 7 columns, cosine kernel of width 0.25, weighted least squares with an intercept."""
    model, x = network(Dense), samples(Dense, 1)
    z = torch.tensor([[i >> j & 1 for j in range(7)] for i in range(128)], dtype=torch.float64)
    with torch.no_grad():
        y = model(z * x)[:, 2]
    cosine = z.sum(1) / (z.norm(dim=1) * 7**0.5).clamp(min=1e-12)
    weight = torch.exp(-((1 - cosine) ** 2) / (2 * 0.25**2)).sqrt()[:, None]
    wide = torch.cat([torch.ones(128, 1, dtype=torch.float64), z], 1)
    expected = torch.linalg.lstsq(weight * wide, weight[:, 0] * y).solution[1:]
    torch.testing.assert_close(lime(model, x, target=2, penalty=0.0).relevance[0], expected, rtol=0, atol=1e-9)


def test_bad_options_are_named():
    x = torch.ones(1, 4, dtype=torch.float64)
    for options, said in (
        ({"distance": "cosin"}, "distance is 'cosin'"),
        ({"penalty": -1.0}, "penalty is -1.0"),
        ({"top": 0}, "top is 0"),
        ({"features": "slick"}, "features is 'slick'"),
        ({"features": [[0, 1], [1]]}, "position 1 is in two groups"),
        ({"features": [[7]]}, "a group holds 7"),
        ({"features": torch.zeros(5)}, "map of features of shape"),
        ({"baseline": "median"}, "baseline is 'median'"),
        ({"baseline": "inpaint"}, "cannot be painted in"),
        ({"references": torch.zeros(3, 5, dtype=torch.float64)}, "references of shape"),
    ):
        with pytest.raises(InputError, match=said):
            lime(lambda rows: rows, x, target=0, **options)


def test_groups_of_columns_act_as_one():
    model, x = network(Dense), samples(Dense, 2)
    groups = [[0, 1, 2], [5, 6]]
    e = shapley(model, x, features=groups, target=0)
    assert e.counts["coalitions"] == 2**4 - 1  # two groups and two columns that stand alone
    torch.testing.assert_close(e.raw[:, 0], e.raw[:, 2])
    torch.testing.assert_close(e.raw[:, 0] + e.raw[:, 3] + e.raw[:, 4] + e.raw[:, 5], e.score - e.base, rtol=0, atol=1e-12)
