"""A small decision tree that answers like the model: what it says, and how far it can stand for the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor

from pellucid.core import checks
from pellucid.core.errors import InputError
from pellucid.explanation.borrowing import Model
from pellucid.explanation.foreign import adapted
from pellucid.explanation.inputs import prepare
from pellucid.explanation.score import Score, over_batches
from pellucid.explanation.targets import link_of, logits, probabilities


@dataclass(frozen=True)
class Surrogate:
    """A tree fitted to a model's answers, and its fidelity on rows that it was not fitted to.

    agreement: the share of held-out rows for which tree and model name the same class, ``trivial`` what always naming the most
    frequent one would reach (None for a single output); r2: the share of the variance of the model's answers explained, the
    mean over outputs. leaves, depth: its size.
    """

    tree: DecisionTreeRegressor
    agreement: float | None
    trivial: float | None
    r2: float
    rows: int

    @property
    def leaves(self) -> int:
        """The number of rules."""
        return int(self.tree.get_n_leaves())

    @property
    def depth(self) -> int:
        """The most conditions of a rule."""
        return int(self.tree.get_depth())

    def fidelity(self) -> str:
        """In words."""
        said = f"explains {100 * self.r2:.0f} % of the variance of the model's answers on {self.rows:,} held-out rows"
        if self.agreement is None or self.trivial is None:
            return said
        named = f"names the model's class for {100 * self.agreement:.0f} % of them"
        return f"{said} and {named} (the commonest alone: {100 * self.trivial:.0f} %)"

    def rules(
        self, features: Sequence[str], classes: Sequence[str] = (), *, scale: Sequence[tuple[float, float]] | None = None
    ) -> list[str]:
        """The tree as indented lines; ``scale``: (mean, deviation) of features that were standardised, to write their units."""
        return tree_rules(self.tree, features, classes, scale=scale)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        named = ("agreement", "trivial", "r2", "rows", "leaves", "depth")
        return {name: getattr(self, name) for name in named} | {"said": self.fidelity()}


def surrogate_tree(
    model: Model, x: Any, held_out: Any, *, leaves: int = 8, least: int = 5, seed: int = 0, batch: int | None = None
) -> Surrogate:
    """A regression tree with at most ``leaves`` leaves, fitted to the model's answers on ``x``, judged on ``held_out``.

    model, x: as for an explanation, with data frames, estimators and functions; held_out: rows like x. The answers are the
    probabilities of the classes, or of a single output its value; what is no table is flattened to one. least: rows in a leaf.
    Source: Craven & Shavlik 1996, sec. 3 (fidelity), here with scikit-learn's CART.
    """
    checks.count("leaves", leaves, least=2)
    checks.count("least", least)
    subject = adapted(model, x, {"surrogate_tree": {"references": held_out}})
    both = (subject.x, subject.options["surrogate_tree"]["references"])
    (fit, y), (rest, z) = (_answered(subject.model, part, batch) for part in both)
    if fit.shape[1] != rest.shape[1]:
        raise InputError(f"{fit.shape[1]} and {rest.shape[1]} features", cure="Give rows of the same table.")
    tree = DecisionTreeRegressor(max_leaf_nodes=leaves, min_samples_leaf=min(least, len(fit)), random_state=seed).fit(fit, y)
    said = tree.predict(rest).reshape(z.shape)
    spread = ((z - z.mean(0)) ** 2).sum(0)
    left = ((z - said) ** 2).sum(0)
    r2 = float(np.mean(np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), left <= 1e-12)))
    agreement = trivial = None
    if z.shape[1] > 1:
        named = z.argmax(1)
        agreement = float((said.argmax(1) == named).mean())
        trivial = float((named == np.bincount(y.argmax(1)).argmax()).mean())
    return Surrogate(tree, agreement, trivial, r2, len(rest))


def _answered(model: Model, x: Any, batch: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows (N, D) and the model's answers (N, K): probabilities where there are several."""
    link = link_of(model)
    x = prepare(model, x)

    def run(score: Score) -> torch.Tensor:
        with torch.no_grad():
            z = logits(score.model(score.x), len(score))
        p = probabilities(z, link) if z.shape[1] > 1 else None
        return z if p is None else p

    found = torch.cat(over_batches(model, x, run, batch=batch))
    return x.flatten(1).double().cpu().numpy(), found.double().cpu().numpy()


def tree_rules(
    tree: Any, features: Sequence[str], classes: Sequence[str] = (), *, scale: Sequence[tuple[float, float]] | None = None
) -> list[str]:
    """A scikit-learn tree as lines: a condition for each branch, and at a leaf its answer with its share of the rows."""
    t = tree.tree_
    if len(features) != t.n_features:
        raise InputError(f"{len(features)} names for {t.n_features} features", cure="Name every feature.")
    lines: list[str] = []

    def answer(node: int) -> str:
        values = np.atleast_1d(t.value[node].squeeze())
        share = f"{100 * t.weighted_n_node_samples[node] / t.weighted_n_node_samples[0]:.0f} % of the rows"
        if len(values) == 1:
            return f"{values[0]:.4g} ({share})"
        best = int(values.argmax())
        name = classes[best] if classes else f"class {best}"
        return f"{name} {100 * values[best] / values.sum():.0f} % ({share})"

    def walk(node: int, depth: int) -> None:
        for child, above in ((t.children_left[node], False), (t.children_right[node], True)):
            said = "    " * depth + _condition(
                features[t.feature[node]], float(t.threshold[node]), above, scale, t.feature[node]
            )
            if t.children_left[child] < 0:
                lines.append(f"{said}: {answer(child)}")
            else:
                lines.append(said)
                walk(child, depth + 1)

    if t.node_count == 1:
        return [f"always: {answer(0)}"]
    walk(0, 0)
    return lines


def _condition(name: str, threshold: float, above: bool, scale: Sequence[tuple[float, float]] | None, feature: int) -> str:
    mean, deviation = (0.0, 1.0) if scale is None else scale[feature]
    flag = "=" in name or name.endswith(" missing")
    if flag and 0 <= threshold < 1:  # a column of 0 and 1
        return name if above else f"not {name}"
    return f"{name} {'>' if above else '<='} {threshold * deviation + mean:.4g}"
