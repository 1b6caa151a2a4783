"""The whole path: data, training, evaluation, explanation, quality, report; begun, or gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.core.checks import one_of
from pellucid.core.errors import InputError
from pellucid.training.events import Listener

from . import auditing, explaining, report, stages
from .recall import facts_of, split_of, study_of
from .run_directory import STAGES, RunDirectory
from .specification import Study
from .stages import Interrupted, Tell


def run_study(
    study: Study,
    out: str | Path | None = None,
    *,
    until: str = "report",
    tell: Tell = lambda text: None,
    listen: Listener | None = None,
) -> RunDirectory:
    """Walk the path in a new run directory, up to and with the stage ``until``.

    A study that cannot begin (bad data, unknown class, a model that does not fit) leaves no directory behind. ``tell`` is
    given a line per stage, ``listen`` the events of the training.
    """
    one_of("until", until, STAGES)
    run = RunDirectory.create(study.name, out)
    try:
        stages.prepare(run, study)
    except BaseException:
        run.discard()
        raise
    _say_data(run, tell)
    _walk(run, until, tell, listen, resume=False)
    return run


def resume(run: RunDirectory, *, tell: Tell = lambda text: None, listen: Listener | None = None) -> bool:
    """Go on with a run where it stopped, training included, and complete it. False when it was complete already."""
    if all(run.finished(stage) for stage in STAGES):
        return False
    if not run.finished("data"):
        raise InputError("the run stopped before its data was read", where=run.path, cure="Begin it anew with 'pellucid run'.")
    _walk(run, "report", tell, listen, resume=True)
    return True


def _walk(run: RunDirectory, until: str, tell: Tell, listen: Listener | None, *, resume: bool) -> None:
    for stage in STAGES[1 : STAGES.index(until) + 1]:
        if run.finished(stage):
            continue
        try:
            _STAGES[stage](run, tell, listen, resume)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped in the stage '{stage}'", cure=f"Go on with: pellucid resume {run.path}") from None


def _train(run: RunDirectory, tell: Tell, listen: Listener | None, resume: bool) -> None:
    study, rows = study_of(run), len(split_of(run)["train"])
    tell(f"Training {study.model.name}: up to {study.training.epochs} epochs of {rows:,} rows; Ctrl-C stops and keeps it.")
    history = stages.fit(run, resume=resume, listen=listen)
    if history.best_epoch:
        value = f"validation {history.best_metric} {history.best_value:.4g}"
        tell(f"Best epoch: {history.best_epoch} of {len(history.rows)}, {value}.")


def _evaluate(run: RunDirectory, tell: Tell, listen: Listener | None, resume: bool) -> None:
    tell(f"Evaluating on {len(split_of(run)['test']):,} test rows.")
    tell("  " + headline(stages.evaluate(run)))


def _explain(run: RunDirectory, tell: Tell, listen: Listener | None, resume: bool) -> None:
    shown = min(study_of(run).explanation.samples, len(split_of(run)["test"]))
    tell(f"Explaining {shown} test rows with {len(explaining.methods_of(run))} methods.")
    for name, reason in explaining.explain_test_rows(run)["refused"].items():
        tell(f"  {name} cannot explain this model: {reason}")


def _audit(run: RunDirectory, tell: Tell, listen: Listener | None, resume: bool) -> None:
    quality, n = study_of(run).quality, len(split_of(run)["test"])
    shuffled = min(quality.randomisation_samples, n)
    tell(f"Auditing the explanations: {min(quality.samples, n)} test rows, {shuffled} with randomised layers.")
    auditing.audit(run)


def _report(run: RunDirectory, tell: Tell, listen: Listener | None, resume: bool) -> None:
    tell(f"Report: {report.write_report(run)}")


_STAGES: dict[str, Callable[[RunDirectory, Tell, Listener | None, bool], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "explain": _explain,
    "quality": _audit,
    "report": _report,
}


def _say_data(run: RunDirectory, tell: Tell) -> None:
    facts, rows = facts_of(run), split_of(run)
    sizes = ", ".join(f"{len(r):,} {part}" for part, r in rows.items())
    tell(f"Run {run.path}: {facts['rows']:,} rows of {facts['reader']} ({sizes}).")
    for note in [*facts["notes"], *run.read_json("split.json")["notes"]]:
        tell(f"  Note: {note}")
    for file, reason in facts["unreadable"]:
        tell(f"  Unreadable: {file}: {reason}")


def headline(evaluation: dict[str, Any]) -> str:
    """The result in one line, with its interval and the trivial baseline."""
    test = evaluation["test"]
    base = test["baseline"]["scores"]
    if evaluation["task"] == "regression":
        low, high = (test["rmse_interval"][end] for end in ("lower", "upper"))
        return f"Test RMSE {test['rmse']:.4g} (95 % interval {low:.4g} to {high:.4g}); always the mean: {base['rmse']:.4g}."
    low, high = (100 * (1 - test["error_interval"][end]) for end in ("upper", "lower"))
    word = "accuracy" if evaluation["task"] == "classification" else "share of rows with all labels right"
    right, trivial = 100 * (1 - test["error"]), 100 * (1 - base["error"])
    return f"Test {word} {right:.1f} % (95 % interval {low:.1f} to {high:.1f} %); trivial baseline {trivial:.1f} %."


def summary(run: RunDirectory) -> dict[str, Any]:
    """What a script wants to know of a run: path, stages, best epoch, headline numbers, report."""
    value: dict[str, Any] = {"run": str(run.path), "stages": run.header()["stages"]}
    if run.finished("train"):
        history = run.read_json("state/history.json")
        value |= {k: history[k] for k in ("best_epoch", "best_metric", "best_value", "stopped")} | {
            "epochs": len(history["rows"])
        }
    if run.finished("evaluate"):
        evaluation = run.read_json("evaluation.json")
        value |= {"headline": {name: {"value": v, "baseline": b} for name, v, b in evaluation["headline"]}}
        value["said"] = headline(evaluation)
    if run.report.is_file():
        value["report"] = str(run.report)
    return value
