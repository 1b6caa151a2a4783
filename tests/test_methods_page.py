"""docs/methods.md says what the table of methods says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from pellucid.core.table import METHODS
from pellucid.explanation.method import CLAIMS

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "make_methods_page.py"
WRITTEN = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_methods_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script):
    assert script.page() == WRITTEN, "docs/methods.md is out of date: run scripts/make_methods_page.py"


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_is_on_the_page_and_says_how_to_read_its_map(name):
    reading = METHODS[name].facts.get("reading", "")
    assert f"\n### `{name}`\n" in WRITTEN
    assert re.fullmatch(r"\S.{10,}\.", reading, re.DOTALL), f"{name}: reading= is not a sentence that ends in a full stop"


def test_every_claim_is_explained(script):
    assert set(script.CLAIMS) == set(CLAIMS)


def test_the_picture_is_there_and_not_too_heavy(script):
    assert 10_000 < script.SHEET.stat().st_size < 2_000_000
