from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import METHODS
from pellucid.explanation.method import explain
from pellucid.explanation.result import Explanation
from pellucid.quality.faithfulness import faithfulness
from pellucid.study import auditing, explaining, figures, recall, relabelling, report_tables
from pellucid.study.explaining import SAMPLES, choose, explain_files, named_methods, predict_files, suited
from pellucid.study.run_directory import RunDirectory


def test_what_is_saved_is_what_the_method_says(image_run):
    run = RunDirectory.open(image_run)
    folder = (run.path / SAMPLES).parent
    tensors = safetensors.torch.load_file(folder / "samples.safetensors")
    fresh = explain(recall.model_of(run), tensors["x"], ["gradient", "occlusion", "smoothgrad"], seed=0)
    for name, explanation in fresh.items():
        assert torch.equal(Explanation.load(folder / f"{name}.safetensors").relevance, explanation.relevance), name
    samples = json.loads((run.path / SAMPLES).read_text())
    frame = pd.read_parquet(run.predictions).set_index("name")
    for sample in samples["samples"]:
        assert frame.loc[sample["name"], "part"] == "test"
        assert frame.loc[sample["name"], "predicted"] == sample["predicted"] == sample["explained"]
        assert frame.loc[sample["name"], "true"] == sample["true"]


@pytest.mark.parametrize("which", ["image_run", "table_run"])
def test_every_method_works_on_a_run_or_says_why_not(which, request):
    """References come from the training part; what a table or this network cannot have is refused with the reason."""
    run = RunDirectory.open(request.getfixturevalue(which))
    x = recall.part_of(run, "test").batch(torch.arange(2))[0]
    cheap = {"smoothgrad": 2, "smoothgrad_squared": 2, "vargrad": 2, "expected_gradients": 3, "kernel_shap": 130, "lime": 50}
    asked = {name: {"samples": cheap[name]} if name in cheap else {} for name in METHODS.names()}
    asked |= {"rise": {"masks": 20}, "extremal_perturbation": {"steps": 3}, "xrai": {"steps": 3}}
    found, refused = explaining.explain_all(run, x, asked | {"guided_ig": {"steps": 3}})
    assert found.keys() | refused.keys() == asked.keys()
    pictures = {name for name in asked if METHODS[name].facts["needs"] == "layer"} | {
        "edge_detector",
        "xrai",
        "extremal_perturbation",
    }
    other = {"tree_shap", "linear_shap"}  # of trees and of linear models
    assert refused.keys() <= other | ({"cam", "libra_cam", "shapley"} if which == "image_run" else pictures)
    assert len(found["expected_gradients"].options["references"]) == min(64, len(recall.split_of(run)["train"]))
    assert explaining.described(found["expected_gradients"])["options"]["samples"] == 3


def test_rows_to_show_are_test_rows_of_every_class_with_some_mistakes(table_run):
    run = RunDirectory.open(table_run)
    frame = pd.read_parquet(run.predictions).set_index("row")
    rows = choose(run, 8)
    assert len(set(rows.tolist())) == 8
    shown = frame.loc[rows]
    assert set(shown["part"]) == {"test"}
    wrong = frame[(frame["part"] == "test") & (frame["true"] != frame["predicted"])]
    assert (shown["true"] != shown["predicted"]).sum() == min(2, len(wrong))
    right = shown[shown["true"] == shown["predicted"]]["true"]
    assert right.is_monotonic_increasing
    assert np.array_equal(choose(run, 8), rows)
    assert len(choose(run, 1000)) == 16


def test_only_methods_that_fit_are_chosen():
    first = list(explaining.FIRST)
    assert suited(spatial=True, flat=False, task="classification") == first
    assert suited(spatial=True, flat=False, task="multilabel") == [name for name in first if name != "libra_cam"]
    assert suited(spatial=False, flat=True, task="regression") == first[:5]
    assert suited(spatial=False, flat=False, task="classification") == [*first[:5], "edge_detector"]


def test_a_library_that_cannot_be_built_is_a_reason_not_a_failure(image_run, monkeypatch):
    """A model that gets no row of some class right has no references."""

    def none(*args, **kwargs):
        raise InputError("no reference for class 0", cure="Train the model further.")

    run = RunDirectory.open(image_run)
    monkeypatch.setattr(explaining, "LIBRARY", "absent.safetensors")
    monkeypatch.setattr(explaining, "reference_library", none)
    x = recall.data_of(run).batch([0, 1])[0]
    found, refused = explaining.explain_all(run, x, {"gradient": {}, "libra_cam": {}})
    assert list(found) == ["gradient"]
    assert refused == {"libra_cam": "no reference for class 0. Train the model further."}


def test_auto_and_refused_methods(table_run, own_table_run):
    assert list(explaining.methods_of(RunDirectory.open(table_run))) == list(explaining.FIRST[:5])
    run = own_table_run
    study = recall.study_of(run)
    methods = {"gradient": {}, "grad_cam": {}}
    asked = study.explanation.model_copy(update={"methods": methods})
    run.memory["study"] = study.model_copy(update={"explanation": asked})
    value = explaining.explain_test_rows(run)
    assert list(value["methods"]) == ["gradient"]
    assert "no layer keeps the input's spatial axes" in value["refused"]["grad_cam"]


def test_new_files_need_the_run_alone(image_run, own_table_run, tmp_path):
    """predict and explain work where the training data is gone."""
    csv = own_table_run.path.parent / "pets.csv"
    moved = tmp_path / "new.csv"
    csv.rename(moved)
    found = predict_files(RunDirectory.open(own_table_run.path), [moved])
    frame = pd.read_parquet(own_table_run.predictions)
    assert [row["predicted"] for row in found] == frame["predicted"].tolist()
    assert found[0]["name"] == "new.csv line 2"
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)


def test_explaining_files(own_table_run, tmp_path):
    csv = own_table_run.path.parent / "pets.csv"
    out = tmp_path / "out"
    found = explain_files(
        own_table_run, [csv], named_methods(["gradient,occlusion"], ["gradient.absolute=false"]), target="dog", out=out
    )
    assert (out / "explanation.png").read_bytes().startswith(b"\x89PNG")
    saved = Explanation.load(out / "gradient.safetensors")
    assert set(saved.target.tolist()) == {1}
    assert found["methods"]["gradient"]["options"] == {"absolute": False}
    assert found["methods"]["gradient"]["signed"]
    assert {s["explained"] for s in found["samples"]} == {"dog"}
    assert (found["drawn"], len(found["samples"])) == (16, 80)
    first = explain_files(own_table_run, [csv], {"gradient": {}})
    second = explain_files(own_table_run, [csv], {"gradient": {}})
    assert first["folder"] != second["folder"]


@pytest.mark.parametrize(
    ("methods", "settings", "message"),
    [
        (["gradiant"], [], "no method 'gradiant'. Did you mean 'gradient'"),
        (["gradient"], ["gradient.abs=1"], r"'gradient' has no option 'abs' \(gradient.abs=1\)"),
        (["gradient"], ["occlusion.window=3"], "'occlusion.window=3' is no setting"),
        (["gradient"], ["absolute=1"], "is no setting. Write --set method.option=value"),
        (["gradient"], ["gradient.absolute"], "is no setting"),
    ],
)
def test_methods_and_settings_that_do_not_exist(methods, settings, message):
    with pytest.raises(InputError, match=message):
        named_methods(methods, settings)


def test_settings_are_read_as_yaml():
    found = named_methods(["smoothgrad,gradient"], ["smoothgrad.samples=3", "smoothgrad.noise=1e-2", "gradient.absolute=false"])
    assert found == {"smoothgrad": {"samples": 3, "noise": 0.01}, "gradient": {"absolute": False}}


def test_a_target_that_does_not_exist(own_table_run):
    with pytest.raises(InputError, match="no class 'cow'. Give one of: cat, dog"):
        explain_files(own_table_run, [own_table_run.path.parent / "pets.csv"], {"gradient": {}}, target="cow")


def test_the_audit_measures_what_it_says(image_run):
    """Q1, Q2: the numbers of quality.json are those of the measures on the same rows."""
    run = RunDirectory.open(image_run)
    quality = run.read_json("quality.json")
    assert list(quality["methods"]) == list(explaining.FIRST)
    x = auditing._draw(run, 4, "samples for faithfulness")
    explanation = explain(recall.model_of(run), x, ["occlusion"], seed=0)["occlusion"]
    fresh = faithfulness(recall.model_of(run), x, explanation.evidence(), target=explanation.target).to_json()
    stored = quality["methods"]["occlusion"]["faithfulness"]
    assert stored["plain"] == pytest.approx(fresh["plain"], rel=1e-6, abs=1e-9)
    for facts in quality["methods"].values():
        assert facts["faithfulness"]["calibrated"]["apd"] <= facts["faithfulness"]["plain"]["apd"] + 1e-6
    assert quality["methods"]["edge_detector"]["randomisation"]["passed"] is False


def test_libra_references_are_seen_by_the_randomised_model(image_run):
    run = RunDirectory.open(image_run)
    library = explaining.library_of(run)
    seen = auditing._seen_by(run, recall.model_of(run), {"library": library, "gamma": 0.1})
    torch.testing.assert_close(seen["library"].activations, library.activations)
    other = recall.untrained(run).eval()
    assert not torch.equal(auditing._seen_by(run, other, {"library": library})["library"].activations, library.activations)
    rows = recall.split_of(run)["train"]
    assert library.rows.max() < len(rows)


def test_an_audit_of_other_methods_and_of_none(own_table_run):
    found = auditing.audit(own_table_run, methods={"gradient": {}}, samples=3, calibrated=False, randomisation_samples=0)
    assert list(found["methods"]) == ["gradient"]
    assert found["samples"] == 3
    assert "calibrated" not in found["methods"]["gradient"]["faithfulness"]
    assert "randomisation" not in found["methods"]["gradient"]
    assert auditing.audit(own_table_run, samples=0, randomisation_samples=0)["methods"] == {}


def test_encoded_columns_are_added_up_to_theirs():
    relevance = np.array([[1.0, 2.0, 4.0, 8.0]])
    np.testing.assert_array_equal(figures.pooled(relevance, [0, 1, 1, 2]), [[1.0, 6.0, 8.0]])


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ({"predicted": "cat", "probability": 0.871, "true": "cat", "explained": "cat"}, "cat 87 %"),
        ({"predicted": "cat", "probability": 0.871, "true": "dog", "explained": "dog"}, "cat 87 %; true: dog; explained: dog"),
        ({"predicted": 3.14159, "true": 3.0, "explained": "price"}, "3.142; true: 3"),
        ({"predicted": "a|b", "true": [1.0, 1.0], "explained": "b"}, "a|b; explained: b"),
    ],
)
def test_titles(sample, words):
    assert figures.title(sample) == words


def test_an_audit_with_permuted_labels(image_run, tmp_path, monkeypatch):
    """Q2: the same network learns permuted labels; edges stay as they were, and the run's own model is left alone."""
    monkeypatch.setattr(relabelling, "EPOCHS", 3)
    shutil.copytree(image_run.parent, tmp_path / "own")
    run = RunDirectory.open(tmp_path / "own" / "run")
    before = run.model.read_bytes()
    found = auditing.audit(run, methods={"gradient": {}, "edge_detector": {}}, samples=3, permuted=True)
    facts = found["permuted labels"]
    assert facts["rows"] == len(recall.split_of(run)["train"])
    assert 0 <= facts["fitted"] <= 1
    assert facts["learned"] == (facts["fitted"] >= 0.95)
    assert found["methods"]["edge_detector"]["data_randomisation"]["passed"] is False
    assert found["methods"]["gradient"]["data_randomisation"]["order"] == "labels"
    assert run.model.read_bytes() == before
    grid = report_tables.randomisation_grid(found)
    assert grid.header[-1] == "left with permuted labels"
    assert [row[-1].split(", ")[1] for row in grid.rows][-1] == "fails"


def test_permuted_labels_of_a_regression_are_refused(tmp_path):
    run = RunDirectory(tmp_path)
    run.memory["facts"] = {"task": "regression"}
    with pytest.raises(UnsupportedError, match="permuted labels of regression"):
        relabelling.relabelled(run)
