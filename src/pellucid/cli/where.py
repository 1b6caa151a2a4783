"""``pellucid where``: the file and line of a part."""

from __future__ import annotations

from typing import Annotated

import typer

from .answers import Json, answer, verb


@verb
def where(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from 'pellucid list'.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Print the file and line where a part is written.

    Example: pellucid where grad_cam
    """
    from pellucid.core.errors import InputError, nearest
    from pellucid.core.table import LISTED

    found = [{"kind": table.kind, "name": name, "where": table[name].where} for table in LISTED.values() if name in table]
    if not found:
        every = sorted({known for table in LISTED.values() for known in table.names()})
        raise InputError(f"nothing is called '{name}'", cure=nearest(name, every))
    lines = [f["where"] + (f"  ({f['kind']})" if len(found) > 1 else "") for f in found]
    answer(found, "\n".join(lines), as_json)
