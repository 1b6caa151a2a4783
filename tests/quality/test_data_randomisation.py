"""Q2: maps of a model of true labels beside those of a model of permuted ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.quality.data_randomisation import data_randomisation, permuted_labels
from pellucid.quality.randomisation import Randomisation
from pellucid.quality.similarity import SIMILARITIES


def noise(seed, n=6):
    return torch.randn(n, 8, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_similarities_chance_and_rule_are_those_of_the_other_checks():
    one, other = noise(0), noise(1)
    found = data_randomisation({"a": one, "same": one, "flat": 0 * one}, {"a": other, "same": one, "flat": 0 * one})
    assert all(isinstance(r, Randomisation) and r.order == "labels" for r in found.values())
    for kind, values in found["a"].final.items():
        np.testing.assert_allclose(values, SIMILARITIES[kind](one, other), rtol=0, atol=1e-12)
        assert found["a"].chance[kind] == pytest.approx(SIMILARITIES[kind](one, one.roll(1, 0)).mean())
    assert found["a"].passed
    assert "left in a model trained on permuted labels" in found["a"].verdict
    assert found["same"].kept == pytest.approx(1)
    assert "does not depend" in found["same"].verdict
    assert not found["flat"].passed
    assert "constant" in found["flat"].verdict
    assert found["a"].to_json()["layers"] == ["permuted labels"]


def test_refusals_of_maps():
    with pytest.raises(InputError, match="no maps of 'a'"):
        data_randomisation({"a": noise(0)}, {"b": noise(0)})
    with pytest.raises(InputError, match="shape"):
        data_randomisation({"a": noise(0)}, {"a": noise(0, 5)})
    with pytest.raises(UnsupportedError, match="one sample"):
        data_randomisation({"a": noise(0, 1)}, {"a": noise(0, 1)})


def test_permuted_labels():
    y = torch.arange(10).repeat_interleave(50)
    state = torch.get_rng_state()
    mixed = permuted_labels(y, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert mixed.dtype == y.dtype
    assert torch.equal(mixed.bincount(), y.bincount())
    assert 0.03 < (mixed == y).double().mean() < 0.2  # a tenth by chance
    assert torch.equal(mixed, permuted_labels(y, seed=1))
    assert not torch.equal(mixed, permuted_labels(y, seed=2))
    words = permuted_labels(np.array(["a", "b", "b", "c"] * 5))
    assert sorted(words) == sorted(["a", "b", "b", "c"] * 5)
    np.testing.assert_array_equal(permuted_labels(y.numpy(), seed=1), mixed.numpy())


@pytest.mark.parametrize("y", [torch.ones(5), torch.arange(1), [0, 1, 1], torch.zeros(4, 2), np.array(["a", "a"])])
def test_labels_that_cannot_be_permuted(y):
    with pytest.raises(InputError, match="labels are"):
        permuted_labels(y)
