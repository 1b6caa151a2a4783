import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name, *options):
    return subprocess.run([sys.executable, BENCHMARKS / name, *options], capture_output=True, text=True)


@pytest.mark.slow
def test_killed_trainings_resume_to_the_same_bits():
    """Kill -9 in a process of its own, at random moments."""
    done = run("kill_and_resume.py", "--kills", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 resumed trainings are bit-identical" in done.stdout


@pytest.mark.slow
def test_step_time_beside_a_bare_loop():
    """The limit is 1.05; a shared machine needs some room, so a test can only catch a loop that grew heavy."""
    done = run("training.py", "--rounds", "7", "--steps", "20", "--threads", "1")
    ratio = float(re.search(r"\| ([\d.]+) \(limit", done.stdout).group(1))
    assert ratio < 1.25, done.stdout + done.stderr
