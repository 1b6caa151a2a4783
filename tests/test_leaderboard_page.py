"""docs/leaderboard.md says what docs/leaderboard.json holds, and what it claims is so."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from pellucid.core.table import MEASURES, METHODS
from pellucid.study.leaderboard import sanity

ROOT = Path(__file__).parents[1]
NUMBERS = json.loads((ROOT / "docs" / "leaderboard.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
BUNDLED, TRUTH = NUMBERS["bundled"], NUMBERS["truth"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_leaderboard_page", ROOT / "scripts" / "make_leaderboard_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script):
    assert script.page(BUNDLED, TRUTH) == PAGE, "docs/leaderboard.md is out of date: run scripts/make_leaderboard_page.py"


def test_every_method_and_measure_has_been_put_to_it():
    """A new method or measure is missing here until the benchmark is run again."""
    assert {*BUNDLED["overall"], *BUNDLED["controls"], *BUNDLED["refused"]} == set(METHODS.names())
    asked = {entry.name for entry in MEASURES if entry.facts.get("asks") not in (None, "truth")}
    assert set(BUNDLED["measures"]) == asked
    assert set(TRUTH["measures"]) == {e.name for e in MEASURES if e.facts.get("asks") == "truth"} - {"energy_in_box"}
    assert BUNDLED["samples"] == BUNDLED["asked"] == 200


def test_the_published_outcome_of_the_sanity_check():
    """Gradient and Grad-CAM depend on the parameters; guided backpropagation hardly on those of the higher layers."""
    upper = {row[0]: float(row[1].split("\N{NO-BREAK SPACE}")[0]) for row in sanity(BUNDLED).rows}
    assert BUNDLED["methods"]["gradient"]["passed"]
    assert BUNDLED["methods"]["grad_cam"]["passed"]
    assert upper["guided_backpropagation"] > 50 > max(upper["gradient"], upper["grad_cam"])
    for control in ("edge_detector", "random_map", "constant_map"):
        assert not BUNDLED["methods"][control]["passed"]


def test_controls_get_what_they_must():
    places = BUNDLED["places"]
    assert places["apd"]["constant_map"]["mean"] == 0
    assert places["max_sensitivity"]["constant_map"]["mean"] == 0
    assert abs(TRUTH["places"]["rank_agreement"]["random_map"]["mean"] - 0.5) < 0.03
    assert TRUTH["places"]["rank_agreement"]["constant_map"]["mean"] == 0.5
    best = max(TRUTH["places"]["rank_agreement"][name]["mean"] for name in TRUTH["overall"])
    assert best > TRUTH["places"]["rank_agreement"]["edge_detector"]["mean"] + 0.1


def test_ranks_are_those_of_the_means():
    for value in (BUNDLED, TRUTH):
        assert [row[0] for row in value["overall"].values()] == sorted(row[0] for row in value["overall"].values())
        for measure, row in value["places"].items():
            ranked = {n: p for n, p in row.items() if p["rank"] is not None}
            if len({p["samples"] for p in ranked.values()}) > 1:
                continue  # a map without a value counts as the worst in the ranks, and not at all in the mean
            best = min(ranked.values(), key=lambda p: p["rank"])["mean"]
            means = [p["mean"] for p in ranked.values()]
            assert best == (max if value["measures"][measure]["larger_is_better"] else min)(means)
