"""How every verb answers: text or JSON on standard output, progress and errors on standard error, exit code 0, 1 or 2."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

Verb = TypeVar("Verb", bound=Callable[..., None])

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, alone on standard output.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, e.g. runs/fashion_mnist-1.", show_default=False)]
Beside = Annotated[
    str | None,
    typer.Option(
        "--beside", metavar="NAME", help="A model beside the network, e.g. decision_tree.", show_default="the network"
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="A network from 'pellucid list models'.", show_default="as suits the data"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="METHOD.OPTION=VALUE", help="An option of a method; may be repeated.", show_default=False),
]
Files = Annotated[list[str], typer.Argument(metavar="FILE", help="Images, or CSV files.", show_default=False)]


def verb(function: Verb) -> Verb:
    """Failures become one message and an exit code: 2 for bad input, else 1; PELLUCID_DEBUG=1 shows the traceback."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        from pellucid.core.errors import PellucidError

        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # the reader, e.g. head, has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            tell("Stopped.")
            raise typer.Exit(1) from None
        except Exception as error:
            if os.environ.get("PELLUCID_DEBUG"):
                raise
            if isinstance(error, PellucidError):
                tell(f"Error: {error}")
                raise typer.Exit(error.exit_code) from None
            tell(f"Error: {type(error).__name__}: {error}")
            tell("This is not a message of Pellucid: PELLUCID_DEBUG=1 shows where it comes from.")
            raise typer.Exit(1) from None

    return guarded  # type: ignore[return-value]


def tell(text: str) -> None:
    """A line for the person who waits, on standard error."""
    print(text, file=sys.stderr, flush=True)


def training_progress() -> Callable[[Any], None]:
    """A listener that shows the training on standard error; how to resume is said by the verb."""
    from dataclasses import replace

    from pellucid.training.events import progress

    show = progress()
    return lambda event: show(replace(event, message=""))


def answer(value: Any, text: str, as_json: bool) -> None:
    """The answer of a verb: ``value`` as JSON, or ``text``."""
    if as_json:
        import json

        from pellucid.study.run_directory import plain

        text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    print(text)


def columns(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Rows as aligned columns; numbers to the right."""
    cells = [[_cell(c) for c in row] for row in ([header] if header else []) + list(rows)]
    if not cells:
        return "(nothing)"
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    right = [all(_number(row[i]) for row in cells[bool(header) :]) for i in range(len(widths))]
    lines = ["  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip() for row in cells]
    if header:
        lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _number(text: str) -> bool:
    return not text.strip("0123456789.,+-e %x()")
