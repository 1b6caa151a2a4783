"""``pellucid report``: the report of a run, written again."""

from __future__ import annotations

from .answers import Json, RunPath, answer, verb


@verb
def report(run: RunPath, as_json: Json = False) -> None:
    """Write the report of a run from what is on disk.

    Example: pellucid report runs/shapes-1
    """
    from pellucid.study.report import write_report
    from pellucid.study.run_directory import RunDirectory

    path = write_report(RunDirectory.open(run))
    answer({"report": str(path)}, str(path), as_json)
