"""The benchmark of the explanations runs, with whatever peers are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "explanation.py"


@pytest.mark.slow
def test_the_benchmark_prints_its_table():
    """Exit code 1 says that a goal was missed, which small images on a shared machine may; the table has to be there."""
    options = ["--quick", "--network", "resnet", "--methods", "gradient,grad_cam,ablation_cam", "--repeats", "1"]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for name in ("gradient", "grad_cam", "ablation_cam"):
        assert f"| {name} " in done.stdout
    assert "512 channels, 2 images" in done.stdout


def test_a_method_may_have_several_rows_with_goals_of_their_own():
    """One row of one network at the smallest size; whether it reaches its goal is not asked here."""
    options = ["--quick", "--network", "resnet", "--methods", "lrp: epsilon_plus", "--repeats", "1", "--limit", "0.1"]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| resnet ")]
    assert rows, done.stdout
    assert all("| lrp: epsilon_plus " in row and "goal 3.5" in row and "failed" not in row for row in rows)
