"""Training, validation and test part: seeded, stratified, grouped or by time, never with identical rows on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError

WAYS = ("auto", "stratified", "random", "grouped", "time")


@dataclass(eq=False)
class Split:
    """Three sets of row indices (sorted int64) that together are all rows; ``by`` is the way that was taken."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    notes: list[str] = field(default_factory=list)
    by: str = ""


def split(
    n: int,
    *,
    y: Any = None,
    groups: Any = None,
    order: Any = None,
    identical: Any = None,
    parts: Mapping[str, Any] | None = None,
    by: str = "auto",
    test: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> Split:
    """Cut ``n`` rows into training, validation and test part.

    ``y``: (n,) whole numbers are classes, (n, K) is multilabel, floats are regression. ``groups`` and ``identical``: (n,)
    values; rows with an equal one stay in one part. ``order``: (n,) times; the last rows are the test part, those before them
    validation, and no time is in two parts. ``parts``: what the data set fixes, ``train`` and ``test`` and perhaps
    ``validation``, taken as they are; a missing validation part is cut from train. ``by="auto"``: ``time`` when ``order`` is
    given, else ``grouped`` when ``groups`` are, else ``stratified`` for classes, else ``random``. ``test`` and ``validation``
    are fractions of all rows (with fixed parts: ``validation`` of the training rows). The last row of a class is never taken
    from training. ``classes`` names the classes in messages. Raises ``InputError`` for impossible fractions, too few rows,
    and classes that training would lack.
    """
    labels = _labels(n, y, classes)
    given = {name: _column(n, name, v) for name, v in (("groups", groups), ("order", order), ("identical", identical))}
    way = _way(by, labels, given)
    notes = _repeats(given["identical"], kept=not parts)
    if way != "grouped" and given["groups"] is not None and not parts:
        notes.append(f"split by '{way}': rows of one group may be in several parts")
    if parts:
        fixed = _fixed(n, parts)
        pool, wanted = fixed.pop("train"), {} if "validation" in fixed else {"validation": validation}
        notes += _across("repeat", given["identical"], pool, fixed) + _across(
            "share a group with", given["groups"], pool, fixed
        )
    else:
        fixed, pool, wanted = {}, np.arange(n), {"test": test, "validation": validation}
    counts = _row_counts(wanted, len(pool))
    units = _units(
        [v[pool] for v in (given["groups"] if way == "grouped" else None, given["identical"]) if v is not None], len(pool)
    )
    if way == "time":
        cut = _by_time(_ranks(given["order"])[pool], units, counts)
    else:
        cut = _by_chance(labels, pool, units, counts, seed, stratified=way == "stratified")
    parts_ = {
        "test": np.empty(0, np.int64),
        "validation": np.empty(0, np.int64),
        **fixed,
        **{name: pool[rows] for name, rows in cut.items()},
    }
    rest = np.setdiff1d(pool, np.concatenate(list(parts_.values())))
    _check_classes(labels, rest, parts_, "fixed" if parts else way)
    notes += _size_notes(cut, counts) + _class_notes(labels, parts_["test"])
    return Split(rest.astype(np.int64), np.sort(parts_["validation"]), np.sort(parts_["test"]), notes, way)


@dataclass
class _Labels:
    """``matrix``: (n, K) sparse 0/1, which labels a row has. ``codes``: (n,) when each row has exactly one class."""

    matrix: csr_array
    names: list[str]
    codes: np.ndarray | None = None

    def present(self, rows: np.ndarray) -> np.ndarray:
        """(K,) how many of these rows have each label."""
        return np.asarray(self.matrix[rows].sum(axis=0)).ravel()


def _labels(n: int, y: Any, classes: Sequence[str]) -> _Labels:
    values: np.ndarray = np.zeros(n, np.float64) if y is None else np.asarray(y)
    checks.same_length(rows=range(n), y=values)

    def named(k: Any) -> str:
        return str(classes[int(k)]) if isinstance(k, int | np.integer) and 0 <= k < len(classes) else str(k)

    if values.ndim == 2:
        return _Labels(csr_array((values > 0).astype(np.int64)), [named(k) for k in range(values.shape[1])])
    if values.dtype.kind == "f":
        return _Labels(csr_array(np.zeros((n, 0), np.int64)), [])
    known, codes = np.unique(values, return_inverse=True)
    matrix = csr_array((np.ones(n, np.int64), (np.arange(n), codes.ravel())), shape=(n, len(known)))
    return _Labels(matrix, [named(k) for k in known], codes.ravel())


def _column(n: int, name: str, values: Any) -> np.ndarray | None:
    if values is None:
        return None
    column = np.asarray(values)
    checks.same_length(rows=range(n), **{name: column})
    if column.dtype.kind == "f" and np.isnan(column).any():
        raise InputError(f"{name} holds NaN", where=f"row {int(np.isnan(column).argmax())}", cure="Give every row a value.")
    return column


def _ranks(values: np.ndarray | None) -> np.ndarray:
    return np.unique(np.asarray(values), return_inverse=True)[1].ravel()


def _way(by: str, labels: _Labels, given: Mapping[str, np.ndarray | None]) -> str:
    checks.one_of("by", by, WAYS)
    needed = {
        "time": given["order"] is not None,
        "grouped": given["groups"] is not None,
        "stratified": labels.codes is not None,
    }
    if by == "auto":
        return next((way for way, possible in needed.items() if possible), "random")
    if not needed.get(by, True):
        what = {
            "time": "an order (for a table: time)",
            "grouped": "groups (for a table: group)",
            "stratified": "one class per row",
        }[by]
        raise InputError(f"split by '{by}' needs {what}", cure="Give it, or use by='auto'.")
    return by


def _fixed(n: int, parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    for name in parts:
        checks.one_of("part", name, ("train", "validation", "test"))
    fixed = {name: np.sort(np.asarray(rows, np.int64)) for name, rows in parts.items()}
    if not {"train", "test"} <= set(fixed):
        raise InputError(f"fixed parts are {', '.join(fixed)}", cure="Give both train and test, or none.")
    counts = np.bincount(np.concatenate(list(fixed.values())), minlength=n)
    if len(counts) != n or (counts != 1).any():
        wrong = int(np.flatnonzero(counts != 1)[0])
        raise InputError(
            "fixed parts do not hold every row exactly once", where=f"row {wrong}", cure="Put each row in one part."
        )
    return fixed


def _repeats(identical: np.ndarray | None, *, kept: bool) -> list[str]:
    if identical is None:
        return []
    repeated = len(identical) - len(np.unique(identical))
    if not repeated:
        return []
    what = "; identical rows are kept in one part" if kept else ""
    # Few different rows: whole combinations of values are then in one part, so that a test is of combinations never trained on.
    what += ", so the parts hold different combinations of values" if kept and 2 * repeated > len(identical) else ""
    return [f"rows that are an exact repeat of another: {repeated:,}{what}"]


def _across(what: str, values: np.ndarray | None, train: np.ndarray, fixed: Mapping[str, np.ndarray]) -> list[str]:
    if values is None:
        return []
    counts = {name: int(np.isin(values[rows], values[train]).sum()) for name, rows in fixed.items()}
    return [
        f"{name} rows that {what} a training row: {c:,}; the parts that the data fixes are left as they are"
        for name, c in counts.items()
        if c
    ]


def _row_counts(wanted: Mapping[str, float], n: int) -> dict[str, int]:
    """Fractions to numbers of rows; a part that is asked for gets one row at least."""
    for name, value in wanted.items():
        checks.fraction(name, value)
    if sum(wanted.values()) >= 1:
        said = " + ".join(f"{name} {value:g}" for name, value in wanted.items())
        raise InputError(
            f"{said} leaves nothing to train on", cure="Make the fractions smaller, e.g. test 0.2 and validation 0.1."
        )
    counts = {name: max(1, round(value * n)) for name, value in wanted.items() if value > 0}
    if n < 1 + len(counts):
        raise InputError(f"{n} rows cannot fill {1 + len(counts)} parts", cure="Give more rows, or set a fraction to 0.")
    return counts


def _units(keys: Sequence[np.ndarray], n: int) -> np.ndarray:
    """(n,) number of the unit that a row belongs to: rows joined, directly or through others, by an equal value of any key."""
    if not keys:
        return np.arange(n)
    ranks = [_ranks(key) for key in keys]
    if len(ranks) == 1:
        return ranks[0]
    first, second = ranks
    shape = (first.max(initial=0) + 1, second.max(initial=0) + 1)
    _, joined = connected_components(
        coo_array((np.ones(n), (first, second + shape[0])), shape=(sum(shape), sum(shape))), directed=False
    )
    return _ranks(joined[first])


def _by_time(times: np.ndarray, units: np.ndarray, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The cut between two times that comes nearest to the number of rows asked for; a unit goes with its latest row."""
    latest = np.zeros(units.max() + 1, np.int64)
    np.maximum.at(latest, units, times)
    times = _ranks(latest[units])
    behind = np.cumsum(np.bincount(times)[::-1])[::-1]  # behind[t]: rows at time t or later
    if len(behind) < 1 + len(counts):
        raise InputError(
            f"{len(behind)} different times cannot fill {1 + len(counts)} parts", cure="Give more times, or use by='random'."
        )
    cut, end, want = {}, len(behind), 0
    for later, (name, count) in enumerate(counts.items(), 1):
        want += count
        earliest = 1 + len(counts) - later
        start = earliest + int(np.abs(behind[earliest:end] - want).argmin())
        cut[name] = np.flatnonzero((times >= start) & (times < end))
        end = start
    return cut


def _by_chance(
    labels: _Labels, pool: np.ndarray, units: np.ndarray, counts: Mapping[str, int], seed: int, *, stratified: bool
) -> dict[str, np.ndarray]:
    """Units in random order, each into the first part whose quota (one per class when stratified) has room for all its rows."""
    sizes = np.bincount(units)
    total = len(sizes)
    of_unit = coo_array((np.ones(len(pool), np.int64), (units, np.arange(len(pool)))), shape=(total, len(pool))).tocsr()
    held = csr_array(of_unit @ labels.matrix[pool])
    held.sum_duplicates()
    stratum = np.asarray(held.argmax(axis=1)).ravel() if stratified else np.zeros(total, np.int64)
    rows_of = np.bincount(stratum, weights=sizes, minlength=max(1, len(labels.names)))
    order = torch.randperm(total, generator=seeds.generator(seed, "split")).numpy()
    filler = _Filler(order, sizes, stratum, held)
    return {name: np.flatnonzero(np.isin(units, filler.fill(name, _quotas(rows_of, count)))) for name, count in counts.items()}


def _quotas(rows: np.ndarray, count: int) -> list[int]:
    """Shares of ``count`` in proportion to ``rows``, by the largest remainders."""
    exact = rows * (count / rows.sum())
    quotas = np.floor(exact).astype(np.int64)
    quotas[np.argsort(quotas - exact, kind="stable")[: count - quotas.sum()]] += 1
    return [int(quota) for quota in quotas]


class _Filler:
    """Takes units out of training for one part after the other, never the last row of a class and never the last unit."""

    def __init__(self, order: np.ndarray, sizes: np.ndarray, stratum: np.ndarray, held: csr_array) -> None:
        self.free, self.sizes, self.stratum = order.tolist(), sizes.tolist(), stratum.tolist()
        ends, labels, counts = held.indptr.tolist(), held.indices.tolist(), held.data.tolist()
        self.held = [list(zip(labels[a:b], counts[a:b])) for a, b in itertools.pairwise(ends)]
        self.left = np.asarray(held.sum(axis=0)).ravel().tolist()

    def fill(self, name: str, quotas: list[int]) -> list[int]:
        taken: list[int] = []
        for unit in self.free:
            stratum = self.stratum[unit]
            if self.sizes[unit] <= quotas[stratum] and len(taken) + 1 < len(self.free) and self._spare(unit):
                quotas[stratum] -= self.sizes[unit]
                self._take(unit, taken)
        if not taken:
            units = [unit for unit in self.free if self._spare(unit)]
            if len(self.free) < 2 or not units:
                raise InputError(
                    f"no rows can be spared for the {name} part: identical rows and groups are not cut, nor a class emptied",
                    cure="Give more rows or more groups, or set its fraction to 0.",
                )
            self._take(min(units, key=lambda unit: self.sizes[unit]), taken)
        gone = set(taken)
        self.free = [unit for unit in self.free if unit not in gone]
        return taken

    def _spare(self, unit: int) -> bool:
        return all(self.left[label] > count for label, count in self.held[unit])

    def _take(self, unit: int, taken: list[int]) -> None:
        taken.append(unit)
        for label, count in self.held[unit]:
            self.left[label] -= count


def _check_classes(labels: _Labels, train: np.ndarray, parts: Mapping[str, np.ndarray], way: str) -> None:
    known = labels.present(train) > 0
    for name, rows in parts.items():
        counts = labels.present(rows)
        unknown = np.flatnonzero((counts > 0) & ~known)
        if len(unknown):
            shown = ", ".join(f"'{labels.names[k]}' (rows: {counts[k]:,})" for k in unknown[:5])
            cure = {
                "fixed": "Give the training part rows of it, or take it out of the other part.",
                "time": "It appears too late to be learnt: use a smaller part, or leave its rows out.",
            }.get(way, "Give more rows of it.")
            raise InputError(
                f"the {name} part has classes that training lacks: {shown}{', ...' if len(unknown) > 5 else ''}", cure=cure
            )


def _size_notes(cut: Mapping[str, np.ndarray], counts: Mapping[str, int]) -> list[str]:
    """Where units of several rows made a part clearly larger or smaller than asked."""
    return [
        f"the {name} part has {len(cut[name]):,} rows instead of {count:,}, as rows that belong together are not cut"
        for name, count in counts.items()
        if abs(len(cut[name]) - count) > max(1, count / 10)
    ]


def _class_notes(labels: _Labels, test: np.ndarray) -> list[str]:
    every = np.asarray(labels.matrix.sum(axis=0)).ravel()
    alone = [name for name, count in zip(labels.names, every) if count == 1]
    notes = [f"class '{name}' has one row: it stays in training, and nothing tests it" for name in alone[:5]]
    if len(alone) > 5:
        notes.append(f"{len(alone) - 5} more classes have one row")
    untested = [name for name, here, all_ in zip(labels.names, labels.present(test), every) if not here and all_ > 1]
    if untested and len(test):
        shown = ", ".join(f"'{name}'" for name in untested[:5])
        notes.append(f"classes without a test row: {shown}{', ...' if len(untested) > 5 else ''}")
    return notes
