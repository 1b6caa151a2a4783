from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pellucid.core.table import LISTED, METHODS, MODELS
from study.tiny_studies import everything_in


def test_run_answers_with_result_and_report(here, pellucid):
    result = pellucid("run", "pets.yaml")
    assert result.exit_code == 0
    assert "Test accuracy" in result.stdout
    assert "trivial baseline" in result.stdout
    assert result.stdout.splitlines()[-1] == "Report: runs/pets-1/report.html"
    assert (here / "runs/pets-1/report.html").is_file()
    assert "epoch 4/4" in result.stderr


def test_train_then_the_other_verbs(here, pellucid):
    result = pellucid("train", "pets.yaml", "--out", "mine")
    assert result.exit_code == 0
    assert "Trained for 4 epochs" in result.stdout
    assert pellucid("evaluate", "mine").exit_code == 0
    assert json.loads(pellucid("report", "mine", "--json").stdout) == {"report": "mine/report.html"}
    result = pellucid("resume", "mine")
    assert result.exit_code == 0
    assert "Training" not in result.stderr
    result = pellucid("resume", "mine")
    assert result.exit_code == 0
    assert "The run is complete; there is nothing to resume." in result.stdout


def test_init_then_what_it_says(here, pellucid):
    (here / "pets.yaml").unlink()
    result = pellucid("init", "pets.csv")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["target: 'species', by its name", "Wrote pets.yaml. Now: pellucid run pets.yaml"]
    again = pellucid("init", "pets.csv")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_predict_prints_name_class_and_probability(here, pellucid):
    result = pellucid("predict", "run", "pets.csv")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "predicted", "probability"]
    assert len(lines) == 82
    frame = pd.read_parquet("run/predictions.parquet")
    assert [line.split()[3] for line in lines[2:]] == frame["predicted"].tolist()


def test_explain_makes_a_figure(here, pellucid):
    result = pellucid(
        "explain", "run", "pets.csv", "-m", "gradient,grad_cam", "--set", "gradient.absolute=false", "--out", "why"
    )
    assert result.exit_code == 0
    assert "Figure (the first 16 rows): why/explanation.png" in result.stdout
    assert "grad_cam cannot explain this: no layer" in result.stderr
    assert (here / "why" / "gradient.safetensors").is_file()


def test_audit_measures_and_renews_the_report(here, pellucid):
    result = pellucid("audit", "run", "--methods", "gradient", "--samples", "5", "--plain")
    assert result.exit_code == 0
    assert "APD ↓" in result.stdout
    assert "calibrated" not in result.stdout
    assert "gradient: " in result.stdout
    assert "Report renewed" in result.stderr
    assert "5 test rows" in (here / "run/report.html").read_text()


def test_describe_a_model_and_a_run(here, pellucid):
    text = pellucid("describe", "lenet5").stdout
    assert "61,706 parameters" in text
    assert "features.linear1" in pellucid("describe", "run").stdout


def test_list_and_where(pellucid):
    text = pellucid("list").stdout
    for kind, table in LISTED.items():
        assert f"\n{kind}\n" in f"\n{text}"
        for name in table.names():
            assert f"  {name} " in text
    assert set(METHODS.names()) == {line.split()[0] for line in pellucid("list", "methods").stdout.splitlines()[1:]}
    file, line = pellucid("where", "lenet5").stdout.strip().rsplit(":", 1)
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    assert "class LeNet5" in "\n".join(lines[int(line) - 1 : int(line) + 2])


@pytest.mark.parametrize(
    ("words", "check"),
    [
        (["train", "pets.yaml"], lambda v: v["epochs"] == 4 and "report" not in v),
        (["resume", "run"], lambda v: v["resumed"] is False),
        (["evaluate", "run"], lambda v: v["test"]["samples"] == 16),
        (["predict", "run", "pets.csv"], lambda v: len(v) == 80 and set(v[0]["probabilities"]) == {"cat", "dog"}),
        (["explain", "run", "pets.csv", "-m", "gradient"], lambda v: len(v["methods"]["gradient"]["score"]) == 80),
        (["audit", "run", "--samples", "2"], lambda v: v["samples"] == 2),
        (["describe", "mlp"], lambda v: v["layers"][-1]["name"] == "head"),
        (["list"], lambda v: set(v) == set(LISTED)),
        (
            ["list", "models"],
            lambda v: [m["name"] for m in v] == MODELS.names() and "hidden" in v[-1]["options"] + v[0]["options"],
        ),
        (["where", "mlp"], lambda v: v[0]["kind"] == "model"),
        (["init", "pets.csv", "--out", "new.yaml"], lambda v: v["study"] == "new.yaml"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_stands_alone_on_standard_output(here, pellucid, words, check):
    result = pellucid(*words, "--json")
    assert result.exit_code == 0, result.stderr
    assert check(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nix.yaml"], "cannot read the study: No such file"),
        (["run", "run"], "is a folder, not a study"),
        (["run", "pets.yaml", "--out", "run"], "'run' is not empty"),
        (["run", "pets.yaml", "--out", "pets.csv/run"], "cannot make the run folder"),
        (["train", "pets.csv"], "pets.csv"),
        (["resume", "nix"], "no run 'nix'. Runs here: run."),
        (["evaluate", "."], "'.' is not a run"),
        (["predict", "run", "nix.csv"], "nix.csv"),
        (["predict", "run", "pets.yaml"], "pets.yaml"),
        (["explain", "run", "pets.csv", "-m", "gradcam"], "Did you mean 'grad_cam'?"),
        (["explain", "run", "pets.csv", "-m", "grad_cam"], "no layer keeps the input's spatial axes"),
        (["explain", "run", "pets.csv", "-m", "gradient", "--target", "cow"], "no class 'cow'"),
        (["audit", "run", "--methods", "gradiant"], "Did you mean 'gradient'?"),
        (["describe", "lenet"], "Did you mean 'lenet5'?"),
        (["list", "method"], "Did you mean 'methods'?"),
        (["where", "gradcam"], "Did you mean 'grad_cam'?"),
        (["init", "nix"], "no file or folder 'nix'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_changes_nothing(here, pellucid, words, message):
    before = everything_in(here)
    result = pellucid(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert everything_in(here) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", b'{"format": 99}', "written in format 99"),
        ("model.safetensors", b"\x80\x04\x95pickle.", "is a pickle"),
        ("model.safetensors", b"", "is empty"),
        ("data.json", b"{", "data.json cannot be read"),
        ("study.yaml", b"data: {name: nix}\nmodel: {name: mlp}", "no data set 'nix'"),
    ],
)
def test_a_damaged_run_is_refused_by_every_verb(here, pellucid, name, content, message):
    (here / "run" / name).write_bytes(content)
    before = everything_in(here)
    for words in (["predict", "run", "pets.csv"], ["evaluate", "run"], ["explain", "run", "pets.csv", "-m", "gradient"]):
        result = pellucid(*words)
        assert result.exit_code == 2, result.stderr
        assert message in result.stderr
        assert everything_in(here) == before


def test_what_is_unexpected_leaves_with_1_and_a_hint(here, pellucid, monkeypatch):
    def breaks(*args: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("pellucid.study.stages.evaluate", breaks)
    result = pellucid("evaluate", "run")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "Error: RuntimeError: boom"
    assert "PELLUCID_DEBUG=1" in result.stderr
    monkeypatch.setenv("PELLUCID_DEBUG", "1")
    assert isinstance(pellucid("evaluate", "run").exception, RuntimeError)


def test_ctrl_c_outside_training_says_how_to_go_on(here, pellucid, monkeypatch):
    def press(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pellucid.study.auditing.audit", press)
    result = pellucid("run", "pets.yaml")
    assert result.exit_code == 1
    assert "stopped in the stage 'quality'. Go on with: pellucid resume runs/pets-1" in result.stderr
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert pellucid("resume", "runs/pets-1").exit_code == 0
