"""``pellucid``: every verb, each from its own file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from . import audit, benchmark, describe, evaluate, explain, init, predict, report, resume, run, shortcut, train, where
from . import list as list_verb

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 bad input.",
)


def _version(asked: bool) -> None:
    if asked:
        from pellucid import __version__

        print(f"pellucid {__version__}")
        raise typer.Exit()


@app.callback()
def pellucid(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Deep learning you can see through: train, evaluate, explain, and measure whether the explanation can be trusted.

    Begin with: pellucid run
    """


VERBS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "init": init.init,
    "train": train.train,
    "resume": resume.resume,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "explain": explain.explain,
    "audit": audit.audit,
    "benchmark": benchmark.benchmark,
    "shortcut": shortcut.shortcut,
    "report": report.report,
    "describe": describe.describe,
    "list": list_verb.list_,
    "where": where.where,
}
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)


def main() -> None:
    """Entry point of the ``pellucid`` command."""
    # OpenMP's threads wait for one another in a busy loop by default. With another program on the same two cores the
    # training of the bundled study then took over 180 s; with threads that sleep it took 36 s. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app(prog_name="pellucid")


if __name__ == "__main__":
    main()
