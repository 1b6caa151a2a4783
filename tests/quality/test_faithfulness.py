"""Q1: API, APD, IR, DR against hand computation, and the identities of METHODS A.5."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from networks import DenseHead, GapLinear, network, samples
from pellucid.core.errors import InputError
from pellucid.quality.faithfulness import (
    average_probability_drop,
    average_probability_increase,
    decrease_rate,
    faithfulness,
    increase_rate,
)

probabilities = st.lists(st.tuples(st.floats(1e-6, 1), st.floats(0, 1)), min_size=1, max_size=30)


@given(probabilities)
def test_identities(pairs):
    y, o = np.array(pairs).T
    api, apd = average_probability_increase(y, o), average_probability_drop(y, o)
    assert np.isclose(api - apd, np.mean((o - y) / y), rtol=1e-9, atol=1e-9)
    assert np.isclose(increase_rate(y, o) + decrease_rate(y, o) + np.mean(o == y), 1)
    assert 0 <= apd <= 1
    assert (
        average_probability_increase(y, y) == average_probability_drop(y, y) == increase_rate(y, y) == decrease_rate(y, y) == 0
    )


def test_by_hand():
    y, o = [0.5, 0.8, 0.2, 0.4], [0.75, 0.4, 0.2, 0.1]
    assert average_probability_increase(y, o) == pytest.approx((0.5 + 0 + 0 + 0) / 4)
    assert average_probability_drop(y, o) == pytest.approx((0 + 0.5 + 0 + 0.75) / 4)
    assert increase_rate(y, o) == 0.25
    assert decrease_rate(y, o) == 0.5


def test_against_one_pass_per_threshold():
    """The packed computation equals masking one image at one threshold at a time."""
    model, x = network(DenseHead), samples(DenseHead, 5)
    evidence = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    evidence /= evidence.amax((1, 2), keepdim=True)
    found = faithfulness(model, x, evidence, batch=7)
    with torch.no_grad():
        y = model(x).softmax(1)
        c = y.argmax(1)
        for j, t in enumerate(np.arange(11) / 10):
            for i in range(5):
                kept = evidence[i] * (evidence[i] >= t)
                assert found.o[i, j] == pytest.approx(float(model(x[i : i + 1] * kept).softmax(1)[0, c[i]]), abs=1e-12)
    np.testing.assert_allclose(found.y, y.max(1).values.numpy(), atol=1e-12)
    assert found.curve("ir").shape == (11,)
    assert found.area()["ir"] == pytest.approx(float(np.trapezoid(found.curve("ir"), found.thresholds)))
    assert found.empty[0] == 0
    assert found.to_json()["samples"] == 5


def test_keeping_everything_changes_nothing_and_an_empty_map_is_told():
    model, x = network(GapLinear), samples(GapLinear, 4)
    whole = faithfulness(model, x, torch.ones(4, 8, 8))
    for measure in ("api", "apd", "ir", "dr"):
        assert whole.curve(measure) == pytest.approx(np.zeros(11), abs=1e-12)
    assert (faithfulness(model, x, torch.zeros(4, 8, 8)).empty == 1).all()


def test_bad_evidence():
    model, x = network(GapLinear), samples(GapLinear, 2)
    with pytest.raises(InputError, match="one map per sample"):
        faithfulness(model, x, torch.ones(3, 8, 8))
    with pytest.raises(InputError, match="outside"):
        faithfulness(model, x, 2 * torch.ones(2, 8, 8))


def test_class_by_class():
    """The classes' means, weighed by their samples, are the whole's; each is what its samples alone would give."""
    model, x = network(DenseHead), samples(DenseHead, 9)
    evidence = torch.rand(9, 8, 8, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    target = torch.tensor([0, 1, 1, 3, 0, 1, 3, 3, 3])
    whole = faithfulness(model, x, evidence, target=target)
    parts = whole.of_classes(target)
    assert {c: len(p.y) for c, p in parts.items()} == {0: 2, 1: 3, 3: 4}
    for name, value in whole.area().items():
        assert sum(len(p.y) * p.area()[name] for p in parts.values()) / 9 == pytest.approx(value, abs=1e-12)
    alone = faithfulness(model, x[target == 1], evidence[target == 1], target=1)
    assert parts[1].plain() == pytest.approx(alone.plain(), abs=1e-12)
    with pytest.raises(InputError, match="different lengths"):
        whole.of_classes([0, 1])
