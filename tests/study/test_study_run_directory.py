from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.study import recall
from pellucid.study.run_directory import FORMAT, RunDirectory, plain
from study.tiny_studies import everything_in


def test_runs_are_numbered_and_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [RunDirectory.create("x").path.as_posix() for _ in range(3)] == ["runs/x-1", "runs/x-2", "runs/x-3"]
    shutil.rmtree("runs/x-2")
    assert RunDirectory.create("x").path.as_posix() == "runs/x-2"


def test_out_must_be_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    RunDirectory.create("x", tmp_path / "empty")
    RunDirectory.create("x", tmp_path / "a" / "b")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    before = everything_in(tmp_path)
    for name in ("empty", "full"):
        with pytest.raises(InputError, match="is not empty.*never overwritten"):
            RunDirectory.create("x", tmp_path / name)
    with pytest.raises(InputError, match="is a file.*Give a new folder"):
        RunDirectory.create("x", tmp_path / "full" / "letter.txt")
    assert everything_in(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot make the run folder: Permission denied.*Choose a writable folder"):
        RunDirectory.create("x", tmp_path / "run")
    tmp_path.chmod(0o700)


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    """An unwritable place that is so for root too."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot make the run folder: Not a directory.*Choose a writable folder with --out"):
        RunDirectory.create("x", tmp_path / "file" / "run")
    assert everything_in(tmp_path) == {"file": b"x"}


def test_what_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # runs in the current folder would be named
    with pytest.raises(InputError, match="no run '.*nix'. Make one"):
        RunDirectory.open(tmp_path / "nix")
    with pytest.raises(InputError, match="is not a run: it has no run.json"):
        RunDirectory.open(tmp_path)
    RunDirectory.create("x", tmp_path / "there")
    with pytest.raises(InputError, match="Runs here: .*there"):
        RunDirectory.open(tmp_path / "ther")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 99}', "written in format 99; this Pellucid reads up to format 1.*Update Pellucid"),
        ('{"format": "new"}', "format version 'new'"),
        ("{}", "format version None"),
        ("[]", "run.json holds no block of facts"),
        ('{"format": 1', "run.json cannot be read"),
    ],
)
def test_a_newer_or_damaged_format(tmp_path, content, message):
    run = RunDirectory.create("x", tmp_path / "run")
    (run.path / "run.json").write_text(content)
    before = everything_in(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        RunDirectory.open(run.path)
    assert error.value.exit_code == 2
    assert everything_in(tmp_path) == before


def test_files_are_replaced_as_a_whole(tmp_path, monkeypatch):
    run = RunDirectory.create("x", tmp_path / "run")
    run.write_text("a.txt", "old")

    def fails(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(Exception, match="No space left"):
        run.write_text("a.txt", "new")
    assert (run.path / "a.txt").read_text() == "old"
    assert sorted(p.name for p in run.path.iterdir()) == ["a.txt", "run.json"]


def test_json_holds_plain_values_only(tmp_path):
    run = RunDirectory.create("x", tmp_path / "run")
    run.write_json(
        "v.json", {"a": np.float32(0.5), "b": torch.tensor([1, 2]), "c": float("nan"), 3: np.arange(2), "d": (True, None)}
    )
    assert run.read_json("v.json") == {"a": 0.5, "b": [1, 2], "c": None, "3": [0, 1], "d": [True, None]}
    assert plain(float("inf")) is None


def test_a_missing_file_names_the_verb_that_makes_it(tmp_path):
    run = RunDirectory.create("x", tmp_path / "run")
    with pytest.raises(InputError, match="the run has no evaluation.json .*pellucid evaluate"):
        run.read_json("evaluation.json", stage="evaluate")


def test_stages_are_noted_only_when_they_end(tmp_path):
    run = RunDirectory.create("x", tmp_path / "run")
    with run.stage("data"):
        pass
    with pytest.raises(ZeroDivisionError), run.stage("train"):
        raise ZeroDivisionError
    assert run.finished("data")
    assert not run.finished("train")


def _pickle() -> bytes:
    return pickle.dumps({"features.weight": [1.0]})


def _torch_file() -> bytes:
    import io

    held = io.BytesIO()
    torch.save({"a": torch.ones(2)}, held)
    return held.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:], "was changed after it was written"),
        (lambda raw: raw[: len(raw) // 2], "is truncated"),
        (lambda raw: b"", "is empty"),
        (lambda raw: _pickle(), "is a pickle"),
        (lambda raw: _torch_file(), "is a pickle"),
        (lambda raw: b"GIF89a" + raw, "is not a safetensors file"),
    ],
)
def test_weights_that_are_not_what_was_written(own_table_run, change, message):
    """A tampered safetensors, a pickle in its place: one message, exit code 2, nothing changed."""
    run = own_table_run
    run.model.write_bytes(change(run.model.read_bytes()))
    before = everything_in(run.path)
    with pytest.raises(InputError, match=message) as error:
        recall.model_of(run)
    assert error.value.exit_code == 2
    assert error.value.cure
    assert "model.safetensors" in str(error.value)
    assert everything_in(run.path) == before


def test_weights_of_another_model(own_table_run):
    text = own_table_run.study.read_text()
    own_table_run.study.write_text(text.replace("- 8", "- 9"))
    with pytest.raises(InputError, match="features.linear1.weight"):
        recall.model_of(own_table_run)


def test_data_that_has_changed_is_refused(own_table_run):
    csv = own_table_run.path.parent / "pets.csv"
    csv.write_text(csv.read_text().replace("red", "green", 1))
    with pytest.raises(InputError, match=r"no longer what this run was trained on.*pets.csv.*Restore the data"):
        recall.data_of(own_table_run)


def test_a_run_holds_what_the_architecture_says(image_run):
    names = {p.relative_to(image_run).as_posix() for p in image_run.rglob("*") if p.is_file()}
    assert names >= {
        "run.json",
        "study.yaml",
        "model.safetensors",
        "metrics.csv",
        "split.json",
        "data.json",
        "environment.json",
        "predictions.parquet",
        "evaluation.json",
        "quality.json",
        "report.html",
        "state/checkpoint.safetensors",
        "explanations/reference_library.safetensors",
        "explanations/test/grad_cam.safetensors",
    }
    assert json.loads((image_run / "run.json").read_text())["format"] == FORMAT
    assert not [n for n in names if n.endswith((".tmp", ".part", ".pkl", ".pt"))]


def test_a_run_says_nothing_of_machine_user_or_folder(image_run, table_run):
    import getpass
    import socket

    for run in (image_run, table_run):
        for name in ("environment.json", "run.json", "data.json", "study.yaml", "report.html"):
            text = (run / name).read_text()
            for word in (socket.gethostname(), str(run), str(run.parent), "/home/"):
                assert word not in text, (name, word)
        assert getpass.getuser() not in (run / "environment.json").read_text()
