"""The benchmark of the methods that alter the input runs, with whatever peers are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "perturbation.py"


@pytest.mark.slow
def test_the_benchmark_prints_its_table_and_its_goals():
    """Exit code 1 says that a goal was missed, which tiny cases do; every row that was asked for has to be there."""
    asked = "kernel_shap, trees of depth 3;lime, MLP;shapley, exact"
    done = subprocess.run([sys.executable, BENCHMARK, "--smoke", "--rows", asked], capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and not line.startswith("| row")]
    for name in ("kernel_shap, trees", "lime, MLPClassifier"):
        assert any(row.startswith(f"| {name}") for row in rows), done.stdout
    goals = [line for line in done.stdout.splitlines() if line.startswith(("- pass", "- MISS"))]
    assert any("x bare (goal 1.15)" in goal for goal in goals), done.stdout
    assert "shapley, exact, 6 columns: 64 evaluations" in done.stdout
