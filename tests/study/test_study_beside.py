"""Interpretable models beside the network, in every study of a table (L8), kept in the run and explained like it (X4, L7)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.study import auditing, beside, recall
from pellucid.study.explaining import explain_files
from pellucid.study.pipeline import run_study
from pellucid.study.run_directory import RunDirectory
from pellucid.study.specification import load_study
from study.tiny_studies import table_study, write_table


def test_every_study_of_a_table_has_a_tree_and_a_linear_model(table_run):
    run = RunDirectory.open(table_run)
    found = run.read_json("evaluation.json")["beside"]
    assert set(found["models"]) == {"decision_tree", "sparse_linear"}
    for facts in found["models"].values():
        assert 0 <= facts["test"]["error"] <= 0.5
        assert facts["lines"]
    assert "leaves" in found["models"]["decision_tree"]["said"]
    # thresholds stand in the table's own units: heights are about 10, weights about 50
    said = " ".join(found["models"]["decision_tree"]["lines"] + found["surrogate"]["lines"])
    assert "height" in said
    assert "held-out rows" in found["surrogate"]["said"]
    assert 0 <= found["surrogate"]["agreement"] <= 1
    page = run.report.read_text()
    assert "Interpretable models" in page
    assert "imitates the network" in page


def test_pictures_have_none(image_run):
    assert RunDirectory.open(image_run).read_json("evaluation.json")["beside"] == {"models": {}, "surrogate": None}


def test_what_is_kept_answers_as_what_was_measured(table_run):
    run = RunDirectory.open(table_run)
    x, y = recall.data_of(run).tensors(recall.split_of(run)["test"])
    for name, facts in run.read_json("evaluation.json")["beside"]["models"].items():
        seen = beside.view(run, name)
        with torch.no_grad():
            p = recall.objective_of(seen).predict(recall.model_of(seen)(x))
        assert p.shape == (len(x), 2)
        torch.testing.assert_close(p.sum(1), torch.ones(len(x)).to(p), rtol=0, atol=1e-6)
        assert float((p.argmax(1) != y).double().mean()) == pytest.approx(facts["test"]["error"])
        assert float(-p.double()[torch.arange(len(y)), y].clamp(min=1e-12).log().mean()) == pytest.approx(
            next(value for key, value, _ in facts["headline"] if "log" in key), rel=0.05
        )


def test_thresholds_and_slopes_are_in_words(table_run):
    run = RunDirectory.open(table_run)
    assert len(beside.scales(run)) == len(recall.facts_of(run)["features"])
    for (mean, deviation), name in zip(beside.scales(run), recall.facts_of(run)["features"]):
        assert (mean, deviation) == (0, 1) or name in ("height", "weight")


@pytest.mark.parametrize("name", ["decision_tree", "sparse_linear"])
def test_files_are_explained_for_a_model_beside_the_network(name, own_table_run, tmp_path):
    run = own_table_run
    seen = beside.view(run, name)
    methods = {"kernel_shap": {}, "lime": {}, "gradient": {}, "tree_shap": {}, "linear_shap": {}}
    found = explain_files(seen, [write_table(tmp_path / "new.csv", rows=3)], methods, out=tmp_path / "why")
    refused = {"decision_tree": {"gradient", "linear_shap"}, "sparse_linear": {"tree_shap"}}[name]
    assert set(found["refused"]) == refused
    assert (tmp_path / "why" / "explanation.png").is_file()
    measured = auditing.audit(seen, methods={"kernel_shap": {}, "lime": {}}, samples=4, randomisation_samples=0)
    assert set(measured["methods"]) == {"kernel_shap", "lime"}
    assert (run.path / f"quality-{name}.json").is_file()
    assert run.read_json("quality.json")["methods"].keys() != measured["methods"].keys()  # the network's own is as it was


def test_ensembles_of_other_libraries_and_a_regression(tmp_path):
    write_table(tmp_path / "pets.csv", regression=True)
    lines = [
        "name: prices",
        "data: {name: table, path: pets.csv, target: price}",
        "model: {name: mlp, hidden: [4]}",
        "beside: [sparse_linear, lightgbm, xgboost, random_forest]",
        "training: {epochs: 1}",
        "explanation: {methods: []}",
        "quality: {samples: 0, randomisation_samples: 0}",
    ]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    run = run_study(load_study(tmp_path / "s.yaml"), tmp_path / "run", until="evaluate")
    found = run.read_json("evaluation.json")["beside"]
    assert found["models"]["sparse_linear"]["test"]["r2"] > 0.8  # the price is linear
    assert found["surrogate"]["agreement"] is None
    x = recall.data_of(run).tensors(recall.split_of(run)["test"])[0]
    for name in ("lightgbm", "xgboost", "random_forest"):
        values = recall.objective_of(beside.view(run, name)).predict(beside.opened_model(run, name)(x))
        truth = recall.data_of(run).y[torch.from_numpy(recall.split_of(run)["test"])]
        rmse = float((values - truth).pow(2).mean().sqrt())
        assert rmse == pytest.approx(found["models"][name]["test"]["rmse"], rel=1e-5)
        assert np.isfinite(rmse)


def test_names_are_checked_before_anything_runs(tmp_path, table_run):
    study = table_study(tmp_path)
    study.write_text(study.read_text() + "beside: [decision_trea]\n")
    with pytest.raises(InputError, match="no model beside the network 'decision_trea'.*Did you mean 'decision_tree'"):
        load_study(study)
    with pytest.raises(InputError, match="no model 'lightgbm' beside its network"):
        beside.view(RunDirectory.open(table_run), "lightgbm")
