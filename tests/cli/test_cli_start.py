from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pellucid.cli.main import VERBS

COMMAND = [sys.executable, "-c", "from pellucid.cli.main import main; main()"]
HEAVY = ["torch", "numpy", "pandas", "matplotlib", "yaml", "scipy", "sklearn", "skimage", "PIL", "safetensors"]


def test_help_is_quick():
    """Under 0.5 s; the best of a few, as other work may run beside it."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(4)) < 0.5


@pytest.mark.parametrize("words", ["['--help']", "['run', '--help']", "['--version']", "['explain', '--help']"])
def test_help_loads_nothing_heavy(words):
    code = f"""
import sys
from pellucid.cli.main import app
try:
    app({words})
except SystemExit:
    pass
found = [name for name in {HEAVY} if name in sys.modules]
sys.exit(str(found) if found else 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_check_sees_a_heavy_import():
    code = "import sys, json\nsys.exit(1 if 'json' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 1


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, pellucid; pellucid.__all__; sys.exit(any(name in sys.modules for name in {HEAVY}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, pellucid):
    result = pellucid(verb, "--help")
    assert result.exit_code == 0
    assert f"Example: pellucid {verb}" in result.stdout


def test_every_verb_is_listed(pellucid):
    text = pellucid("--help").stdout
    for verb in VERBS:
        assert f"\n  {verb} " in text
    assert "2 bad input" in text


def test_usage_errors_leave_with_2(pellucid):
    for words in (["nix"], ["evaluate"], ["list", "--nix"], ["audit", "run", "--samples", "many"]):
        result = pellucid(*words)
        assert result.exit_code == 2, words
        assert result.stdout == ""


def test_a_reader_that_has_enough_is_no_traceback():
    command = f"{sys.executable} -c 'from pellucid.cli.main import main; main()' list schedules | true"
    assert subprocess.run(command, shell=True, capture_output=True, text=True).stderr == ""
