"""From a fitted object to a ``TreeEnsemble``: scikit-learn here, XGBoost and LightGBM in ``boosted_trees``.

Classes are known by their names and the package they come from; no library is imported for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pellucid.core.errors import UnsupportedError

from .boosted_trees import lightgbm_trees, xgboost_trees
from .libraries import from_library
from .tree_nodes import WHOLE_CATEGORY, Array
from .trees import Grower, TreeEnsemble

# Categories of scikit-learn's histogram boosting that are larger are refused: each set is kept as a list up to its last.
MOST_CATEGORIES = 1 << 16


def read_trees(model: Any) -> TreeEnsemble:
    """The trees of a fitted object: the same answers as its own raw ones.

    scikit-learn: DecisionTree, ExtraTree, RandomForest, ExtraTrees, GradientBoosting, HistGradientBoosting, Bagging of trees;
    classifiers and regressors. XGBoost and LightGBM: boosters and estimators. Boosted classifiers answer with margins, all
    others with what ``predict_proba`` or ``predict`` says. Raises UnsupportedError for anything else.
    """
    if isinstance(model, TreeEnsemble):
        return model
    if from_library(model, "xgboost"):
        return xgboost_trees(model)
    if from_library(model, "lightgbm"):
        return lightgbm_trees(model)
    if from_library(model, "sklearn"):
        if hasattr(model, "best_estimator_"):
            return read_trees(model.best_estimator_)
        if hasattr(model, "steps"):
            raise UnsupportedError(
                "trees inside a pipeline see other columns than its samples",
                cure="Explain the last step on transformed rows, model[-1] and model[:-1].transform(x), or use kernel_shap.",
            )
        reader = next((r for kind in type(model).__mro__ if (r := _READERS.get(kind.__name__)) is not None), None)
        if reader is not None:
            return reader(_fitted(model))
    elif hasattr(model, "estimator"):
        return read_trees(model.estimator)
    raise UnsupportedError(
        f"{type(model).__name__} is no ensemble of trees that can be read", cure="Use kernel_shap, which explains any function."
    )


def _fitted(model: Any) -> Any:
    if not hasattr(model, "n_features_in_"):
        raise UnsupportedError(f"{type(model).__name__} is not fitted", cure="Call fit first.")
    if np.ndim(getattr(model, "classes_", [])) > 1 or any(np.ndim(c) for c in getattr(model, "classes_", [])):
        raise UnsupportedError(f"{type(model).__name__} answers several questions at once", cure="Fit one model for each.")
    return model


def _takes_missing(model: Any) -> bool:
    return bool(model.__sklearn_tags__().input_tags.allow_nan) if hasattr(model, "__sklearn_tags__") else False


def _add_tree(grower: Grower, tree: Any, values: Array, *, names: Array | None = None, column: int = -1) -> None:
    """One ``sklearn.tree`` structure with these values (nodes, V); names: which features its columns are."""
    feature = np.where(tree.children_left < 0, 0, tree.feature)
    grower.add(
        {
            "left": tree.children_left,
            "right": tree.children_right,
            "feature": feature if names is None else np.asarray(names)[feature],
            "threshold": tree.threshold,
            "cover": tree.weighted_n_node_samples,
            "missing_left": getattr(tree, "missing_go_to_left", np.zeros(tree.node_count)),
            "value": values,
        },
        column=column,
    )


def _leaf_values(estimator: Any, tree: Any) -> Array:
    """(nodes, K): class probabilities, or what a regressor predicts."""
    values: Array = tree.value
    if not hasattr(estimator, "classes_"):
        return values[:, :, 0]
    total = values[:, 0].sum(1, keepdims=True)
    return np.asarray(values[:, 0] / np.where(total > 0, total, 1))


def _averaged(model: Any) -> TreeEnsemble:
    """A tree, a forest, or a bag of trees: the mean of the leaves."""
    members = getattr(model, "estimators_", [model])
    names = getattr(model, "estimators_features_", [None] * len(members))
    classes = len(model.classes_) if hasattr(model, "classes_") else 0
    grower = Grower()
    for member, own in zip(members, names):
        if not hasattr(member, "tree_"):
            raise UnsupportedError(
                f"a {type(model).__name__} of {type(member).__name__}", cure="Use kernel_shap, or bag decision trees."
            )
        values = _leaf_values(member, member.tree_) / len(members)
        if classes and len(member.classes_) < classes:  # a bag whose rows miss a class
            every = np.zeros((len(values), classes))
            every[:, np.asarray(member.classes_, int)] = values
            values = every
        _add_tree(grower, member.tree_, values, names=own)
        columns = values.shape[1]
    missing = _takes_missing(model)
    return grower.grown(np.zeros(columns), model.n_features_in_, single=True, missing=missing)


def _margin_facts(model: Any, columns: int) -> dict[str, Any]:
    classifier = hasattr(model, "classes_")
    link = "identity" if not classifier else "softmax" if columns > 1 else "sigmoid"
    return {"link": link, "binary": classifier and columns == 1}


def _gradient_boosting(model: Any) -> TreeEnsemble:
    init = model.init_
    if not isinstance(init, str) and not type(init).__name__.startswith("Dummy"):
        raise UnsupportedError(f"boosting that starts from a {type(init).__name__}", cure="Use kernel_shap, or init=None.")
    columns = model.estimators_.shape[1]
    base = np.reshape(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32)), -1)
    grower = Grower()
    for stage in model.estimators_:
        for k, member in enumerate(stage):
            _add_tree(grower, member.tree_, model.learning_rate * member.tree_.value[:, 0], column=k)
    facts = _margin_facts(model, columns)
    if facts["link"] == "sigmoid" and model.loss == "exponential":
        facts["link"] = "none"  # of the exponential loss p = sigmoid(2 m)
    return grower.grown(base, model.n_features_in_, single=True, missing=_takes_missing(model), **facts)


def _histogram_boosting(model: Any) -> TreeEnsemble:
    columns = model.n_trees_per_iteration_
    names, categories = _histogram_columns(model)
    known = model._bin_mapper.make_known_categories_bitsets()
    grower = Grower()
    for stage in model._predictors:
        for k, predictor in enumerate(stage):
            _add_predictor(grower, predictor, k, names, categories, known)
    facts = _margin_facts(model, columns)
    if not hasattr(model, "classes_") and model.loss in ("poisson", "gamma"):
        facts["link"] = "none"  # the prediction is the exponential of what the trees sum to
    return grower.grown(np.reshape(model._baseline_prediction, -1), model.n_features_in_, missing=True, **facts)


def _histogram_columns(model: Any) -> tuple[Array, dict[int, Array]]:
    """Which feature each column of the trees is, and of the categorical ones the values that their codes stand for."""
    encoder = getattr(model, "_preprocessor", None)
    if encoder is None:
        return np.arange(model.n_features_in_), {}
    flags = np.asarray(model.is_categorical_, bool)  # in the order of the samples' columns where these are encoded
    given = [np.asarray(columns, bool) for name, _, columns in encoder.transformers_ if name in ("encoder", "numerical")]
    names = np.concatenate([np.flatnonzero(one) for one in given])
    values = encoder.named_transformers_["encoder"].categories_
    found = {}
    for column, known in enumerate(values):
        real = np.asarray(known)
        whole = real.dtype.kind in "fiu" and bool(
            np.all(np.isnan(real) | ((real >= 0) & (real < MOST_CATEGORIES) & (real % 1 == 0)))
        )
        if not whole:
            raise UnsupportedError(
                f"categories {real[:3].tolist()} of column {names[column]} are no whole numbers from 0",
                cure="Encode them first (OrdinalEncoder), or use kernel_shap.",
            )
        found[column] = real.astype(float)
    return (names, found) if flags.any() else (names, {})


def _bits(words: Array) -> Array:
    """(256,) the ones and zeros of scikit-learn's bit sets."""
    return np.asarray((words[:, None] >> np.arange(32, dtype=np.uint32)) & 1, int).reshape(-1)


def _add_predictor(
    grower: Grower, predictor: Any, column: int, names: Array, categories: dict[int, Array], known: tuple[Array, Array]
) -> None:
    nodes = predictor.nodes
    leaf, sets = nodes["is_leaf"] > 0, {}
    for u in np.flatnonzero((nodes["is_categorical"] > 0) & ~leaf):
        own, missing = int(nodes["feature_idx"][u]), int(nodes["missing_go_to_left"][u])
        to_left = _bits(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][u]])
        ever = _bits(known[0][known[1][own]])
        by_code = np.where(to_left > 0, 1, np.where(ever > 0, 0, missing))  # an unknown category counts as missing
        if own not in categories:
            sets[int(u)] = by_code.tolist()
            continue
        codes = {int(v): code for code, v in enumerate(categories[own]) if not np.isnan(v)}
        size = max(codes, default=-1) + 1
        sets[int(u)] = [int(by_code[codes[v]]) if v in codes else missing for v in range(size)]
    kind = np.zeros(len(nodes), int)
    kind[list(sets)] = WHOLE_CATEGORY
    grower.add(
        {
            "left": np.where(leaf, -1, nodes["left"].astype(int)),
            "right": np.where(leaf, -1, nodes["right"].astype(int)),
            "feature": np.where(leaf, -1, names[np.where(leaf, 0, nodes["feature_idx"])]),
            "threshold": nodes["num_threshold"],
            "cover": nodes["count"],
            "value": nodes["value"],
            "missing_left": nodes["missing_go_to_left"],
            "other_left": nodes["missing_go_to_left"],
            "kind": kind,
        },
        column=column,
        categories=sets,
    )


_READERS: dict[str, Callable[[Any], TreeEnsemble]] = {
    "BaseDecisionTree": _averaged,
    "BaseForest": _averaged,
    "BaseBagging": _averaged,
    "BaseGradientBoosting": _gradient_boosting,
    "BaseHistGradientBoosting": _histogram_boosting,
}
