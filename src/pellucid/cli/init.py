"""``pellucid init``: a study for a person's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer, verb


@verb
def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Image folder, CSV or Parquet file, or a name from 'pellucid list data'.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The study to write.", show_default="<data>.yaml here")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a commented study for that data, ready to run.

    Example: pellucid init examples/shapes
    """
    from pellucid.study.initialise import initialise

    path, notes = initialise(data, out)
    text = "\n".join([*notes, f"Wrote {path}. Now: pellucid run {path}"])
    answer({"study": str(path), "notes": notes}, text, as_json)
