"""A run read again: the study, its data, its split, its model, from the run directory alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from pellucid.core import devices
from pellucid.core.errors import InputError
from pellucid.data.dataset import Data
from pellucid.data.preparation import Preparation, preparation_from_json
from pellucid.data.reading import read
from pellucid.models.building import build
from pellucid.training.batches import Batches, InMemory, Part
from pellucid.training.checkpoint import load_weights
from pellucid.training.objectives import Objective, from_state

from .run_directory import RunDirectory
from .specification import Study, parse_study
from .yaml_source import YamlSource

T = TypeVar("T")
PARTS = ("train", "validation", "test")


def _once(run: RunDirectory, key: str, make: Callable[[], T]) -> T:
    """What ``make`` gives, made once for this run in this process."""
    if key not in run.memory:
        run.memory[key] = make()
    value: T = run.memory[key]
    return value


def study_of(run: RunDirectory) -> Study:
    """The study as resolved when the run began."""
    return _once(run, "study", lambda: parse_study(YamlSource.read(run.study), folder=run.path))


def facts_of(run: RunDirectory) -> dict[str, Any]:
    """``data.json``: kind, task, classes, shapes, preparation, objective."""
    facts: dict[str, Any] = _once(run, "facts", lambda: run.read_json("data.json"))
    return facts


def split_of(run: RunDirectory) -> dict[str, np.ndarray]:
    """Row numbers of each part."""
    return _once(run, "split", lambda: {part: np.array(run.read_json("split.json")[part], dtype=np.int64) for part in PARTS})


def preparation_of(run: RunDirectory) -> Preparation:
    """What turns raw rows into tensors, as it was fitted on the training part."""
    return _once(run, "preparation", lambda: preparation_from_json(facts_of(run)["preparation"]))


def data_of(run: RunDirectory) -> Data:
    """The data read again and prepared as at first. InputError when it is no longer the same data."""

    def make() -> Data:
        study = study_of(run)
        data = read(study.data.name, **study.data.options)
        if data.fingerprint() != facts_of(run)["fingerprint"]:
            raise InputError(
                "the data is no longer what this run was trained on: its fingerprint differs",
                where=study.data.options.get("path", study.data.name),
                cure="Restore the data, or begin a new run.",
            )
        data.preparation = preparation_of(run)
        return data

    return _once(run, "data", make)


def part_of(run: RunDirectory, part: str) -> Batches:
    """The rows of one part, prepared: in memory when they fit, else made on demand."""

    def make() -> Batches:
        data, rows = data_of(run), split_of(run)[part]
        return InMemory(*data.tensors(rows)) if data.fits_in_memory() else Part(data, rows)

    return _once(run, part, make)


def objective_of(run: RunDirectory) -> Objective:
    """The objective with what it fitted on the training targets."""
    return _once(run, "objective", lambda: from_state(facts_of(run)["objective"]))


def device_of(run: RunDirectory) -> torch.device:
    """Where the run computes; a device that is not here gives way to the one that is."""
    name = study_of(run).training.device
    try:
        return devices.pick(name)
    except InputError:
        return devices.pick("auto")


def untrained(run: RunDirectory) -> nn.Module:
    """The model from our tables, with its first weights."""
    study, facts = study_of(run), facts_of(run)
    return build(
        study.model.name, input_shape=facts["input_shape"], outputs=facts["outputs"], seed=study.seed, **study.model.options
    )


def model_of(run: RunDirectory) -> nn.Module:
    """The trained model in evaluation mode, on its device."""

    def make() -> nn.Module:
        if not run.model.is_file():
            raise InputError("the run has no trained model yet", where=run.path, cure=f"Finish it: pellucid resume {run.path}")
        model = untrained(run)
        load_weights(run.model, model)
        return model.eval().to(device_of(run))

    return _once(run, "model", make)


def output_names(facts: dict[str, Any]) -> list[str]:
    """A name for each output of the model: the classes, the positive class of a binary model, or the target."""
    classes = list(facts["classes"])
    if not classes:
        return [facts["target"]]
    return classes[-1:] if facts["outputs"] == 1 else classes


def target_index(facts: dict[str, Any], target: int | str | None) -> int | None:
    """The output that a study or a person names: its number, its class, or None for the predicted one."""
    names = output_names(facts)
    if target is None:
        return None if len(names) > 1 else 0
    if isinstance(target, str) and target in names:
        return names.index(target)
    number = int(target) if isinstance(target, int) or str(target).isdigit() else -1
    if not 0 <= number < len(names):
        raise InputError(f"no class '{target}'", cure=f"Give one of: {', '.join(names[:20])}.")
    return number
