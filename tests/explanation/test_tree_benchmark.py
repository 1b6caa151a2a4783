"""The benchmark of tree_shap runs, with whatever peers are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "tree_shap.py"


@pytest.mark.slow
def test_the_benchmark_of_trees_prints_its_table():
    done = subprocess.run([sys.executable, BENCHMARK, "--quick", "--rows", "2"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for values in ("path-dependent", "interventional"):
        assert f"| {values} | 2 | pellucid | 1 |" in done.stdout
