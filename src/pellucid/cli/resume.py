"""``pellucid resume``: go on with a run that stopped."""

from __future__ import annotations

from .answers import Json, RunPath, answer, tell, training_progress, verb


@verb
def resume(run: RunPath, as_json: Json = False) -> None:
    """Go on with a run where it stopped, and complete it.

    Example: pellucid resume runs/shapes-1
    """
    from pellucid.study import pipeline
    from pellucid.study.run_directory import RunDirectory

    from .run import said

    opened = RunDirectory.open(run)
    resumed = pipeline.resume(opened, tell=tell, listen=training_progress())
    value = {"resumed": resumed, **pipeline.summary(opened)}
    answer(value, said(value) if resumed else f"The run is complete; there is nothing to resume.\n{said(value)}", as_json)
