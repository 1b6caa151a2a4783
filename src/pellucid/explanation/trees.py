"""Ensembles of decision trees as plain arrays: what ``tree_shap`` explains, whatever library grew them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from . import tree_nodes as at
from .targets import LINKS
from .tree_kernels import run
from .tree_nodes import CATEGORY, NUMBER, WHOLE_CATEGORY, Array, Nodes

FORMAT = 1
_PER_NODE = ("left", "right", "feature", "threshold", "cover", "kind", "missing_left", "other_left", "first", "size")
_ARRAYS = (*_PER_NODE, "value", "roots", "base", "column", "listed")
_HEADER = ("inputs", "link", "binary", "single", "missing")


def _zeros() -> Array:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """Trees over ``inputs`` features whose leaves add up, beside ``base`` (K,). Callable: (B, D) -> (B, K), float64.

    Per node, over all trees: left and right child (-1 at leaves), feature (-1 at leaves), threshold: x <= threshold goes left
    (a library's x < t is stored with the number before t), cover: the weight of the training rows, missing_left: NaN goes left.
    kind: 0 a number; 1 the same with |x| <= 1e-35 as missing; 2 a category, cut to its whole part; 3 a category that has to be
    whole. A category c goes left where listed[first + c] is 1; where it is negative or not below size, by other_left.
    value (nodes, K), or (nodes, 1) with column (trees,): the column that each tree adds to, -1 for all. roots (trees,).

    link: from answers to probabilities, see ``targets.LINKS``. binary: the one margin m is answered as -m and m, so that target
    1 is the positive class. single: x is rounded to float32 first, as the library does. missing: whether the library takes NaN.
    Raises InputError for arrays that are no trees.
    """

    left: Array
    right: Array
    feature: Array
    threshold: Array
    cover: Array
    value: Array
    roots: Array
    base: Array
    inputs: int
    column: Array = field(default_factory=_zeros)
    kind: Array = field(default_factory=_zeros)
    missing_left: Array = field(default_factory=_zeros)
    other_left: Array = field(default_factory=_zeros)
    first: Array = field(default_factory=_zeros)
    size: Array = field(default_factory=_zeros)
    listed: Array = field(default_factory=_zeros)
    link: str = "identity"
    binary: bool = False
    single: bool = False
    missing: bool = False

    def __post_init__(self) -> None:
        n = len(self.left)
        for name in _ARRAYS:
            given = np.asarray(getattr(self, name))
            if name in _PER_NODE and given.size == 0:
                given = np.zeros(n, np.int64)
            if name == "column" and given.size == 0:
                given = np.full(len(self.roots), -1)
            real = name in ("threshold", "cover", "value", "base")
            object.__setattr__(self, name, np.ascontiguousarray(given, np.float64 if real else np.int64))
        self._check()

    def _check(self) -> None:
        n, columns = len(self.left), len(self.base)
        checks.count("inputs", self.inputs)
        checks.one_of("link", self.link, LINKS)
        wrong = next((name for name in _PER_NODE if getattr(self, name).shape != (n,)), None)
        if (
            wrong
            or self.value.ndim != 2
            or len(self.value) != n
            or self.base.ndim != 1
            or self.column.shape != self.roots.shape
        ):
            raise InputError(f"{wrong or 'value, base or column'} has another length than the nodes", cure="Give one per node.")
        inner = self.left >= 0
        children = np.concatenate([self.left[inner], self.right[inner], self.roots])
        names = self.feature[inner]
        if not len(self.roots) or np.any((children < 0) | (children >= n)) or np.any((names < 0) | (names >= self.inputs)):
            raise InputError("a child, a root or a feature does not exist", cure="Number nodes from 0, features below inputs.")
        several = self.column < 0
        if np.any(self.column >= columns) or (several.any() and self.value.shape[1] != columns) or self.value.shape[1] < 1:
            raise InputError(f"values of shape {self.value.shape} for {columns} columns", cure="Give one per column.")
        if self.binary and columns != 1:
            raise InputError(f"a binary margin with {columns} columns", cure="Give one.")
        categories = np.isin(self.kind, (CATEGORY, WHOLE_CATEGORY))
        ends = self.first[categories] + self.size[categories]
        if np.any((self.kind < NUMBER) | (self.kind > WHOLE_CATEGORY)) or np.any(self.first[categories] < 0):
            raise InputError("an unknown kind of split", cure=f"Give {NUMBER} to {WHOLE_CATEGORY}.")
        if np.any(ends > len(self.listed)) or np.any(self.size[categories] < 0):
            raise InputError("a set of categories reaches beyond listed", cure="Give listed for every set.")
        if not all(np.isfinite(a).all() for a in (self.value, self.base, self.cover)) or np.any(self.cover < 0):
            raise InputError("a value or a cover is not a finite number", cure="Give covers of at least 0.")

    @functools.cached_property
    def nodes(self) -> Nodes:
        """The trees in preorder, with what the kernels need to know of every path."""
        n = len(self.left)
        order, end = np.empty(n, np.int64), np.empty(n, np.int64)
        met = run("in_preorder", self.left, np.where(self.left < 0, -1, self.right), self.roots, order, end)
        if met < 0:
            raise InputError("a node has two parents", cure="Give trees.")
        order = order[:met]
        place = np.full(n, -1)
        place[order] = np.arange(met)
        inner = self.left[order] >= 0
        whole, real = np.zeros((met, at.WHOLE), np.int32), np.zeros((met, at.REAL))
        whole[:, at.FEATURE] = np.where(inner, self.feature[order], -1)
        whole[:, at.RIGHT] = np.where(inner, place[self.right[order]], -1)
        whole[:, at.END], whole[:, at.KIND] = end[:met], self.kind[order]
        missing = self.missing_left[order] > 0
        whole[:, at.MISSING_LEFT], whole[:, at.OTHER_LEFT] = missing, self.other_left[order] > 0
        whole[:, at.FIRST], whole[:, at.SIZE] = self.first[order], self.size[order]
        real[:, at.THRESHOLD] = self.threshold[order]
        value = np.ascontiguousarray(self.value[order])
        nodes = Nodes(whole, real, value, (self.listed > 0).astype(np.int8), place[self.roots], self.column)
        run("mark_paths", nodes, self.cover[order])
        return nodes

    @functools.cached_property
    def longest(self) -> tuple[int, int]:
        """The most distinct features and the most splits on one path."""
        return int(self.nodes.whole[:, at.DISTINCT].max()), int(self.nodes.whole[:, at.DEPTH].max())

    def rows(self, x: Tensor) -> Array:
        """(D, B) samples as the kernels take them, in the precision that the library compares in."""
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise InputError(f"trees over {self.inputs} features for samples of shape {tuple(x.shape)}", cure="Give (B, D).")
        columns = np.ascontiguousarray(x.detach().cpu().double().numpy().T)
        if not self.missing and np.isnan(columns).any():
            raise InputError("NaN in the samples, which these trees cannot take", cure="Fill it first.")
        if not self.single:
            return columns
        with np.errstate(over="ignore"):
            return columns.astype(np.float32).astype(np.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, K) the base and the leaves that each sample reaches."""
        rows = self.rows(x)
        out = np.tile(self.base, (rows.shape[1], 1))
        run("add_leaves", self.nodes, rows, out)
        return self._columns(out).to(x.device)

    @functools.cached_property
    def expected(self) -> Tensor:
        """(K,) the mean answer over the training rows, by the covers of the nodes."""
        out = self.base.copy()
        run("expect_leaves", self.nodes, out)
        return self._columns(out[None])[0]

    def _columns(self, out: Array) -> Tensor:
        return torch.from_numpy(np.concatenate([-out, out], 1) if self.binary else out)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, what is no array as JSON in its header."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in _ARRAYS}
        header = {"format": FORMAT, **{name: getattr(self, name) for name in _HEADER}}
        save_file(tensors, path, metadata={"pellucid.trees": json.dumps(header)})
        return path

    @classmethod
    def load(cls, path: str | Path) -> TreeEnsemble:
        """Read what ``save`` wrote."""
        try:
            with safe_open(path, framework="pt") as file:
                header: dict[str, Any] = json.loads(file.metadata()["pellucid.trees"])
                arrays: dict[str, Any] = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError("not saved trees", where=path, cure="Give a file that TreeEnsemble.save wrote.") from error
        if header.pop("format", FORMAT) > FORMAT:
            raise InputError("the trees were written by a newer pellucid", where=path, cure="Upgrade pellucid to read them.")
        if {*header, *arrays} != {f.name for f in fields(cls)}:
            raise InputError("not saved trees", where=path, cure="Give a file that TreeEnsemble.save wrote.")
        return cls(**arrays, **header)


class Grower:
    """Gathers trees one after another into a ``TreeEnsemble``."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {name: [] for name in (*_PER_NODE, "value")}
        self._roots: list[int] = []
        self._columns: list[int] = []
        self._listed: list[Array] = []
        self._count = self._categories = 0

    def add(self, arrays: dict[str, Any], *, column: int = -1, categories: Mapping[int, Sequence[int]] | None = None) -> None:
        """One tree with its root as node 0. categories: by node, which of 0, 1, ... go left as ones and zeros."""
        n = len(arrays["left"])
        parts = {name: np.asarray(arrays.get(name, np.zeros(n, np.int64))).copy() for name in self._parts}
        inner = parts["left"] >= 0
        parts["left"] = np.where(inner, parts["left"] + self._count, -1)
        parts["right"] = np.where(inner, parts["right"] + self._count, -1)
        parts["feature"] = np.where(inner, parts["feature"], -1)
        for node, ones in (categories or {}).items():
            parts["first"][node], parts["size"][node] = self._categories, len(ones)
            self._listed.append(np.asarray(ones, np.int64))
            self._categories += len(ones)
        parts["value"] = parts["value"].reshape(n, -1)
        for name, part in parts.items():
            self._parts[name].append(part)
        self._roots.append(self._count)
        self._columns.append(column)
        self._count += n

    def grown(self, base: Any, inputs: int, **more: Any) -> TreeEnsemble:
        """All trees so far."""
        if not self._roots:
            raise InputError("an ensemble without trees", cure="Fit at least one.")
        arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        listed = np.concatenate(self._listed) if self._listed else _zeros()
        roots, columns = np.array(self._roots), np.array(self._columns)
        return TreeEnsemble(**arrays, roots=roots, column=columns, base=base, inputs=inputs, listed=listed, **more)
