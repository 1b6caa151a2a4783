"""``pellucid audit``: how far the explanations of a run can be trusted."""

from __future__ import annotations

from typing import Annotated

import typer

from .answers import Beside, Json, RunPath, answer, columns, tell, training_progress, verb


@verb
def audit(
    run: RunPath,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Methods, separated by commas.", show_default="those of the study")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=0, help="Test rows for faithfulness.", show_default="as the study says")
    ] = None,
    calibrated: Annotated[
        bool | None,
        typer.Option("--calibrated/--plain", help="Also with each map's best threshold.", show_default="as the study says"),
    ] = None,
    permuted: Annotated[
        bool, typer.Option("--permuted-labels", help="Also train on permuted labels and compare with those maps; minutes.")
    ] = False,
    beside: Beside = None,
    as_json: Json = False,
) -> None:
    """Measure how far the explanations of a run can be trusted, and renew its report.

    Example: pellucid audit runs/shapes-1 --methods gradient,grad_cam --samples 200
    """
    from pellucid.study.auditing import audit as measure
    from pellucid.study.beside import view
    from pellucid.study.explaining import named_methods
    from pellucid.study.report import write_report
    from pellucid.study.report_tables import quality_rows
    from pellucid.study.run_directory import RunDirectory

    opened = RunDirectory.open(run)
    opened = view(opened, beside) if beside else opened
    chosen = named_methods([methods], []) if methods else None
    found = measure(
        opened, methods=chosen, samples=samples, calibrated=calibrated, permuted=permuted, listen=training_progress()
    )
    table = quality_rows(found)
    lines = [columns([row[: len(table.header)] for row in table.rows], table.header)]
    lines += [
        f"{name}: {facts['randomisation']['verdict']}" for name, facts in found["methods"].items() if "randomisation" in facts
    ]
    lines += [
        f"{name}: {facts['border']['verdict']}"
        for name, facts in found["methods"].items()
        if facts.get("border", {}).get("alarm")
    ]
    lines += [
        f"{name}, permuted labels: {facts['data_randomisation']['verdict']}"
        for name, facts in found["methods"].items()
        if "data_randomisation" in facts
    ]
    answer(found, "\n".join(lines), as_json)
    if opened.finished("evaluate") and not beside:
        tell(f"Report renewed: {write_report(opened)}")
