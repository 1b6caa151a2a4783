"""``pellucid run``: the whole path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer, tell, training_progress, verb

StudyPath = Annotated[
    Path, typer.Argument(metavar="STUDY", help="A study in YAML; 'pellucid init' writes one.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="New run directory.", show_default="runs/<study>-<n>")]


@verb
def run(
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY", help="A study in YAML. Without one: LeNet-5 on a part of Fashion-MNIST.", show_default=False
        ),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Train, evaluate, explain and audit a model, and write a report.

    Example: pellucid run shapes.yaml
    """
    walk(study, out, "report", as_json)


def walk(study: Path | None, out: Path | None, until: str, as_json: bool) -> None:
    """Run a study up to a stage, tell its progress, answer with the result."""
    from pellucid.study.pipeline import run_study, summary
    from pellucid.study.specification import default_study, load_study

    made = run_study(load_study(study) if study else default_study(), out, until=until, tell=tell, listen=training_progress())
    value = summary(made)
    answer(value, said(value), as_json)


def said(value: dict[str, object]) -> str:
    """The result for a person: one line, and where everything is."""
    lines = [str(value[key]) for key in ("said",) if key in value]
    if "said" not in value and "best_epoch" in value:
        lines.append(
            f"Trained for {value['epochs']} epochs. Next: pellucid evaluate {value['run']}, or: pellucid resume {value['run']}"
        )
    return "\n".join([*lines, f"Report: {value['report']}" if "report" in value else f"Run: {value['run']}"])
