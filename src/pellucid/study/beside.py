"""Interpretable models beside the network: fitted to the same training rows, judged on the same test rows, kept in the run.

A tree or an ensemble of trees is kept as arrays, a linear model as the weights of an ``mlp`` without hidden layers: a run holds
nothing that can execute, and both can be explained and audited like the network itself (``pellucid explain --beside``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError, MissingExtraError, nearest
from pellucid.core.table import BESIDE
from pellucid.evaluation.classification import evaluate_classification
from pellucid.evaluation.regression import evaluate_regression
from pellucid.explanation.targets import link_of, probabilities
from pellucid.explanation.tree_readers import read_trees
from pellucid.explanation.trees import TreeEnsemble
from pellucid.models.building import build
from pellucid.quality.surrogate import surrogate_tree, tree_rules
from pellucid.training.checkpoint import load_weights, save_weights

from .recall import data_of, device_of, facts_of, model_of, objective_of, split_of, study_of
from .run_directory import RunDirectory

AUTO = ("decision_tree", "sparse_linear")
LEAVES = (2, 3, 4, 6, 8, 12, 16, 24, 32)
STRENGTHS = tuple(float(c) for c in np.logspace(-3, 1, 9))
# A simpler model is taken where the best is better on the validation rows by no more than this share of its error.
SIMPLER = 0.02
# Rows of the training part that the surrogate is fitted to, and features of which a line is printed.
MOST_ROWS, MOST_LISTED = 20_000, 30
FOLDER = "beside"


@dataclass(frozen=True)
class Rows:
    """Training and validation rows as scikit-learn takes them; ``classes`` 0 for a regression."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    classes: int
    seed: int

    def error(self, estimator: Any) -> float:
        """On the validation rows (the training rows where there are none): 1 - accuracy, or 1 - R²."""
        x, y = (self.x_validation, self.y_validation) if len(self.y_validation) else (self.x, self.y)
        return 1 - float(estimator.score(x, y))

    def simplest(self, made: Sequence[Any]) -> Any:
        """The first, from the simplest to the most complex, that is as good as the best but for a little."""
        errors = [self.error(estimator) for estimator in made]
        return next(e for e, error in zip(made, errors) if error <= min(errors) * (1 + SIMPLER) + 1e-12)


@BESIDE.add("interpretable", mission="L8", paper="Breiman et al. 1984")
def decision_tree(rows: Rows) -> Any:
    """One tree, with as few leaves (2 to 32) as the validation rows allow."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if rows.classes else DecisionTreeRegressor
    least = max(1, min(5, len(rows.y) // 20))
    made = [kind(max_leaf_nodes=n, min_samples_leaf=least, random_state=rows.seed).fit(rows.x, rows.y) for n in LEAVES]
    return rows.simplest(made)


@BESIDE.add("interpretable", mission="L8", paper="Tibshirani 1996")
def sparse_linear(rows: Rows) -> Any:
    """A linear (logistic) model with an L1 penalty, as strong as the validation rows allow."""
    from sklearn.linear_model import Lasso, LogisticRegression

    if not rows.classes:
        scale = float(rows.y.std()) or 1.0
        return rows.simplest([Lasso(alpha=0.1 * scale / c / 100, max_iter=20_000).fit(rows.x, rows.y) for c in STRENGTHS])
    options: dict[str, Any] = {"l1_ratio": 1.0, "solver": "saga", "max_iter": 5000, "tol": 1e-3, "random_state": rows.seed}
    return rows.simplest([LogisticRegression(C=c, **options).fit(rows.x, rows.y) for c in STRENGTHS])


@BESIDE.add("ensemble", mission="X4", paper="Breiman 2001")
def random_forest(rows: Rows) -> Any:
    """A forest of 100 randomised trees, at least two rows to a leaf."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestClassifier if rows.classes else RandomForestRegressor
    return kind(100, min_samples_leaf=2, random_state=rows.seed).fit(rows.x, rows.y)


@BESIDE.add("ensemble", mission="X4", paper="Ke et al. 2017")
def lightgbm(rows: Rows) -> Any:
    """LightGBM's boosted trees with its default options, as many as the validation rows allow (at most 200)."""
    library = _library("lightgbm")
    options: dict[str, Any] = {"objective": "regression", "seed": rows.seed % 2**31, "verbosity": -1, "num_threads": 1}
    if rows.classes:
        options |= {"objective": "binary"} if rows.classes == 2 else {"objective": "multiclass", "num_class": rows.classes}
    options |= {"deterministic": True, "force_col_wise": True}
    train = library.Dataset(rows.x, rows.y, free_raw_data=False)
    if not len(rows.y_validation):
        return library.train(options, train, 100)
    held = library.Dataset(rows.x_validation, rows.y_validation, reference=train)
    return library.train(options, train, 200, valid_sets=[held], callbacks=[library.early_stopping(20, verbose=False)])


@BESIDE.add("ensemble", mission="X4", paper="Chen & Guestrin 2016")
def xgboost(rows: Rows) -> Any:
    """XGBoost's boosted trees with its default options, as many as the validation rows allow (at most 200)."""
    library = _library("xgboost")
    kind = library.XGBClassifier if rows.classes else library.XGBRegressor
    stop = 20 if len(rows.y_validation) else None
    made = kind(n_estimators=200, random_state=rows.seed, n_jobs=1, early_stopping_rounds=stop)
    return made.fit(rows.x, rows.y, eval_set=[(rows.x_validation, rows.y_validation)] if stop else None, verbose=False)


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"a model beside the network needs {name}", cure=f"pip install {name}") from error


def names_of(run: RunDirectory) -> tuple[str, ...]:
    """What the study asks for: of a table a tree and a linear model, unless it says otherwise."""
    asked = study_of(run).beside
    if asked is not None:
        return asked
    facts = facts_of(run)
    return AUTO if facts["kind"] == "table" and facts["task"] != "multilabel" else ()


def measure(run: RunDirectory) -> dict[str, Any]:
    """Fit every model, keep it in the run, and measure it on the test part; with the surrogate tree of the network."""
    names, facts = names_of(run), facts_of(run)
    value: dict[str, Any] = {"models": {}, "surrogate": None}
    if not names:
        return value
    if facts["task"] == "multilabel":
        raise InputError(
            "models beside the network do not learn several labels at once", where="beside", cure="Set beside: []."
        )
    rows = _rows(run)
    test_x, test_y = data_of(run).tensors(split_of(run)["test"])
    (run.path / FOLDER).mkdir(exist_ok=True)
    for name in names:
        estimator = BESIDE[name].value(rows)
        model = _kept(run, name, estimator)
        with torch.no_grad():
            p = Answers(model).predict(model(test_x.flatten(1).to(device_of(run))).cpu())
        if rows.classes:
            report: Any = evaluate_classification(test_y.numpy(), p.numpy(), facts["classes"], y_train=rows.y)
        else:
            report = evaluate_regression(test_y.numpy(), p.numpy(), y_train=rows.y)
        value["models"][name] = {"headline": report.headline(), "test": report.to_json(), **_described(run, estimator)}
    value["surrogate"] = _surrogate(run, rows, test_x)
    return value


def _rows(run: RunDirectory) -> Rows:
    split, facts = split_of(run), facts_of(run)
    (x, y), (x_validation, y_validation) = (data_of(run).tensors(split[part]) for part in ("train", "validation"))
    arrays = (x.flatten(1).numpy(), y.numpy(), x_validation.flatten(1).numpy(), y_validation.numpy())
    classes = len(facts["classes"]) if facts["task"] == "classification" else 0
    return Rows(*arrays, classes=classes, seed=study_of(run).seed % 2**32)


def _kept(run: RunDirectory, name: str, estimator: Any) -> Any:
    """Write the model into the run, and read it back: what is measured is what is kept."""
    path, facts = run.path / FOLDER / f"{name}.safetensors", facts_of(run)
    if not hasattr(estimator, "coef_"):
        read_trees(estimator).save(path)
        return opened_model(run, name)
    weight, bias = np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_)
    if facts["task"] == "classification":
        weight, bias = _of_every_class(weight, bias, estimator.classes_, len(facts["classes"]))
    model = _linear(run, len(bias))
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(bias))
    save_weights(path, model, {"outputs": str(len(bias))})
    return opened_model(run, name)


def _of_every_class(weight: np.ndarray, bias: np.ndarray, seen: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A row for each class: two from the margin of two, and a logit out of reach for one that no training row has."""
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    wide, high = np.zeros((classes, weight.shape[1])), np.full(classes, -30.0)
    wide[seen], high[seen] = weight, bias
    return wide, high


def _linear(run: RunDirectory, outputs: int) -> Any:
    return build("mlp", input_shape=facts_of(run)["input_shape"], outputs=outputs, hidden=[])


def opened_model(run: RunDirectory, name: str) -> Any:
    """The model of this name as the run keeps it."""
    path = run.path / FOLDER / f"{name}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.safetensors"))
        raise InputError(
            f"the run has no model '{name}' beside its network", cure=nearest(name, known) if known else "It has none."
        )
    if name != "sparse_linear":
        return TreeEnsemble.load(path)
    facts = facts_of(run)
    model = _linear(run, len(facts["classes"]) if facts["task"] == "classification" else 1)
    load_weights(path, model)
    return model.eval().to(device_of(run))


class Answers:
    """Stands for the objective of a model beside the network: how what it answers becomes predictions."""

    def __init__(self, model: Any) -> None:
        self.link = link_of(model)

    def predict(self, output: Tensor) -> Tensor:
        """Probabilities (N, K), or values (N,) of a single output."""
        if output.shape[1] == 1:
            return output[:, 0]
        p = probabilities(output.double(), self.link)
        assert p is not None
        return p / p.sum(1, keepdim=True)


def view(run: RunDirectory, name: str) -> RunDirectory:
    """The same run with this model in the place of the network: every later verb can be asked about it."""
    model = opened_model(run, name)
    facts = facts_of(run)
    outputs = 1 if facts["task"] == "regression" else len(facts["classes"])
    seen = RunDirectory(run.path)
    seen.beside = name
    seen.memory = {**run.memory, "model": model, "facts": {**facts, "outputs": outputs, "layers": []}}
    seen.memory["objective"] = Answers(model)
    return seen


def _described(run: RunDirectory, estimator: Any) -> dict[str, Any]:
    """How simple it is, in words, and what it says, line by line, where that can be read."""
    features, classes = facts_of(run)["features"], facts_of(run)["classes"]
    if hasattr(estimator, "coef_"):
        weight = np.atleast_2d(estimator.coef_)
        used = np.abs(weight).max(0)
        order = [int(j) for j in np.argsort(-used, kind="stable") if used[j] > 0]
        towards = classes[1:] if len(classes) == 2 else classes or [facts_of(run)["target"]]
        lines = [f"weight of each standardised column for {', '.join(towards)}"]
        lines += [f"{features[j]}: {', '.join(f'{w:+.3g}' for w in weight[:, j])}" for j in order[:MOST_LISTED]]
        said = f"{len(order)} of {len(features)} columns used"
        return {"said": said, "lines": lines, "more": max(0, len(order) - MOST_LISTED)}
    if hasattr(estimator, "tree_"):
        lines = tree_rules(estimator, features, classes, scale=scales(run))
        return {"said": f"{estimator.get_n_leaves()} leaves, {estimator.get_depth()} deep", "lines": lines, "more": 0}
    ensemble = read_trees(estimator)
    return {"said": f"{len(ensemble.roots)} trees", "lines": [], "more": 0}


def scales(run: RunDirectory) -> list[tuple[float, float]]:
    """(mean, deviation) of every encoded column, to write thresholds in the units of the table."""
    found: list[tuple[float, float]] = []
    for column in facts_of(run)["preparation"].get("columns", []):
        flags = [(0.0, 1.0)] * (len(column["categories"]) if column["categories"] else int(column["indicator"]))
        found += flags if column["categories"] else [(column["mean"], column["std"]), *flags]
    return found or [(0.0, 1.0)] * len(facts_of(run)["features"])


def _surrogate(run: RunDirectory, rows: Rows, test_x: Tensor) -> dict[str, Any]:
    """A tree that answers like the network, with its fidelity on the test rows."""
    facts, network = facts_of(run), model_of(run)

    def predicted(x: Tensor) -> Tensor:
        p = objective_of(run).predict(network(x.to(device_of(run)))).cpu()
        return (p if p.ndim == 2 else p[:, None]).double()

    predicted.link = "identity"  # type: ignore[attr-defined]
    shape = facts["input_shape"]
    fit = torch.from_numpy(rows.x[:MOST_ROWS]).view(-1, *shape)
    found = surrogate_tree(predicted, fit, test_x, seed=rows.seed)
    return found.to_json() | {"lines": found.rules(facts["features"], facts["classes"], scale=scales(run))}
