"""Tree SHAP: exact Shapley values of ensembles of decision trees, read from the fitted object, in polynomial time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError, UnsupportedError

from .inputs import prepare
from .method import method
from .result import Found
from .score import Score
from .tree_games import MOST_FEATURES
from .tree_kernels import compiled, run
from .tree_nodes import Array
from .tree_readers import read_trees
from .trees import TreeEnsemble

# Rows that go through the trees together, and trees whose sums are added before those of others: both fixed, so that a value
# is the same to the last bit whatever the batch and however many threads there are.
ROWS, TREES = 512, 16
PLAIN = "numba is not installed: the trees were walked in plain Python, some hundred times slower (pip install numba)"


@method(
    "additive",
    needs="score",
    cost="F",
    claims="signed, complete",
    mission="X4",
    paper="Lundberg et al. 2020, alg. 1 and 2; Wettenstein & Nadel 2026 for the patterns",
    reading="What each feature's value adds to the mean answer (orange) or takes from it (blue); the shares sum to the score.",
)
def tree_shap(score: Score, x: Tensor, *, references: Any = None) -> Found:
    """phi_i = sum over S without i of |S|! (D - |S| - 1)! / D! (v(S + i) - v(S)), exact, for trees and sums of trees.

    references None: path-dependent. v(S) follows the sample at splits on S and takes the mean over both sides elsewhere,
    weighted by the training rows that went there; nothing but the trees is needed. references (R, D), rows of the training
    data: interventional. v(S) is the mean answer over the references with the sample's values put in for S: Shapley values of
    the function itself, blind to how the features hang together. The two differ; neither approximates the other.

    model: a scikit-learn, XGBoost or LightGBM model, or a ``TreeEnsemble``. What its trees sum to is explained: margins of
    boosted classifiers, probabilities of forests. ``base`` is v of nothing; ``gap`` is rounding only. ``counts``: references.

    Raises UnsupportedError for other models, for probabilities of a margin and for a target function, InputError for references
    of another width.
    """
    trees = read_trees(score.model)
    if score.of == "probability" and trees.link != "identity":
        raise UnsupportedError(
            "probabilities of a margin are no sum over trees", cure='Explain the margin, of="logit", or use kernel_shap.'
        )
    own, target = score.own().double(), score.target
    if target is None:
        raise UnsupportedError("trees have no values for a target function", cure="Give the target as a class index.")
    _check_agreement(trees, x, own, target)
    columns, rows = target.cpu().numpy(), trees.rows(x)
    if references is None:
        base, count = trees.expected, 0
        phi = _spread(trees, rows, columns, _path_dependent(trees))
    else:
        given = prepare(None, references, missing=trees.missing)
        if given.ndim != 2 or given.shape[1] != trees.inputs:
            raise InputError(f"references of shape {tuple(given.shape)}", cure=f"Give rows of {trees.inputs} features.")
        base, count = trees(given).mean(0), len(given)
        phi = _spread(trees, rows, columns, _interventional(trees, trees.rows(given)))
    relevance = torch.from_numpy(phi).to(x.device)
    start = base.to(x.device)[target]
    notes = [] if compiled() else [PLAIN]
    gap = own - start - relevance.sum(1)
    return Found(relevance, base=start, gap=gap, counts={"references": count}, notes=notes)


def _check_agreement(trees: TreeEnsemble, x: Tensor, own: Tensor, target: Tensor) -> None:
    """The trees answer as the model does, up to float32 sums: else they were misread, or it answers with something else."""
    ours = trees(x).to(own.device).gather(1, target[:, None])[:, 0]
    scale = torch.maximum(ours.abs(), own.abs()).clamp(min=1)
    off = ((ours - own).abs() / scale).argmax()
    if not bool((ours - own).abs()[off] <= 1e-5 * scale[off]):
        raise UnsupportedError(
            f"the trees sum to {float(ours[off]):.6g}, the model answers {float(own[off]):.6g}",
            where=f"sample {int(off)}",
            cure="What it answers is no sum of its trees: explain read_trees(model), or use kernel_shap.",
        )


Kernel = Callable[[Array, int, Array], Array]


def _path_dependent(trees: TreeEnsemble) -> Kernel:
    nodes = trees.nodes
    distinct, deepest = trees.longest
    t, w = np.polynomial.legendre.leggauss(max(1, math.ceil(distinct / 2)))

    def kernel(some: Array, column: int, x: Array) -> Array:
        phi = np.zeros(x.shape[::-1], order="F")
        run("path_dependent", nodes, some, column, deepest, x, (t + 1) / 2, w / 2, phi.T)
        return phi

    return kernel


def _interventional(trees: TreeEnsemble, references: Array) -> Kernel:
    nodes = trees.nodes
    distinct, deepest = trees.longest
    if distinct > MOST_FEATURES:
        raise UnsupportedError(
            f"a path with {distinct} distinct features, of at most {MOST_FEATURES}",
            cure="Leave references away, or prune the trees.",
        )
    win, lose = np.zeros((distinct + 1, distinct + 1)), np.zeros((distinct + 1, distinct + 1))
    for s in range(distinct + 1):
        for r in range(distinct + 1 - s):
            win[s, r] = 1 / (s * math.comb(s + r, s)) if s else 0.0
            lose[s, r] = 1 / (r * math.comb(s + r, r)) if r else 0.0

    def kernel(some: Array, column: int, x: Array) -> Array:
        phi = np.zeros((x.shape[1], x.shape[0]))
        run("interventional", nodes, some, column, deepest, x, references, win, lose, phi)
        phi /= references.shape[1]
        return phi

    return kernel


def _spread(trees: TreeEnsemble, x: Array, target: Array, kernel: Kernel) -> Array:
    """(B, D): the kernel over blocks of rows with one target and groups of trees, on as many threads as torch uses."""
    phi, threads = np.zeros((x.shape[1], x.shape[0])), torch.get_num_threads()
    compiled()
    pending: deque[tuple[Array, float, Future[Array]]] = deque()

    def collect(most: int) -> None:
        while len(pending) > most:
            rows, sign, job = pending.popleft()
            phi[rows] += sign * job.result()

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, x.shape[1], ROWS):
            block = np.arange(start, min(x.shape[1], start + ROWS))
            for column in np.unique(target[block]):
                rows, own = block[target[block] == column], 0 if trees.binary else int(column)
                some, part = np.flatnonzero((trees.column < 0) | (trees.column == own)), np.ascontiguousarray(x[:, rows])
                sign = -1.0 if trees.binary and column == 0 else 1.0
                for first in range(0, len(some), TREES):
                    group = some[first : first + TREES]
                    if threads == 1:  # a thread for nothing costs more than a small tree
                        phi[rows] += sign * kernel(group, own, part)
                        continue
                    pending.append((rows, sign, pool.submit(kernel, group, own, part)))
                    collect(4 * threads)
        collect(0)
    return phi
