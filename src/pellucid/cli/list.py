"""``pellucid list``: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from .answers import Json, answer, columns, verb


@verb
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="methods, models, measures, data, ... All kinds, if left out.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List methods, models, measures, data sets and other parts by name.

    Example: pellucid list methods
    """
    from pellucid.core.checks import one_of
    from pellucid.core.table import LISTED

    kinds = list(LISTED) if kind is None else [one_of("the kind", kind, LISTED)]
    found = {
        k: [
            {"name": e.name, "family": e.family, "summary": e.summary, "options": list(e.options()), **_plain(e.facts)}
            for e in LISTED[k]
        ]
        for k in kinds
    }
    blocks = []
    for k in kinds:
        table = columns([(f"  {e['name']}", e["family"], str(e["summary"]).replace("``", "")) for e in found[k]])
        blocks.append(f"{k}\n{table}")
    answer(found if kind is None else found[kind], "\n\n".join(blocks), as_json)


def _plain(facts: object) -> dict[str, object]:
    return {k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in dict(facts).items()}  # type: ignore[call-overload]
