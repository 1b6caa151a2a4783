"""Trees of XGBoost and LightGBM, from what the objects write out themselves."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from pellucid.core.errors import UnsupportedError

from .tree_nodes import CATEGORY, NUMBER, ZERO_MISSING, Array
from .trees import Grower, TreeEnsemble

# XGBoost's objectives whose margin is not what base_score is written in, and what the margin becomes in an answer.
_LOGISTIC = ("binary:logistic", "reg:logistic")
_LOGARITHMIC = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
_PLAIN = ("binary:logitraw", "binary:hinge", "multi:softprob", "multi:softmax", "rank:", "reg:")
# LightGBM's objectives by their links; all others answer with the sum itself.
_LIGHTGBM_LINKS = {
    "binary": "sigmoid",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "cross_entropy": "sigmoid",
    "poisson": "none",
    "gamma": "none",
    "tweedie": "none",
    "cross_entropy_lambda": "none",
}
MOST_CATEGORIES = 1 << 20


def xgboost_trees(model: Any) -> TreeEnsemble:
    """The trees of a Booster or of an estimator with one; an estimator that stopped early answers with its best iteration."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    parameters, objective = learner["learner_model_param"], learner["objective"]["name"]
    part = learner["gradient_booster"]
    weights = part.get("weight_drop")  # dart
    forest = part.get("gbtree", part).get("model", {})
    if "trees" not in forest:
        raise UnsupportedError(f"XGBoost's {part['name']} has no trees", cure="Use kernel_shap.")
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in forest["trees"]):
        raise UnsupportedError(
            "XGBoost's trees with several values in a leaf", cure='Fit with multi_strategy="one_output_per_tree".'
        )
    columns = max(1, int(parameters["num_class"]), int(parameters.get("num_target", 1)))
    count = len(forest["trees"])
    best = _best_iteration(model) if hasattr(model, "get_booster") else None
    if best is not None:
        count = forest["iteration_indptr"][best + 1]
    grower = Grower()
    for i, tree in enumerate(forest["trees"][:count]):
        _add_xgboost(grower, tree, 1.0 if weights is None else weights[i], forest["tree_info"][i])
    base = _base_margin(parameters["base_score"], objective, columns)
    binary = objective.startswith("binary:")
    link = (
        "sigmoid"
        if objective in (*_LOGISTIC, "binary:logitraw")
        else "softmax"
        if objective.startswith("multi:")
        else "identity"
    )
    link = "none" if objective in (*_LOGARITHMIC, "binary:hinge") else link
    return grower.grown(base, int(parameters["num_feature"]), link=link, binary=binary, single=True, missing=True)


def _best_iteration(estimator: Any) -> int | None:
    try:
        return int(estimator.best_iteration)
    except AttributeError:
        return None


def _base_margin(written: str, objective: str, columns: int) -> Array:
    given = json.loads(written)
    base = np.resize(np.asarray(given, np.float64), columns)
    if objective in _LOGISTIC:
        return np.array([math.log(p / (1 - p)) for p in base])
    if objective in _LOGARITHMIC:
        return np.log(base)
    if not objective.startswith(_PLAIN):
        raise UnsupportedError(f"XGBoost's objective '{objective}'", cure="Use kernel_shap.")
    return base


def _below(threshold: Array) -> Array:
    """x < t as x <= the number before t, in float32, which XGBoost compares in."""
    return np.nextafter(threshold.astype(np.float32), np.float32(-np.inf)).astype(np.float64)


def _add_xgboost(grower: Grower, tree: dict[str, Any], weight: float, column: int) -> None:
    left = np.asarray(tree["left_children"])
    number = np.asarray(tree["split_conditions"], np.float64)
    kind = np.where((np.asarray(tree["split_type"]) == 1) & (left >= 0), CATEGORY, NUMBER)
    sets: dict[int, list[int]] = {}
    for node, start, size in zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"]):
        listed = tree["categories"][start : start + size]  # these go right, all others left
        if max(listed, default=0) >= MOST_CATEGORIES:
            raise UnsupportedError(f"a category of {max(listed)}", cure="Number the categories from 0.")
        ones = np.ones(max(listed, default=-1) + 1, int)
        ones[listed] = 0
        sets[node] = ones.tolist()
    values = np.where(left < 0, number.astype(np.float32).astype(np.float64) * weight, 0.0)
    grower.add(
        {
            "left": left,
            "right": tree["right_children"],
            "feature": tree["split_indices"],
            "threshold": np.where(left < 0, 0.0, _below(number)),
            "cover": np.asarray(tree["sum_hessian"], np.float64),
            "value": values,
            "missing_left": tree["default_left"],
            "other_left": np.ones(len(left), int),
            "kind": kind,
        },
        column=column,
        categories=sets,
    )


def lightgbm_trees(model: Any) -> TreeEnsemble:
    """The trees of a Booster or of an estimator with one, up to the best iteration where it stopped early."""
    if not hasattr(model, "dump_model"):
        if getattr(model, "_Booster", None) is None:
            raise UnsupportedError(f"{type(model).__name__} is not fitted", cure="Call fit first.")
        model = model.booster_
    dumped = model.dump_model()
    name, *details = (dumped.get("objective") or "custom").split()
    if "sqrt" in details:
        raise UnsupportedError("LightGBM's reg_sqrt answers with a square of the sum", cure="Use kernel_shap.")
    columns, trees = dumped["num_tree_per_iteration"], dumped["tree_info"]
    link, share = _LIGHTGBM_LINKS.get(name, "identity"), 1.0
    if any(d.startswith("sigmoid:") and float(d.partition(":")[2]) != 1 for d in details):
        link = "none"
    if dumped.get("average_output"):  # random forests: predictions are means, margins are sums of which nothing has the link
        link, share = ("identity", columns / len(trees)) if link == "identity" else ("none", 1.0)
    grower = Grower()
    for tree in trees:
        _add_lightgbm(grower, tree["tree_structure"], share, tree["tree_index"] % columns)
    inputs = dumped["max_feature_idx"] + 1
    return grower.grown(np.zeros(columns), inputs, link=link, binary=name == "binary", missing=True)


def _add_lightgbm(grower: Grower, root: dict[str, Any], share: float, column: int) -> None:
    nodes: list[dict[str, Any]] = [root]
    children: list[tuple[int, int]] = []
    at = 0
    while at < len(nodes):
        node = nodes[at]
        if "leaf_coeff" in node or "leaf_const" in node:
            raise UnsupportedError("LightGBM's linear trees", cure="Fit with linear_tree=False, or use kernel_shap.")
        inner = "split_feature" in node
        children.append((len(nodes), len(nodes) + 1) if inner else (-1, -1))
        if inner:
            nodes += [node["left_child"], node["right_child"]]
        at += 1
    sets: dict[int, list[int]] = {}
    rows: list[tuple[float, ...]] = []
    for i, node in enumerate(nodes):
        if "split_feature" not in node:
            # a tree of one leaf says nothing of its cover
            rows.append((-1, 0.0, NUMBER, 0, node.get("leaf_count", 1), share * node["leaf_value"]))
            continue
        threshold, missing, cover = node["threshold"], node["missing_type"], node["internal_count"]
        if node["decision_type"] == "==":
            listed = [int(c) for c in str(threshold).split("||")]
            if max(listed) >= MOST_CATEGORIES:
                raise UnsupportedError(f"a category of {max(listed)}", cure="Number the categories from 0.")
            sets[i] = np.isin(np.arange(max(listed) + 1), listed).astype(int).tolist()
            rows.append((node["split_feature"], 0.0, CATEGORY, 0, cover, 0.0))
            continue
        default = node["default_left"] if missing != "None" else threshold >= 0  # NaN then counts as 0
        kind = ZERO_MISSING if missing == "Zero" else NUMBER
        rows.append((node["split_feature"], threshold, kind, int(default), cover, 0.0))
    table = dict(zip(("feature", "threshold", "kind", "missing_left", "cover", "value"), map(np.asarray, zip(*rows))))
    left, right = map(np.asarray, zip(*children))
    grower.add({"left": left, "right": right, **table}, column=column, categories=sets)
