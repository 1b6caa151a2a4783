"""The benchmark of the measures of quality runs, with whatever peers are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "quality.py"


@pytest.mark.slow
def test_the_benchmark_prints_its_table_and_its_goals():
    """Exit code 1 says that a goal was missed, which tiny cases do; every row has to be there, with no forward too many."""
    done = subprocess.run([sys.executable, BENCHMARK, "--smoke"], capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    names = {row[0].strip() for row in rows}
    for name in ("infidelity", "deletion", "insertion", "ROAD, both", "ROAD, acc", "faithfulness", "max-sens", "parameter"):
        assert any(found.startswith(name) for found in names), done.stdout
    counted = [(float(row[2]), float(row[3])) for row in rows if row[2].strip() != "-"]
    assert len(counted) == 9
    assert all(ours == least for least, ours in counted), done.stdout
    assert "goals" in done.stdout.splitlines()[-1]
