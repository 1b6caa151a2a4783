"""Tree SHAP beside shap's TreeExplainer: deep forests, both value functions (X4)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.ensemble import RandomForestRegressor as Forest

from pellucid.explanation.method import explain
from pellucid.explanation.tree_readers import read_trees

shap = pytest.importorskip("shap")


def data(classes=2):
    return make_classification(700, 12, n_informative=8, n_classes=classes, random_state=0)


def ours(model, x, target, references=None):
    return explain(read_trees(model), x, {"tree_shap": {"references": references}}, target=target)["tree_shap"].relevance


@pytest.mark.parametrize("references", [False, True])
def test_a_hundred_trees_of_depth_fifteen(references):
    x, y = data()
    model = Forest(100, max_depth=15, random_state=0).fit(x, y + 0.1 * x[:, 0])
    assert max(tree.get_depth() for tree in model.estimators_) == 15
    background = x[100:160] if references else None
    theirs = shap.TreeExplainer(model, background).shap_values(x[:6], check_additivity=False)
    np.testing.assert_allclose(ours(model, x[:6], 0, background), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("references", [False, True])
def test_classes_of_a_forest(references):
    x, y = data(4)
    model = RandomForestClassifier(20, random_state=0).fit(x, y)
    background = x[100:160] if references else None
    theirs = shap.TreeExplainer(model, background).shap_values(x[:4], check_additivity=False)
    for k in range(4):
        np.testing.assert_allclose(ours(model, x[:4], k, background), theirs[..., k], rtol=0, atol=1e-6)


def test_boosted_margins_and_histograms():
    x, y = data()
    boosted = GradientBoostingClassifier(n_estimators=30, max_depth=4, random_state=0).fit(x, y)
    found = ours(boosted, x[:5], 1)
    np.testing.assert_allclose(found, shap.TreeExplainer(boosted).shap_values(x[:5]), rtol=0, atol=1e-6)
    assert torch.equal(found, -ours(boosted, x[:5], 0))
    holes = np.where(np.random.default_rng(0).random(x.shape) < 0.1, np.nan, x)
    model = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(holes, y + x[:, 0])
    theirs = shap.TreeExplainer(model).shap_values(holes[:5], check_additivity=False)
    np.testing.assert_allclose(ours(model, holes[:5], 0), theirs, rtol=0, atol=1e-6)
