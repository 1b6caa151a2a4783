"""docs/shortcut.md says what docs/shortcut.json holds, what it claims follows from the numbers, and its code runs."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import pellucid
from networks import GapLinear, network, samples

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "shortcut.md"
WRITTEN = PAGE.read_text(encoding="utf-8")
NUMBERS = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    folder = ROOT / "scripts"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("make_shortcut_page", folder / "make_shortcut_page.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@pytest.fixture(scope="module")
def experiment(script) -> ModuleType:
    return sys.modules["shortcut_experiment"]


def test_the_page_is_up_to_date(script):
    assert script.page(NUMBERS) == WRITTEN, "docs/shortcut.md is out of date: run scripts/make_shortcut_page.py --text"


def test_links_hold_and_the_picture_is_not_too_heavy():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", WRITTEN)
    assert {"shortcut.png", "shortcut.json"} <= set(targets)
    for target in targets:
        assert (PAGE.parent / target).is_file(), target
    assert 50_000 < PAGE.with_suffix(".png").stat().st_size < 1_000_000


def test_the_numbers_are_of_this_experiment(experiment):
    training = pellucid.default_study().training
    assert list(NUMBERS["methods"]) == list(experiment.ROWS)
    assert {key: value for key, value in NUMBERS["training"].items() if key != "augment"} == {
        key: getattr(training, key) for key in ("optimizer", "lr", "weight_decay", "schedule", "epochs", "batch")
    }
    assert NUMBERS["training"]["augment"] == list(training.augment)
    assert NUMBERS["seeds"] == experiment.SEEDS
    assert NUMBERS["pictures"]["explained"] == 2 * experiment.EACH
    assert NUMBERS["pictures"]["repeated"] == 2 * experiment.FEWER
    chance = experiment.snowy(experiment.part("test"), experiment.EACH).mask.mean()
    assert NUMBERS["chance"] == pytest.approx(chance, rel=1e-12)


def test_what_the_page_claims_follows_from_the_numbers(script):
    accuracy, methods = NUMBERS["accuracy"], NUMBERS["methods"]
    assert accuracy["shortcut"]["same"]["rate"] > accuracy["control"]["same"]["rate"]
    assert accuracy["shortcut"]["swapped"]["upper"] < 0.5
    assert accuracy["control"]["swapped"]["lower"] > 0.75
    seeing = [row for row in methods if row != "edge_detector"]
    assert script.revealing(NUMBERS) == seeing
    assert min(seeing, key=lambda row: methods[row]["shortcut"]["share"][0]) == "grad_cam"
    same = [methods["edge_detector"][model]["share"] for model in ("shortcut", "control")]
    assert same[0] == pytest.approx(same[1], abs=1e-6)  # float32; the two preparations differ in scale
    assert methods["hires_cam"]["shortcut"]["share"][1] > methods["grad_cam"]["shortcut"]["share"][2]
    by_class = methods["libra_cam"]["shortcut"]["by class"]
    assert by_class["Pullover"] > by_class["Coat"]
    assert max(seeing, key=lambda row: methods[row]["shortcut"]["share"][0]) == "lime, grid"
    assert methods["grad_cam"]["control"]["blank"] > 0
    assert methods["edge_detector"]["shortcut"]["share"][1] > NUMBERS["chance"]


def test_the_rule_of_revealing_can_fail(script):
    numbers = json.loads(json.dumps(NUMBERS))
    numbers["methods"]["lime"]["difference"][1] = -0.01
    numbers["methods"]["occlusion"]["shortcut"]["share"][1] = numbers["chance"] / 2
    assert set(script.revealing(NUMBERS)) - set(script.revealing(numbers)) == {"lime", "occlusion"}


def test_the_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", WRITTEN, re.DOTALL)
    model, x = network(GapLinear), samples(GapLinear, 4)
    mask = torch.zeros(x.shape[-2:], dtype=torch.bool)
    mask[-2:] = True
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, str(PAGE), "exec"), {"pellucid": pellucid, "model": model, "x": x, "mask": mask})
    assert re.fullmatch(r"\d+% of the relevance on 25% of the area\n", out.getvalue())


@pytest.mark.slow
def test_trained_again_the_shortcut_shows(experiment):
    """One pair of networks in the place of five, and a few pictures; the margins are wider than what trainings differ by."""
    test, networks = experiment.part("test"), experiment.pair(1)
    shortcut, control = (experiment.accuracy(networks[model], test) for model in ("shortcut", "control"))
    assert shortcut["same"]["rate"] > 0.95
    assert shortcut["swapped"]["rate"] < 0.45
    assert control["swapped"]["rate"] > 0.8
    planted = experiment.snowy(test, 8)
    rows = ["lime", "libra_cam", "grad_cam", "occlusion"]
    share = {
        model: {
            row: float(experiment.relevance_on(planted.mask, made))
            for row, made in experiment.explained(found, planted.images, rows).items()
        }
        for model, found in networks.items()
    }
    chance = np.mean(planted.mask)
    for row in rows:
        assert share["shortcut"][row] > 1.3 * chance, row
        assert share["shortcut"][row] > share["control"][row], row
