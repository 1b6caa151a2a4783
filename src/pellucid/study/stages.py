"""The stages that make a run: data and split, training, evaluation. Each reads what it needs from the run directory."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from pellucid.core import checks, devices
from pellucid.core.errors import InputError, PellucidError
from pellucid.data.augmentation import augmenter
from pellucid.data.dataset import Data
from pellucid.data.reading import read
from pellucid.evaluation.classification import evaluate_classification
from pellucid.evaluation.generalisation import hold_out
from pellucid.evaluation.multilabel import evaluate_multilabel, multilabel_log_loss, subset_error
from pellucid.evaluation.regression import evaluate_regression, mae, mse
from pellucid.models.building import build
from pellucid.models.description import describe
from pellucid.training.batches import Batches
from pellucid.training.checkpoint import save_weights
from pellucid.training.events import Listener
from pellucid.training.history import History
from pellucid.training.loop import train
from pellucid.training.objectives import Objective, objective
from pellucid.training.optimizers import optimizer
from pellucid.training.schedules import schedule
from pellucid.training.validation import predict, validation

from . import beside
from .environment import environment
from .recall import (
    PARTS,
    data_of,
    device_of,
    facts_of,
    model_of,
    objective_of,
    part_of,
    split_of,
    study_of,
    target_index,
    untrained,
)
from .run_directory import RunDirectory
from .specification import AUTO, Study, resolved_text

Tell = Callable[[str], None]


# Task of the data -> the objectives that can learn it.
OBJECTIVES_OF = {"classification": ("multiclass", "binary"), "multilabel": ("multilabel",), "regression": ("regression",)}


class Interrupted(PellucidError):
    """The training was stopped by the person; what was learnt is kept."""


def prepare(run: RunDirectory, study: Study) -> None:
    """Read the data, share out the rows, fit preparation and objective on the training part, build the model once.

    Writes study.yaml, data.json, split.json and environment.json. Everything that can be wrong with a study shows here.
    """
    with run.stage("data"):
        data = read(study.data.name, **study.data.options)
        shared = data.split(by=study.split.by, test=study.split.test, validation=study.split.validation, seed=study.seed)
        rows = {part: np.asarray(getattr(shared, part)) for part in PARTS}
        if not len(rows["test"]):
            raise InputError("the test part is empty", where="split.test", cure="Keep some rows for the test, e.g. test: 0.2.")
        if study.training.patience and not len(rows["validation"]):
            raise InputError(
                "patience needs a validation part", where="split.validation", cure="Set validation: 0.1, or patience: null."
            )
        data.fit(rows["train"])
        lay_out(run, study, data, rows, {"by": shared.by, "notes": shared.notes})


def lay_out(run: RunDirectory, study: Study, data: Data, rows: dict[str, np.ndarray], how: dict[str, Any]) -> None:
    """Write what begins a run of ``data``, prepared on its training ``rows``; ``how`` says how the rows were shared out."""
    goal = _objective(study, data, data.y[torch.from_numpy(rows["train"])])
    if study.training.augment and data.kind != "image":
        raise InputError(f"augment is {list(study.training.augment)} for {data.kind} data", cure="Set augment: [].")
    model = build(
        study.model.name, input_shape=data.input_shape, outputs=goal.outputs(), seed=study.seed, **study.model.options
    )
    facts = _facts(data, study.data.options.get("path")) | {"outputs": goal.outputs(), "objective": goal.state()}
    facts["layers"] = [row.__dict__ for row in describe(model, data.input_shape)]
    _check_ahead(study, model, facts)
    run.write_json("data.json", facts)
    run.write_json("split.json", {**{p: r.tolist() for p, r in rows.items()}, **how})
    run.write_json("environment.json", environment(study.seed, str(devices.pick(study.training.device))))
    run.write_text("study.yaml", resolved_text(study, run.path))
    run.memory |= {"study": study, "data": data, "split": rows, "preparation": data.preparation}


def _objective(study: Study, data: Data, y: torch.Tensor) -> Objective:
    """The objective, fitted on the training targets ``y``; refused where it does not suit the task or lacks the best metric."""
    name, options = study.training.objective, dict(study.training.objective_options)
    suited = OBJECTIVES_OF[data.task]
    if name != AUTO and name not in suited:
        what = f"objective '{name}' for {data.task} of '{data.target}'"
        raise InputError(what, where="training.objective", cure=f"Take {' or '.join(suited)}, or auto.")
    if data.task == "classification" and name != "binary":
        options = {"classes": len(data.classes)} | options
    made = objective(name, y, **options)
    if study.training.best != AUTO:
        checks.one_of("training.best", study.training.best, made.metrics(torch.zeros(len(y), made.outputs()), y))
    return made


def _check_ahead(study: Study, model: nn.Module, facts: dict[str, Any]) -> None:
    """What a later stage would refuse after an hour of training is refused now."""
    t = study.training
    optimizer(t.optimizer, list(model.parameters()), lr=t.lr, weight_decay=t.weight_decay, options=t.optimizer_options)
    schedule(t.schedule, 1, t.schedule_options)
    target_index(facts, study.explanation.target)
    layer = study.explanation.layer
    if layer is not None:
        checks.one_of("explanation.layer", layer, [name for name, _ in model.named_modules() if name])


def _facts(data: Data, path: str | None) -> dict[str, Any]:
    """What later stages and the report need to know of the data, without the data and without the folders of this machine."""

    def short(text: str) -> str:
        return text.replace(path, Path(path).name) if path else text

    return {
        "reader": data.reader,
        "kind": data.kind,
        "task": data.task,
        "target": data.target,
        "classes": list(data.classes),
        "rows": len(data),
        "input_shape": list(data.input_shape),
        "features": list(data.preparation.features),
        "fingerprint": data.fingerprint(),
        "preparation": data.preparation.to_json(),
        "summary": [[fact, short(value)] for fact, value in data.summary()],
        "notes": [short(note) for note in data.notes],
        "unreadable": [[short(file), reason] for file, reason in data.unreadable],
    }


def fit(run: RunDirectory, *, resume: bool = False, listen: Listener | None = None) -> History:
    """Train, or go on training from the checkpoint; keep the weights of the best epoch and a line per epoch.

    Raises ``Interrupted`` when the person pressed Ctrl-C, after the checkpoint was written.
    """
    with run.stage("train"):
        study, goal, model = study_of(run), objective_of(run), untrained(run)
        t, validate, best = study.training, None, AUTO
        if len(split_of(run)["validation"]):
            validate = validation(part_of(run, "validation"), goal)
            best = t.best if t.best != AUTO else "accuracy" if facts_of(run)["task"] == "classification" else "loss"
        history = learn(
            study,
            model,
            part_of(run, "train"),
            goal,
            validate=validate,
            best=best if validate else "loss",
            device=device_of(run),
            checkpoint=run.checkpoint,
            resume=resume and run.checkpoint.is_file(),
            on_event=listen,
        )
        history.write_csv(run.metrics)
        if history.stopped == "interrupted":
            raise Interrupted(
                f"stopped in epoch {len(history.rows) + 1} of {t.epochs}", cure=f"Go on with: pellucid resume {run.path}"
            )
        save_weights(run.model, model, {"epoch": history.best_epoch or len(history.rows)})
        run.write_json("state/history.json", history.to_json())
        run.memory.pop("model", None)
    return history


def learn(study: Study, model: nn.Module, data: Batches, goal: Objective | str, **more: Any) -> History:
    """``train`` with all that the study says of training; ``more`` are the arguments of ``train`` that are of one run."""
    t = study.training
    return train(
        model,
        data,
        goal,
        epochs=t.epochs,
        batch=t.batch,
        optimizer=t.optimizer,
        lr=t.lr,
        weight_decay=t.weight_decay,
        optimizer_options=t.optimizer_options,
        schedule=t.schedule,
        schedule_options=t.schedule_options,
        clip=t.clip,
        augment=augmenter(t.augment) if t.augment else None,
        precision=t.precision,
        save_every=t.save_every,
        **{"patience": t.patience, "seed": study.seed, **more},
    )


def evaluate(run: RunDirectory) -> dict[str, Any]:
    """Predict every row with the best epoch's weights; measure on the test part, beside training part and trivial baseline.

    Writes predictions.parquet and evaluation.json, and returns the latter.
    """
    with run.stage("evaluate"):
        facts, goal, model = facts_of(run), objective_of(run), model_of(run)
        found = {part: _numpy(*predict(model, part_of(run, part), goal)) for part in PARTS if len(split_of(run)[part])}
        (p_train, y_train), (p, y) = found["train"], found["test"]
        if facts["task"] == "classification":
            report: Any = evaluate_classification(y, p, facts["classes"], y_train=y_train)
            gap = hold_out(y_train, p_train, y, p)
        elif facts["task"] == "multilabel":
            report = evaluate_multilabel(y, p, facts["classes"], y_train=y_train)
            gap = hold_out(y_train, p_train, y, p, measures=(subset_error, multilabel_log_loss))
        else:
            report = evaluate_regression(y, p, y_train=y_train)
            gap = hold_out(y_train, p_train, y, p, measures=(mse, mae))
        value = {"task": facts["task"], "headline": report.headline(), "test": report.to_json(), "hold_out": gap.to_json()}
        _write_predictions(run, found)
        value["beside"] = beside.measure(run)
        run.write_json("evaluation.json", value)
    result: dict[str, Any] = run.read_json("evaluation.json")
    return result


def _numpy(p: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    return p.double().numpy(), y.numpy()


def _write_predictions(run: RunDirectory, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """predictions.parquet: a line per row of the data with its name, part, truth and prediction."""
    facts, names, rows = facts_of(run), data_of(run).names, split_of(run)
    frames = []
    for part, (p, y) in found.items():
        frame = pd.DataFrame({"row": rows[part], "name": [str(names[i]) for i in rows[part]], "part": part})
        frames.append(frame.assign(**prediction_columns(facts, p, y)))
    frame = pd.concat(frames, ignore_index=True).sort_values("row", ignore_index=True)
    held = io.BytesIO()
    frame.to_parquet(held, index=False)
    run.write_bytes(run.predictions.name, held.getvalue())


def prediction_columns(facts: dict[str, Any], p: np.ndarray, y: np.ndarray | None = None) -> dict[str, Any]:
    """Columns true (when known), predicted and, but for regression, the probability of every class."""
    classes = np.array(facts["classes"])
    if facts["task"] == "regression":
        return ({} if y is None else {"true": y.astype(float)}) | {"predicted": p.astype(float)}
    shares = {f"probability of {name}": p[:, k] for k, name in enumerate(classes)}
    if facts["task"] == "classification":
        return ({} if y is None else {"true": classes[y.astype(int)]}) | {"predicted": classes[p.argmax(1)], **shares}

    def joined(mask: np.ndarray) -> list[str]:
        return ["|".join(classes[row]) for row in mask]

    return ({} if y is None else {"true": joined(y > 0.5)}) | {"predicted": joined(p >= 0.5), **shares}
