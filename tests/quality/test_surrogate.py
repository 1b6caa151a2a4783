"""A surrogate tree and its fidelity on held-out rows (L8)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from networks import Dense, network, samples
from pellucid import surrogate_tree
from pellucid.core.errors import InputError

ROWS = torch.rand(600, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def stepped(rows: Tensor) -> Tensor:
    """A model that is a tree: class 1 where the first is large, unless the second is."""
    one = (rows[:, 0] > 0.5) & (rows[:, 1] <= 0.25)
    return torch.stack([torch.where(one, -9.0, 9.0), torch.where(one, 9.0, -9.0)], 1).double()


def test_a_model_that_is_a_tree_is_found():
    found = surrogate_tree(stepped, ROWS[:400], ROWS[400:], leaves=3)
    assert found.agreement > 0.98
    assert found.r2 > 0.9
    assert found.trivial < 0.95
    assert (found.leaves, found.depth) == (3, 2)
    lines = found.rules(["age", "dose", "x"], ["stays", "goes"], scale=[(10.0, 2.0), (0.0, 1.0), (0.0, 1.0)])
    assert len(lines) == 4
    assert any(line.strip().startswith("age > 1") and ("goes 100 %" in line or not line.endswith(")")) for line in lines)
    assert sum("goes 100 %" in line for line in lines) == 1
    assert "held-out rows" in found.to_json()["said"]


def test_fidelity_is_of_held_out_rows_and_low_where_a_tree_cannot_follow():
    wave = lambda rows: torch.sin(40 * rows.sum(1, keepdim=True))  # noqa: E731
    found = surrogate_tree(wave, ROWS[:400], ROWS[400:], leaves=200, least=1)
    assert found.agreement is None
    assert found.r2 < 0.3
    fitted = surrogate_tree(wave, ROWS[:400], ROWS[:400], leaves=200, least=1)
    assert fitted.r2 > 0.9  # on its own rows it looks well: why they are not used
    assert "explains" in fitted.fidelity()


def test_a_network_comes_back_untouched_and_flags_read_as_words():
    model = network(Dense).train()
    found = surrogate_tree(model, samples(Dense, 100), samples(Dense, 50, seed=2))
    assert model.training
    assert 2 <= found.leaves <= 8
    flags = surrogate_tree(lambda rows: rows[:, :1], (ROWS > 0.5).double()[:400], (ROWS > 0.5).double()[400:])
    assert [line.split(":")[0] for line in flags.rules(["colour=red", "b", "c"])] == ["not colour=red", "colour=red"]
    assert surrogate_tree(lambda rows: rows[:, :1] * 0, ROWS[:9], ROWS[9:20]).rules(["a", "b", "c"])[0].startswith("always: 0")


def test_bad_input_is_named():
    with pytest.raises(InputError, match="leaves is 1"):
        surrogate_tree(stepped, ROWS, ROWS, leaves=1)
    with pytest.raises(InputError, match="2 names for 3 features"):
        surrogate_tree(stepped, ROWS, ROWS).rules(["a", "b"])
