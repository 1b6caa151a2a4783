"""The import rule of the architecture, read from the syntax trees (imports inside functions included)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "pellucid"
INNER = {"data", "training", "evaluation", "explanation", "visual"}
ALLOWED = {
    "core": set(),
    "nn": {"core"},
    "models": {"core", "nn"},
    **{room: {"core"} for room in INNER},
    "quality": {"core", "evaluation", "explanation"},
    "study": {"core", "nn", "models", "quality", *INNER},
    "cli": {"core", "nn", "models", "quality", "study", *INNER},
}
FILES = sorted(ROOT.glob("*/**/*.py"))


def imported_rooms(tree: ast.AST, package: tuple[str, ...]) -> set[str]:
    """Rooms of ours that a file imports, absolute or relative, at the top or inside a function."""
    rooms = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            names = [module] + [f"{module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("pellucid.")}
    return rooms & ALLOWED.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_inwards_only(path):
    parts = path.relative_to(ROOT).parts
    found = imported_rooms(ast.parse(path.read_text(encoding="utf-8")), ("pellucid", *parts[:-1]))
    assert found <= ALLOWED[parts[0]] | {parts[0]}, f"{parts[0]} may not import {found - ALLOWED[parts[0]]}"


@pytest.mark.parametrize(
    "text",
    [
        "from pellucid.models import mlp",
        "import pellucid.models.foundations",
        "from ..models import mlp",
        "def f():\n    from pellucid import models",
        "from .. import models",
    ],
)
def test_the_walk_sees_every_form(text):
    assert imported_rooms(ast.parse(text), ("pellucid", "explanation")) == {"models"}


def test_every_room_is_covered():
    assert {p.relative_to(ROOT).parts[0] for p in FILES} <= ALLOWED.keys()


def test_no_file_is_named_after_nothing():
    assert not [p for p in FILES if p.stem.rstrip("s") in {"util", "helper", "common", "misc", "manager"}]


def test_torchvision_and_unsafe_loading_are_never_used():
    """Beside a CPU torch the import of torchvision fails; a pickle can execute."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"torchvision", "timm", "pickle", "joblib", "dill"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load")}, (
                    path
                )
