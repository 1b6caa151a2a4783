r"""Interventional Shapley values of trees, by one walk through a tree for many rows and many reference rows.

Beside one reference b a leaf sees of a row and of b only which of its path's distinct features satisfy the path's splits: bit
patterns px and pb. The leaf is reached by some coalition only if px | pb is everything, and then, with
s = |px \ pb| and r = |pb \ px|, a feature of px \ pb gets v (s - 1)! r! / (s + r)! and one of pb \ px gets
-v s! (r - 1)! / (s + r)!. The references that are not yet out of the question are a bit set; rows of one pattern share all.
"""

from __future__ import annotations

import numpy as np

from .tree_nodes import BEFORE, DEPTH, DISTINCT, END, FEATURE, SLOT, Array, Nodes, sides

WORD = 62  # reference rows per word of a bit set
BYTE = 8
MOST_FEATURES = 62  # on one path: the bits of a pattern
FEW = 128  # rows for which it is worth to keep, one by one, the references that still reach something with them
COLLAPSED = 512  # from so many references on, equal patterns are counted leaf by leaf
BITS = ((np.arange(256)[:, None] >> np.arange(BYTE)) & 1).astype(np.float64)
ONES = BITS.sum(1).astype(np.int64)
PRIME = 67  # of which 2 is a primitive root: powers of two below 2^66 leave different rests
PLACES = np.array([next((k for k in range(PRIME - 1) if pow(2, k, PRIME) == rest), 0) for rest in range(PRIME)], np.uint64)


def pack(left: Array, d: int, goes: Array) -> None:
    """goes[d, 1] = the bit set of the ones of left[d], goes[d, 0] that of its zeros."""
    for word in range(goes.shape[2]):
        bits = 0
        count = min(WORD, left.shape[1] - word * WORD)
        for k in range(count):
            bits |= left[d, word * WORD + k] << k
        goes[d, 1, word], goes[d, 0, word] = bits, bits ^ ((1 << count) - 1)


def mark(d: int, slot: int, before: int, side: int, left: Array, seen: Array) -> None:
    """seen[d]: the patterns at a node, a bit for each of its features whose splits are satisfied; side 1: a left child."""
    j, other = np.int64(slot), 1 - side
    if before > 0:
        for b in range(seen.shape[1]):
            seen[d, b] = seen[d - 1, b] & ~((left[d - 1, b] ^ side) << j)
    else:
        for b in range(seen.shape[1]):
            seen[d, b] = seen[d - 1, b] | ((left[d - 1, b] ^ other) << j)


def reach(d: int, slot: int, passed: Array, held: Array, alive: Array) -> bool:
    """alive[d, :, row]: the references that still reach something with a row; whether there are any for one."""
    some, j = np.int64(0), np.int64(slot)
    for word in range(alive.shape[1]):
        these = passed[d, word]
        for row in range(alive.shape[2]):  # -1, all bits, where the row satisfies the splits, else 0
            alive[d, word, row] = alive[d - 1, word, row] & (these | -((held[d, row] >> j) & 1))
    for word in range(alive.shape[1]):
        for row in range(alive.shape[2]):
            some |= alive[d, word, row]
    return bool(some != 0)


def meet(px: int, features: int, places: Array, passed: Array, left: Array) -> int:
    """left: the references that reach a leaf with rows of pattern px; 0 if there are none."""
    some = np.int64(0)
    for word in range(len(left)):
        left[word] = passed[0, word]
        for j in range(features):
            left[word] &= passed[places[j], word] | -((px >> j) & 1)
        some |= left[word]
    return int(some)


def ones(pattern: int) -> int:
    """How many bits are set."""
    found = 0
    while pattern > 0:
        found += ONES[np.uint64(pattern & 255)]
        pattern >>= BYTE
    return found


def collapse(d: int, seen: Array, patterns: Array, times: Array, table: Array) -> int:
    """The distinct values of seen[d] and how often each is met; how many there are. table: of a power of two, twice as long."""
    mask, found = len(table) - 1, 0
    table[:] = -1
    for b in range(seen.shape[1]):
        pattern = seen[d, b]
        at = (pattern ^ (pattern >> 11) ^ (pattern >> 29)) & mask
        while table[at] >= 0 and patterns[table[at]] != pattern:
            at = (at + 1) & mask
        if table[at] < 0:
            table[at], patterns[found], times[found] = found, pattern, 0.0
            found += 1
        times[table[at]] += 1.0
    return found


def play_each(px: int, r: int, d: int, seen: Array, left: Array, win: Array, lose: Array, wins: Array, at: int) -> float:
    """Add what the features of px win from the references in left to wins[at]; what each of the r others loses.

    The sums of the first eight features stay in registers, few paths have more.
    """
    w0 = w1 = w2 = w3 = w4 = w5 = w6 = w7 = lost = 0.0
    for word in range(len(left)):
        rest, first = left[word], np.uint64(word * WORD)
        while rest != 0:
            b = first + PLACES[np.uint64(rest & -rest) % np.uint64(PRIME)]
            rest &= rest - 1
            missed = px & ~seen[d, b]
            low, high = np.uint64(missed & 255), missed >> BYTE
            s = ONES[low] + ones(high)
            w = win[s, r]
            lost += lose[s, r]
            w0 += w * BITS[low, 0]
            w1 += w * BITS[low, 1]
            w2 += w * BITS[low, 2]
            w3 += w * BITS[low, 3]
            w4 += w * BITS[low, 4]
            w5 += w * BITS[low, 5]
            w6 += w * BITS[low, 6]
            w7 += w * BITS[low, 7]
            while high != 0:
                wins[at, np.uint64(BYTE) + PLACES[np.uint64(high & -high) % np.uint64(PRIME)]] += w
                high &= high - 1
    wins[at, 0], wins[at, 1], wins[at, 2], wins[at, 3] = w0, w1, w2, w3
    wins[at, 4], wins[at, 5], wins[at, 6], wins[at, 7] = w4, w5, w6, w7
    return float(lost)


def play_counted(
    px: int, full: int, r: int, patterns: Array, times: Array, distinct: int, win: Array, lose: Array, wins: Array, at: int
) -> float:
    """The same from the distinct patterns of the references and how often each is met."""
    lost = 0.0
    for k in range(distinct):
        if px | patterns[k] == full:
            missed = px & ~patterns[k]
            s = ones(missed)
            w = times[k] * win[s, r]
            lost += times[k] * lose[s, r]
            while missed != 0:
                wins[at, PLACES[np.uint64(missed & -missed) % np.uint64(PRIME)]] += w
                missed &= missed - 1
    return lost


def interventional(
    nodes: Nodes, trees: Array, column: int, deepest: int, x: Array, references: Array, win: Array, lose: Array, phi: Array
) -> None:
    """Add to phi (n, D) the values of these trees' answers in a column, summed over references (D, m), for x (D, n).

    win[s, r] = (s - 1)! r! / (s + r)!, lose[s, r] = s! (r - 1)! / (s + r)!.
    """
    whole, real = nodes.whole, nodes.real
    n, m, levels = x.shape[1], references.shape[1], deepest + 1
    words, few = (m + WORD - 1) // WORD, n <= FEW
    held, seen = np.zeros((levels, n), np.int64), np.zeros((levels, m), np.int64)
    left, theirs = np.zeros((levels, n), np.int64), np.zeros((levels, m), np.int64)
    passed, goes = np.zeros((levels, words), np.int64), np.zeros((levels, 2, words), np.int64)
    alive, rest = np.zeros((levels if few else 1, words, n), np.int64), np.empty(words, np.int64)
    path, places, names = np.zeros(levels, np.int64), np.zeros(len(win), np.int64), np.zeros(len(win), np.int64)
    wins = np.empty((n, len(win) + BYTE))
    size = 4096
    while size < 2 * max(m, n):
        size *= 2
    patterns, times, table = np.empty(m, np.int64), np.empty(m), np.empty(size, np.int64)
    keys, index, first = np.zeros(size, np.int64), np.full(size, -1), 0
    useful = np.zeros(n, np.bool_)
    for word in range(words):
        passed[0, word] = (1 << min(WORD, m - word * WORD)) - 1
        alive[0, word, :] = passed[0, word]
    for tree in trees:
        u, own = nodes.roots[tree], column if nodes.column[tree] < 0 else 0
        end = whole[u, END]
        while u < end:
            d = whole[u, DEPTH]
            path[d] = u
            if d > 0:
                side, slot, before = 1 if u == path[d - 1] + 1 else 0, whole[u, SLOT], whole[u, BEFORE]
                for word in range(words):
                    passed[d, word] = goes[d - 1, side, word] & passed[before, word]
                mark(d, slot, before, side, left, held)
                if few and not reach(d, slot, passed, held, alive):
                    u = whole[u, END]
                    continue
                mark(d, slot, before, side, theirs, seen)
            if whole[u, FEATURE] >= 0:
                sides(whole, real, nodes.listed, u, x, 0, n, left[d])
                sides(whole, real, nodes.listed, u, references, 0, m, theirs[d])
                pack(theirs, d, goes)
                u += 1
                continue
            distinct = collapse(d, seen, patterns, times, table) if m >= COLLAPSED else 0
            features, v, made = whole[u, DISTINCT], nodes.value[u, own], 0
            full = (np.int64(1) << features) - 1
            for level in range(1, d + 1):
                j = whole[path[level], SLOT]
                places[j], names[j] = level, whole[path[level - 1], FEATURE]
            for row in range(n):
                px, some = held[d, row], np.int64(0)
                if few:
                    for word in range(words):
                        rest[word] = alive[d, word, row]
                        some |= rest[word]
                    if some == 0:
                        continue
                at = (px ^ (px >> 12) ^ (px >> 29)) & (size - 1)
                while index[at] >= first and keys[at] != px:
                    at = (at + 1) & (size - 1)
                if index[at] < first:
                    if not few:
                        some = np.int64(meet(px, features, places, passed, rest))
                    useful[made] = some != 0
                    if some != 0:
                        r = features - ones(px)
                        for j in range(features if distinct > 0 else 0):
                            wins[made, j] = 0.0
                        for j in range(BYTE, features):
                            wins[made, j] = 0.0
                        if distinct > 0:
                            lost = play_counted(px, full, r, patterns, times, distinct, win, lose, wins, made)
                        else:
                            lost = play_each(px, r, d, seen, rest, win, lose, wins, made)
                        for j in range(features):
                            wins[made, j] = v * (wins[made, j] - lost * (1 - ((px >> j) & 1)))
                    keys[at], index[at] = px, first + made
                    made += 1
                k = index[at] - first
                if useful[k]:
                    for j in range(features):
                        phi[row, names[j]] += wins[k, j]
            first += n
            u += 1
