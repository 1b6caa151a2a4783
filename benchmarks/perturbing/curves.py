"""Errors and times as functions of the number of evaluations, and how long it takes to reach the same error."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

SMALLEST = 1e-12  # an error below it is rounding
Call = Callable[[int, int, int], np.ndarray]


@dataclass(frozen=True)
class Point:
    """Evaluations, median seconds of a call, and the median over trials of the relative root mean square error."""

    evaluations: int
    seconds: float
    error: float


class Clock:
    """Seconds on the wall, or of this process's processor: what other programs of a busy machine take does not count."""

    now = staticmethod(time.perf_counter)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call, and what it gave."""
    begun = Clock.now()
    found = run()
    return Clock.now() - begun, found


def rounds(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call, in turn in each round, so that a busy machine hits all of them; a first round does not count.

    Each round begins with another call: memory that one gives back is the next one's to fetch again.
    """
    times: dict[str, list[float]] = {label: [] for label in runs}
    for turn in range(repeats + 1):
        for label, run in turned(runs, turn):
            taken = timed(run)[0]
            if turn:
                times[label].append(taken)
    return times


def turned(calls: Mapping[str, Any], turn: int) -> list[tuple[str, Any]]:
    """The calls in their order, beginning with another one in each turn."""
    listed = list(calls.items())
    first = turn % len(listed)
    return listed[first:] + listed[:first]


def ratio(times: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """Median over the rounds of how many times longer the first takes."""
    return statistics.median(a / b for a, b in zip(times[over], times[under]))


def curves(
    calls: Mapping[str, Call], references: Mapping[str, np.ndarray], budgets: Sequence[int], seeds: int
) -> dict[str, list[Point]]:
    """Each call's points. call(sample, evaluations, seed) -> effects (M,); references: label -> (S, M), what it converges to.

    A trial is a sample with a seed. Packages that draw from the global generators find them seeded; that is not timed.
    """
    found: dict[str, list[Point]] = {label: [] for label in calls}
    for call in calls.values():
        call(0, budgets[0], 0)  # what is made on first use does not count
    for budget in budgets:
        seconds: dict[str, list[float]] = {label: [] for label in calls}
        errors: dict[str, list[float]] = {label: [] for label in calls}
        for seed in range(seeds):
            for sample in range(len(next(iter(references.values())))):
                for label, call in turned(calls, seed + sample):
                    np.random.seed(1000 * sample + seed)  # noqa: NPY002 - the peers' own generator
                    torch.manual_seed(1000 * sample + seed)
                    taken, effects = timed(functools.partial(call, sample, budget, seed))
                    seconds[label].append(taken)
                    errors[label].append(distance(effects, references[label][sample]))
        for label in calls:
            middle = [statistics.median(numbers[label]) for numbers in (seconds, errors)]
            found[label].append(Point(budget, *middle))
    return found


def distance(effects: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square of the difference over that of the reference."""
    return float(np.sqrt(np.mean((effects - reference) ** 2) / np.mean(reference**2)))


@dataclass(frozen=True)
class Reached:
    """Seconds to an error; ``bound`` is "<" where the fewest evaluations are better, ">" where the most are worse."""

    seconds: float
    bound: str = ""


def reach(points: Sequence[Point], level: float) -> Reached:
    """When an error is reached, on straight lines between the logarithms; an error counts as the least of those before it."""
    least, before = math.inf, None
    for point in points:
        error = max(SMALLEST, min(least, point.error))
        if error <= level:
            if before is None:
                return Reached(point.seconds, "<")
            (t0, e0), (t1, e1) = before, (point.seconds, error)
            share = 1.0 if e0 == e1 else math.log(e0 / level) / math.log(e0 / e1)
            return Reached(t0 * (t1 / t0) ** share)
        least, before = error, (point.seconds, error)
    return Reached(points[-1].seconds, ">")


def sooner(ours: Sequence[Point], peers: Sequence[Point], level: float) -> tuple[float, str]:
    """How many times longer the peer takes to an error, and a sign where that is only a bound."""
    mine, theirs = reach(ours, level), reach(peers, level)
    signs = {("<", ""): ">", ("<", ">"): ">", ("", ">"): ">", (">", ""): "<", (">", "<"): "<", ("", "<"): "<"}
    both = mine.bound + theirs.bound
    sign = "" if not both else signs.get((mine.bound, theirs.bound), "?")
    return theirs.seconds / mine.seconds, sign
