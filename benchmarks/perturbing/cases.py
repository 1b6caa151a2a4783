"""What is explained: tables with small fitted models, images with a network. Everything follows from the seeds given here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

SEED, TRAINING = 0, 1500
HIDDEN = (64, 64)
TREES = 60
CHUNK = 4096
Ask = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Table:
    """Columns, samples to explain (S, D) with their classes, and rows for the background."""

    rows: np.ndarray
    classes: np.ndarray
    x: np.ndarray
    target: list[int]


@dataclass(frozen=True, eq=False)
class Case:
    """A model as a user has it, and the same as ``ask``, from an array (n, D) to scores (n, K), for the peers and bare runs.

    ``background`` (R, D): the rows that stand for what is taken away.
    """

    name: str
    model: Any
    ask: Ask
    table: Table
    background: np.ndarray
    of: str = "logit"

    @property
    def columns(self) -> int:
        """D."""
        return self.table.x.shape[1]

    def given(self, i: int | slice) -> Any:
        """Samples (n, D) as the model takes them."""
        x = self.table.x[i : i + 1] if isinstance(i, int) else self.table.x[i]
        return torch.from_numpy(x).float() if isinstance(self.model, nn.Module) else x

    def baseline(self) -> Any:
        """The background as an option of ours: one row is an input."""
        return torch.from_numpy(self.background).float() if isinstance(self.model, nn.Module) else self.background

    def single(self, target: int) -> Callable[[np.ndarray], np.ndarray]:
        """The score of one class, (n, D) -> (n,): the cheapest for packages that follow all classes otherwise."""
        return lambda rows: self.ask(rows)[:, target]


def table(columns: int, classes: int, samples: int) -> Table:
    """Gaussian clusters around corners of a cube, with columns that are combinations of others and some of pure noise."""
    informative, redundant = columns * 2 // 3, columns // 6
    drawn: dict[str, Any] = {"n_informative": informative, "n_redundant": redundant, "n_classes": classes}
    x, y = make_classification(TRAINING + 200, columns, random_state=SEED, **drawn)
    x = (x - x.mean(0)) / x.std(0)
    return Table(x[:TRAINING], y[:TRAINING], x[TRAINING : TRAINING + samples], y[TRAINING : TRAINING + samples].tolist())


def perceptron(data: Table, background: int, *, iterations: int = 40) -> Case:
    """scikit-learn's MLPClassifier, whose probabilities are explained; a background of one row is the mean."""
    model = MLPClassifier(HIDDEN, max_iter=iterations, random_state=SEED).fit(data.rows, data.classes)
    return Case("MLPClassifier", model, model.predict_proba, data, _background(data, background), "probability")


def network(data: Table, background: int, *, iterations: int = 40) -> Case:
    """The same weights in torch; the logits are explained."""
    fitted = perceptron(data, background, iterations=iterations).model
    layers: list[nn.Module] = []
    for weight, bias in zip(fitted.coefs_, fitted.intercepts_):
        linear = nn.Linear(*weight.shape)
        linear.load_state_dict({"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(bias)})
        layers += [linear, nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).eval()

    @torch.no_grad()
    def ask(rows: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(rows).float()).numpy()

    return Case("torch MLP", model, ask, data, _background(data, background))


def boosted(data: Table, background: int, depth: int) -> Case:
    """Gradient-boosted trees of scikit-learn, whose decision values for two classes are explained."""
    model = GradientBoostingClassifier(n_estimators=TREES, max_depth=depth, random_state=SEED).fit(data.rows, data.classes)
    return Case("boosted trees", model, lambda a: _both(model.decision_function(a)), data, _background(data, background))


def linear(data: Table, background: int) -> Case:
    """A logistic regression, whose decision values are explained."""
    model = LogisticRegression(max_iter=200).fit(data.rows, data.classes)
    return Case("linear model", model, model.decision_function, data, _background(data, background))


def _both(decision: np.ndarray) -> np.ndarray:
    return np.stack([-decision, decision], 1)


def _background(data: Table, rows: int) -> np.ndarray:
    return data.rows.mean(0, keepdims=True) if rows == 1 else data.rows[:rows]


def grid(size: int, down: int, across: int) -> Tensor:
    """(size, size) labels of down x across rectangles: the same segments for every package."""
    places = torch.arange(size)
    return (places * down // size)[:, None] * across + places * across // size


def converged(case: Case, samples: int, coalitions: int) -> np.ndarray:
    """(S, M) Shapley values by a regression over coalitions drawn independently: for more columns than can be enumerated.

    The size s is drawn with probability ~ 1 / (s (M - s)), a coalition evenly among those of its size, and its complement is
    taken too; sum over S of (v(S) - v(0) - sum over i in S of phi_i)^2 is least under sum phi_i = v(all) - v(0).
    """
    rng, m, b = np.random.default_rng(SEED), case.columns, case.background
    sizes = np.arange(1, m)
    likely = 1 / (sizes * (m - sizes))
    square, aims = np.zeros((m, m)), np.zeros((samples, m))
    ends = [case.ask(np.concatenate([case.table.x[i : i + 1], b]))[:, case.table.target[i]] for i in range(samples)]
    tops = [(end[0], end[1:].mean()) for end in ends]
    for start in range(0, coalitions // 2, CHUNK):
        n = min(CHUNK, coalitions // 2 - start)
        drawn = rng.choice(sizes, n, p=likely / likely.sum())
        stay = rng.random((n, m)).argsort(1).argsort(1) < drawn[:, None]
        both = np.concatenate([stay, ~stay])
        square += both.T.astype(float) @ both
        for i in range(samples):
            rows = np.where(both[:, None], case.table.x[i], b).reshape(-1, m)
            value = case.ask(rows)[:, case.table.target[i]].reshape(-1, len(b)).mean(1)
            aims[i] += both.T @ (value - tops[i][1])
    inverse = np.linalg.inv(square)
    ones = inverse.sum(1)
    free = aims @ inverse
    return free + ((np.array([top - base for top, base in tops]) - free.sum(1)) / ones.sum())[:, None] * ones
