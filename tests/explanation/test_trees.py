"""Trees as arrays: read as their library answers, kept and loaded, explained exactly, refused where they cannot be (X4)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from pellucid import InputError, UnsupportedError
from pellucid.explanation import tree_kernels, tree_shap
from pellucid.explanation.boosted_trees import _base_margin
from pellucid.explanation.method import explain
from pellucid.explanation.tree_readers import read_trees
from pellucid.explanation.trees import TreeEnsemble
from tree_models import FEATURES, KINDS, columns, fitted, of_lightgbm, of_xgboost, rows

# XGBoost sums its leaves in float32.
SINGLE = 1e-6


def values(model, x, target=None, **options):
    return explain(model, x, {"tree_shap": options}, target=target)["tree_shap"]


def stump(**changes):
    """x0 <= 0 ? (x1 <= 0 ? 0 : 1) : (x1 <= 0 ? 2 : 4), covers 8 = (4: 1, 3), (4: 3, 1)."""
    arrays = {
        "left": [1, 3, 5, -1, -1, -1, -1],
        "right": [2, 4, 6, -1, -1, -1, -1],
        "feature": [0, 1, 1, -1, -1, -1, -1],
        "threshold": np.zeros(7),
        "cover": [8, 4, 4, 1, 3, 3, 1],
        "value": np.array([0, 0, 0, 0, 1, 2, 4])[:, None],
        "roots": [0],
        "base": [0.5],
        "inputs": 3,
    }
    return TreeEnsemble(**(arrays | changes))


def awkward(trees, x, missing):
    """Rows that hold thresholds themselves and their neighbours, categories that no tree has seen, and missing values."""
    random = np.random.default_rng(5)
    a = np.repeat(x[:30], 4, 0)
    inner = np.flatnonzero((trees.left >= 0) & (trees.kind < 2) & (np.abs(trees.threshold) < 1e30))
    for row in a:
        u = random.choice(inner)
        t = np.float32(trees.threshold[u])
        row[trees.feature[u]] = random.choice([t, np.nextafter(t, np.float32(np.inf)), np.nextafter(t, np.float32(-np.inf))])
    if (trees.kind >= 2).any():
        a[::3, -1] = random.choice([-1, 0, 3, 6, 7, 40, 300], len(a[::3]))
    if missing:
        a[random.random(a.shape) < 0.2] = np.nan
    return a


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_the_librarys_own(name):
    model, x, raw = fitted(name)
    trees = read_trees(model)
    missing = "missing" in name or np.isnan(x).any()
    for a in (x, awkward(trees, x, missing)):
        np.testing.assert_allclose(
            trees(torch.tensor(a)), columns(raw(a), trees.binary), rtol=0, atol=SINGLE if "xgboost" in name else 1e-12
        )
    assert trees.binary == ("margin" in name or name in ("histograms, categories", "xgboost categories"))
    assert read_trees(trees) is trees


def test_a_small_tree_by_hand():
    """v of nothing 7/4 - both sides of x0 weigh the same -, of x0 5/2 or 3/4, of x1 1 or 5/2, of both the leaf."""
    x = torch.tensor([[1.0, 1.0, 9.0], [-1.0, 1.0, 9.0]], dtype=torch.float64)
    found = values(stump(), x)
    assert found.base.tolist() == [0.5 + 13 / 8] * 2
    one, two, both, none = (2 * 3 + 4) / 4, (1 + 4) / 2, 4, 13 / 8
    expected = [((one - none) + (both - two)) / 2, ((two - none) + (both - one)) / 2, 0.0]
    torch.testing.assert_close(found.relevance[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    beside = values(stump(), x[:1], references=-x[:1])
    torch.testing.assert_close(
        beside.relevance[0].tolist(), [(2 - 0 + 4 - 1) / 2, (1 - 0 + 4 - 2) / 2, 0.0], rtol=0, atol=1e-15
    )
    assert beside.base.tolist() == [0.5]


def test_a_feature_that_no_tree_asks_gets_nothing_and_twins_get_the_same():
    """A tree and its mirror image, with the first two features exchanged."""
    grown = stump()
    twin = dataclasses.replace(grown, feature=np.where(grown.left < 0, -1, 1 - grown.feature))
    both = {
        name: np.concatenate([getattr(grown, name), getattr(twin, name)]) for name in ("threshold", "cover", "value", "feature")
    }
    links = {
        name: np.concatenate([getattr(grown, name), getattr(grown, name) + 7 * (grown.left >= 0)]) for name in ("left", "right")
    }
    trees = TreeEnsemble(**both, **links, roots=[0, 7], base=[0.0], inputs=3)
    x = torch.tensor([[1.0, 1.0, 5.0], [-1.0, -1.0, 5.0]], dtype=torch.float64)
    references = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for found in (values(trees, x), values(trees, x, references=torch.cat([references, references[:, [1, 0, 2]]]))):
        torch.testing.assert_close(found.relevance[:, 0], found.relevance[:, 1], rtol=0, atol=1e-15)
        assert (found.relevance[:, 2] == 0).all()
        assert (found.relevance[:, 0] != 0).all()


def test_single_leaves_and_splits_that_no_row_reached():
    leaf = TreeEnsemble([-1], [-1], [-1], [0.0], [3.0], [[2.0]], [0], [1.0], 2)
    x = torch.zeros(3, 2, dtype=torch.float64)
    for options in ({}, {"references": x}):
        found = values(leaf, x, **options)
        assert (found.relevance == 0).all()
        assert (found.base == 3).all()
    unreached = stump(cover=[4, 0, 4, 0, 0, 3, 1])
    one = values(unreached, torch.tensor([[-1.0, 1.0, 0.0]], dtype=torch.float64))
    assert one.base.tolist() == [0.5 + (2 * 3 + 4) / 4]  # where no row went counts for nothing
    assert one.relevance.isfinite().all()
    assert one.gap.abs().max() < 1e-15


def test_a_path_that_asks_one_feature_over_and_over():
    """A chain of twenty splits: of one feature all of the score is that feature's."""
    n = 20
    left, right = np.full(2 * n + 1, -1), np.full(2 * n + 1, -1)
    left[0 : 2 * n : 2], right[0 : 2 * n : 2] = np.arange(1, 2 * n, 2), np.arange(2, 2 * n + 1, 2)
    feature = np.where(left < 0, -1, 0)
    cover = np.ones(2 * n + 1)
    cover[0 : 2 * n : 2] = np.arange(n + 1, 1, -1)
    shape = {"threshold": np.arange(2 * n + 1.0), "cover": cover, "value": np.arange(2 * n + 1.0)[:, None] ** 2}
    x = torch.tensor([[17.5, 0.0], [-3.0, 0.0], [99.0, 0.0]], dtype=torch.float64)
    trees = TreeEnsemble(left, right, feature, roots=[0], base=[0.0], inputs=2, **shape)
    for found in (values(trees, x), values(trees, x, references=x)):
        torch.testing.assert_close(found.relevance[:, 0], trees(x)[:, 0] - found.base, rtol=0, atol=1e-11)
        assert (found.relevance[:, 1] == 0).all()


def test_threads_and_compiling_change_no_bit(monkeypatch):
    model, x, _ = fitted("forest of classes")
    trees = dataclasses.replace(read_trees(model))
    x, references = torch.tensor(x[:3]), x[10:14]
    monkeypatch.setattr(tree_shap, "TREES", 1)
    before = [values(trees, x, references=r) for r in (None, references)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for r, one in zip((None, references), before):
        assert torch.equal(values(trees, x, references=r).relevance, one.relevance)
    if not tree_kernels.compiled():
        pytest.skip("numba is not installed: all of this ran in plain Python already")
    assert before[0].notes == []
    for module in tree_kernels.MODULES:
        for name, plain in tree_kernels._PLAIN.items():
            if name in vars(module):
                monkeypatch.setattr(module, name, plain)
    monkeypatch.setattr(tree_kernels, "compiled", lambda: False)
    monkeypatch.setattr(tree_shap, "compiled", lambda: False)
    for r, one in zip((None, references), before):
        found = values(dataclasses.replace(trees), x, references=r)
        assert torch.equal(found.relevance, one.relevance)
        assert found.notes == [tree_shap.PLAIN]


@pytest.mark.parametrize("name", ["histograms, categories", "xgboost categories", "tree of classes, missing"])
def test_saved_trees_come_back(name, tmp_path):
    trees = read_trees(fitted(name)[0])
    again = TreeEnsemble.load(trees.save(tmp_path / "folder" / "trees.safetensors"))
    for part in dataclasses.fields(trees):
        np.testing.assert_array_equal(getattr(again, part.name), getattr(trees, part.name))
    x = torch.tensor(fitted(name)[1][:2])
    assert torch.equal(values(again, x).relevance, values(trees, x).relevance)


def test_what_is_no_saved_ensemble_is_refused(tmp_path):
    (tmp_path / "text").write_text("trees")
    for path in (tmp_path / "text", tmp_path / "nothing"):
        with pytest.raises(InputError, match="not saved trees"):
            TreeEnsemble.load(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"left": [1, 3, 0, -1, -1, -1, -1]}, "two parents"),
        ({"right": [2, 4, 9, -1, -1, -1, -1]}, "does not exist"),
        ({"feature": [0, 1, 3, -1, -1, -1, -1]}, "does not exist"),
        ({"roots": [7]}, "does not exist"),
        ({"cover": np.ones(6)}, "cover has another length"),
        ({"cover": -np.ones(7)}, "finite number"),
        ({"value": np.full((7, 1), np.nan)}, "finite number"),
        ({"base": [0.0, 0.0]}, "for 2 columns"),
        ({"kind": np.full(7, 9)}, "kind of split"),
        ({"kind": np.full(7, 2), "size": np.full(7, 3)}, "beyond listed"),
        ({"link": "probit"}, "link is 'probit'"),
        ({"base": [0.0, 0.0], "value": np.zeros((7, 2)), "binary": True}, "binary margin"),
    ],
)
def test_arrays_that_are_no_trees_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        stump(**changes)(torch.zeros(1, 3))


def test_models_are_explained_as_they_are():
    """Through the engine, with its targets: what is explained is what the model answers."""
    x, _, labels = rows()
    forest = RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, labels)
    found = values(forest, x[:4])
    assert found.of == "probability"
    torch.testing.assert_close(found.relevance, values(read_trees(forest), x[:4]).relevance, rtol=0, atol=0)
    booster, _, raw = fitted("xgboost margin")
    found = values(booster, x[:4], 1, references=x[:9])
    np.testing.assert_allclose(found.base + found.relevance.sum(1), raw(x[:4]), rtol=0, atol=1e-6)


def test_the_classes_of_a_category_keep_their_own_numbers():
    """scikit-learn gives each category that it was fitted on a code; others are missing to it."""
    x, score, _ = rows(category=True)
    x = x.copy()
    x[:, 2] = np.array([2, 5, 11, 12, 30, 31, 40.0])[x[:, -1].astype(int)]
    x[::9, 2] = np.nan
    model = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=5, categorical_features=[2]).fit(x, score)
    a = x[:60].copy()
    a[:40, 2] = np.repeat([2, 3, 31, 40, 41, 5.5, np.nan, 1e9], 5)
    trees = read_trees(model)
    assert (trees.kind == 3).any()
    np.testing.assert_allclose(trees(torch.tensor(a))[:, 0], model.predict(a), rtol=0, atol=1e-12)
    x[:, 2] += 0.5
    model = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=5, categorical_features=[2]).fit(x, score)
    with pytest.raises(UnsupportedError, match="no whole numbers"):
        read_trees(model)


def test_early_stopping_leaves_the_later_trees_away():
    from xgboost import XGBRegressor

    x, score, _ = rows()
    noise = np.random.default_rng(0).permutation(score)
    model = XGBRegressor(n_estimators=9, max_depth=3, early_stopping_rounds=2, n_jobs=1)
    model.fit(x, score, eval_set=[(x, noise)], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    np.testing.assert_allclose(read_trees(model)(torch.tensor(x))[:, 0], model.predict(x), rtol=0, atol=1e-5)


START = DecisionTreeRegressor(max_depth=2)
VECTORS = {"quantile_alpha": [0.2, 0.8], "multi_strategy": "multi_output_tree"}
REFUSED = {
    "pipeline": (lambda x, y, k: make_pipeline(StandardScaler(), DecisionTreeRegressor()).fit(x, y), "inside a pipeline"),
    "linear": (lambda x, y, k: LogisticRegression().fit(x, k), "LogisticRegression is no ensemble"),
    "function": (lambda x, y, k: np.sum, "no ensemble"),
    "unfitted": (lambda x, y, k: DecisionTreeRegressor(), "Call fit"),
    "start": (lambda x, y, k: GradientBoostingRegressor(n_estimators=2, init=START).fit(x, y), "from a DecisionTreeRegressor"),
    "questions": (lambda x, y, k: RandomForestClassifier(2).fit(x, np.stack([k, k], 1)), "several questions"),
    "linear booster": (lambda x, y, k: of_xgboost("reg:squarederror", booster="gblinear", verbosity=0)[0], "no trees"),
    "leaves of vectors": (lambda x, y, k: of_xgboost("reg:quantileerror", **VECTORS)[0], "several values in a leaf"),
    "linear leaves": (lambda x, y, k: of_lightgbm("regression", linear_tree=True)[0], "linear trees"),
    "root": (lambda x, y, k: of_lightgbm("regression", reg_sqrt=True)[0], "reg_sqrt"),
}


@pytest.mark.parametrize(("model", "said"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_read_is_refused_with_a_cure(model, said):
    x, score, labels = rows()
    with pytest.raises(UnsupportedError, match=said):
        read_trees(model(x, score, labels))


def test_an_objective_whose_margin_is_not_known_is_refused():
    """What base_score means depends on it."""
    with pytest.raises(UnsupportedError, match="'rate:new'"):
        _base_margin("[5E-1]", "rate:new", 1)


def test_what_cannot_be_explained_is_refused():
    margin, x, _ = fitted("boosted margin")
    trees, x = read_trees(margin), torch.tensor(x[:3])
    with pytest.raises(UnsupportedError, match="probabilities of a margin"):
        explain(trees, x, "tree_shap", of="probability")
    with pytest.raises(UnsupportedError, match="target function"):
        values(trees, x, lambda z: z[:, 0])
    with pytest.raises(InputError, match="references of shape"):
        values(trees, x, references=x[:, :3])
    with pytest.raises(InputError, match="over 5 features"):
        values(trees, x[:, :4])
    with pytest.raises(InputError, match="nan"):
        values(trees, x / 0 * 0)
    with pytest.raises(InputError, match="NaN"):
        trees(x / 0 * 0)
    deep = dataclasses.replace(stump(), inputs=FEATURES)

    class Other:
        link, estimator = "none", deep

        def __call__(self, x):
            return deep(x) ** 2

    with pytest.raises(UnsupportedError, match="the model answers"):
        values(Other(), torch.ones(1, FEATURES))
