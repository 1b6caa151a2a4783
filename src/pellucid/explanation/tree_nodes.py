"""Trees as tables of nodes, and the loops that read them. ``tree_kernels`` compiles these functions where numba is installed.

Shapes: x (D, n) holds the rows as columns; u is a node, d its depth, r a row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# How a node decides: a number by its threshold; the same with zero as a missing value; a category by its whole part; a
# category that has to be a whole number.
NUMBER, ZERO_MISSING, CATEGORY, WHOLE_CATEGORY = range(4)
ZERO = float(np.float32(1e-35))  # LightGBM's: |x| up to here is zero

# Columns of Nodes.whole and Nodes.real.
FEATURE, RIGHT, END, DEPTH, BEFORE, RETURNS, SLOT, DISTINCT, KIND, MISSING_LEFT, OTHER_LEFT, FIRST, SIZE, WHOLE = range(14)
THRESHOLD, SHARE, WEIGHT, REAL = range(4)


class Nodes(NamedTuple):
    """All nodes of all trees, each tree in preorder: the left child of u is u + 1.

    whole (nodes, WHOLE): FEATURE -1 at a leaf. END the first node behind the subtree. BEFORE the depth of the last node above
    that was reached by a split on the same feature as the node was, 0 if there is none. RETURNS whether that is this node's
    part for another. SLOT which of the path's DISTINCT features led here. A category c goes left where listed[FIRST + c] is 1,
    if it is SIZE or more where OTHER_LEFT is 1. real (nodes, REAL): SHARE of the node's cover among its parent's children;
    WEIGHT the product of the shares of the path's splits on the feature that led here. value (nodes, V). column (trees,): of
    the answer, which the tree adds its one value to; -1: it has a value for each.
    """

    whole: Array
    real: Array
    value: Array
    listed: Array
    roots: Array
    column: Array


def in_preorder(left: Array, right: Array, roots: Array, order: Array, end: Array) -> int:
    """Fill order with the nodes of all trees in preorder and end with the places behind their subtrees; how many were met.

    -1 where a node is met twice, which is no tree.
    """
    met = 0
    seen = np.zeros(len(left), np.bool_)
    stack = np.empty(len(left) + 2, np.int64)
    place = np.empty(len(left), np.int64)
    for root in roots:
        stack[0], height, first = root, 1, met
        while height > 0:
            height -= 1
            u = stack[height]
            if seen[u] or height + 2 > len(left) + 1:
                return -1
            seen[u] = True
            place[u], order[met] = met, u
            met += 1
            if left[u] >= 0:
                stack[height], stack[height + 1] = right[u], left[u]
                height += 2
        for at in range(met - 1, first - 1, -1):
            u = order[at]
            end[at] = at + 1 if left[u] < 0 else end[place[right[u]]]
    return met


def mark_paths(nodes: Nodes, cover: Array) -> None:
    """Fill what ``Nodes`` says of the way to a node, from the features, RIGHT, END and the cover of every node."""
    whole, real = nodes.whole, nodes.real
    path = np.empty(len(cover) + 1, np.int64)  # by depth: the nodes above
    for root in nodes.roots:
        real[root, SHARE] = real[root, WEIGHT] = 1.0
        whole[root, RETURNS], whole[root, SLOT] = 1, -1
        for u in range(root, whole[root, END]):
            d = whole[u, DEPTH]
            path[d] = u
            if whole[u, FEATURE] < 0:
                continue
            before = 0
            for level in range(d, 0, -1):
                if whole[path[level - 1], FEATURE] == whole[u, FEATURE]:
                    before = level
                    break
            last, right = path[before], whole[u, RIGHT]
            whole[last, RETURNS] = 1
            both = cover[u + 1] + cover[right]
            # a split that no training row reached says nothing: both sides alike
            real[u + 1, SHARE] = cover[u + 1] / both if both > 0 else 0.5
            real[right, SHARE] = 1.0 - real[u + 1, SHARE]
            for side in range(2):
                c = u + 1 if side == 0 else right
                real[c, WEIGHT] = real[c, SHARE] * (real[last, WEIGHT] if before > 0 else 1.0)
                whole[c, BEFORE], whole[c, DEPTH] = before, d + 1
                whole[c, SLOT] = whole[last, SLOT] if before > 0 else whole[u, DISTINCT]
                whole[c, DISTINCT] = whole[u, DISTINCT] + (1 if before == 0 else 0)


def goes_left(whole: Array, real: Array, listed: Array, u: int, v: float) -> bool:
    """Where a value goes at node u."""
    if v != v:
        return bool(whole[u, MISSING_LEFT] > 0)
    kind = whole[u, KIND]
    if kind == NUMBER or (kind == ZERO_MISSING and not -ZERO <= v <= ZERO):
        return bool(v <= real[u, THRESHOLD])
    if kind == ZERO_MISSING:
        return bool(whole[u, MISSING_LEFT] > 0)
    if v < 0 or v >= whole[u, SIZE] or (kind == WHOLE_CATEGORY and v != np.floor(v)):
        return bool(whole[u, OTHER_LEFT] > 0)
    return bool(listed[whole[u, FIRST] + int(v)] > 0)


def sides(whole: Array, real: Array, listed: Array, u: int, x: Array, start: int, count: int, at: Array) -> None:
    """at[r] = 1 where row start + r goes left at node u, else 0."""
    f, threshold = whole[u, FEATURE], real[u, THRESHOLD]
    if whole[u, KIND] == NUMBER and whole[u, MISSING_LEFT] > 0:
        for r in range(count):
            at[r] = 0 if x[f, start + r] > threshold else 1  # NaN is not
    elif whole[u, KIND] == NUMBER:
        for r in range(count):
            at[r] = 1 if x[f, start + r] <= threshold else 0
    else:
        for r in range(count):
            at[r] = 1 if goes_left(whole, real, listed, u, x[f, start + r]) else 0


def add_leaves(nodes: Nodes, x: Array, out: Array) -> None:
    """Add the leaves that the rows of x (D, n) reach to out (n, K)."""
    whole, real, value = nodes.whole, nodes.real, nodes.value
    for tree in range(len(nodes.roots)):
        column = nodes.column[tree]
        for row in range(x.shape[1]):
            u = nodes.roots[tree]
            while whole[u, FEATURE] >= 0:
                left = goes_left(whole, real, nodes.listed, u, x[whole[u, FEATURE], row])
                u = u + 1 if left else whole[u, RIGHT]
            if column >= 0:
                out[row, column] += value[u, 0]
            else:
                for k in range(out.shape[1]):
                    out[row, k] += value[u, k]


def expect_leaves(nodes: Nodes, out: Array) -> None:
    """Add the mean leaf of every tree, weighted by cover, to out (K,)."""
    chance = np.ones(len(nodes.whole))
    for tree in range(len(nodes.roots)):
        root, column = nodes.roots[tree], nodes.column[tree]
        for u in range(root, nodes.whole[root, END]):
            if nodes.whole[u, FEATURE] >= 0:
                for side in range(2):
                    c = u + 1 if side == 0 else nodes.whole[u, RIGHT]
                    chance[c] = chance[u] * nodes.real[c, SHARE]
            elif column >= 0:
                out[column] += chance[u] * nodes.value[u, 0]
            else:
                for k in range(len(out)):
                    out[k] += chance[u] * nodes.value[u, k]
