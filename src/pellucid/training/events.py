"""What the loop tells while it runs, and a listener that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn


@dataclass(frozen=True)
class Event:
    """A moment of a training.

    ``kind``: "start", "step" (a few times per second), "epoch" (after its validation) or "end" (always sent, after an error
    too). ``epoch`` of ``epochs`` counts from 1, ``step`` of ``steps`` over the whole training. ``loss`` is the mean since
    the last event, for "epoch" that of the epoch; ``metrics`` those of the last validation. ``message`` is for people.
    """

    kind: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples_per_second: float | None = None
    seconds_left: float | None = None
    message: str = ""


Listener = Callable[[Event], None]


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3:05 min or 1:02 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def line(event: Event) -> str:
    """One line of text: epoch, loss, metrics, speed, time left."""
    parts = [f"epoch {event.epoch}/{event.epochs}"]
    if event.loss is not None:
        parts.append(f"train loss {event.loss:.4g}")
    parts += [f"{name} {value:.4g}" for name, value in event.metrics.items()]
    if event.samples_per_second is not None:
        parts.append(f"{event.samples_per_second:,.0f} samples/s")
    if event.seconds_left is not None:
        parts.append(f"{duration(event.seconds_left)} left")
    return "  ".join(parts)


def progress(console: Console | None = None) -> Listener:
    """A listener: a bar in a terminal, and everywhere one line per epoch. Writes to standard error unless told otherwise."""
    console = console or Console(stderr=True, soft_wrap=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), console=console, transient=True
    )
    task: list[TaskID] = []

    def show(event: Event) -> None:
        if event.kind == "start" and console.is_terminal:
            task.append(bar.add_task("training", total=event.steps, completed=event.step, facts=""))
            bar.start()
        if task and event.kind in ("step", "epoch"):
            first, _, rest = line(event).partition("  ")
            bar.update(task[0], description=first, completed=event.step, facts=rest)
        if event.kind == "epoch":
            console.print(line(event), markup=False, highlight=False)
        elif event.kind == "end" and task:
            bar.stop()
            task.clear()
        if event.message:
            console.print(event.message, markup=False, highlight=False)

    return show
