"""Path-dependent Shapley values of trees, by one walk through a tree for many rows.

A leaf of value v is the game v prod_j (o_j or z_j) over the distinct features of its path: o_j, 0 or 1,
says whether the row satisfies the path's splits on j, z_j is the WEIGHT of the last of them. Its multilinear extension gives
  phi_i = v (o_i - z_i) integral_0^1 prod_{j != i} a_j(t) dt,   a_j(t) = t o_j + (1 - t) z_j,
a polynomial of degree d - 1, for which Gauss-Legendre with d / 2 nodes is exact. With y the WEIGHT of the earlier splits on
the feature of a node, z_l + z_r = y, and a = t + (1 - t) y, the left child's share of the product is
  m = 1 - z_r (1 - t) / a  where the row goes left,  z_l (1 - t) / a  where it goes right,  SHARE_l  where it left the path
of that feature before, and the right child's is 1 - m. So m = h + s (1 - t) / a with s = -z_r, z_l or 0. Going up with the
sums G of the leaves below, freed of the product above them, G = G_r + m (G_l - G_r), and phi of the feature gains
  -s integral product (G_l - G_r) / a^2.

Inner loops run over rows, and factors that a loop does not change are read before it: only then do they become vectors.
"""

from __future__ import annotations

import numpy as np

from .tree_nodes import BEFORE, DEPTH, END, FEATURE, RETURNS, RIGHT, SHARE, WEIGHT, Array, Nodes, sides

ROWS = 32  # that walk a tree side by side


def split_rows(
    count: int, whole: Array, real: Array, u: int, at: Array, before: int, d: int, factor: Array, holds: Array
) -> None:
    """factor[d] = (h, s) of every row; holds[d + 1]: 1 where it satisfies the path's splits on the left child's feature.

    at: 1 where a row goes left at node u.
    """
    left, zl, zr = real[u + 1, SHARE], real[u + 1, WEIGHT], real[whole[u, RIGHT], WEIGHT]
    for r in range(count):
        side, held = at[r], holds[before, r]
        factor[d, 0, r] = held * side + (1.0 - held) * left
        factor[d, 1, r] = held * ((1.0 - side) * zl - side * zr)
        holds[d + 1, r] = held * side


def descend(count: int, tables: Array, before: int, d: int, factor: Array, down: Array) -> None:
    """down[d + 1] = the product at the left child, (q, rows)."""
    for k in range(tables.shape[2]):
        e = tables[before, 0, k]
        for r in range(count):
            down[d + 1, k, r] = down[d, k, r] * (factor[d, 0, r] + factor[d, 1, r] * e)


def turn(count: int, before: int, d: int, down: Array, holds: Array) -> None:
    """From the left child's product and holds to the right child's."""
    for k in range(down.shape[1]):
        for r in range(count):
            down[d, k, r] = down[d - 1, k, r] - down[d, k, r]
    for r in range(count):
        holds[d, r] = holds[before, r] - holds[d, r]


def merge(count: int, tables: Array, before: int, d: int, factor: Array, down: Array, up: Array, gain: Array, to: int) -> None:
    """up[d, to] = G of a node from those of its children, up[d + 1]; gain[r] = what -s is multiplied with."""
    for r in range(count):
        gain[r] = 0.0
    for k in range(tables.shape[2]):
        e, g = tables[before, 0, k], tables[before, 1, k]
        for r in range(count):
            right = up[d + 1, 1, k, r]
            change = up[d + 1, 0, k, r] - right
            gain[r] += g * down[d, k, r] * change
            up[d, to, k, r] = right + (factor[d, 0, r] + factor[d, 1, r] * e) * change


def walk(
    nodes: Nodes, root: int, x: Array, start: int, count: int, column: int, rest: Array, w: Array,
    tables: Array, factor: Array, holds: Array, down: Array, up: Array, gain: Array, path: Array, phi: Array,
) -> None:  # fmt: skip
    """Rows start to start + count through one tree, which adds its values to phi (D, n).

    tables[d] = ((1 - t) / a, w / a^2) with y the WEIGHT of the path's node of depth d. path: by depth, the nodes above.
    """
    whole, real = nodes.whole, nodes.real
    for u in range(root, whole[root, END]):
        d = whole[u, DEPTH]
        path[d] = u
        if whole[u, FEATURE] >= 0:
            before = whole[u + 1, BEFORE]
            if whole[u, RETURNS] > 0:
                for k in range(len(rest)):
                    inverse = 1.0 / (1.0 - rest[k] + rest[k] * real[u, WEIGHT])
                    tables[d, 0, k], tables[d, 1, k] = rest[k] * inverse, w[k] * inverse * inverse
            sides(whole, real, nodes.listed, u, x, start, count, gain)
            split_rows(count, whole, real, u, gain, before, d, factor, holds)
            descend(count, tables, before, d, factor, down)
            continue
        to = 1 if path[d - 1] + 1 != u else 0
        v = nodes.value[u, column]
        for k in range(len(rest)):
            for r in range(count):
                up[d, to, k, r] = v
        while to == 1 and d > 0:  # both children of the node above are known
            d -= 1
            p = path[d]
            to = 1 if d > 0 and path[d - 1] + 1 != p else 0
            merge(count, tables, whole[p + 1, BEFORE], d, factor, down, up, gain, to)
            f = whole[p, FEATURE]
            for r in range(count):
                phi[f, start + r] -= factor[d, 1, r] * gain[r]
        if d > 0:
            turn(count, whole[path[d], BEFORE], d, down, holds)


def path_dependent(nodes: Nodes, trees: Array, column: int, deepest: int, x: Array, t: Array, w: Array, phi: Array) -> None:
    """Add to phi (D, n) the values of these trees' answers in a column for x (D, n). t, w (q,): the quadrature on [0, 1]."""
    q, n, rest = len(t), x.shape[1], 1.0 - t
    tables, factor = np.ones((deepest + 1, 2, q)), np.empty((deepest + 1, 2, ROWS))
    holds, path = np.ones((deepest + 2, ROWS)), np.empty(deepest + 1, np.int64)
    down, up, gain = np.ones((deepest + 2, q, ROWS)), np.empty((deepest + 2, 2, q, ROWS)), np.empty(ROWS)
    for tree in trees:
        root, own = nodes.roots[tree], column if nodes.column[tree] < 0 else 0
        if nodes.whole[root, FEATURE] < 0:
            continue
        for start in range(0, n, ROWS):
            count = min(ROWS, n - start)
            walk(nodes, root, x, start, count, own, rest, w, tables, factor, holds, down, up, gain, path, phi)
