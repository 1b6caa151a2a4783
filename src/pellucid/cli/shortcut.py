"""``pellucid shortcut``: plant a shortcut in one's own data, and see which explanations reveal it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, ModelName, Settings, answer, columns, tell, training_progress, verb


@verb
def shortcut(
    marked: Annotated[
        str, typer.Option("--class", metavar="LABEL", help="The class that has the shortcut in training.", show_default=False)
    ],
    data: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A bundled data set, a folder of images, a table, or a study in YAML.")
    ] = "fashion_mnist",
    model: ModelName = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="mark, snow or colour_cast of images; leak of tables.", show_default="mark or leak"),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Methods, separated by commas.", show_default="those of the study")
    ] = None,
    settings: Settings = None,
    samples: Annotated[int, typer.Option(min=2, help="Test rows to explain, half of them of the marked class.")] = 40,
    rows: Annotated[int, typer.Option(min=2, help="At most so many rows of each part.")] = 4000,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each training.", show_default="as the study says")
    ] = None,
    agreement: Annotated[float, typer.Option(help="Of a leak: share of the rows in which it names the class rightly.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="New folder.", show_default="runs/shortcut-<n>")
    ] = None,
    as_json: Json = False,
) -> None:
    """Plant a shortcut for one class, train with and without it, and judge which methods reveal it.

    Example: pellucid shortcut --data fashion_mnist --class Coat --kind mark --methods lime,grad_cam
    """
    from pellucid.study.explaining import named_methods
    from pellucid.study.initialise import study_for
    from pellucid.study.shortcut import shortcut_study
    from pellucid.study.shortcut_page import accuracy_grid, method_grid

    found = shortcut_study(
        study_for(data, model),
        marked=marked,
        kind=kind,
        methods=named_methods([methods], settings or []) if methods else None,
        samples=samples,
        rows=rows,
        epochs=epochs,
        agreement=agreement,
        out=out,
        tell=tell,
        listen=training_progress(),
    )
    for note in found["notes"]:
        tell(note)
    for name, reason in found["refused"].items():
        tell(f"{name} cannot explain this: {reason}")
    grids = [accuracy_grid(found), *([method_grid(found)] if found["methods"] else [])]
    lines = [found["conclusion"], *(columns(grid.rows, grid.header) for grid in grids)]
    if found["chance"] is not None:
        lines.append(f"By chance {100 * found['chance']:.1f} % of the relevance lie there.")
    answer(found, "\n\n".join(lines) + f"\n\nPage: {found['page']}", as_json)
