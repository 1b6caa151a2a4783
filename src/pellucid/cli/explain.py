"""``pellucid explain``: why the model answers so, for new files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import Beside, Files, Json, RunPath, Settings, answer, columns, tell, verb


@verb
def explain(
    run: RunPath,
    files: Files,
    method: Annotated[
        str, typer.Option("--method", "-m", metavar="A,B", help="Methods, separated by commas.", show_default=False)
    ],
    settings: Settings = None,
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Class to explain, by name or number.", show_default="the predicted one")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for figure and relevance.", show_default="a new one in the run"),
    ] = None,
    beside: Beside = None,
    as_json: Json = False,
) -> None:
    """Explain images, or the rows of CSV files, with a trained run.

    Example: pellucid explain runs/shapes-1 new.png --method gradient,grad_cam
    """
    from pellucid.study.beside import view
    from pellucid.study.explaining import explain_files, named_methods
    from pellucid.study.run_directory import RunDirectory

    opened = RunDirectory.open(run)
    opened = view(opened, beside) if beside else opened
    found = explain_files(opened, files, named_methods([method], settings or []), target=target, out=out)
    for name, reason in found["refused"].items():
        tell(f"{name} cannot explain this: {reason}")
    for name, facts in found["methods"].items():
        for note in facts["notes"]:
            tell(f"{name}: {note}")
    rows = [(s["name"], s["predicted"], s.get("probability"), s.get("explained")) for s in found["samples"]]
    table = columns(rows, ("name", "predicted", "probability", "explained"))
    only = f" (the first {found['drawn']} rows)" if found["drawn"] < len(rows) else ""
    answer(found, f"{table}\n\nFigure{only}: {found['figure']}", as_json)
