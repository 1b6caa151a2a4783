"""What measuring an explanation costs, beside the passes that it cannot do without and beside other packages.

    python benchmarks/quality.py                               # every row, some minutes on one thread
    python benchmarks/quality.py --rows "ROAD;deletion"        # rows whose names begin so
    python benchmarks/quality.py --cases LeNet                 # cases whose names begin so
    python benchmarks/quality.py --smoke                       # two tiny images, seconds

Ours, the peers that are installed (Quantus, pytorch-grad-cam, torchcam, captum) and the bare network run in turn in one
process, on one thread unless ``--threads`` says otherwise; a ratio is the median over the rounds. The bare network runs on
the least number of rows that the answer needs, made beforehand, in batches like ours. Forwards are rows per image, counted;
those of randomised copies of a network are not seen. All get the same maps, so that only the measure is timed.

The goal is five times as fast where a peer wastes passes or solves on the side. Where it runs no row more than the answer
needs, nothing can be much faster than the bare network is, and the line shows how near to that each comes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings

os.environ["TQDM_DISABLE"] = "1"  # see benchmarks/explanation.py
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import pellucid
from judging import cases
from judging.rows import GOAL, OF_GOAL, Row, rows
from perturbing.curves import Clock, ratio, rounds

COLUMNS = [
    "measure",
    "images",
    "least F",
    "ours F",
    "ours ms",
    "bare ms",
    "ours/bare",
    "peer",
    "peer F",
    "peer ms",
    "peer/ours",
]
WIDTHS = [29, 27, 7, 7, 8, 8, 9, 32, 7, 9, 9]


def line(cells: list[str]) -> str:
    """A line of a markdown table, in columns for the terminal too."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)) + " |"


def shown(value: float) -> str:
    """A number in three digits; a dash for none."""
    return "-" if value == 0 else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def measure(name: str, case: cases.Case, row: Row, repeats: int) -> tuple[list[list[str]], list[tuple[bool, str]]]:
    """The lines of one row, and its goals."""
    runs = {"ours": row.ours, **row.peers}
    counted = {label: case.forwards(run) for label, run in runs.items()}
    if row.minimum:
        runs["bare"] = case.bare(row.minimum)
    times = rounds(runs, repeats)
    taken = {label: 1e3 * statistics.median(found) for label, found in times.items()}
    over = f"{ratio(times, 'ours', 'bare'):.2f}" if row.minimum else "-"
    first = [
        name,
        case.name,
        shown(row.minimum),
        shown(counted["ours"]),
        shown(taken["ours"]),
        shown(taken.get("bare", 0)),
        over,
    ]
    lines, goals = [], []
    for label in row.peers or ["-"]:
        head = [name, case.name, *["-"] * 5] if lines else first
        if label not in row.peers:
            lines.append([*head, label, *["-"] * 3])
            continue
        times_ours = ratio(times, label, "ours")
        lines.append([*head, label, shown(counted[label]), shown(taken[label]), f"{times_ours:.1f}"])
        if row.goal and label.startswith(OF_GOAL):
            goals.append((times_ours >= GOAL, f"{name}, {case.name}: {times_ours:.1f} x faster than {label} (goal {GOAL:g})"))
    return lines, goals


def main() -> int:
    """0 when every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="beginnings of names, with semicolons between them")
    parser.add_argument("--cases", default="", help="beginnings of names of cases, likewise")
    parser.add_argument("--repeats", type=int, help="rounds of a row (default 5, 3 of the largest images; smoke: 1)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1)")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor instead of the wall, for a busy machine")
    parser.add_argument("--smoke", action="store_true", help="two tiny images")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.cpu:
        Clock.now = staticmethod(time.process_time)
    warnings.simplefilter("ignore")  # what the peers say about themselves
    makes = {"LeNet": lambda: cases.digits(16), "ResNet-18, 4 x 64": lambda: cases.photographs(4, 64)}
    makes["ResNet-18, 2 x 224"] = lambda: cases.photographs(2, 224)
    if given.smoke:
        makes = {"LeNet": lambda: cases.digits(2, 16)}
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}, pellucid {pellucid.__version__}\n")
    print(line(COLUMNS) + "\n|" + "|".join("-" * (width + 2) for width in WIDTHS) + "|", flush=True)
    goals: list[tuple[bool, str]] = []
    begun = time.perf_counter()
    for title, make in makes.items():
        if not any(title.startswith(w) for w in given.cases.split(";")):
            continue
        case = make()
        for name, row_of in rows(case).items():
            if any(name.startswith(w) for w in given.rows.split(";")):
                repeats = given.repeats or (1 if given.smoke else 3 if case.x.shape[2] > 100 else 5)
                lines, found = measure(name, case, row_of(), repeats)
                goals += found
                print(*map(line, lines), sep="\n", flush=True)
    print(f"\n{time.perf_counter() - begun:.0f} s. Goals:")
    print(*(f"- {'pass' if good else 'MISS'}  {said}" for good, said in goals), sep="\n")
    missed = sum(not good for good, _ in goals)
    print(f"{missed} of {len(goals)} goals missed." if missed else f"All {len(goals)} goals reached.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
