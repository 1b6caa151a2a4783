"""What an explanation costs, beside the passes that it cannot do without and beside the other packages that have it.

    python benchmarks/explanation.py                                        # both networks, batches of 1 and 8
    python benchmarks/explanation.py --network resnet --batch 1 --methods grad_cam,smoothgrad
    python benchmarks/explanation.py --quick                                # single images of 64 x 64, a minute or so

Ours, every installed peer (captum, pytorch-grad-cam, torchcam, zennit) and the bare passes in plain torch run in turn in
one process, so that a busy machine hits all of them. A ratio is the median over the rounds; absolute times are noise. The bare
passes use frozen parameters and as many rows per pass as ours. The peers get the network as a user has it, with trainable
parameters, as many rows per pass as ours where they let one choose, and no graph where their method needs none. Relevance
that goes back layer by layer is measured in bare forwards, so many as the row's goal says.

Memory is the resident peak of one call above what the process held before it (Linux; "n/a" elsewhere). A call that would
take longer than ``--limit`` seconds is made on a smaller image, or a peer is left out of a batch; the row says so. Passes are
rows per sample: F forward, B backward to the input, H backward through the part after the layer, T forward through it.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["TQDM_DISABLE"] = "1"  # read when the peers are imported: their progress bars would go through the table
# Read when torch is imported: on a busy machine threads that wait awake cost a hundred times what they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from explaining.bare import (
    bare_forward,
    prepared,
    seconds,
)
from explaining.networks import (
    CHANNELS,
    FULL,
    NETWORKS,
    Case,
    freeze,
    network,
)
from explaining.peers import (
    first_line,
    peer_of,
)
from explaining.rows import (
    ABLATION_GOAL,
    BARE_GOAL,
    CAMS,
    NOISY,
    TOGETHER,
    Row,
    known,
    method_of,
    ours,
    table,
)

LEVEL = 0.97  # a peer that takes this share of our time or more is not told from one that takes all of it
PATIENCE = 3  # limits that a peer with a price of its own may take, and the first round of a row that gets more than one
SMALLEST = 112  # the last features of a smaller image are a single cell
UNITS = {"forward": "F", "backward": "B", "head": "H", "tail": "T"}


# Measuring.


def _status() -> dict[str, float]:
    """MiB by their names in the process's status."""
    lines = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(value.split()[0]) / 1024 for name, value in lines if name in ("VmRSS", "VmHWM")}


def peak(run: Callable[[], Any]) -> tuple[float, float | None]:
    """Seconds of one call, and MiB of its resident peak above what was held before; None where the kernel does not say."""
    gc.collect()
    try:
        # Freed memory that the C library keeps would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status()["VmRSS"]
    except (OSError, AttributeError, KeyError, TypeError):
        return seconds(run), None
    taken = seconds(run)
    return taken, max(0.0, _status()["VmHWM"] - before)


@dataclass
class Result:
    """One line of the table; times in seconds per image."""

    network: str
    method: str
    batch: int
    goal: float | None = BARE_GOAL
    ours: float | None = None
    bare: float | None = None
    over_bare: float | None = None
    peer: str = "-"
    peers: float | None = None
    over_ours: float | None = None
    memory: tuple[float | None, float | None] = (None, None)
    passes: str = ""
    notes: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        """As text, in the order of ``COLUMNS``."""
        memory = "n/a"
        if self.memory[0] is not None:
            memory = f"{self.memory[0]:.0f} / {'-' if self.memory[1] is None else f'{self.memory[1]:.0f}'}"
        numbers = [shown(v, digits) for v, digits in [(self.ours, 4), (self.peers, 4), (self.over_ours, 2)]]
        against = [shown(self.bare, 4), shown(self.over_bare, 2)]
        head = [self.network, self.method, str(self.batch), *numbers, self.peer, *against]
        return [*head, memory if self.ours is not None else "-", self.passes or "-", "; ".join(self.notes)]

    def misses(self) -> list[str]:
        """The goals that this row does not reach."""
        found = []
        if self.over_bare is not None and self.goal is not None and self.over_bare > self.goal:
            found.append(f"{self.over_bare:.2f} x bare (goal {self.goal})")
        if self.over_ours is not None and self.over_ours < LEVEL:
            found.append(f"{self.peer} takes {self.over_ours:.2f} of our time")
        return found


COLUMNS = ["network", "method", "batch", "ours s", "peer s", "peer/ours", "fastest peer", "bare s", "ours/bare"]
COLUMNS += ["MiB ours / peer", "passes", "notes"]
WIDTHS = [7, 31, 5, 8, 8, 9, 33, 8, 9, 15, 10, 5]


def shown(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def line(cells: list[str]) -> str:
    """A line of a markdown table, in columns for the terminal too."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)) + " |"


def heading() -> str:
    """The first two lines of the table."""
    return line(COLUMNS) + "\n|" + "|".join("-" * (width + 2) for width in WIDTHS) + "|"


class Benchmark:
    """One network and the cases made of it."""

    def __init__(self, name: str, size: int, repeats: int, limit: float) -> None:
        self.name, self.full, self.repeats, self.limit = name, size, repeats, limit
        self.model = network(name)
        self.frozen = freeze(self.model)
        self.cases: dict[tuple[int, int], Case] = {}

    def case(self, batch: int, size: int) -> Case:
        """A case, made once."""
        if (batch, size) not in self.cases:
            self.cases[batch, size] = prepared(self.model, self.frozen, batch, size)
        return self.cases[batch, size]

    def fitting(self, row: Row, batch: int) -> Case | None:
        """The largest image on which no call takes longer than the limit; a single image is measured at any rate."""

        def longest(found: Case) -> float:
            peers = [row.peer_cost.get(label, row.cost)(found) for label in self.present(row)]
            return batch * max([row.cost(found), *(peers if batch == 1 else [])])

        found = self.case(batch, self.full)
        while longest(found) > self.limit and found.size // 2 >= SMALLEST:
            found = self.case(batch, found.size // 2)
        return found if batch == 1 or longest(found) <= self.limit else None

    def present(self, row: Row) -> list[str]:
        """Labels of the row's peers that are installed."""
        return [label for label in row.peers if isinstance(peer_of(label), ModuleType)]

    def measure(self, name: str, row: Row, batch: int) -> Result:
        """One row."""
        result = Result(self.name, name, batch, row.goal)
        found = self.fitting(row, batch)
        if found is None:
            result.notes.append("too long: see batch 1")
            return result
        if found.size != self.full:
            result.notes.append(f"{found.size} x {found.size}")
        if row.goal not in (None, BARE_GOAL):
            result.notes.append(f"goal {row.goal}")
        asked = row.asked(found)
        runs: dict[str, Callable[[], Any]] = {"ours": lambda: note(ours(found, asked))}

        def note(answer: dict[str, Any]) -> None:
            counts = {key: sum(e.passes.get(key, 0.0) for e in answer.values()) for key in UNITS}
            result.passes = " ".join(f"{round(value, 2):g}{UNITS[key]}" for key, value in counts.items() if value)

        for label, run in row.peers.items():
            expected = batch * row.peer_cost.get(label, row.cost)(found)
            if label not in self.present(row):
                result.notes.append(f"{label} {peer_of(label)}")
            elif batch > 1 and expected > PATIENCE * self.limit:
                result.notes.append(f"{label} left out: about {expected:.0f} s")
            else:
                runs[label] = functools.partial(run, found)
        runs["bare"] = lambda: row.bare(found)
        try:
            times, memory = self._rounds(runs, result.notes)
        except Exception as error:
            result.notes.append(f"failed: {first_line(error)}")
        else:
            self._fill(result, found, row, times, memory)
        return result

    def _rounds(
        self, runs: dict[str, Callable[[], Any]], notes: list[str]
    ) -> tuple[list[dict[str, float]], dict[str, float | None]]:
        """Seconds of every call, round by round, and the memory of the first ones, which do not count unless they are long."""
        first, memory = {}, {}
        for label, run in list(runs.items()):
            try:
                first[label], memory[label] = peak(run)
            except Exception as error:
                if label in ("ours", "bare"):
                    raise
                notes.append(f"{label} failed: {first_line(error)}")
                del runs[label]
            self.model.zero_grad()  # else a peer's gradients stay beside the parameters
        if sum(first.values()) > PATIENCE * self.limit:
            notes.append("1 round")
            return [first], memory
        times: list[dict[str, float]] = []
        begun = time.perf_counter()
        while len(times) < self.repeats and (not times or time.perf_counter() - begun < self.limit):
            times.append({})
            for label, run in runs.items():
                times[-1][label] = seconds(run)
                self.model.zero_grad()
        if len(times) < self.repeats:
            notes.append(f"{len(times)} round{'s' * (len(times) > 1)}")
        return times, memory

    @staticmethod
    def _fill(result: Result, found: Case, row: Row, times: list[dict[str, float]], memory: dict[str, float | None]) -> None:
        n = len(found.x)
        median = {label: statistics.median(t[label] for t in times) for label in times[0]}
        result.ours, result.bare = median["ours"] / n, median["bare"] / n
        result.over_bare = statistics.median(t["ours"] / t["bare"] for t in times)
        peers = [label for label in median if label in row.peers]
        if peers:
            result.peer = min(peers, key=median.__getitem__)
            result.peers = median[result.peer] / n
            result.over_ours = statistics.median(t[result.peer] / t["ours"] for t in times)
        result.memory = memory["ours"], memory.get(result.peer)

    def ablation(self) -> tuple[str, bool]:
        """Ablation-CAM of two images, in forwards of the same two, and whether the goal is reached at the full size."""
        found = self.case(2, self.full)
        runs = [lambda: ours(found, {"ablation_cam": {}}), lambda: bare_forward(found)]
        for run in runs:
            run()
        ratio = statistics.median(seconds(runs[0]) / seconds(runs[1]) for _ in range(max(3, self.repeats)))
        said = f"{ratio:.1f} forwards (goal {ABLATION_GOAL}{'' if self.full == FULL else f' at {FULL} x {FULL}'})"
        return f"{self.name}: Ablation-CAM, {CHANNELS} channels, 2 images: {said}", self.full < FULL or ratio <= ABLATION_GOAL


def suited(rows: dict[str, Row], name: str, wanted: list[str]) -> dict[str, Row]:
    """The rows of a network that were asked for and that ours has."""

    def there(label: str) -> bool:
        if label.startswith(TOGETHER):
            return any(part in known() for part in (CAMS if label.endswith("CAMs") else NOISY))
        return method_of(label) in known()

    def asked(label: str) -> bool:
        return not wanted or any(label == w or label.startswith(f"{w}:") for w in wanted)

    return {label: row for label, row in rows.items() if asked(label) and there(label) and row.only in (None, name)}


def main() -> int:
    """0 when every row reaches its goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--batch", help="batch sizes, with commas between them (default 1,8; quick: 1)")
    parser.add_argument(
        "--methods", default="", help="names, with commas between them: lrp, 'lrp: epsilon_plus'; 'together' for shared calls"
    )
    parser.add_argument("--repeats", type=int, help="rounds of a row that is not slow (default 7; quick: 3)")
    parser.add_argument(
        "--limit", type=float, help="seconds that a call, and the rounds of a row, may take (default 8; quick: 2)"
    )
    parser.add_argument("--quick", action="store_true", help="single images of 64 x 64 and few rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0 leaves them")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")  # what the peers say about themselves
    rows, wanted = table(), [name for name in given.methods.split(",") if name]
    unknown = [name for name in wanted if name not in rows and all(name != method_of(label) for label in rows)]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(rows)}")
    size = 64 if given.quick else FULL
    batches = [int(n) for n in (given.batch or ("1" if given.quick else "1,8")).split(",")]
    repeats, limit = given.repeats or (3 if given.quick else 7), given.limit or (2.0 if given.quick else 8.0)
    print(
        f"images of 3 x {size} x {size}, {torch.get_num_threads()} thread(s), torch {torch.__version__}\n\n{heading()}",
        flush=True,
    )
    results: list[Result] = []
    lines: list[tuple[str, bool]] = []
    begun = time.perf_counter()
    try:
        for name in NETWORKS if given.network == "both" else [given.network]:
            benchmark = Benchmark(name, size, repeats, limit)
            mine = suited(rows, name, wanted)
            for label, row in mine.items():
                for batch in batches:
                    results.append(benchmark.measure(label, row, batch))
                    print(line(results[-1].cells()), flush=True)
            if "ablation_cam" in mine:
                lines.append(benchmark.ablation())
                print(lines[-1][0], flush=True)
    except KeyboardInterrupt:
        print("\nstopped")
    return report(results, lines, time.perf_counter() - begun)


def report(results: list[Result], lines: list[tuple[str, bool]], taken: float) -> int:
    """Print everything once more in one piece, and what misses a goal."""
    print(f"\n{heading()}")
    for result in results:
        print(line(result.cells()))
    print("", *(text for text, _ in lines), sep="\n")
    missed = [(result, found) for result in results if (found := result.misses())]
    failed = [result for result in results if any(note.startswith("failed") for note in result.notes)]
    print(
        f"\n{taken:.0f} s. Goals: at most {BARE_GOAL} x the bare passes, or what a row says, "
        f"and no peer that takes less than {LEVEL} of our time."
    )
    print(f"{len(missed)} of {len(results)} rows miss one:" if missed else f"None of {len(results)} rows misses one.")
    for result, found in missed:
        print(f"- {result.network}, {result.method}, batch {result.batch}: {'; '.join(found)}")
    for result in failed:
        print(f"- {result.network}, {result.method}, batch {result.batch}: {'; '.join(result.notes)}")
    beyond = [text for text, good in lines if not good]
    for text in beyond:
        print(f"- {text}")
    return 1 if missed or failed or beyond else 0


if __name__ == "__main__":
    sys.exit(main())
