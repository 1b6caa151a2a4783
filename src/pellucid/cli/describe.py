"""``pellucid describe``: the layers of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer, verb


@verb
def describe(
    what: Annotated[
        str,
        typer.Argument(metavar="MODEL|RUN", help="A name from 'pellucid list models', or a run directory.", show_default=False),
    ],
    as_json: Json = False,
) -> None:
    """Print the layers of a model with their shapes and parameters.

    Example: pellucid describe lenet5
    """
    from dataclasses import asdict

    from pellucid.core.table import MODELS
    from pellucid.models.building import build
    from pellucid.models.description import describe as layers_of
    from pellucid.models.description import describe_text

    if what not in MODELS and (Path(what) / "run.json").is_file():
        from pellucid.study.recall import facts_of, untrained
        from pellucid.study.run_directory import RunDirectory

        run = RunDirectory.open(what)
        model, shape = untrained(run), facts_of(run)["input_shape"]
    else:
        facts = MODELS[what].facts
        shape = facts["input"]
        model = build(what, input_shape=shape, outputs=facts["outputs"], seed=0)
    rows = layers_of(model, shape)
    text = f"input {' x '.join(map(str, shape))}\n{describe_text(rows)}"
    answer({"input": list(shape), "layers": [asdict(row) for row in rows]}, text, as_json)
