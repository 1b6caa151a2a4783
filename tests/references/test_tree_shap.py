"""Tree SHAP beside slow second implementations: every coalition of features, for both value functions (X4)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from pellucid.explanation.method import explain
from pellucid.explanation.tree_readers import read_trees
from tree_models import FEATURES, KINDS, columns, fitted

KNOWN = 1e-9
# XGBoost sums its leaves in float32.
SINGLE = 3e-6


def values(model, x, target, **options):
    return explain(model, x, {"tree_shap": options}, target=target)["tree_shap"]


def shapley(value):
    """(FEATURES,) from value(S), S a tuple of features: the sum over all S, as the definition has it."""
    known = {s: value(s) for n in range(FEATURES + 1) for s in itertools.combinations(range(FEATURES), n)}
    phi = np.zeros(FEATURES)
    for s, v in known.items():
        for i in set(range(FEATURES)) - set(s):
            n = len(s)
            weight = math.factorial(n) * math.factorial(FEATURES - n - 1) / math.factorial(FEATURES)
            phi[i] += weight * (known[tuple(sorted((*s, i)))] - v)
    return phi


def goes_left(trees, u, v):
    """The decision of a node, told from the arrays."""
    if np.isnan(v) or (trees.kind[u] == 1 and abs(v) <= 1e-35):
        return trees.missing_left[u]
    if trees.kind[u] < 2:
        return v <= trees.threshold[u]
    if not 0 <= v < trees.size[u] or (trees.kind[u] == 3 and v % 1):
        return trees.other_left[u]
    return trees.listed[trees.first[u] + int(v)]


def expectation(trees, x, s, column):
    """E[f | x_S] by covers: at a split on S with the sample, elsewhere the mean of both sides."""

    def below(u, own):
        if trees.left[u] < 0:
            return trees.value[u, own]
        sides = trees.left[u], trees.right[u]
        if trees.feature[u] in s:
            return below(sides[0] if goes_left(trees, u, x[trees.feature[u]]) else sides[1], own)
        cover = trees.cover[list(sides)]
        return sum(below(c, own) * w / cover.sum() for c, w in zip(sides, cover))

    total = trees.base[column]
    for root, own in zip(trees.roots, trees.column):
        if own in (-1, column):
            total += below(root, column if own < 0 else 0)
    return total


def sample(name):
    """A model, its trees, six rows with one target each, and nine references."""
    model, x, raw = fitted(name)
    trees = read_trees(model)
    target = torch.arange(6) % trees(torch.tensor(x[:1])).shape[1]
    return trees, torch.tensor(x[:6]), target, torch.tensor(x[20:29]), raw


@pytest.mark.parametrize("name", KINDS)
def test_path_dependent_values_are_those_of_every_coalition(name):
    trees, x, target, _, _ = sample(name)
    found = values(trees, x, target)
    for i in range(2):
        sign, column = (2 * int(target[i]) - 1, 0) if trees.binary else (1, int(target[i]))
        row = x[i].numpy().astype(np.float32) if trees.single else x[i].numpy()
        phi = shapley(lambda s, row=row, column=column: expectation(trees, row, s, column))
        np.testing.assert_allclose(found.relevance[i], sign * phi, rtol=0, atol=KNOWN)
        assert found.base[i].item() == pytest.approx(sign * expectation(trees, row, (), column), abs=KNOWN)


@pytest.mark.parametrize("name", KINDS)
def test_interventional_values_are_those_of_the_librarys_own_answers(name):
    """The mean answer over the references with the sample's values put in, asked of the library: nothing of ours is in it."""
    trees, x, target, references, raw = sample(name)
    found = values(trees, x, target, references=references)
    sets = [s for n in range(FEATURES + 1) for s in itertools.combinations(range(FEATURES), n)]
    mixed = np.repeat(references.numpy()[None], 2 * len(sets), 0).reshape(2, len(sets), len(references), FEATURES)
    for i, (k, s) in itertools.product(range(2), enumerate(sets)):
        mixed[i, k][:, list(s)] = x[i, list(s)].numpy()
    answers = columns(raw(mixed.reshape(-1, FEATURES)), trees.binary).reshape(2, len(sets), len(references), -1).mean(2)
    for i in range(2):
        phi = shapley(lambda s, i=i: answers[i, sets.index(s), int(target[i])])
        np.testing.assert_allclose(found.relevance[i], phi, rtol=0, atol=SINGLE if "xgboost" in name else KNOWN)
    assert found.counts == {"references": 9}


@pytest.mark.parametrize("name", KINDS)
def test_values_sum_to_the_answer_and_do_not_depend_on_the_batch(name):
    trees, x, target, references, _ = sample(name)
    for options in ({}, {"references": references}):
        found = values(trees, x, target, **options)
        total = found.base + found.relevance.sum(1)
        torch.testing.assert_close(total, trees(x).gather(1, target[:, None])[:, 0], rtol=0, atol=KNOWN)
        assert found.gap.abs().max() < KNOWN
        for i in (0, 5):
            assert torch.equal(values(trees, x[i : i + 1], target[i : i + 1], **options).relevance, found.relevance[i : i + 1])


def test_xgboosts_own_contributions():
    """It has the path-dependent ones, in float32."""
    for name in ("xgboost", "xgboost categories", "xgboost classes"):
        model, x, _ = fitted(name)
        theirs = model.predict(model.matrix(x[:6]), pred_contribs=True).astype(np.float64)
        theirs = theirs if theirs.ndim == 3 else np.stack([-theirs, theirs], 1) if "cat" in name else theirs[:, None]
        trees, rows, target, _, _ = sample(name)
        found = values(trees, rows, target)
        mine = torch.cat([found.relevance, found.base[:, None]], 1)
        np.testing.assert_allclose(mine, theirs[np.arange(6), target], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["lightgbm", "lightgbm, zero missing", "lightgbm margin", "lightgbm classes"])
def test_lightgbms_own_contributions(name):
    """They are path-dependent, in float64."""
    model, x, _ = fitted(name)
    trees, rows, target, _, _ = sample(name)
    theirs = model.predict(x[:6], pred_contrib=True).reshape(6, -1, FEATURES + 1)
    theirs = np.concatenate([-theirs, theirs], 1) if trees.binary else theirs
    found = values(trees, rows, target)
    mine = torch.cat([found.relevance, found.base[:, None]], 1)
    np.testing.assert_allclose(mine, theirs[np.arange(6), target], rtol=0, atol=KNOWN)


def test_many_references_are_counted_and_give_the_same():
    """From COLLAPSED references on, equal patterns are counted: each of nine references sixty times is the nine."""
    trees, x, target, references, _ = sample("forest of values")
    few = values(trees, x, target, references=references)
    many = values(trees, x, target, references=references.repeat(60, 1))
    torch.testing.assert_close(many.relevance, few.relevance, rtol=0, atol=KNOWN)


def test_the_reference_can_fail():
    trees, x, target, references, _ = sample("forest of values")
    path, other = values(trees, x, target), values(trees, x, target, references=references)
    assert (path.relevance - other.relevance).abs().max() > 1e-3
    phi = shapley(lambda s: expectation(trees, x[0].numpy(), s[:1], 0))
    assert np.abs(path.relevance[0].numpy() - phi).max() > 1e-3
