"""What methods that alter the input cost beside the bare model, and how soon they are as exact as the other packages.

    python benchmarks/perturbation.py                          # every row, some ten minutes on one thread
    python benchmarks/perturbation.py --rows kernel_shap,lime  # rows whose names begin so
    python benchmarks/perturbation.py --smoke                  # tiny cases and no images, seconds

Three questions. What does a call cost beside the passes: its time over that of the model on as many altered rows in batches of
the same size, with the altered rows made in the plainest vectorised way ("bare"), and made beforehand ("model"). What does a
peer's call take at the same number of evaluations. And how long does it take to reach the same error: the relative root mean
square error against exact or converged values is measured over the number of evaluations for both (medians over samples and
seeds), both curves are read as straight lines between the logarithms of time and error, and the ratio is that of the times
at which they reach the error which the peer has at the row's number of evaluations. ">" and "<" mark bounds: ours is already
better with the fewest evaluations of its curve, or the peer never gets there.

All calls run in turn in one process, on one thread unless ``--threads`` says otherwise; a ratio is the median over the
rounds. Peers (lime, shap, captum) get their fastest options, as many rows per pass as ours, and what they make once (an
explainer with its background) is made before the clock starts; one that is not installed has a dash.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

os.environ["TQDM_DISABLE"] = "1"  # see benchmarks/explanation.py
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import pellucid
from perturbing import calls, cases, pictures, rows
from perturbing.curves import Call, Clock, Point, curves, ratio, rounds, sooner
from perturbing.rows import GOALS, TOGETHER, Row

OVERHEAD_GOAL = 1.15
PLAYERS = 8  # of the exact Shapley values
COLUMNS = ["row", "evaluations", "ours ms", "bare ms", "model ms", "ours/bare", "ours/model", "peer", "peer ms", "peer/ours"]
COLUMNS += ["error ours", "error peer", "time to it, peer/ours"]
WIDTHS = [50, 11, 9, 9, 9, 9, 10, 33, 9, 9, 10, 10, 21]


@dataclass
class Result:
    """Lines of the table that belong together, the goals that are missed, and the curves."""

    lines: list[list[str]] = field(default_factory=list)
    goals: list[tuple[bool, str]] = field(default_factory=list)
    points: Mapping[str, list[Point]] = field(default_factory=dict)


def line(cells: list[str]) -> str:
    """A line of a markdown table, in columns for the terminal too."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)) + " |"


def shown(value: float | None, digits: int = 3) -> str:
    """A number in so many significant digits, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"


def measure(name: str, row: Row, repeats: int, seeds: int) -> Result:
    """One row: times in turn, then the curves."""
    present: dict[str, Call] = {label: call for label, call in row.peers.items() if call is not None}
    altered, alone = row.runs()
    turn = itertools.count()
    runs: dict[str, Callable[[], Any]] = {"bare": altered, "model": alone}
    # a new seed in every round: designs that depend on the seed are not found ready
    runs |= {label: lambda call=call: call(0, row.budget, next(turn)) for label, call in {"ours": row.ours, **present}.items()}  # type: ignore[misc]
    times = rounds(runs, repeats)
    result = Result()
    if row.references is not None:
        with_ours = {"ours": row.ours, **present}
        result.points = curves(with_ours, row.references(), row.budgets, seeds)
    over = ratio(times, "ours", "bare")
    milliseconds = {label: 1e3 * statistics.median(taken) for label, taken in times.items()}
    first = [name, str(row.taken or row.budget), *(shown(milliseconds[label]) for label in ("ours", "bare", "model"))]
    first += [f"{over:.2f}", f"{ratio(times, 'ours', 'model'):.2f}"]
    result.goals.append((over <= OVERHEAD_GOAL, f"{name}: {over:.2f} x bare (goal {OVERHEAD_GOAL})"))
    for label in row.peers or ["-"]:
        head = first if not result.lines else [name, str(row.budget), *["-"] * 5]
        if label not in present:
            result.lines.append([*head, label, *["-"] * 5])
            continue
        cells = [label, shown(milliseconds[label]), f"{ratio(times, label, 'ours'):.2f}"]
        result.lines.append([*head, *cells, *_errors(name, label, row, result)])
    return result


def _errors(name: str, label: str, row: Row, result: Result) -> list[str]:
    """Cells: the errors at the row's evaluations, and the ratio of the times to the peer's."""
    if not result.points:
        return ["-"] * 3
    at = {who: min(points, key=lambda p: abs(p.evaluations - row.budget)) for who, points in result.points.items()}
    level = at[label].error
    if len(row.budgets) == 1:
        return [shown(at["ours"].error), shown(level), "-"]
    factor, sign = sooner(result.points["ours"], result.points[label], level)
    if label in GOALS:
        said = f"{name}: {sign}{factor:.2g} x sooner than {label} at an error of {shown(level)} (goal {GOALS[label]:g})"
        result.goals.append((factor >= GOALS[label] and sign != "<", said))
    return [shown(at["ours"].error), shown(level), f"{sign}{factor:.2g}"]


def together(name: str, row: Row, repeats: int) -> Result:
    """Several samples in one call, beside the bare passes of all of them."""
    assert row.several is not None
    mine, (altered, alone) = row.several()
    times = rounds({"ours": mine, "bare": altered, "model": alone}, repeats)
    over = ratio(times, "ours", "bare")
    milliseconds = [shown(1e3 * statistics.median(times[label])) for label in ("ours", "bare", "model")]
    name = f"{name}; a call of {TOGETHER} samples"
    cells = [name, str(row.budget), *milliseconds, f"{over:.2f}", f"{ratio(times, 'ours', 'model'):.2f}", *["-"] * 6]
    return Result([cells], [(over <= OVERHEAD_GOAL, f"{name}: {over:.2f} x bare (goal {OVERHEAD_GOAL})")])


def exact_shapley(small: bool) -> tuple[bool, str]:
    """Rows through the model for the exact Shapley values of eight columns; captum's count is 8! 8 + 1 where it is not run."""
    case = cases.network(cases.table(6 if small else PLAYERS, 3, 1), 1, iterations=2)
    counted = {"rows": 0}
    case.model.register_forward_pre_hook(lambda module, given: counted.update(rows=counted["rows"] + len(given[0])))
    begun = time.perf_counter()
    effects = calls.ours("shapley", case, budget="", baseline=case.baseline())(0, 0, 0)
    mine, seconds = counted["rows"], time.perf_counter() - begun
    said = f"shapley, exact, {case.columns} columns: {mine} evaluations, {1e3 * seconds:.0f} ms (goal {2**case.columns})"
    captum = None if small else calls.captum("ShapleyValues", case)
    if captum is not None:
        begun, counted["rows"] = time.perf_counter(), 0
        apart = float(abs(captum(0, 0, 0) - effects).max())
        taken = time.perf_counter() - begun
        said += f"; captum ShapleyValues {counted['rows']:,}, {taken:.0f} s; they differ by {apart:.0e}"
    return mine <= 2**case.columns, said


def main() -> int:
    """0 when every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", default="", help="beginnings of names, with semicolons between them; also 'shapley, exact', 'bfloat16'"
    )
    parser.add_argument("--repeats", type=int, help="rounds of a row (default 7, images 3; smoke: 1)")
    parser.add_argument("--seeds", type=int, help="seeds of an error, beside several samples (default 3; smoke: 1)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor instead of the wall, for a busy machine")
    parser.add_argument("--curves", action="store_true", help="print error and time at every number of evaluations")
    parser.add_argument("--smoke", action="store_true", help="tiny cases, no images")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.cpu:
        Clock.now = staticmethod(time.process_time)
    warnings.simplefilter("ignore")  # what the peers say about themselves
    wanted = [name for name in given.rows.split(";") if name]
    tables, photographs = rows.names(), {} if given.smoke else pictures.names()
    asked = lambda name: not wanted or any(name.startswith(w) for w in wanted)  # noqa: E731
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, pellucid {pellucid.__version__}\n")
    print(line(COLUMNS) + "\n|" + "|".join("-" * (width + 2) for width in WIDTHS) + "|", flush=True)
    found: list[Result] = []

    def note(result: Result) -> None:
        found.append(result)
        print(*map(line, result.lines), sep="\n", flush=True)

    begun = time.perf_counter()
    for name, make in {**tables, **photographs}.items():
        if asked(name):
            row = make(given.smoke)
            repeats = given.repeats or (1 if given.smoke else 7 if name in tables else 3)
            note(measure(name, row, repeats, given.seeds or (1 if given.smoke else 3)))
            if row.several is not None:
                note(together(name, row, repeats))
    others: list[str] = []
    if asked("shapley, exact"):
        found.append(Result(goals=[exact_shapley(given.smoke)]))
    if asked("bfloat16") and not given.smoke:
        others += pictures.half_precision(16, given.repeats or 1)
    return report(found, others, time.perf_counter() - begun, given.curves)


def report(found: list[Result], others: list[str], taken: float, with_curves: bool) -> int:
    """Every goal with pass or miss, and what has none."""
    if with_curves:
        for result in found:
            for label, points in result.points.items():
                shown_points = ", ".join(f"{p.evaluations}: {shown(p.error)} in {shown(1e3 * p.seconds)} ms" for p in points)
                print(f"{result.lines[0][0]}; {label}: {shown_points}")
    print(f"\n{taken:.0f} s. Goals:")
    goals = [goal for result in found for goal in result.goals]
    print(*(f"- {'pass' if good else 'MISS'}  {said}" for good, said in goals), sep="\n")
    print(*others, sep="\n")
    missed = sum(not good for good, _ in goals)
    print(f"{missed} of {len(goals)} goals missed." if missed else f"All {len(goals)} goals reached.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
