"""``pellucid predict``: the model's answer to new files."""

from __future__ import annotations

from .answers import Files, Json, RunPath, answer, columns, verb


@verb
def predict(run: RunPath, files: Files, as_json: Json = False) -> None:
    """Predict images, or the rows of CSV files, with a trained run.

    Example: pellucid predict runs/shapes-1 new.png
    """
    from pellucid.study.explaining import predict_files
    from pellucid.study.run_directory import RunDirectory

    found = predict_files(RunDirectory.open(run), files)
    rows = [(row["name"], row["predicted"], *([row["probability"]] if "probability" in row else [])) for row in found]
    header = ("name", "predicted", "probability")[: len(rows[0])]
    answer(found, columns(rows, header), as_json)
