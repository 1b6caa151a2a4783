"""One self-contained HTML page from what a run has on disk: no script, no file beside it, nothing from a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from pellucid.core.errors import InputError
from pellucid.core.table import FIGURES
from pellucid.explanation.result import Explanation
from pellucid.visual.style import data_uri, png, svg

from . import report_tables as tables
from .explaining import SAMPLES
from .figures import explanation_sheet
from .recall import facts_of, study_of
from .run_directory import RunDirectory

# Above this an SVG with many small marks is larger than its picture.
MOST_SVG = 1_500_000


def write_report(run: RunDirectory) -> Path:
    """Write report.html from the other files of the run; parts that are missing say why. The data itself is not needed."""
    if not run.finished("data"):
        raise InputError("the run has nothing to report yet", where=run.path, cure=f"Go on with it: pellucid resume {run.path}")
    with run.stage("report"):
        return run.write_text(run.report.name, render(run))


def render(run: RunDirectory) -> str:
    """The page."""
    return template("report.html.j2").render(context(run))


def template(name: str) -> Template:
    """A page of ours, with the filters that all of them use."""
    env = Environment(
        loader=PackageLoader("pellucid.study", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": tables.number, "percent": tables.percent, "words": tables.words}
    return env.get_template(name)


def context(run: RunDirectory) -> dict[str, Any]:
    """Everything the template shows."""
    study, facts, split = study_of(run), facts_of(run), run.read_json("split.json")
    history = _optional(run, "state/history.json")
    evaluation, samples, quality = (_optional(run, name) for name in ("evaluation.json", SAMPLES, "quality.json"))
    header = run.header()
    return {
        "study": study,
        "facts": facts,
        "model_title": tables.model_title(study.model.name),
        "header": header,
        "seconds": sum(header["stages"].values()),
        "environment": run.read_json("environment.json"),
        "study_text": run.study.read_text("utf-8"),
        "data_name": Path(study.data.options["path"]).name if study.data.options.get("path") else study.data.name,
        "run_path": run.path.resolve().name if run.path.is_absolute() else run.path.as_posix(),
        "split": split,
        "split_grid": tables.split_grid(split, _counts(run, facts), facts["classes"]),
        "layer_grid": tables.layer_grid(facts["layers"]),
        "training": study.training.model_dump(),
        "history": history,
        "curves": history
        and picture(
            "learning_curves",
            f"Loss and validation metrics over {len(history['rows'])} epochs.",
            history["rows"],
            history["best_epoch"],
        ),
        "evaluation": evaluation,
        "sentences": tables.result_sentences(evaluation, history) if evaluation and history else [],
        "tiles": _tiles(evaluation, history) if evaluation and history else [],
        "headline_grid": evaluation and tables.headline_grid(evaluation),
        "gap_grid": evaluation and tables.gap_grid(evaluation),
        "class_grid": evaluation and tables.class_grid(evaluation),
        "beside_grid": evaluation and tables.beside_grid(evaluation, tables.model_title(study.model.name)),
        "pictures": _evaluation_pictures(run, evaluation) if evaluation else {},
        "samples": samples,
        "sheet": _sheet(run, samples) if samples and samples["samples"] and samples["methods"] else None,
        "method_grid": samples and samples["methods"] and tables.method_grid(samples),
        "quality": quality,
        "quality_grid": quality and tables.quality_rows(quality),
        "class_quality_grid": quality and tables.quality_by_class(quality),
        "randomisation_grid": quality and tables.randomisation_grid(quality),
        "verdicts": tables.verdicts(quality) if quality else [],
        "conclusion": tables.conclusion(quality) if quality else "",
        "quality_pictures": _quality_pictures(quality) if quality else {},
    }


def _optional(run: RunDirectory, name: str) -> Any:
    return run.read_json(name) if (run.path / name).is_file() else None


def picture(name: str, alt: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """A figure of the table FIGURES as a data URI with its alternative text."""
    draw: Callable[..., Figure] = FIGURES[name].value
    return as_picture(draw(*args, **kwargs), alt)


def as_picture(figure: Figure, alt: str) -> dict[str, Any]:
    """SVG, or PNG where that is much smaller; ``width`` in CSS pixels."""
    drawn = svg(figure, title=alt)
    source = data_uri(drawn if len(drawn) < MOST_SVG else png(figure, dpi=200))
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return {"src": Markup(source), "alt": alt, "width": width, "height": height}


def _counts(run: RunDirectory, facts: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Rows per part and class."""
    if facts["task"] != "classification" or not run.predictions.is_file():
        return {}
    frame = pd.read_parquet(run.predictions, columns=["part", "true"])
    return {str(part): Counter(map(str, group["true"])) for part, group in frame.groupby("part")}


def _tiles(evaluation: Mapping[str, Any], history: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(label, value, remark) of the four numbers at the top."""
    test = evaluation["test"]
    base = test["baseline"]["scores"]
    seconds = sum(row["seconds"] for row in history["rows"])
    epoch = (
        str(history["best_epoch"] or len(history["rows"])),
        f"of {len(history['rows'])}, trained in {tables.number(seconds, 3)} s",
    )
    if evaluation["task"] == "regression":
        low, high = (tables.number(test["rmse_interval"][end], 3) for end in ("lower", "upper"))
        first = [
            ("Test error (RMSE)", tables.number(test["rmse"], 4), f"95 % interval {low} to {high}"),
            ("Trivial baseline", tables.number(base["rmse"], 4), "always the training mean"),
            ("R² on the test part", tables.number(test["r2"], 3), "1 is perfect, 0 is the mean"),
        ]
    else:
        low, high = (tables.percent(1 - test["error_interval"][end]) for end in ("upper", "lower"))
        word = "Test accuracy" if evaluation["task"] == "classification" else "All labels right"
        first = [
            (word, tables.percent(1 - test["error"]), f"95 % interval {low} to {high}"),
            ("Trivial baseline", tables.percent(1 - base["error"]), "never looks at the input"),
            ("Test rows", tables.number(test["samples"]), "never seen before"),
        ]
    return [*first, ("Epoch chosen", *epoch)]


def _evaluation_pictures(run: RunDirectory, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Confusion, calibration, ROC and precision-recall; of a regression the residuals."""
    test = evaluation["test"]
    if evaluation["task"] == "regression":
        frame = pd.read_parquet(run.predictions, columns=["part", "true", "predicted"])
        frame = frame[frame["part"] == "test"]
        alt = "Test rows: predicted against true value, and what is left over (residuals)."
        return {"residuals": picture("residuals", alt, frame["true"].to_numpy(), frame["predicted"].to_numpy())}
    found = {}
    if "confusion" in test:
        alt = f"Confusion matrix of {len(test['classes'])} classes: rows are the true class, columns the predicted one."
        found["confusion"] = picture("confusion_matrix", alt, test["confusion"], test["classes"])
    if test.get("calibration"):
        ece = tables.number(test["ece"], 3)
        alt = f"Calibration: the share of right answers against the confidence; expected calibration error {ece}."
        columns = ([b[key] for b in test["calibration"]] for key in ("confidence", "accuracy", "count"))
        found["calibration"] = picture("calibration_curve", alt, *(np.array(c, dtype=float) for c in columns), test["ece"])
    for name, key, alt in (
        (
            "roc_curves",
            "roc",
            "ROC: hits against false alarms, each class against the rest; the further up and left the better.",
        ),
        ("pr_curves", "pr", "Precision against recall, each class against the rest; the further up and right the better."),
    ):
        if test.get(key):
            found[key] = picture(name, alt, {c["name"]: (c["x"], c["y"], c["area"]) for c in test[key]})
    return found


def _sheet(run: RunDirectory, samples: Mapping[str, Any]) -> dict[str, Any]:
    folder = (run.path / SAMPLES).parent
    tensors = safetensors.torch.load_file(folder / "samples.safetensors")
    maps = {name: Explanation.load(folder / f"{name}.safetensors").map() for name in samples["methods"]}
    signed = {name: facts["signed"] for name, facts in samples["methods"].items()}
    shown = tensors["shown"].numpy() if "shown" in tensors else samples["shown"]
    figure = explanation_sheet(facts_of(run), shown, tensors["x"], maps, signed, samples["samples"])
    alt = f"Relevance of {len(samples['samples'])} test rows by {len(maps)} methods: {', '.join(maps)}."
    return as_picture(figure, alt)


def _quality_pictures(quality: Mapping[str, Any]) -> dict[str, Any]:
    methods: dict[str, Any] = quality["methods"]
    found = {}
    measured = {name: facts["faithfulness"] for name, facts in methods.items() if "faithfulness" in facts}
    if measured:
        thresholds = next(iter(measured.values()))["thresholds"]
        alt = "API, APD, IR and DR of every method over the evidence threshold; what lies below it is removed from the map."
        found["faithfulness"] = picture("quality_curves", alt, thresholds, {name: f["curves"] for name, f in measured.items()})
    shuffled = {name: facts["randomisation"] for name, facts in methods.items() if "randomisation" in facts}
    if shuffled:
        layers = next(iter(shuffled.values()))["layers"]
        curves = {name: r["similarity"] for name, r in shuffled.items()}
        chance = {key: {name: r["chance"][key] for name, r in shuffled.items()} for key in ("ssim", "rank", "rank_absolute")}
        alt = "Likeness to the original map while the layers are randomised from the top down."
        found["randomisation"] = picture("randomisation_curves", alt, layers, curves, chance)
    return found
