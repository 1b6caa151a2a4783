"""Shapley values against their definition, written out here by orders and by sets (X1, X3)."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from networks import Dense, GapLinear, network, samples
from pellucid import explain, kernel_shap, linear_shap, shapley, shapley_sampling
from pellucid.core.errors import InputError, UnsupportedError


def by_orders(v, m: int) -> Tensor:
    """The mean over all m! orders of what each player adds."""
    total = torch.zeros(m, dtype=torch.float64)
    orders = list(itertools.permutations(range(m)))
    for order in orders:
        before: set[int] = set()
        for player in order:
            total[player] += v(before | {player}) - v(before)
            before.add(player)
    return total / len(orders)


def by_sets(v, m: int) -> Tensor:
    """sum over S without i of |S|! (m - |S| - 1)! / m! (v(S + i) - v(S))."""
    known = {s: v(set(s)) for size in range(m + 1) for s in itertools.combinations(range(m), size)}
    found = torch.zeros(m, dtype=torch.float64)
    for s, value in known.items():
        for i in range(m):
            if i in s:
                found[i] += math.factorial(len(s) - 1) * math.factorial(m - len(s)) / math.factorial(m) * value
            else:
                found[i] -= math.factorial(len(s)) * math.factorial(m - len(s) - 1) / math.factorial(m) * value
    return found


def game_table(numbers: list[float]):
    """A model on rows of 0 and 1 that looks every coalition's worth up."""
    table = torch.tensor(numbers, dtype=torch.float64)
    m = int(math.log2(len(numbers)))

    def model(rows: Tensor) -> Tensor:
        return table[(rows.round().long() * 2 ** torch.arange(m)).sum(1)][:, None]

    return model, (lambda s: float(table[sum(2**i for i in s)])), torch.ones(1, m, dtype=torch.float64)


worth = st.lists(st.floats(-10, 10), min_size=16, max_size=16)


@settings(max_examples=20, deadline=None)
@given(worth)
def test_any_game_of_four_players(numbers):
    model, v, x = game_table(numbers)
    expected = by_orders(v, 4)
    torch.testing.assert_close(by_sets(v, 4), expected, rtol=0, atol=1e-10)
    found = explain(model, x, ["shapley", "kernel_shap"])
    for e in found.values():
        torch.testing.assert_close(e.relevance[0], expected, rtol=0, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(worth, worth, st.floats(-3, 3))
def test_linearity(one, other, factor):
    both = [a + factor * b for a, b in zip(one, other)]
    parts = [shapley(game_table(numbers)[0], torch.ones(1, 4, dtype=torch.float64)).relevance for numbers in (one, other, both)]
    torch.testing.assert_close(parts[0] + factor * parts[1], parts[2], rtol=0, atol=1e-9)


def test_symmetry_dummy_and_efficiency():
    def model(rows: Tensor) -> Tensor:  # columns 0 and 1 alike, column 2 unused
        return (rows[:, 0] * rows[:, 1] + torch.exp(rows[:, 3]))[:, None]

    x = torch.tensor([[2.0, 2.0, 5.0, 1.0], [1.0, 1.0, -1.0, 0.5]], dtype=torch.float64)
    for e in explain(model, x, {"shapley": {}, "kernel_shap": {}, "shapley_sampling": {"samples": 4}}).values():
        torch.testing.assert_close(e.relevance[:, 0], e.relevance[:, 1], rtol=0, atol=1e-12)
        assert e.relevance[:, 2].abs().max() < 1e-12
        assert e.gap.abs().max() < 1e-12


def test_a_network_with_a_background_and_with_segments():
    """Interventional: v(S) is the mean over the background. Ten features, all 1,024 sets."""
    model, x, background = network(Dense), samples(Dense, 2), samples(Dense, 3, seed=4)
    found = explain(model, x, {"shapley": {"baseline": background}, "kernel_shap": {"baseline": background}}, target=1)
    for i in range(2):

        def v(s: set[int], i: int = i) -> float:
            rows = background.clone()
            rows[:, list(s)] = x[i, list(s)]
            return model(rows)[:, 1].mean().item()

        expected = by_sets(v, 7)
        for e in found.values():
            torch.testing.assert_close(e.relevance[i], expected, rtol=0, atol=1e-9)
            assert e.removal == "the mean over 3 rows of a background"
    assert found["shapley"].passes["forward"] == 127 * 3 + 1  # every set but the full one, three rows each
    assert found["kernel_shap"].passes["forward"] == 0  # nothing is evaluated twice
    cnn, image = network(GapLinear), samples(GapLinear, 1)
    segments = (torch.arange(8) // 4)[:, None] * 5 + torch.tensor([0, 0, 1, 1, 2, 2, 3, 4])
    e = shapley(cnn, image, features=segments, baseline="mean", target=0)

    def w(s: set[int]) -> float:
        keep = torch.isin(segments, torch.tensor(sorted(s)))
        return cnn(torch.where(keep, image, image.mean()))[0, 0].item()

    torch.testing.assert_close(torch.stack([e.raw[0][segments == i][0] for i in range(10)]), by_sets(w, 10), rtol=0, atol=1e-9)
    assert e.relevance.sum().item() == pytest.approx(w(set(range(10))) - w(set()), abs=1e-9)


def cubic(m: int, seed: int = 0):
    """A model with interactions of up to three columns, and its Shapley values for a row of ones against zeros."""
    g = torch.Generator().manual_seed(seed)
    one, three = torch.randn(m, generator=g, dtype=torch.float64), torch.randn(6, generator=g, dtype=torch.float64)
    sets = [sorted(torch.randperm(m, generator=g)[:3].tolist()) for _ in three]
    expected = one.clone()
    for c, s in zip(three, sets):
        expected[s] += c / 3

    def model(rows: Tensor) -> Tensor:
        return (rows @ one + sum(c * rows[:, s].prod(1) for c, s in zip(three, sets)))[:, None]

    return model, torch.ones(1, m, dtype=torch.float64), expected


def test_kernel_shap_of_few_samples():
    """Additive: exact from any design. With products of three: exact as soon as the regression has terms for them."""
    weights = torch.linspace(-2, 2, 25, dtype=torch.float64)
    x = torch.ones(2, 25, dtype=torch.float64)
    e = kernel_shap(lambda rows: (rows @ weights + 3)[:, None], x, samples=120)
    torch.testing.assert_close(e.relevance, weights.expand(2, -1), rtol=0, atol=1e-9)
    assert e.details["standard_error"].max() < 1e-9
    model, x, expected = cubic(12)
    e = kernel_shap(model, x, samples=1500)
    torch.testing.assert_close(e.relevance[0], expected, rtol=0, atol=1e-9)
    rough = kernel_shap(model, x, samples=200)
    assert 1e-3 < (rough.relevance[0] - expected).abs().max() < 0.5
    assert rough.gap.abs().max() < 1e-9  # it sums up all the same


def test_standard_errors_tell_how_far_off_the_values_are():
    """Over many seeds the root mean square error is what the standard errors say, within a quarter."""
    model, x, expected = cubic(12, seed=3)
    for method, options in ((kernel_shap, {"samples": 300}), (shapley_sampling, {"samples": 12})):
        found = [method(model, x, seed=seed, **options) for seed in range(25)]
        error = torch.stack([e.relevance[0] - expected for e in found]).pow(2).mean().sqrt()
        said = torch.stack([e.details["standard_error"][0] for e in found]).pow(2).mean().sqrt()
        assert 0.75 < said / error < 1.35, method.__name__


def test_tolerance_ends_when_it_is_reached():
    model, x, expected = cubic(14, seed=1)
    easy = torch.cat([x, torch.zeros_like(x)])
    easy[1, :8] = 1.0
    for method, most in ((kernel_shap, 3000), (shapley_sampling, 400)):
        loose, tight = (method(model, easy, samples=most, tolerance=t) for t in (0.3, 0.02))
        assert loose.passes["forward"] < tight.passes["forward"]
        assert ((tight.relevance[0] - expected).norm() / expected.norm()) < 0.06
        alone = method(model, easy[:1], samples=most, tolerance=0.02)
        torch.testing.assert_close(alone.relevance, tight.relevance[:1], rtol=0, atol=1e-9)


def test_all_classes_from_the_same_passes():
    model, x = network(Dense), samples(Dense, 3)
    e = kernel_shap(model, x, classes=3)
    assert e.passes["forward"] == 128
    for k in range(4):
        alone = kernel_shap(model, x, target=e.details["classes"][:, k])
        torch.testing.assert_close(e.details["by_class"][:, k], alone.relevance, rtol=0, atol=1e-12)
    assert torch.equal(e.details["classes"][:, 0], e.target)
    with pytest.raises(InputError, match="4 classes beside the target of 4"):
        kernel_shap(model, x, classes=4)
    with pytest.raises(UnsupportedError, match="no other classes"):
        kernel_shap(model, x, classes=1, target=lambda out: out[:, 0])


def test_linear_shap_is_the_closed_form_and_refuses_what_is_not_linear():
    w = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x, background = torch.randn(4, 6, dtype=torch.float64), torch.randn(9, 6, dtype=torch.float64)
    e = linear_shap(lambda rows: rows @ w + 1, x, baseline=background, target=2)
    torch.testing.assert_close(e.relevance, w[:, 2] * (x - background.mean(0)), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        e.relevance, shapley(lambda rows: rows @ w + 1, x, baseline=background, target=2).relevance, rtol=0, atol=1e-12
    )
    assert e.gap.abs().max() < 1e-12
    for bent in (lambda rows: torch.sin(rows) @ w, lambda rows: (rows @ w) * rows[:, :1]):
        with pytest.raises(UnsupportedError, match="not linear"):
            linear_shap(bent, x, target=0)


def test_too_many_or_too_few():
    x = torch.ones(1, 17, dtype=torch.float64)
    with pytest.raises(UnsupportedError, match=r"17 features have 2\^17 coalitions \(sample 0\)\. Use kernel_shap"):
        shapley(lambda rows: rows, x, target=0)
    with pytest.raises(InputError, match="20 coalitions for 17 features"):
        kernel_shap(lambda rows: rows, x, target=0, samples=20)
    with pytest.raises(InputError, match="tolerance"):
        kernel_shap(lambda rows: rows, x, target=0, tolerance=0)


def test_eight_features_take_256_evaluations():
    """Captum's takes 322,561 for the same."""
    calls = []

    def model(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return rows.prod(1, keepdim=True)

    shapley(model, torch.full((1, 8), 2.0, dtype=torch.float64))
    assert sum(calls) == 256
