"""Explanations of a run's model: some test rows for the report, or files that a person names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import yaml

from pellucid.core import seeds
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import METHODS
from pellucid.explanation.method import explain
from pellucid.explanation.reference_library import ReferenceLibrary, reference_library
from pellucid.explanation.result import Explanation
from pellucid.training.checkpoint import write_atomically
from pellucid.visual.style import png

from .figures import explanation_sheet
from .recall import (
    data_of,
    device_of,
    facts_of,
    model_of,
    objective_of,
    output_names,
    part_of,
    preparation_of,
    split_of,
    study_of,
    target_index,
)
from .run_directory import RunDirectory
from .yaml_source import Loader

# What a report shows when the study does not choose: one method of every family, the trivial baseline last.
FIRST = (
    "gradient",
    "gradient_times_input",
    "smoothgrad",
    "integrated_gradients",
    "occlusion",
    "grad_cam",
    "libra_cam",
    "edge_detector",
)
# Of the rows shown, this share are mistakes of the model, as far as there are any.
MISTAKES = 0.25
# Rows of a figure for files; the relevance of all rows is saved.
MOST_DRAWN = 16
# Training rows that a method is given to compare with.
REFERENCES = 64

Methods = Mapping[str, Mapping[str, Any]]
LIBRARY = "reference_library.safetensors"
TEST = "test"
SAMPLES = f"explanations/{TEST}/samples.json"


def suited(*, spatial: bool, flat: bool, task: str) -> list[str]:
    """The methods of ``FIRST`` that fit: maps of a layer need one with ``spatial`` axes, references need classes,
    edges an input that is not ``flat``.
    """

    def fits(name: str) -> bool:
        entry = METHODS[name]
        if entry.facts["needs"] == "layer" and not spatial:
            return False
        if "library" in entry.options() and task != "classification":
            return False
        return not (flat and entry.family == "baseline")

    return [name for name in FIRST if fits(name)]


def methods_of(run: RunDirectory) -> Methods:
    """The methods of the study with their options; those that fit when it says auto."""
    asked = study_of(run).explanation.methods
    if asked is None:
        axes = len(facts_of(run)["input_shape"])
        shapes = [row["output_shape"] for row in facts_of(run)["layers"]]
        spatial = any(len(shape) == axes > 1 and np.prod(shape[1:]) > 1 for shape in shapes)
        return {name: {} for name in suited(spatial=spatial, flat=axes == 1, task=facts_of(run)["task"])}
    return asked


def explain_all(
    run: RunDirectory, x: torch.Tensor, methods: Methods, target: Any = None
) -> tuple[dict[str, Explanation], dict[str, str]]:
    """Explanations by method, and the reason for each method that cannot explain this model."""
    model, study = model_of(run), study_of(run)
    common: dict[str, Any] = {"target": target, "layer": study.explanation.layer, "seed": study.seed}
    ready: dict[str, dict[str, Any]] = {}
    found: dict[str, Explanation] = {}
    refused: dict[str, str] = {}
    for name, options in methods.items():
        try:
            ready[name] = completed(run, name, options)
        except UnsupportedError as error:
            refused[name] = str(error)
    try:
        return (explain(model, x, ready, **common) if ready else {}), refused
    except UnsupportedError:
        for name, options in ready.items():
            try:
                found |= explain(model, x, {name: options}, **common)
            except UnsupportedError as error:
                refused[name] = str(error)
        return found, refused


def completed(run: RunDirectory, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method, with what it compares with from the training part: a library, or some rows as references."""
    known = METHODS[name].options() if name in METHODS else {}
    table = facts_of(run)["kind"] == "table"
    more: dict[str, Any] = {}
    if "library" in known:
        return {**options, "library": library_of(run)}
    if "references" in known and (table or "features" not in known):
        more["references"] = part_of(run, "train").batch(_reference_rows(run))[0]
    elif "features" in known and table:  # what came from one column is removed together, and training rows take its place
        more["baseline"] = part_of(run, "train").batch(_reference_rows(run))[0]
    if "features" in known and table and "references" not in more:
        more["features"] = _columns(run)
    return {**more, **{key: value for key, value in options.items() if value is not None}}


def _columns(run: RunDirectory) -> Any:
    """The encoded columns in groups, by the column of the table that they come from."""
    preparation = preparation_of(run)
    sources = getattr(preparation, "sources", None)
    if sources is None:
        return "auto"
    return [[j for j, source in enumerate(sources) if source == i] for i in range(max(sources) + 1)]


def _reference_rows(run: RunDirectory) -> torch.Tensor:
    rows = len(split_of(run)["train"])
    drawn = torch.randperm(rows, generator=seeds.generator(study_of(run).seed, "references"))
    return drawn[:REFERENCES].sort().values


def library_of(run: RunDirectory) -> ReferenceLibrary:
    """References of the training part for Libra-CAM: built once, then read from the run."""
    if "library" not in run.memory:
        path = run.explanations / LIBRARY
        run.memory["library"] = ReferenceLibrary.load(path) if path.is_file() else _build_library(run, path)
    library: ReferenceLibrary = run.memory["library"]
    return library


def _build_library(run: RunDirectory, path: Path) -> ReferenceLibrary:
    if facts_of(run)["task"] != "classification":
        what = "references are training rows of other classes, and this data has not one class per row"
        raise UnsupportedError(what, cure="Use grad_cam.")
    try:
        made = reference_library(model_of(run), part_of(run, "train"), layer=study_of(run).explanation.layer)
    except UnsupportedError:
        raise
    except InputError as error:  # a model that gets no row of some class right
        raise UnsupportedError(error.what, cure=error.cure) from error
    made.save(path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
    return made


def choose(run: RunDirectory, samples: int) -> np.ndarray:
    """Test rows to show: in turn from each class at random, a quarter of them rows that the model gets wrong."""
    rows, seed = split_of(run)["test"], study_of(run).seed
    samples = min(samples, len(rows))
    order: np.ndarray = rows[torch.randperm(len(rows), generator=seeds.generator(seed, "samples to explain")).numpy()]
    if facts_of(run)["task"] != "classification":
        return np.asarray(order[:samples])
    y = data_of(run).y[torch.from_numpy(order)].numpy()
    wrong = np.isin(order, _mistakes(run))
    turn = pd.Series(y).groupby(y).cumcount().to_numpy()
    shuffled = np.lexsort((np.arange(len(y)), turn))
    missed = [i for i in shuffled if wrong[i]][: int(samples * MISTAKES)]
    right = [i for i in shuffled if not wrong[i]][: samples - len(missed)]
    more = [i for i in shuffled if wrong[i] and i not in missed][: samples - len(missed) - len(right)]
    return np.asarray(order[[*sorted(right, key=lambda i: y[i]), *missed, *more]])


def _mistakes(run: RunDirectory) -> list[int]:
    frame = pd.read_parquet(run.predictions, columns=["row", "part", "true", "predicted"])
    wrong = frame[(frame["part"] == "test") & (frame["true"] != frame["predicted"])]
    return [int(row) for row in wrong["row"]]


def explain_test_rows(run: RunDirectory) -> dict[str, Any]:
    """Explain some test rows with the study's methods; writes explanations/ and returns what its samples.json says."""
    with run.stage("explain"):
        asked, methods = study_of(run).explanation, methods_of(run)
        shutil.rmtree(run.explanations / TEST, ignore_errors=True)
        rows = choose(run, asked.samples if methods else 0)
        value: dict[str, Any] = {"samples": [], "methods": {}, "refused": {}}
        if len(rows):
            x, y = data_of(run).batch(rows)
            found, refused = explain_all(run, x, methods, target_index(facts_of(run), asked.target))
            value = _save(run, rows, x, y, found) | {"refused": refused}
        run.write_json(SAMPLES, value)
    return value


def _save(
    run: RunDirectory, rows: np.ndarray, x: torch.Tensor, y: torch.Tensor, found: Mapping[str, Explanation]
) -> dict[str, Any]:
    data = data_of(run)
    for name, explanation in found.items():
        explanation.save(run.explanations / TEST / f"{name}.safetensors")
    shown = data.raw(rows)
    tensors = {"x": x.contiguous(), "y": y.contiguous(), "rows": torch.from_numpy(np.ascontiguousarray(rows))}
    value: dict[str, Any] = {"methods": {name: described(e) for name, e in found.items()}, "shown": None}
    if isinstance(shown, np.ndarray) and shown.dtype == np.uint8:
        tensors["shown"] = torch.from_numpy(np.ascontiguousarray(shown))
    elif hasattr(shown, "to_dict"):
        value["shown"] = shown.to_dict("records")
    else:
        value["shown"] = list(map(str, shown))
    run.write_bytes(Path(SAMPLES).with_suffix(".safetensors"), safetensors.torch.save(tensors))
    truth = facts_of(run)["classes"]
    target = next(iter(found.values())).target if found else None
    names = [str(data.names[i]) for i in rows]
    samples = predictions_of(run, x, names, target)
    for sample, label in zip(samples, y):
        sample["true"] = truth[int(label)] if facts_of(run)["task"] == "classification" else label.tolist()
    return value | {"samples": samples}


def predictions_of(
    run: RunDirectory, x: torch.Tensor, names: Sequence[str], target: torch.Tensor | None = None
) -> list[dict[str, Any]]:
    """Per row: name, predicted class with its probability (or value), and the class that is explained."""
    facts, model, goal = facts_of(run), model_of(run), objective_of(run)
    device = device_of(run)
    with torch.no_grad():
        p = torch.cat([goal.predict(model(part.to(device))).cpu().double() for part in torch.split(x, 256)])
    found = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"name": name}
        if facts["task"] == "classification":
            best = int(p[i].argmax())
            row |= {"predicted": facts["classes"][best], "probability": float(p[i, best])}
            row["probabilities"] = dict(zip(facts["classes"], p[i].tolist()))
        elif facts["task"] == "multilabel":
            row["probabilities"] = dict(zip(facts["classes"], p[i].tolist()))
            row["predicted"] = "|".join(c for c, share in row["probabilities"].items() if share >= 0.5) or "(none)"
        else:
            row["predicted"] = float(p[i])
        if target is not None:
            row["explained"] = output_names(facts)[int(target[i])]
        found.append(row)
    return found


def described(e: Explanation) -> dict[str, Any]:
    """What the report and a script want to know of an explanation besides its numbers."""
    facts = METHODS[e.method].facts
    plain = {k: v for k, v in e.options.items() if isinstance(v, str | int | float | bool | None)}
    gap, share = None, None
    if e.gap is not None and e.score is not None and e.base is not None:
        gap = float(e.gap.abs().max())
        share = float((e.gap.abs() / (e.score - e.base).abs().clamp(min=1e-12)).max())
    return {
        "signed": e.signed,
        "layer": e.layer,
        "options": plain,
        "passes": e.passes,
        "notes": e.notes,
        "gap": gap,
        "gap_share": share,
        "paper": facts["paper"],
        "family": METHODS[e.method].family,
        "seed": e.seed,
    }


def explain_files(
    run: RunDirectory,
    files: Sequence[str | Path],
    methods: Methods,
    *,
    target: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Explain files that a person names, with the run's model and preparation; the data itself is not needed.

    Writes a figure and the relevance of every method into ``out`` (by default a new folder in the run's ``explanations``).
    """
    for name, options in methods.items():
        METHODS[name].check_options(options)
    raw, names = preparation_of(run).read(files)
    x = preparation_of(run).apply(raw)
    found, refused = explain_all(run, x, methods, target_index(facts_of(run), target))
    if not found:
        reasons = "; ".join(reason.rstrip(".") for reason in refused.values())
        raise InputError(reasons or "no method asked for", cure="All methods: pellucid list methods.")
    folder = Path(out).expanduser() if out is not None else _free(run.explanations)
    first = next(iter(found.values()))
    samples = predictions_of(run, x, names, first.target)
    shown = preparation_of(run).show(raw)
    about = {name: described(e) for name, e in found.items()}
    few = slice(0, MOST_DRAWN)
    maps, signed = {n: e.map()[few] for n, e in found.items()}, {n: about[n]["signed"] for n in found}
    figure = explanation_sheet(facts_of(run), shown[few], x[few], maps, signed, samples[few])
    picture = folder / "explanation.png"
    write_atomically(picture, png(figure))
    for name, explanation in found.items():
        explanation.save(folder / f"{name}.safetensors")
    scores = {n: None if e.score is None else e.score.tolist() for n, e in found.items()}
    return {
        "samples": samples,
        "methods": {n: about[n] | {"score": scores[n]} for n in found},
        "refused": refused,
        "figure": str(picture),
        "drawn": min(len(samples), MOST_DRAWN),
        "folder": str(folder),
    }


def _free(parent: Path) -> Path:
    number = 1
    while (parent / f"files-{number}").exists():
        number += 1
    return parent / f"files-{number}"


def named_methods(names: list[str], settings: list[str]) -> dict[str, dict[str, Any]]:
    """``["a,b"]`` and ``["a.option=value"]`` as methods with options; values are read as YAML."""
    chosen: dict[str, dict[str, Any]] = {name.strip(): {} for part in names for name in part.split(",") if name.strip()}
    for name in chosen:
        METHODS[name]
    for setting in settings:
        left, equals, text = setting.partition("=")
        name, dot, option = left.partition(".")
        if not equals or not dot or name not in chosen:
            raise InputError(
                f"'{setting}' is no setting", cure="Write --set method.option=value, of a method that was asked for."
            )
        METHODS[name].check_options({option: None}, where=setting)
        chosen[name][option] = yaml.load(text, Loader=Loader)
    return chosen


def predict_files(run: RunDirectory, files: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Name, prediction and probabilities of images, or of the rows of CSV files; the run's own data is not needed."""
    raw, names = preparation_of(run).read(files)
    return predictions_of(run, preparation_of(run).apply(raw), names)
