"""``pellucid benchmark``: every explanation method by every measure, ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, ModelName, Settings, answer, columns, tell, training_progress, verb


@verb
def benchmark(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="A run with a trained model. Without one a model is trained.", show_default=False),
    ] = None,
    data: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="Without RUN: a data set, a folder of images, a table, or a study in YAML.")
    ] = "fashion_mnist",
    model: ModelName = None,
    methods: Annotated[str | None, typer.Option(metavar="A,B", help="Methods.", show_default="all")] = None,
    measures: Annotated[
        str | None, typer.Option(metavar="A,B", help="Measures.", show_default="all that suit the data")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="Test rows.")] = 200,
    checked: Annotated[int, typer.Option(min=2, help="Of these, rows for the checks that explain again and again.")] = 16,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Without RUN: new run directory.", show_default="runs/<study>-<n>"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge all explanation methods by all measures on the same test rows, and write a ranked page.

    Example: pellucid benchmark runs/fashion_mnist-1 --samples 200
    """
    from pellucid.core.errors import InputError
    from pellucid.study.explaining import named_methods
    from pellucid.study.initialise import study_for
    from pellucid.study.leaderboard import benchmark as judge
    from pellucid.study.leaderboard import sentences, table
    from pellucid.study.pipeline import run_study
    from pellucid.study.run_directory import RunDirectory

    chosen = named_methods([methods], settings or []) if methods is not None else None
    if settings and methods is None:
        raise InputError("--set without --methods", cure="Name the methods that are to be judged.")
    names = measures.split(",") if measures is not None else []
    asked: dict[str, dict[str, object]] = {name.strip(): {} for name in names if name.strip()}
    if run is None:
        opened = run_study(study_for(data, model), out, until="evaluate", tell=tell, listen=training_progress())
    else:
        opened = RunDirectory.open(run)
    found = judge(
        opened, methods=chosen, measures=None if measures is None else asked, samples=samples, checked=checked, tell=tell
    )
    header, rows = table(found)
    lines = [columns(rows, header), *sentences(found), f"Page: {found['page']}"]
    answer(found, "\n\n".join(lines), as_json)
