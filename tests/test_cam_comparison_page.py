"""docs/cam_comparison.md says what docs/cam_comparison.json holds; tables follow from probabilities, claims from tables."""

from __future__ import annotations

import copy
import importlib
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import pellucid
from networks import DenseHead, GapLinear, network, samples
from pellucid.explanation import masks
from pellucid.explanation.calibration import THRESHOLDS
from pellucid.quality.faithfulness import LEVELS, faithfulness

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cam_comparison.md"
WRITTEN = PAGE.read_text(encoding="utf-8")
NUMBERS = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
GROUPS = ("all", "shared", "sure")
ROUNDED = 2e-6  # numbers are written with six decimals; an identity is of two or three of them


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Import a module of the folder of scripts by its name."""
    folder = str(ROOT / "scripts")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def written_by(scripts) -> ModuleType:
    return scripts("cam_page")


@pytest.fixture(scope="module")
def counted_by(scripts) -> ModuleType:
    return scripts("cam_numbers")


def test_the_page_is_up_to_date(written_by):
    assert written_by.page(NUMBERS) == WRITTEN, "docs/cam_comparison.md is old: run scripts/make_cam_comparison.py --text"


def test_links_hold_and_the_pictures_are_not_too_heavy():
    targets = set(re.findall(r"\]\((?!https?:)([^)#]+)", WRITTEN))
    assert targets == {"cam_comparison.json", "cam_comparison.png", "cam_comparison_curves.png"}
    for target in targets:
        assert 10_000 < (PAGE.parent / target).stat().st_size < 1_600_000, target


def test_the_numbers_are_of_this_experiment(scripts):
    experiment = scripts("cam_experiment")
    assert NUMBERS["settings"] == experiment.SETTINGS
    assert NUMBERS["thresholds"] == list(LEVELS)
    assert list(NUMBERS["rows"]) == list(experiment.ROWS)
    n = len(NUMBERS["photographs"])
    assert n >= 100
    for name, row in NUMBERS["rows"].items():
        assert row["photographs"] == list(range(0, n, experiment.EVERY.get(name, 1))), name
        assert np.shape(row["o"]) == (len(row["photographs"]), len(LEVELS)), name


def test_the_tables_follow_from_the_probabilities(counted_by):
    places = counted_by.groups(NUMBERS)
    assert places.keys() == NUMBERS["tables"].keys() == set(GROUPS)
    for name in GROUPS:
        y, found = counted_by.probabilities(NUMBERS, places[name])
        stored = NUMBERS["tables"][name]
        assert len(y) == stored["photographs"]
        assert found.keys() == stored["rows"].keys()
        for row, both in found.items():
            for column, o in both.items():
                for kind, values in counted_by.summary(y, o).items():
                    for measure, number in values.items():
                        assert number == pytest.approx(stored["rows"][row][column][kind][measure], abs=ROUNDED), (name, row)


def test_the_intervals_follow_from_the_probabilities(counted_by):
    y, found = counted_by.probabilities(NUMBERS, counted_by.groups(NUMBERS)["shared"])
    stored = NUMBERS["tables"]["shared"]
    grad = found["grad_cam"]
    for column in ("plain", "calibrated"):
        for row in ("libra_cam", "score_cam", "random"):
            for measure, ends in counted_by.differences(y, found[row][column], grad[column]).items():
                assert ends == pytest.approx(stored["rows"][row][column]["difference"][measure], abs=ROUNDED)
    for measure, ends in counted_by.differences(y, found["libra_cam"]["calibrated"], grad["plain"]).items():
        assert ends == pytest.approx(stored["as_published"][measure], abs=ROUNDED)


def test_the_identities_of_the_measures_hold():
    y = np.array([one["y"] for one in NUMBERS["photographs"]])
    for group in GROUPS:
        for name, row in NUMBERS["tables"][group]["rows"].items():
            for column in ("plain", "calibrated"):
                value, area = row[column]["value"], row[column]["area"]
                assert value["ir"] + value["dr"] <= 1 + ROUNDED, (group, name)
                assert 0 <= value["apd"] <= 1, (group, name)
                assert area["ir"] + area["dr"] <= 1 + ROUNDED, (group, name)
            for measure, better in (("api", 1), ("apd", -1), ("ir", 1), ("dr", -1)):
                gain = row["calibrated"]["value"][measure] - row["plain"]["value"][measure]
                assert better * gain >= -ROUNDED, f"{name}: calibration made {measure} worse"
    for name, row in NUMBERS["rows"].items():
        if len(row["photographs"]) == len(y):
            value = NUMBERS["tables"]["all"]["rows"][name]["plain"]["value"]
            o = np.array(row["o"])[:, 0]
            assert value["api"] - value["apd"] == pytest.approx(np.mean((o - y) / y), abs=ROUNDED), name
            assert value["ir"] + value["dr"] + np.mean(o == y) == pytest.approx(1, abs=ROUNDED), name


def test_what_the_page_claims_follows_from_the_numbers(written_by):
    every = NUMBERS["tables"]["all"]
    rows = every["rows"]
    published, fair = every["as_published"], rows["libra_cam"]["calibrated"]["difference"]
    assert written_by.certain(published) == ["API", "APD", "IR", "DR"], "the lead is not there as published"
    for measure in ("api", "ir", "dr"):
        assert abs(fair[measure][0]) < abs(published[measure][0]) / 2, f"most of the lead in {measure} is not the calibration"
    chance, plain = rows["random_filtered"]["calibrated"]["value"], rows["random"]["plain"]["value"]
    for measure in ("api", "ir"):
        assert chance[measure] > 1.5 * plain[measure] > 0, "choosing brings little"
    assert chance["apd"] < plain["apd"] / 2
    for group in GROUPS:
        for column in ("plain", "calibrated"):
            table = NUMBERS["tables"][group]["rows"]
            for measure in written_by.MEASURES:
                first = written_by.best(table, column, measure)
                assert first, (group, measure)
                assert first <= {"libra_cam", "score_cam", "grad_cam_plus_plus", "grad_cam", "layer_cam", "relevance_cam"}


def test_a_lead_can_be_uncertain_and_a_champion_another(written_by):
    found = {"api": [0.1, -0.1, 0.3], "apd": [-0.1, -0.2, -0.05], "ir": [-0.2, -0.3, -0.1], "dr": [0.1, 0.05, 0.2]}
    assert written_by.certain(found) == ["APD"]
    values = {"libra_cam": (0.1, 0.3, 0.5, 0.4), "grad_cam": (0.2, 0.3, 0.4, 0.4), "random": (0.9, 0.0, 0.9, 0.0)}
    rows = {name: {"plain": {"value": dict(zip(written_by.MEASURES, v))}} for name, v in values.items()}
    assert written_by.champion(rows, "plain") == (
        "`libra_cam` is best in IR, `grad_cam` is best in API, `libra_cam` and `grad_cam` are best together in APD and DR"
    )


def test_a_map_that_keeps_everything_changes_nothing():
    constant = NUMBERS["tables"]["all"]["rows"]["constant"]
    for column in ("plain", "calibrated"):
        assert set(constant[column]["value"].values()) == {0.0}


@pytest.mark.parametrize("make", [GapLinear, DenseHead])
def test_calibrated_probabilities_are_those_of_the_calibrated_map(counted_by, make):
    model, x = network(make), samples(make, 6)
    made = pellucid.explain(model, x, {"hires_cam": {"relu": True}}, target=1)["hires_cam"].evidence()
    plain = faithfulness(model, x, made, target=1)
    done = pellucid.calibrate(model, x, made, target=1)
    again = faithfulness(model, x, done.evidence, target=1)
    assert len({float(t) for t in done.threshold}) > 1, "a test of one threshold only"
    np.testing.assert_allclose(counted_by.calibrated(plain.o), again.o, rtol=0, atol=1e-9)


def test_what_rounding_makes_different_is_a_tie(counted_by):
    o = counted_by.tied(0.5, np.array([0.5 + 5e-6, 0.5 - 5e-6, 0.5 + 2e-5]))
    assert o.tolist() == [0.5, 0.5, 0.5 + 2e-5]


def test_the_folded_network_answers_the_same(scripts):
    mobilenet, experiment = scripts("mobilenet_v2"), scripts("cam_experiment")
    torch.manual_seed(0)
    blocks = [mobilenet.InvertedResidual(4, 8, 2, 6), mobilenet.InvertedResidual(8, 8, 1, 6), torch.nn.BatchNorm2d(8)]
    model = torch.nn.Sequential(*blocks).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    x, before = torch.randn(2, 4, 9, 9, dtype=torch.float64), copy.deepcopy(model.state_dict())
    folded = experiment.folded(model)
    left = [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(left) == 1, "only the one without a convolution before it stays"
    torch.testing.assert_close(folded(x), model(x), rtol=1e-9, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_random_maps_are_filtered_as_libra_cam_filters(scripts):
    filtered, counts = scripts("cam_experiment").filtered, set()
    model, xs = network(DenseHead), samples(DenseHead, 12)
    generator = torch.Generator().manual_seed(0)
    for x in xs[:, None]:
        maps = torch.rand(9, *x.shape[2:], dtype=x.dtype, generator=generator).round()
        with torch.no_grad():
            target = model(x).argmax(1)
            own = model(x).softmax(1)[0, target]
            p = torch.cat([model(masks.keep(x, one[None])).softmax(1)[0, target] for one in maps])
        kept = maps[p > own] if bool((p > own).any()) else maps[p.argmax()][None]
        made, facts = filtered(model, x, target, maps)
        assert facts["kept"] == len(kept)
        torch.testing.assert_close(made, masks.unit(kept.mean(0, keepdim=True)), rtol=0, atol=1e-9)
        counts.add(len(kept))
    assert len(counts) > 2, "a test of one case only"


def test_resource_files_are_unpacked(scripts):
    photographs = scripts("photographs")

    def name(words: str) -> bytes:
        return struct.pack(">HI", len(words), 0) + words.encode("utf-16-be")

    text = b"a photograph" * 9
    packed = struct.pack(">I", len(text)) + zlib.compress(text)
    data = struct.pack(">I", 3) + b"raw" + struct.pack(">I", len(packed)) + packed
    names = name("") + name("a") + name("b.txt")
    places = (0, len(name("")), len(name("") + name("a")))
    tree = struct.pack(">IHIIQ", places[0], 2, 2, 1, 0)
    tree += struct.pack(">IHHHIQ", places[1], 0, 0, 0, 0, 0) + struct.pack(">IHHHIQ", places[2], 1, 0, 0, 7, 0)
    head = struct.pack(">4s5I", b"qres", 3, 24, 24 + len(tree), 24 + len(tree) + len(data), 0)
    assert photographs.unpacked(head + tree + data + names) == {"a": b"raw", "b.txt": text}
    with pytest.raises(ValueError, match="not a resource file"):
        photographs.unpacked(b"RIFF" + bytes(40))


def test_credits_are_read(scripts):
    text = "Copyright: A. B., 2018\nLicense: CC0-1.0\nSource: https://x/y\nFiles:\none.webp\ntwo.webp\n\nCopyright: C\n"
    text += "Source: s\nLicense: CC-BY-SA 4.0\nComments: cut\nFiles: three.webp\n"
    assert scripts("photographs").credits(text) == {
        "one.webp": ("A. B., 2018", "CC0-1.0", "https://x/y"),
        "two.webp": ("A. B., 2018", "CC0-1.0", "https://x/y"),
        "three.webp": ("C", "CC-BY-SA-4.0", "s"),
    }


def test_every_photograph_is_credited_and_those_shown_may_be_shown(written_by):
    for one in NUMBERS["photographs"]:
        assert one["author"], one["name"]
        assert one["licence"], one["name"]
        assert one["source"].startswith("http"), one["name"]
    shown = {one["name"]: one for one in NUMBERS["photographs"] if one["name"] in written_by.SHOWN}
    assert shown.keys() == written_by.SHOWN.keys()
    for name, (index, _) in written_by.SHOWN.items():
        assert shown[name]["class"] == index
        assert shown[name]["licence"] in ("Public Domain", "CC0-1.0")


def test_the_candidates_are_the_first_levels():
    assert LEVELS[: len(THRESHOLDS)] == THRESHOLDS
