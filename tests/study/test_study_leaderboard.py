"""``pellucid benchmark``: streamed, resumed to the same numbers, ranked, and written as a page."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES
from pellucid.study import contest as contests
from pellucid.study.leaderboard import benchmark, matrix, sentences, standings, table
from pellucid.study.run_directory import RunDirectory
from pellucid.study.stages import Interrupted

METHODS = {"gradient": {}, "grad_cam": {}, "tree_shap": {}, "constant_map": {}, "random_map": {}}
FEW = {"apd": {}, "apd_calibrated": {}, "deletion": {"steps": 4}, "infidelity": {"draws": 3}}
CHECKS = {"max_sensitivity": {"draws": 2}, "cascading_randomisation": {}}


@pytest.fixture
def own(image_run, tmp_path):
    """A copy of the run of pictures, beside its data."""
    shutil.copytree(image_run.parent, tmp_path / "own")
    return RunDirectory.open(tmp_path / "own" / "run")


def numbers(found):
    """Everything but the seconds."""
    kept = {k: v for k, v in found.items() if k not in ("methods", "page")}
    return kept | {m: {k: v for k, v in facts.items() if k != "seconds"} for m, facts in found["methods"].items()}


def lines(run):
    return [json.loads(line) for line in (run.path / "benchmark" / "results.jsonl").read_text().splitlines()]


def test_every_method_by_every_measure(own, monkeypatch):
    monkeypatch.setattr(contests, "PIECE", 4)
    said = []
    found = benchmark(own, methods=METHODS, measures=FEW | CHECKS, samples=6, checked=3, tell=said.append)
    assert found["samples"] == found["asked"] == 6
    assert list(found["refused"]) == ["tree_shap"]
    assert set(found["overall"]) == {"gradient", "grad_cam"}
    assert found["controls"] == ["constant_map", "random_map"]
    assert set(found["measures"]) == set(FEW | CHECKS)
    for name, row in found["places"].items():
        assert set(row) == set(METHODS) - {"tree_shap"}
        wanted = 3 if name in CHECKS else 6
        assert max(place["samples"] for place in row.values()) == wanted
    assert found["places"]["apd"]["constant_map"]["mean"] == 0
    assert found["places"]["max_sensitivity"]["constant_map"]["mean"] == 0
    assert all(found["measures"][name]["weight"] == 0 for name in CHECKS)
    assert found["methods"]["gradient"]["passed"] in (True, False)
    assert found["methods"]["random_map"]["passed"] is False  # held random numbers: it never looks at the model
    assert found["methods"]["gradient"]["passes"]["backward"] == 1
    assert any("gradient, rows 5 to 6" in line for line in said)
    page = (own.path / "benchmark" / "index.html").read_text("utf-8")
    assert "6 test rows" in page
    assert "LeNet5 is no ensemble of trees" in page
    assert f"pellucid benchmark {own.path} --samples 6 --checked 3 --methods gradient,grad_cam" in page
    assert 'src="http' not in page
    header, rows = table(found)
    assert [row[1] for row in rows] == [*found["overall"], *found["controls"]]
    assert len(header) == len(rows[0])
    assert next(iter(found["overall"])) in sentences(found)[0]
    assert len(matrix(found)[0]["cells"]) == len(found["measures"])


def test_values_are_those_of_the_measures_themselves(own):
    found = benchmark(own, methods={"gradient": {}}, measures={"apd": {}}, samples=4)
    (line,) = [line for line in lines(own) if line["measure"] == "apd"]
    assert len(line["values"]) == 4
    assert found["places"]["apd"]["gradient"]["mean"] == pytest.approx(np.mean(line["values"]))
    assert line["passes"] == 11
    assert line["seconds"] >= 0


def test_a_kill_at_any_moment_and_a_second_run_give_the_same(own, monkeypatch):
    """Half a line, a lost map, no page: the numbers come out bit by bit as without an interruption."""
    monkeypatch.setattr(contests, "PIECE", 4)
    asked = {"methods": METHODS, "measures": FEW | CHECKS, "samples": 6, "checked": 3}
    whole = numbers(benchmark(own, **asked))
    path = own.path / "benchmark" / "results.jsonl"
    text = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(text[: int(share * len(text))])
        for kept in sorted((own.path / "benchmark" / "maps").iterdir())[::3]:
            kept.unlink()
        assert numbers(benchmark(RunDirectory.open(own.path), **asked)) == whole
    before = path.read_bytes()
    assert numbers(benchmark(own, **asked)) == whole
    assert path.read_bytes() == before


def test_more_methods_and_measures_are_added_to_what_is_there(own):
    benchmark(own, methods={"gradient": {}}, measures={"apd": {}}, samples=4)
    first = lines(own)
    benchmark(own, methods={"gradient": {}, "occlusion": {}}, measures={"apd": {}, "ir": {}}, samples=4)
    assert lines(own)[: len(first)] == first
    assert len(lines(own)) == len(first) + 1 + 3
    benchmark(own, methods={"gradient": {"absolute": False}}, measures={"apd": {}}, samples=4)
    assert len(lines(own)) == len(first) + 4 + 2


def test_ctrl_c_keeps_what_there_is_and_writes_the_page(own, monkeypatch):
    assess = contests.assess

    def stopped(model, x, relevance, *args, **kwargs):
        if "occlusion" in relevance:
            raise KeyboardInterrupt
        return assess(model, x, relevance, *args, **kwargs)

    asked = {"methods": {"gradient": {}, "occlusion": {}}, "measures": {"apd": {}}, "samples": 4}
    monkeypatch.setattr(contests, "assess", stopped)
    with pytest.raises(Interrupted, match="pellucid benchmark"):
        benchmark(own, **asked)
    assert "gradient" in (own.path / "benchmark" / "index.html").read_text("utf-8")
    monkeypatch.setattr(contests, "assess", assess)
    assert set(benchmark(own, **asked)["overall"]) == {"gradient", "occlusion"}


def test_a_table_is_judged_by_what_suits_it(own_table_run):
    found = benchmark(
        own_table_run, methods={"gradient": {}, "kernel_shap": {}, "random_map": {}, "edge_detector": {}}, samples=5
    )
    assert list(found["refused"]) == ["edge_detector"]
    assert set(found["overall"]) == {"gradient", "kernel_shap"}
    assert any(name.startswith("road") for name in found["not measured"])
    assert "deletion" in found["places"]
    assert not any(MEASURES[name].facts["asks"] == "truth" for name in found["measures"])


def test_options_that_are_arrays_are_told_apart_by_every_number(own):
    rows = np.random.default_rng(0).normal(size=(8, 1, 28, 28)).astype(np.float32)
    other = rows.copy()
    other[0, 0, 14, 14] += 3

    def mean(baseline):
        asked = {"deletion": {"steps": 3, "baseline": torch.from_numpy(baseline)}}
        return benchmark(own, methods={"gradient": {}}, measures=asked, samples=4)["places"]["deletion"]["gradient"]["mean"]

    first, second = mean(rows), mean(other)
    assert first != second
    assert mean(rows) == first
    with pytest.raises(InputError, match="an option is function"):
        benchmark(own, methods={"gradient": {}}, measures={"deletion": {"baseline": lambda x, keep: x}}, samples=4)


def test_refusals_are_of_what_is_asked_now(own, monkeypatch):
    def refusing(*args, **more):
        raise UnsupportedError("not today")

    asked = {"methods": {"gradient": {}}, "measures": {"apd": {}}, "samples": 4}
    monkeypatch.setattr(contests, "assess", refusing)
    assert "not today" in benchmark(own, **asked)["not measured"]["apd"]
    monkeypatch.undo()
    assert benchmark(own, **(asked | {"measures": {"apd": {"baseline": 0.1}}}))["not measured"] == {}


def test_a_damaged_map_is_made_again_and_one_benchmark_works_at_a_time(own):
    asked = {"methods": {"gradient": {}}, "measures": {"apd": {}}, "samples": 4}
    whole = numbers(benchmark(own, **asked))
    (kept,) = (own.path / "benchmark" / "maps").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    more = asked | {"measures": {"apd": {}, "ir": {}}}
    assert benchmark(own, **more)["places"]["apd"] == whole["places"]["apd"]
    assert len(kept.read_bytes()) > 100
    assert numbers(benchmark(own, **asked)) == whole
    held = contests.Results(own.path / "benchmark" / "results.jsonl")
    with pytest.raises(InputError, match="another benchmark of this run"):
        benchmark(own, **asked)
    held.close()
    assert numbers(benchmark(own, **asked)) == whole


def test_bad_input(own):
    with pytest.raises(InputError, match="no method 'gradent'"):
        benchmark(own, methods={"gradent": {}})
    with pytest.raises(InputError, match="does not measure explanations"):
        benchmark(own, measures={"accuracy": {}})
    with pytest.raises(InputError, match="has no option 'step'"):
        benchmark(own, measures={"deletion": {"step": 3}})
    with pytest.raises(InputError, match="samples is 1"):
        benchmark(own, samples=1)
    with pytest.raises(InputError, match="checked is 0"):
        benchmark(own, checked=0)
    with pytest.raises(InputError, match="no method asked for"):
        benchmark(own, methods={})
    path = own.path / "benchmark" / "results.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}\n")
    with pytest.raises(InputError, match="not a line of results"):
        benchmark(own)


def test_nothing_yet_says_so(own):
    c = contests.contest(own, methods={"gradient": {}}, measures={"apd": {}}, samples=4)
    value = standings(c)
    c.results.close()
    assert value["overall"] == {}
    assert sentences(value) == ["Nothing has been ranked yet."]
    assert matrix(value) == []


@pytest.mark.slow
def test_kill_minus_nine_and_the_same_command_again(own, tmp_path):
    """A real process, killed twice as soon as it has written some lines; then left alone."""
    methods = "gradient,lrp,smoothgrad,grad_cam,occlusion,lime,libra_cam,edge_detector,random_map"
    shutil.copytree(own.path.parent, tmp_path / "whole")
    command = [sys.executable, "-m", "pellucid.cli.main", "benchmark", "--methods", methods, "--samples", "6", "--checked", "4"]
    killed, whole = own.path, tmp_path / "whole" / "run"
    results = killed / "benchmark" / "results.jsonl"
    for _ in range(2):
        before = results.read_bytes().count(b"\n") if results.exists() else 0
        process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not results.exists() or results.read_bytes().count(b"\n") < before + 20):
            time.sleep(0.01)
        assert process.poll() is None, "it was done before it could be killed"
        process.kill()
        process.wait()
    for path in (killed, whole):
        subprocess.run([*command, str(path)], check=True, capture_output=True)
    one, other = (json.loads((path / "benchmark" / "benchmark.json").read_text()) for path in (killed, whole))
    assert numbers(one) == numbers(other)
    assert len(lines(own)) == len(lines(RunDirectory.open(whole)))
