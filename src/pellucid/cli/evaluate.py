"""``pellucid evaluate``: the test metrics of a run."""

from __future__ import annotations

from .answers import Json, RunPath, answer, columns, verb


@verb
def evaluate(run: RunPath, as_json: Json = False) -> None:
    """Measure a trained run on its test part, beside the trivial baseline.

    Example: pellucid evaluate runs/shapes-1
    """
    from pellucid.study import pipeline, stages
    from pellucid.study.run_directory import RunDirectory

    found = stages.evaluate(RunDirectory.open(run))
    table = columns(found["headline"], ("measure", "test", "baseline"))
    answer(found, f"{pipeline.headline(found)}\n\n{table}", as_json)
