"""The only training loop. What a step is belongs to the objective, what it does to the weights to ``Update``.

All randomness is drawn anew for each step from the seed and the step's place: the order of the rows from (seed, epoch),
dropout and augmentation from (seed, epoch, step). So nothing random has to be stored, and a training that goes on from a
checkpoint, mid-epoch too, ends on a CPU in the same bits as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pellucid.core import checks, devices, seeds
from pellucid.core.errors import InputError, PellucidError

from . import objectives, optimizers, schedules
from .batches import Batches, cut, placed, stream
from .checkpoint import Checkpoint, put_weights, writable
from .events import Event, Listener
from .guards import ctrl_c_waits, modes_kept, own_state
from .history import History, direction_known

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Validate = Callable[[nn.Module], dict[str, float]]


class DivergedError(PellucidError):
    """The loss or the weights are no longer finite numbers."""


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def real(precision: str) -> torch.dtype:
    """The type of inputs and weights; mixed precisions keep float32 and compute in less."""
    return torch.float64 if precision == "float64" else torch.float32


def steps_per_epoch(rows: int, batch: int) -> int:
    """How many pieces ``cut`` makes."""
    return len(cut(torch.empty(rows, dtype=torch.bool), batch))


@dataclass
class Run:
    """A training in progress: what ``train`` was given, then where it is."""

    model: nn.Module
    data: Batches
    objective: objectives.Objective
    update: optimizers.Update
    epochs: int
    batch: int
    seed: int
    device: torch.device
    precision: str
    augment: Augment | None
    validate: Validate | None
    patience: int | None
    checkpoint: Path | None
    save_every: float
    on_event: Listener | None
    show_every: float
    settings: dict[str, Any]
    history: History
    epoch: int = 0  # completed
    step: int = 0  # completed in this epoch
    rows: int = 0  # seen in this epoch
    earlier: float = 0.0  # seconds of this epoch before the run was taken up again
    loss_sum: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loss_sum = self.loss_sum.to(self.device)
        self.generator = torch.Generator(self.device)
        self.steps = steps_per_epoch(len(self.data), self.batch)
        self.unchecked = getattr(self.data, "y", None) is None
        self.good = copied(self.model)  # what the model falls back upon: the best weights, or those of the last epoch's end
        self.started = self.opened = self.saved = self.shown = time.perf_counter()
        self.done_before, self.rows_here = 0, 0
        self.shown_sum, self.shown_rows = 0.0, 0

    def run(self, stop_asked: Callable[[], bool]) -> None:
        """From where it is to the end, or to a Ctrl-C."""
        self.done_before = self.done
        self.tell("start")
        while not self.history.stopped:
            self.train_epoch(stop_asked)
            if self.step == self.steps:
                self.close_epoch()
            if not self.history.stopped and stop_asked():
                self.history.stopped = "interrupted"
            if self.checkpoint and (self.step == 0 or self.history.stopped):
                self.save()
        if self.history.best_epoch:
            self.model.load_state_dict(self.good)

    def train_epoch(self, stop_asked: Callable[[], bool]) -> None:
        """The steps of this epoch that are left, through one permutation of the rows."""
        self.opened = time.perf_counter()
        self.model.train()
        order = torch.randperm(len(self.data), generator=seeds.generator(self.seed, "permutation", self.epoch))
        pieces = cut(order, self.batch)[self.step :]
        with closing(stream(self.data, pieces, self.device, real(self.precision))) as batches:
            for x, y in batches:
                self.train_step(x, y)
                if stop_asked():
                    return

    def train_step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One step, and whatever is due after it."""
        if self.unchecked:
            self.objective.accept(y)
        place = (self.epoch, self.step)
        seeds.reseed(seeds.derive(self.seed, "step", *place), self.device)
        if self.augment is not None:
            x = self.augment(x, self.generator.manual_seed(seeds.derive(self.seed, "augment", *place)))
        self.update.at(self.done)
        with devices.autocast(self.device, self.precision):
            loss = self.objective.step(self.model, x, y, self.update)
        self.loss_sum.add_(loss, alpha=len(y))
        self.rows += len(y)
        self.rows_here += len(y)
        self.step += 1
        # Reading a number is free on a CPU; an accelerator would have to wait for it, so there it is read when shown.
        if self.device.type == "cpu" and not math.isfinite(loss):
            self.diverged(f"the loss became {float(loss)}", x)
        now = time.perf_counter()
        if self.on_event is not None and now - self.shown >= self.show_every:
            self.tell("step")
        if self.checkpoint and now - self.saved >= self.save_every:
            self.save()

    @property
    def done(self) -> int:
        """Steps completed in the whole training."""
        return self.epoch * self.steps + self.step

    def close_epoch(self) -> None:
        """Validate, record, keep the best, decide whether to go on."""
        mean = self.mean_loss()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            self.diverged("the weights became infinite or NaN")
        if self.validate is not None:
            self.model.eval()
            seeds.reseed(seeds.derive(self.seed, "validate", self.epoch), self.device)
            with torch.no_grad():
                self.metrics = {name: float(value) for name, value in self.validate(self.model).items()}
        seconds = self.earlier + time.perf_counter() - self.opened
        row = {"epoch": self.epoch + 1, "step": self.done, "lr": self.update.lr, "train_loss": mean}
        if self.history.record(row, self.metrics, seconds) or self.validate is None:
            self.good = copied(self.model)
        self.tell("epoch", loss=mean)
        self.epoch, self.step, self.rows, self.earlier = self.epoch + 1, 0, 0, 0.0
        self.shown_sum, self.shown_rows = 0.0, 0
        self.loss_sum.zero_()
        waited = self.epoch - (self.history.best_epoch or 0)
        if self.epoch >= self.epochs:
            self.history.stopped = "finished"
        elif self.patience is not None and waited >= self.patience:
            self.history.stopped = "early"

    def mean_loss(self) -> float:
        """Mean loss of this epoch so far; a reading that waits for an accelerator."""
        mean = float(self.loss_sum) / max(1, self.rows)
        if not math.isfinite(mean):
            self.diverged(f"the loss became {mean}")
        return mean

    def diverged(self, what: str, x: torch.Tensor | None = None) -> None:
        """Give the model its last good weights back and say what to do."""
        self.model.load_state_dict(self.good)
        where = f"epoch {self.epoch + 1}, step {self.step} of {self.steps}, lr {self.update.lr:.3g}"
        last = self.history.best_epoch or self.epoch
        kept = f"The model has its weights of {f'epoch {last}' if last else 'the start'} back."
        if x is not None and x.is_floating_point() and not bool(torch.isfinite(x).all()):
            cure = "The inputs of this step hold NaN or infinity: remove or fill them."
        else:
            cure = f"Lower lr (try {self.update.base[0][0] / 10:.3g}) or limit the gradient with clip=1.0."
        raise DivergedError(what, where=where, cure=f"{cure} {kept}")

    def tell(self, kind: str, *, loss: float | None = None, message: str = "") -> None:
        """Send an event."""
        if self.on_event is None:
            return
        self.shown = time.perf_counter()
        if kind == "step":
            self.mean_loss()
            now = float(self.loss_sum)
            loss = (now - self.shown_sum) / max(1, self.rows - self.shown_rows)
            self.shown_sum, self.shown_rows = now, self.rows
        here, passed = self.done - self.done_before, self.shown - self.started
        total = self.epochs * self.steps
        left = (total - self.done) * passed / here if here else None
        speed = self.rows_here / passed if here else None
        epoch = min(self.epoch + 1, self.epochs)
        self.on_event(Event(kind, epoch, self.epochs, self.done, total, loss, dict(self.metrics), speed, left, message))

    def save(self) -> None:
        """Write the checkpoint: the training as it is between two steps."""
        assert self.checkpoint is not None
        self.mean_loss()
        now = time.perf_counter()
        place = {"epoch": self.epoch, "step": self.step, "rows": self.rows, "loss_sum": float(self.loss_sum)}
        spent = self.earlier + now - self.opened if self.step else 0.0
        facts = {"place": place, "seconds": spent, "metrics": self.metrics, "scaler": self.update.scaler.state_dict()}
        facts |= {"history": self.history.to_json(), "settings": self.settings}
        best = self.good if self.history.best_epoch else None
        Checkpoint(self.model.state_dict(), best, self.update.state(), facts).save(self.checkpoint)
        self.saved = time.perf_counter()

    def take_up(self, path: Path) -> None:
        """Go on from the checkpoint; ``InputError`` when it belongs to another training, and nothing has changed then."""
        found = Checkpoint.load(path)
        for key, value in self.settings.items():
            before = found.facts["settings"].get(key)
            if before != value:
                cure = "Resume with the same settings, or train anew with resume=False."
                raise InputError(
                    f"the checkpoint belongs to a training with {key} {before}, not {value}", where=path, cure=cure
                )
        put_weights(self.model, found.weights, path)
        self.update.restore(found.optimizers)
        if found.facts["scaler"]:
            self.update.scaler.load_state_dict(found.facts["scaler"])
        place = found.facts["place"]
        self.epoch, self.step, self.rows = place["epoch"], place["step"], place["rows"]
        self.update.at(max(0, self.done - 1))  # the row of an epoch names the rate of its last step
        self.loss_sum.fill_(place["loss_sum"])
        self.shown_sum, self.shown_rows = place["loss_sum"], self.rows
        self.earlier, self.metrics = found.facts["seconds"], found.facts["metrics"]
        self.history = History(**found.facts["history"])
        self.good = found.best or copied(self.model)
        if self.history.stopped != "early":
            self.history.stopped = "" if self.epoch < self.epochs else "finished"

    def farewell(self) -> str:
        """How it ended, in words; nothing when it simply finished."""
        if self.history.stopped == "early":
            since = f"epoch {self.history.best_epoch}" if self.history.best_epoch else "the start"
            return f"Stopped early: no better {self.history.best_metric} since {since}, whose weights are kept."
        if self.history.stopped != "interrupted":
            return ""
        saved = (
            f"saved in '{self.checkpoint}'; the same call with resume=True goes on from there"
            if self.checkpoint
            else "not saved"
        )
        return f"Interrupted after step {self.done} of {self.epochs * self.steps}, {saved}."


def train(
    model: nn.Module,
    data: Batches,
    objective: objectives.Objective | str = "auto",
    *,
    epochs: int = 10,
    batch: int = 128,
    optimizer: str = "AdamW",
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    optimizer_options: Mapping[str, Any] | None = None,
    schedule: str | schedules.Schedule = "constant",
    schedule_options: Mapping[str, Any] | None = None,
    clip: float | None = None,
    augment: Augment | None = None,
    validate: Validate | None = None,
    best: str = "loss",
    patience: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "float32",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    save_every: float = 60.0,
    on_event: Listener | None = None,
    show_every: float = 0.25,
) -> History:
    """Train ``model`` in place and return its history.

    With ``validate`` the model ends with the weights of the epoch that was best by the metric ``best``, else with the last.
    It stays on the device, and with ``precision="float64"`` in the precision, of the training; modes, torch's generators
    and flags are as before.

    Args:
        model: any module; frozen parameters stay.
        data: rows to learn from, an ``InMemory(x, y)`` or anything with ``__len__`` and ``batch(rows)``.
        objective: made by ``objective(name, y=...)``, or a name; "auto" looks at the targets.
        epochs: passes over the data.
        batch: rows per step; a single row left over joins the last step.
        optimizer: a torch optimiser by its name.
        lr: its learning rate, before the schedule.
        weight_decay: of all parameters, as ``optimizers.optimizer`` says.
        optimizer_options: momentum, nesterov, betas, ...
        schedule: of the learning rate, by name or as a function step -> factor.
        schedule_options: what the named schedule takes.
        clip: largest 2-norm of the gradient.
        augment: called with each input batch and a seeded generator.
        validate: called with the model in evaluation mode after each epoch; returns metrics.
        best: the metric that says which epoch is best.
        patience: stop after that many epochs without a better value.
        seed: of everything random.
        device: the first accelerator when None.
        precision: float32, float64, or bfloat16 / float16 for the forward pass alone.
        checkpoint: a file to write at the end of each epoch and every ``save_every`` seconds; an older one is replaced.
        resume: go on from ``checkpoint`` if it exists, else begin. The settings must be those of before; ``epochs`` may
            change when the schedule is constant. On a CPU, with as many threads, the weights get the bits they would have
            got without a stop.
        save_every: seconds between checkpoints within an epoch.
        on_event: told what happens.
        show_every: least seconds between two "step" events.

    Ctrl-C finishes the step, saves, and returns with ``stopped == "interrupted"``; a second one raises at once.
    Raises ``InputError`` before the first step for whatever does not fit, ``DivergedError`` when the loss is no longer
    finite (the model then has its last good weights back).
    """
    rows = checks.count("rows in data", len(data))
    checks.count("epochs", epochs)
    checks.count("batch", batch)
    checks.one_of("precision", precision, devices.PRECISIONS)
    if patience is not None:
        checks.count("patience", patience)
    if validate is None and (patience is not None or best != "loss"):
        raise InputError("patience and best need validation, and there is none", cure="Give validate=, or leave them out.")
    direction_known(best)
    chosen, place = objectives.made_for(data, objective), devices.pick(device)
    factor = schedules.schedule(schedule, epochs * steps_per_epoch(rows, batch), schedule_options)
    target = None if checkpoint is None else writable(checkpoint)
    settings = {"rows": rows, "batch": batch, "seed": seed, "objective": chosen.state(), "optimizer": optimizer, "lr": lr}
    settings |= {"weight_decay": weight_decay, "optimizer_options": dict(optimizer_options or {}), "clip": clip}
    settings |= {"schedule": getattr(schedule, "__name__", schedule), "schedule_options": dict(schedule_options or {})}
    settings |= {"precision": precision, "augment": augment is not None, "best": best if validate else None}
    if schedule != "constant":
        settings["epochs"] = epochs
    with own_state(place), modes_kept(model), ctrl_c_waits() as stop_asked:
        seeds.reseed(seeds.derive(seed, "check"), place)
        model.to(place, torch.float64 if precision == "float64" else None)
        x, y = data.batch(torch.arange(min(2, rows)))
        chosen.check(model, placed(x, place, real(precision)), placed(y, place))
        groups = chosen.groups(model)
        if not all(groups):
            raise InputError(
                "the model has no parameter to train", cure="Set requires_grad_(True) on the part that shall learn."
            )
        optimisers = [
            optimizers.optimizer(optimizer, group, lr=lr, weight_decay=weight_decay, options=optimizer_options)
            for group in groups
        ]
        update = optimizers.Update(optimisers, schedule=factor, clip=clip, device=place, precision=precision)
        run = Run(
            model=model, data=data, objective=chosen, update=update, epochs=epochs, batch=batch, seed=seed, device=place,
            precision=precision, augment=augment, validate=validate, patience=patience, checkpoint=target,
            save_every=save_every, on_event=on_event, show_every=show_every,
            settings=json.loads(json.dumps(settings, default=str)), history=History(best_metric=best if validate else None),
        )  # fmt: skip
        if resume and target is not None and target.exists():
            run.take_up(target)
        try:
            run.run(stop_asked)
        except BaseException:
            with suppress(Exception):
                run.tell("end")
            raise
        finally:
            update.release()
        run.tell("end", message=run.farewell())
    return run.history
