"""docs/peers.md names tests that exist, and leaves out none that shows a fault."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
FAULTS = ("tests/peers/test_peers_faults.py", "tests/peers/test_peers_perturbation_faults.py")
NAMED = sorted(set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)))


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_named_tests_exist(path):
    missing = {name for file, name in NAMED if file == path} - functions(path)
    assert not missing, f"docs/peers.md names tests that {path} does not have"


def test_every_fault_that_is_shown_is_written_down():
    for faults in FAULTS:
        shown = {name for name in functions(faults) if name.startswith("test_")}
        assert shown
        assert not shown - {name for file, name in NAMED if file == faults}, f"docs/peers.md leaves out tests of {faults}"


def test_every_line_names_its_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and "---" not in line and not line.startswith("| peer ")]
    assert rows
    for row in rows:
        *_, test = (cell.strip() for cell in row.strip("|").split(" | "))
        assert "::" in test, row
        assert row.count(" | ") == 4, row
