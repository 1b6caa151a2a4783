"""Documentation that can be checked: every public part says what it is, tables say where they come from, files are listed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import pellucid
from pellucid.core.table import LISTED, METHODS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "pellucid").rglob("*.py"))


@pytest.mark.parametrize("kind", LISTED)
def test_every_entry_has_a_summary_and_a_place(kind):
    assert len(LISTED[kind]) > 0
    for entry in LISTED[kind]:
        assert len(entry.summary) > 10, entry.name
        file, line = entry.where.rsplit(":", 1)
        assert Path(file).is_file(), entry.name
        assert int(line) > 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_are_documented_and_typed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the file does not say what it holds"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} is not documented"


def test_methods_name_their_source():
    for entry in METHODS:
        assert re.search(r"(19|20)\d\d", entry.facts["paper"]), entry.name


def test_public_names_exist():
    for name in pellucid.__all__:
        assert getattr(pellucid, name) is not None


@pytest.mark.parametrize("text", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_between_files_hold(text):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / text).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), f"{text} names {target}"


def test_no_marks_left():
    for path in SOURCES:
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8")), path
