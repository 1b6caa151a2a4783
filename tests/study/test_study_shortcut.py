"""A shortcut planted in a person's own data: what is learned, judged, written and refused; the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pellucid.cli.main import app
from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES
from pellucid.quality.shortcut import REVEALS, SILENT, UNKNOWN
from pellucid.study import shortcut, stages
from pellucid.study.explaining import explain_files
from pellucid.study.initialise import study_for
from pellucid.study.run_directory import RunDirectory
from pellucid.study.shortcut import shortcut_study
from pellucid.study.shortcut_page import conclusion, write_page
from pellucid.study.specification import load_study
from pellucid.study.stages import Interrupted

PICTURES = """\
name: noise
data: {name: images, path: noise}
split: {test: 0.4, validation: 0}
model: {name: mlp, hidden: [16]}
training: {epochs: 15, batch: 16, lr: 0.01}
explanation: {methods: [gradient, occlusion, edge_detector]}
"""
TABLE = """\
name: rows
data: {name: table, path: rows.csv, target: kind}
split: {test: 0.4, validation: 0}
model: {name: mlp, hidden: [8]}
training: {epochs: 12, batch: 16, lr: 0.02}
explanation: {methods: [gradient_times_input, occlusion, grad_cam]}
"""


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """Pictures of 10 x 10 that differ by a faint stripe, and rows of three weak columns, with their studies."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for kind in ("flat", "stripe"):
        (folder / "noise" / kind).mkdir(parents=True)
        for i in range(60):
            pixels = rng.integers(0, 60, (10, 10))
            pixels[7:9] += 8 * (kind == "stripe")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "noise" / kind / f"{i:02d}.png")
    lines = ["a,b,c,kind"]
    for _ in range(150):
        a, b, c = rng.normal(size=3)
        lines.append(f"{a:.3f},{b:.3f},{'x' if c > 0 else 'y'},{('low', 'high')[int(a + b + rng.normal(0, 2) > 0)]}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "noise.yaml").write_text(PICTURES, encoding="utf-8")
    (folder / "rows.yaml").write_text(TABLE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def marked(noise) -> dict:
    """A mark on 'stripe'. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcut, "SHOWN", 1)  # fewer panels to draw
        return shortcut_study(load_study(noise / "noise.yaml"), marked="stripe", samples=20, out=noise / "marked")


@pytest.fixture
def without_page(monkeypatch):
    """Drawing takes most of the time."""
    monkeypatch.setattr(shortcut, "write_page", lambda *_: None)


def test_a_mark_is_learned_and_revealed_by_what_follows_the_model(marked):
    accuracy = marked["accuracy"]
    assert accuracy["shortcut"]["same"]["rate"] > 0.95
    assert accuracy["shortcut"]["swapped"]["rate"] < 0.4
    assert accuracy["shortcut"]["swapped"]["others taken for it"] > 0.6
    assert marked["learned"]["learned"]
    verdicts = {name: facts["verdict"] for name, facts in marked["methods"].items()}
    assert verdicts == {"gradient": REVEALS, "occlusion": REVEALS, "edge_detector": SILENT}
    edges = marked["methods"]["edge_detector"]
    assert edges["difference"] == [0.0, 0.0, 0.0]  # the same preparation for both networks, so the same samples
    assert edges["shortcut"]["share"][1] > marked["chance"]
    assert marked["samples"] == {"marked class": 10, "other classes": 10}
    assert "2 of 3 methods reveal it: gradient, occlusion." in marked["conclusion"]


def test_what_is_written(marked):
    top = Path(marked["run"])
    stored = json.loads((top / "shortcut.json").read_text(encoding="utf-8"))
    assert stored == {key: value for key, value in marked.items() if key not in ("run", "page")}
    page = Path(marked["page"]).read_text(encoding="utf-8")
    assert marked["conclusion"].split(".")[0] in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    for name in ("gradient", "occlusion", "edge_detector", "reveals it", "as in training", "data:image"):
        assert name in page
    for picture in ("shares.png", "samples.png"):
        assert (top / picture).read_bytes().startswith(b"\x89PNG")


def test_both_networks_are_runs_that_explain_new_files(marked, noise, tmp_path):
    for name in ("shortcut", "control"):
        run = RunDirectory.open(Path(marked["run"]) / name)
        found = explain_files(run, [noise / "noise" / "flat" / "00.png"], {"gradient": {}}, out=tmp_path / name)
        assert len(found["samples"]) == 1


@pytest.mark.usefixtures("without_page")
def test_the_same_again(marked, noise, tmp_path):
    again = shortcut_study(load_study(noise / "noise.yaml"), marked=1, kind="mark", samples=20, out=tmp_path / "again")
    different = {"run", "page"}
    assert {k: v for k, v in again.items() if k not in different} == {k: v for k, v in marked.items() if k not in different}


@pytest.mark.usefixtures("without_page")
def test_a_leak_in_a_table(noise, tmp_path):
    found = shortcut_study(load_study(noise / "rows.yaml"), marked="high", samples=16, out=tmp_path / "leak")
    assert found["chance"] == 0.25  # a column of four, though c is encoded in two
    assert found["learned"]["learned"]
    assert found["accuracy"]["shortcut"]["same"]["rate"] > 0.85
    assert {name: facts["verdict"] for name, facts in found["methods"].items()} == {
        "gradient_times_input": REVEALS,
        "occlusion": REVEALS,
    }
    assert list(found["refused"]) == ["grad_cam"]
    assert found["agreement"] == 0.95
    features = json.loads((tmp_path / "leak/control/data.json").read_text())["features"]
    assert features == ["a", "b", "c=x", "c=y", "leak"]


@pytest.mark.usefixtures("without_page")
def test_a_leak_that_says_nothing_is_not_learned_and_nothing_is_concluded(noise, tmp_path):
    study = load_study(noise / "rows.yaml")
    found = shortcut_study(study, marked="high", agreement=0.5, samples=12, epochs=2, rows=60, out=tmp_path / "none")
    assert not found["learned"]["learned"]
    assert {facts["verdict"] for facts in found["methods"].values()} == {UNKNOWN}
    assert "nothing can be concluded" in found["conclusion"]
    assert found["rows"]["train"] == 60
    assert found["epochs"] == 2


def test_a_cast_is_not_put_to_the_methods(noise, tmp_path):
    found = shortcut_study(load_study(noise / "noise.yaml"), marked="stripe", kind="colour_cast", out=tmp_path / "cast")
    assert found["methods"] == {}
    assert "no map can show where it is" in found["not judged"]
    page = Path(found["page"]).read_text(encoding="utf-8")
    assert "A cast is not put to the methods" in page
    assert found["accuracy"]["shortcut"]["same"]["rate"] > found["accuracy"]["control"]["same"]["rate"]


@pytest.mark.parametrize(
    ("file", "more", "words"),
    [
        ("noise.yaml", {"marked": "dog"}, "no class 'dog'"),
        ("noise.yaml", {"marked": "stripe", "kind": "leak"}, "Take mark or snow or colour_cast"),
        ("rows.yaml", {"marked": "low", "kind": "mark"}, "Take leak"),
        ("noise.yaml", {"marked": "stripe", "rows": 1}, "the train part has"),
        ("noise.yaml", {"marked": "stripe", "methods": {"gradient": {"speed": 3}}}, "no option 'speed'"),
        ("noise.yaml", {"marked": "stripe", "samples": 1}, "samples is 1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_training_and_leaves_nothing(noise, tmp_path, monkeypatch, file, more, words):
    monkeypatch.setattr(stages, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(InputError, match=words):
        shortcut_study(load_study(noise / file), out=tmp_path / "refused", **more)
    assert not (tmp_path / "refused").exists()


def test_ctrl_c_in_the_training_leaves_nothing(noise, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise Interrupted("stopped in epoch 1", cure="pellucid resume")

    monkeypatch.setattr(stages, "fit", stopped)
    with pytest.raises(Interrupted, match="nothing is kept") as error:
        shortcut_study(load_study(noise / "noise.yaml"), marked="stripe", out=tmp_path / "stopped")
    assert "resume" not in str(error.value)
    assert not (tmp_path / "stopped").exists()


@pytest.mark.usefixtures("without_page")
def test_ctrl_c_while_explaining_keeps_what_is_done(noise, tmp_path, monkeypatch):
    explained = shortcut.explain_all

    def pressed(run, x, methods, target):
        if "occlusion" in methods:
            raise KeyboardInterrupt
        return explained(run, x, methods, target)

    monkeypatch.setattr(shortcut, "explain_all", pressed)
    study = load_study(noise / "noise.yaml")
    with pytest.raises(Interrupted, match="has the methods that were done"):
        shortcut_study(study, marked="stripe", epochs=1, samples=12, out=tmp_path / "half")
    stored = json.loads((tmp_path / "half/shortcut.json").read_text())
    assert list(stored["methods"]) == ["gradient"]
    assert stored["unfinished"] == ["occlusion", "edge_detector"]
    write_page(RunDirectory.open(tmp_path / "half"), {}, None)
    page = (tmp_path / "half/shortcut.html").read_text()
    assert "Stopped before these methods were done:</strong> occlusion, edge_detector." in page


def test_the_command(noise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--data", str(noise / "rows.csv"), "--model", "mlp", "--class", "high", "--kind", "leak", "--samples", "12"]
    words += ["--methods", "lime,gradient", "--set", "lime.samples=50", "--epochs", "3"]
    result = CliRunner().invoke(app, ["shortcut", *words], prog_name="pellucid")
    assert result.exit_code == 0, result.stderr
    assert "on the leaking column" in result.stdout
    assert result.stdout.splitlines()[-1] == "Page: runs/shortcut-rows-1/shortcut.html"
    assert "lime: explaining 12 test rows" in result.stderr
    bad = CliRunner().invoke(app, ["shortcut", *words, "--out", "runs/shortcut-rows-1"], prog_name="pellucid")
    assert bad.exit_code == 2
    assert "is not empty" in bad.stderr


def test_a_study_for_a_name_a_file_and_a_table(noise):
    assert study_for("fashion_mnist").training.epochs == 18
    assert study_for(noise / "noise.yaml").name == "noise"
    made = study_for(noise / "rows.csv")
    assert made.data.options["target"] == "kind"
    assert Path(made.data.options["path"]) == (noise / "rows.csv").resolve()
    assert study_for("fashion_mnist", "mlp").model.name == "mlp"
    with pytest.raises(InputError, match="Did you mean 'lenet5'"):
        study_for("fashion_mnist", "lenet")


def test_the_sentences_of_a_conclusion(marked):
    value = json.loads(json.dumps(marked))
    for facts in value["methods"].values():
        facts["verdict"] = SILENT
    assert conclusion(value).endswith("None of 3 methods reveals it.")
    assert conclusion({**value, "not judged": "it is everywhere"}).endswith("Methods are not judged: it is everywhere.")


def test_the_figure_of_shares():
    draw = FIGURES["shortcut_shares"].value
    bars = {"shortcut": [0.4, 0.3, 0.5], "control": [None, None, None], "verdict": REVEALS}
    axes = draw({"gradient": bars}, 0.1).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.4]
    said = [text.get_text().strip() for text in axes.texts]
    assert {"40%", "no positive relevance", REVEALS} <= set(said)
    with pytest.raises(InputError, match="no three numbers for 'control'"):
        draw({"gradient": {"shortcut": [0.4, 0.3, 0.5], "control": None, "verdict": ""}}, 0.1)
    assert draw({}, 0.1).texts


def test_the_figure_of_maps_outlines_the_mark_in_every_panel():
    draw = FIGURES["shortcut_maps"].value
    masks = np.zeros((2, 6, 6), bool)
    masks[:, 1:3, 2:5] = True
    maps = {network: {"gradient": np.random.default_rng(0).random((2, 6, 6))} for network in ("shortcut", "control")}
    titles = {network: ["a", "b"] for network in maps}
    figure = draw(np.zeros((2, 6, 6), np.uint8), masks, maps, titles=titles)
    boxes = [patch.get_bbox().bounds for axes in figure.axes for patch in axes.patches if patch.get_zorder() == 6]
    assert boxes == [(1.5, 0.5, 3.0, 2.0)] * 8
    assert draw(np.zeros((0, 6, 6), np.uint8), None, {}, titles={}).texts


@pytest.mark.slow
def test_on_fashion_mnist_methods_that_follow_the_network_reveal_the_mark(tmp_path):
    study = study_for("fashion_mnist")
    methods = {"lime": {"baseline": 0.0}, "occlusion": {}, "gradient": {}, "edge_detector": {}}
    found = shortcut_study(study, marked="Coat", methods=methods, samples=24, rows=2500, epochs=8, out=tmp_path / "run")
    assert found["accuracy"]["shortcut"]["swapped"]["rate"] < found["accuracy"]["control"]["swapped"]["rate"] - 0.15
    verdicts = {name: facts["verdict"] for name, facts in found["methods"].items()}
    assert verdicts == {"lime": REVEALS, "occlusion": REVEALS, "gradient": REVEALS, "edge_detector": SILENT}
