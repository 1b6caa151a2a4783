"""How far a run's explanations can be trusted: faithfulness on test rows, and cascading randomisation of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core import seeds
from pellucid.core.errors import UnsupportedError
from pellucid.core.table import METHODS
from pellucid.explanation.method import explain
from pellucid.explanation.reference_library import ReferenceLibrary
from pellucid.explanation.result import Explanation
from pellucid.quality.data_randomisation import data_randomisation
from pellucid.quality.faithfulness import faithfulness
from pellucid.quality.randomisation import cascading_randomisation
from pellucid.quality.shortcut import shortcut_alarm
from pellucid.training.events import Listener

from .explaining import Methods, completed, explain_all, methods_of
from .recall import data_of, facts_of, model_of, output_names, part_of, split_of, study_of, target_index
from .relabelling import relabelled
from .run_directory import RunDirectory

# Tasks whose answers are no probabilities of classes that exclude one another.
UNFIT = {
    "regression": "the measures compare probabilities of a class, and this model predicts a value",
    "multilabel": "the measures compare probabilities of classes that exclude one another, not of labels side by side",
}


def audit(
    run: RunDirectory,
    *,
    methods: Methods | None = None,
    samples: int | None = None,
    calibrated: bool | None = None,
    randomisation_samples: int | None = None,
    permuted: bool = False,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """Measure the methods on test rows drawn at random; what is not given is as the study says.

    Writes quality.json and returns it: per method the curves of API, APD, IR and DR, the same for calibrated maps, of
    pictures whether relevance concentrates on the border, and the cascading randomisation with its verdict. Of a model beside
    the network it writes quality-NAME.json. permuted: also train the network anew on permuted labels and compare with its maps.
    """
    file = f"quality-{run.beside}.json" if run.beside else "quality.json"
    with nullcontext() if run.beside else run.stage("quality"):
        asked = study_of(run).quality
        methods = methods_of(run) if methods is None else methods
        for name, options in methods.items():
            METHODS[name].check_options(options)
        value: dict[str, Any] = {
            "calibrated": asked.calibrated if calibrated is None else calibrated,
            "methods": {},
            "refused": {},
        }
        n = asked.samples if samples is None else samples
        m = asked.randomisation_samples if randomisation_samples is None else randomisation_samples
        if facts_of(run)["task"] in UNFIT:
            value["no faithfulness"] = UNFIT[facts_of(run)["task"]]
        elif n and methods:
            _faithfulness(run, methods, n, value)
        if m and methods:
            _randomisation(run, methods, m, value, permuted, listen)
        run.write_json(file, value)
    result: dict[str, Any] = run.read_json(file)
    return result


def _draw(run: RunDirectory, samples: int, purpose: str) -> Tensor:
    """Prepared test rows, drawn at random without repetition."""
    rows = torch.from_numpy(split_of(run)["test"])
    order = torch.randperm(len(rows), generator=seeds.generator(study_of(run).seed, purpose))
    return data_of(run).batch(rows[order[:samples].sort().values])[0]


def _target(run: RunDirectory) -> int | None:
    return target_index(facts_of(run), study_of(run).explanation.target)


def _faithfulness(run: RunDirectory, methods: Methods, samples: int, value: dict[str, Any]) -> None:
    x, model = _draw(run, samples, "samples for faithfulness"), model_of(run)
    found, value["refused"] = explain_all(run, x, methods, _target(run))
    value["samples"] = len(x)
    for name, explanation in found.items():
        target = explanation.target if explanation.target is not None else _target(run)
        found_out = faithfulness(model, x, explanation.evidence(), target=target)
        measured = found_out.to_json()
        if value["calibrated"]:
            best, thresholds = found_out.calibrated()
            measured |= {"calibrated": best, "threshold": float(thresholds.mean())}
        names = output_names(facts_of(run))
        if explanation.target is not None and len(names) > 1:
            parts = found_out.of_classes(explanation.target.cpu()).items()
            measured["classes"] = {names[c]: {"samples": len(p.y), "plain": p.plain(), "area": p.area()} for c, p in parts}
        value["methods"].setdefault(name, {})["faithfulness"] = measured
        if facts_of(run)["kind"] == "image" and METHODS[name].family != "baseline":
            alarm = shortcut_alarm(explanation, x=x).to_json()
            value["methods"][name]["border"] = {key: alarm[key] for key in ("share", "chance", "edge", "alarm", "verdict")}


def _randomisation(
    run: RunDirectory, methods: Methods, samples: int, value: dict[str, Any], permuted: bool, listen: Listener | None
) -> None:
    x, model = _draw(run, samples, "samples for randomisation"), model_of(run)
    if len(x) < 2:
        value["no randomisation"] = "it needs at least two test rows"
        return
    found, refused = explain_all(run, x, methods, _target(run))
    value["refused"] |= refused
    if not found:
        return
    target = next((e.target for e in found.values() if e.target is not None), None)
    able = {name: completed(run, name, methods[name]) for name in found}
    maps = maps_of(run, x, able, target if target is not None else _target(run), seed=study_of(run).seed)
    original = {name: explanation.map() for name, explanation in found.items()}
    if permuted:
        other, value["permuted labels"] = relabelled(run, listen)
        for name, result in data_randomisation(original, maps(other)).items():
            value["methods"].setdefault(name, {})["data_randomisation"] = result.to_json()
    try:
        judged = cascading_randomisation(model, maps, seed=study_of(run).seed, original=original)
    except UnsupportedError as error:
        value["no randomisation"] = str(error)
        return
    value["randomisation samples"] = len(x)
    for name, randomisation in judged.items():
        value["methods"].setdefault(name, {})["randomisation"] = randomisation.to_json()


def maps_of(
    run: RunDirectory, x: Tensor, methods: Methods, target: Any, *, seed: int
) -> Callable[[nn.Module], dict[str, Tensor]]:
    """Maps of the same rows and targets for any state of the model; references are seen through that same state.

    seed: that of the maps they are compared with, or a sampled method would change by its random numbers.
    """
    layer = study_of(run).explanation.layer

    def maps(model: nn.Module) -> dict[str, Tensor]:
        ready = {name: _seen_by(run, model, options) for name, options in methods.items()}
        found: dict[str, Explanation] = explain(model, x, ready, target=target, layer=layer, seed=seed)
        return {name: explanation.map() for name, explanation in found.items()}

    return maps


def _seen_by(run: RunDirectory, model: nn.Module, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the library's activations made anew by ``model``, for the same training rows."""
    library = options.get("library")
    if not isinstance(library, ReferenceLibrary):
        return dict(options)
    return {**options, "library": library.seen_by(model, part_of(run, "train"))}
