"""Small fitted trees of every library that is read, each with rows, and the library's own raw answer."""

from __future__ import annotations

import functools

import numpy as np
from sklearn import ensemble, tree

FEATURES = 5
SIZE = {"n_estimators": 4, "random_state": 0}


@functools.cache
def rows(missing=False, category=False, zeros=False):
    """(120, FEATURES) rows and three labels that depend on them; the last column a category, some values missing or zero."""
    random = np.random.default_rng(3)
    x = random.normal(size=(120, FEATURES)).astype(np.float32).astype(np.float64)
    if category:
        x[:, -1] = random.integers(0, 7, len(x))
    if zeros:
        x[random.random(x.shape) < 0.3] = 0.0
    score = x[:, 0] * x[:, 1] + np.where(np.isin(x[:, -1], (1, 4, 5)), 2, x[:, -1] / 4) + 0.3 * random.normal(size=len(x))
    if missing:
        x[random.random(x.shape) < 0.2] = np.nan
    labels = np.digitize(score, np.quantile(score, (0.3, 0.7)))
    return x, score, labels


def _raw(model):
    """What the trees of an estimator of scikit-learn sum to."""
    boosted = "Boosting" in type(model).__name__
    if hasattr(model, "classes_"):
        return model.decision_function if boosted else model.predict_proba
    return model.predict


def of_sklearn(kind, classes=0, missing=False, category=False, **options):
    """(fitted, rows, raw answer)."""
    x, score, labels = rows(missing, category)
    y = labels if classes == 3 else (labels > 0) * 1 if classes == 2 else score
    found = getattr(ensemble, kind, None) or getattr(tree, kind)
    model = found(**options).fit(x, y)
    return model, x, _raw(model)


def of_xgboost(objective, missing=False, category=False, **options):
    """A Booster of two rounds."""
    import xgboost

    x, score, labels = rows(missing, category)
    y = labels if objective.startswith("multi") else (labels > 0) * 1 if "binary" in objective else score
    y = np.exp(score / 4) if objective == "count:poisson" else y
    kinds = ["q"] * (FEATURES - 1) + ["c" if category else "q"]

    def matrix(a, label=None):
        return xgboost.DMatrix(a, label, feature_types=kinds, enable_categorical=True)

    more = {"num_class": 3} if objective.startswith("multi") else {}
    parameters = {"objective": objective, "max_depth": 4, "nthread": 1, "max_cat_to_onehot": 1, "eta": 0.7, **more, **options}
    booster = xgboost.train(parameters, matrix(x, y), 3)
    booster.matrix = matrix
    return booster, x, lambda a: booster.predict(matrix(a), output_margin=True, training=False)


def of_lightgbm(objective, missing=False, category=False, zeros=False, **options):
    """A Booster of three rounds."""
    import lightgbm

    x, score, labels = rows(missing, category, zeros)
    y = labels if objective.startswith("multi") else (labels > 0) * 1 if objective == "binary" else score
    more = {"num_class": 3} if objective.startswith("multi") else {}
    parameters = {"objective": objective, "num_leaves": 8, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1, **more}
    parameters |= {"min_data_per_group": 1, "cat_smooth": 1, "learning_rate": 0.5, "deterministic": True, **options}
    last = [FEATURES - 1] if category else []
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, categorical_feature=last, params={"verbose": -1}), 3)
    return booster, x, lambda a: booster.predict(a, raw_score="boosting" not in options)  # a forest's raw scores are sums


DEEP = {"max_depth": 6, "random_state": 0}
KINDS = {
    "tree of values": lambda: of_sklearn("DecisionTreeRegressor", **DEEP),
    "tree of classes, missing": lambda: of_sklearn("DecisionTreeClassifier", 3, missing=True, **DEEP),
    "extra tree": lambda: of_sklearn("ExtraTreeRegressor", **DEEP),
    "forest of values": lambda: of_sklearn("RandomForestRegressor", missing=True, max_depth=6, **SIZE),
    "forest of classes": lambda: of_sklearn("RandomForestClassifier", 3, max_depth=6, class_weight="balanced", **SIZE),
    "extra trees": lambda: of_sklearn("ExtraTreesClassifier", 2, max_depth=5, bootstrap=True, **SIZE),
    "bag": lambda: of_sklearn("BaggingClassifier", 3, max_features=3, max_samples=0.2, **SIZE),
    "boosted values": lambda: of_sklearn("GradientBoostingRegressor", **SIZE),
    "boosted margin": lambda: of_sklearn("GradientBoostingClassifier", 2, **SIZE),
    "boosted classes": lambda: of_sklearn("GradientBoostingClassifier", 3, max_depth=2, **SIZE),
    "histograms": lambda: of_sklearn("HistGradientBoostingRegressor", missing=True, max_iter=4, min_samples_leaf=5),
    "histograms, categories": lambda: of_sklearn(
        "HistGradientBoostingClassifier", 2, True, True, max_iter=4, min_samples_leaf=5, categorical_features=[FEATURES - 1]
    ),
    "histograms of classes": lambda: of_sklearn("HistGradientBoostingClassifier", 3, max_iter=2, min_samples_leaf=9),
    "xgboost": lambda: of_xgboost("reg:squarederror", missing=True),
    "xgboost margin": lambda: of_xgboost("binary:logistic", base_score=0.3),
    "xgboost raw margin": lambda: of_xgboost("binary:logitraw", base_score=0.3),
    "xgboost categories": lambda: of_xgboost("binary:logistic", missing=True, category=True),
    "xgboost classes": lambda: of_xgboost("multi:softprob", missing=True),
    "xgboost dart": lambda: of_xgboost("reg:squarederror", booster="dart", rate_drop=0.5, seed=2),
    "xgboost counts": lambda: of_xgboost("count:poisson"),
    "xgboost forest": lambda: of_xgboost("reg:squarederror", num_parallel_tree=2, subsample=0.6),
    "lightgbm": lambda: of_lightgbm("regression", missing=True),
    "lightgbm without missing": lambda: of_lightgbm("regression", missing=True, use_missing=False),
    "lightgbm, zero missing": lambda: of_lightgbm("regression", missing=True, zeros=True, zero_as_missing=True),
    "lightgbm margin": lambda: of_lightgbm("binary", missing=True, category=True),
    "lightgbm classes": lambda: of_lightgbm("multiclass", category=True),
    "lightgbm forest": lambda: of_lightgbm("regression", boosting="rf", bagging_fraction=0.6, bagging_freq=1),
}


@functools.cache
def fitted(name):
    """(model, rows, raw answer) of one of the KINDS."""
    return KINDS[name]()


def columns(raw, binary):
    """(B, K) of a library's raw answer: a binary margin as -m and m."""
    z = np.asarray(raw, np.float64)
    z = z[:, None] if z.ndim == 1 else z
    return np.concatenate([-z, z], 1) if binary else z
