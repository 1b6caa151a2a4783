"""The tables and sentences of a report, from the JSON of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pellucid.core.table import METHODS, MODELS

MEASURES = ("api", "apd", "ir", "dr")
LARGER_IS_BETTER = {"api": True, "apd": False, "ir": True, "dr": False}
ARROWS = {"api": "API ↑", "apd": "APD ↓", "ir": "IR ↑", "dr": "DR ↓"}
AS_IT_IS = "as it is"
NBSP = "\N{NO-BREAK SPACE}"


@dataclass
class Grid:
    """A table: columns from ``numbers`` on hold numbers, ``best`` marks cells (row, column)."""

    header: Sequence[str]
    rows: list[list[str]]
    caption: str = ""
    numbers: int = 1
    best: set[tuple[int, int]] = field(default_factory=set)


def number(value: Any, digits: int = 4) -> str:
    """A number as a person reads it; nothing where it is undefined."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
            return f"{value:.{digits - 1}e}".replace("-", "\N{MINUS SIGN}")
        text = f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
        return text.replace("-", "\N{MINUS SIGN}")
    return str(value)


def aligned(values: Sequence[float | None]) -> list[str]:
    """A column of numbers with equally many decimals: three while they are small, fewer when they are large."""
    known = [abs(v) for v in values if v is not None]
    largest = max(known, default=0.0)
    decimals = 3 if largest < 100 else 1 if largest < 10_000 else 0
    texts = ["–" if v is None else f"{v:,.{decimals}f}" for v in values]
    return [t.replace("-", "\N{MINUS SIGN}") if t.strip("-0.,") else t.lstrip("-") for t in texts]


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{100 * value:.{digits}f}{NBSP}%".replace("-", "\N{MINUS SIGN}")


def words(name: str) -> str:
    """A field's name as words."""
    return {"ece": "expected calibration error", "auc": "area under ROC", "r2": "R²"}.get(name, name.replace("_", " "))


def model_title(name: str) -> str:
    """What to call the model in a sentence: the class's own name."""
    return str(getattr(MODELS[name].value, "__name__", name))


def result_sentences(evaluation: Mapping[str, Any], history: Mapping[str, Any]) -> list[str]:
    """What came out, in words."""
    test = evaluation["test"]
    base, n = test["baseline"], f"{test['samples']:,} test rows"
    first = evaluation["hold_out"]["rows"][0]
    if evaluation["task"] == "regression":
        low, high = (number(test["rmse_interval"][end]) for end in ("lower", "upper"))
        interval = f"95{NBSP}% interval {low} to {high}"
        said = (
            f"On the {n} the root mean squared error is {number(test['rmse'])} ({interval}), and R² is {number(test['r2'], 3)}."
        )
        trivial = f"The trivial baseline, {base['what']}, has an error of {number(base['scores']['rmse'])}."
        training, held, gap = (number(first[key]) for key in ("training", "test", "gap"))
    else:
        right = 1 - test["error"]
        low, high = (percent(1 - test["error_interval"][end]) for end in ("upper", "lower"))
        what = "is right" if evaluation["task"] == "classification" else "has every label right"
        count = f"{round(right * test['samples']):,} of the {n}"
        said = f"The model {what} on {count}: {percent(right)}, with a 95{NBSP}% interval from {low} to {high}."
        trivial = f"The trivial baseline, {base['what']}, reaches {percent(1 - base['scores']['error'])}."
        training, held = (percent(first[key]) for key in ("training", "test"))
        gap = percent(first["gap"]).replace("%", "percentage points")
    name = words(first["name"])
    carried = f"On the training rows the {name} is {training}, on the test rows {held}; a gap of {gap} did not carry over."
    return [f"{said} {trivial}", _epoch_sentence(history), carried]


def _epoch_sentence(history: Mapping[str, Any]) -> str:
    epochs = len(history["rows"])
    if not history["best_epoch"]:
        return f"There is no validation part, so the weights are those of the last epoch, {epochs}."
    early = " (stopped early)" if history["stopped"] == "early" else ""
    why = f"the best by validation {words(history['best_metric'])} ({number(history['best_value'])})"
    epoch = f"epoch {history['best_epoch']} of {epochs}{early}"
    return f"The weights are those of {epoch}, {why}; the test rows were measured with these alone."


def split_grid(split: Mapping[str, Any], frame_counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> Grid:
    """Rows per part and, for a handful of classes, per class."""
    listed = list(classes) if 0 < len(classes) <= 12 and frame_counts else []
    rows = [
        [part, number(len(split[part])), *(number(frame_counts.get(part, {}).get(c, 0)) for c in listed)]
        for part in ("train", "validation", "test")
    ]
    return Grid(["part", "rows", *listed], rows, "Rows in each part")


def layer_grid(layers: Sequence[Mapping[str, Any]]) -> Grid:
    """The layers, with those columns that say something."""
    columns = {"layer": "name", "kind": "kind", "kernel": "kernel", "stride": "stride", "padding": "padding"}
    kept = {head: key for head, key in columns.items() if any(row.get(key) for row in layers)}
    rows = [
        [
            *(str(row.get(key) or "").replace(" x ", " × ") for key in kept.values()),
            " × ".join(map(str, row["output_shape"])),
            number(row["parameters"]),
        ]
        for row in layers
    ]
    total = sum(row["parameters"] for row in layers)
    rows.append(["all", *[""] * len(kept), number(total)])
    return Grid([*kept, "output", "parameters"], rows, "Layers in the order of their calls", numbers=len(kept) + 1)


def headline_grid(evaluation: Mapping[str, Any]) -> Grid:
    """Every measure beside the trivial baseline."""
    rows = [(words(name), value, baseline) for name, value, baseline in evaluation["headline"]]
    rows += [(f"top-{k} error", error, None) for k, error in (evaluation["test"].get("top_k") or {}).items() if int(k) > 1]
    if evaluation["task"] == "regression":
        cells = [[name, number(value), number(baseline)] for name, value, baseline in rows]
    else:
        cells = [list(row) for row in zip([r[0] for r in rows], aligned([r[1] for r in rows]), aligned([r[2] for r in rows]))]
    return Grid(["measure", "test", "trivial baseline"], cells, "Test part")


def gap_grid(evaluation: Mapping[str, Any]) -> Grid:
    """Training against test."""
    found = evaluation["hold_out"]["rows"]
    rows = [[words(r["name"]), *aligned([r["training"], r["test"], r["gap"]])] for r in found]
    return Grid(["measure", "training", "test", "gap"], rows, "What carried over")


def beside_grid(evaluation: Mapping[str, Any], network: str) -> Grid | None:
    """The network beside the interpretable models: the same measures on the same test rows."""
    found = (evaluation.get("beside") or {}).get("models")
    if not found:
        return None
    everyone = {network: evaluation["headline"], **{name: facts["headline"] for name, facts in found.items()}}
    measures = [name for name, _, _ in evaluation["headline"]]
    columns = [aligned([next(v for n, v, _ in line if n == m) for line in everyone.values()]) for m in measures]
    sizes = ["", *(facts["said"] for facts in found.values())]
    rows = [[name, size, *cells] for name, size, cells in zip(everyone, sizes, zip(*columns))]
    return Grid(["model", "size", *map(words, measures)], rows, "Beside the network", numbers=2)


def class_grid(evaluation: Mapping[str, Any]) -> Grid | None:
    """Precision, recall and F1 of each class or label."""
    found = evaluation["test"].get("per_class") or evaluation["test"].get("per_label")
    if not found:
        return None
    rows = [[r["name"], *aligned([r[k] for k in ("precision", "recall", "f1")]), number(r["support"])] for r in found]
    return Grid(["class", "precision", "recall", "F1", "rows"], rows, "Per class")


def method_grid(samples: Mapping[str, Any]) -> Grid:
    """The methods shown: what each says, where it looked, what it cost."""
    rows = []
    for name, facts in samples["methods"].items():
        free = "none" if facts["family"] == "baseline" else "shared"
        passes = ", ".join(f"{number(v, 3)} {k}" for k, v in facts["passes"].items() if v) or free
        details = ", ".join(f"{k}: {number(v)}" for k, v in facts["options"].items() if v is not None)
        says = METHODS[name].facts["reading"] if name in METHODS else ""
        rows.append([name, says, facts["layer"] or "", details, passes])
    header = ["method", "how to read its map", "layer", "options", "passes per row"]
    kept = [i for i in range(len(header)) if i != 2 or any(row[2] for row in rows)]
    caption = "The methods; passes through the network beyond what they share"
    return Grid([header[i] for i in kept], [[row[i] for i in kept] for row in rows], caption, numbers=len(kept))


def quality_rows(quality: Mapping[str, Any]) -> Grid:
    """API, APD, IR, DR per method: map as it is, with its best threshold, and the mean over all thresholds."""
    header = ["method", "map", *ARROWS.values(), "mean API ↑", "mean APD ↓"]
    rows = []
    for name, facts in quality["methods"].items():
        found = facts.get("faithfulness")
        if found is None:
            continue
        area = [found["area"]["api"], found["area"]["apd"]]
        rows.append([name, AS_IT_IS, *aligned([found["plain"][m] for m in MEASURES]), *aligned(area)])
        if "calibrated" in found:
            mean = f"calibrated, from {found['threshold']:.2f}"
            rows.append([name, mean, *aligned([found["calibrated"][m] for m in MEASURES]), "–", "–"])
    grid = Grid(header, rows, "Faithfulness", numbers=2)
    _mark_best(grid, quality)
    return grid


def quality_by_class(quality: Mapping[str, Any]) -> Grid:
    """APD of every method, class by class: rows are the explained classes."""
    found = {name: facts["faithfulness"]["classes"] for name, facts in quality["methods"].items() if _has_classes(facts)}
    counts = {label: part["samples"] for classes in found.values() for label, part in classes.items()}
    rows = []
    for label, count in counts.items():
        drops = [classes.get(label) for classes in found.values()]
        rows.append([label, number(count), *aligned([None if part is None else part["plain"]["apd"] for part in drops])])
    return Grid(["explained class", "rows", *found], rows, "APD ↓ of the map as it is, by class")


def _has_classes(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("faithfulness", {}).get("classes"))


def _mark_best(grid: Grid, quality: Mapping[str, Any]) -> None:
    """The best value of each column among the plain maps, and among the calibrated ones."""
    for kind, plain in (("plain", True), ("calibrated", False)):
        lines = [i for i, row in enumerate(grid.rows) if (row[1] == AS_IT_IS) is plain]
        for column, measure in enumerate(MEASURES, start=2):
            values = [quality["methods"][grid.rows[i][0]]["faithfulness"][kind][measure] for i in lines]
            if len(values) > 1:
                best = max(values) if LARGER_IS_BETTER[measure] else min(values)
                grid.best |= {(i, column) for i, v in zip(lines, values) if v == best}


def randomisation_grid(quality: Mapping[str, Any]) -> Grid:
    """Likeness to the original map with every layer random, beside chance."""
    rows = []
    for name, facts in quality["methods"].items():
        r = facts.get("randomisation")
        if r is not None:
            cells = ["{} ({})".format(*aligned([r["similarity"][k][-1], r["chance"][k]])) for k in ("ssim", "rank_absolute")]
            other = facts.get("data_randomisation")
            labels = (
                [] if other is None else [f"{percent(max(0.0, other['kept']), 0)}, {'passes' if other['passed'] else 'fails'}"]
            )
            rows.append([name, *cells, "passes" if r["passed"] else "fails", *labels])
    header = ["method", "SSIM (chance)", "rank correlation of sizes (chance)", "sanity check"]
    learned = quality.get("permuted labels")
    if learned is None:
        return Grid(header, rows, "All layers random")
    fit = f"a network trained on permuted labels of {learned['rows']:,} rows, of which it fits {percent(learned['fitted'], 0)}"
    return Grid(
        [*header, "left with permuted labels"], rows, f"All layers random; last column: what is left of the maps in {fit}"
    )


def conclusion(quality: Mapping[str, Any]) -> str:
    """Which methods to believe, in one sentence: the order by faithfulness among those that pass the sanity check."""
    dropped = {}
    for name, facts in quality["methods"].items():
        found = facts.get("faithfulness")
        if found is not None and METHODS[name].family != "baseline":
            dropped[name] = (found.get("calibrated") or found["plain"])["apd"]
    failed = [
        name
        for name, facts in quality["methods"].items()
        if METHODS[name].family != "baseline" and not facts.get("randomisation", {"passed": True})["passed"]
    ]
    order = [name for name in sorted(dropped, key=lambda name: dropped[name]) if name not in failed]
    said = []
    if order:
        listed = ", ".join(f"{name} ({percent(dropped[name], 0)})" for name in order[:3])
        said.append(f"Most faithful here, by the mean drop in probability on what the map keeps: {listed}.")
    if failed:
        said.append(f"Doubtful here, as the sanity check fails: {', '.join(failed)}.")
    elif any("randomisation" in facts for facts in quality["methods"].values()):
        said.append("Every method that looks at the model passes the sanity check.")
    border = {name: facts["border"] for name, facts in quality["methods"].items() if facts.get("border", {}).get("alarm")}
    if border:
        listed = ", ".join(f"{name} ({percent(f['share'], 0)} on {percent(f['chance'], 0)})" for name, f in border.items())
        said.append(f"Relevance concentrates on the pictures' border, where a shortcut may lie: {listed} of the area.")
    return " ".join(said)


def verdicts(quality: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Per method what the measurements say, in words."""
    edge = (quality["methods"].get("edge_detector") or {}).get("faithfulness")
    said = []
    for name, facts in quality["methods"].items():
        found, lines = facts.get("faithfulness"), []
        baseline = name in METHODS and METHODS[name].family == "baseline"
        if baseline:
            lines.append("The trivial baseline: it never looks at the model, so it has to fail the sanity check.")
        if found is not None:
            lines.append(_faithful(found))
            if edge is not None and not baseline:
                lines.append(_beside_edges(found["area"]["apd"], edge["area"]["apd"]))
        if "randomisation" in facts:
            lines.append(f"Sanity check: {facts['randomisation']['verdict']}.")
        said.append((name, lines))
    return said


def _faithful(found: Mapping[str, Any]) -> str:
    plain = found["plain"]
    text = (
        f"On what the map keeps, the probability of the explained class drops by {percent(plain['apd'], 0)} on average "
        f"and rises for {percent(plain['ir'], 0)} of the rows"
    )
    if "calibrated" in found:
        after = found["calibrated"]
        text += f"; with its best threshold, {percent(after['apd'], 0)} and {percent(after['ir'], 0)}"
    return text + "."


def _beside_edges(mine: float, edges: float) -> str:
    """The mean drop over all thresholds against that of the edge detector; a tenth up or down counts as the same."""
    numbers = f"(mean drop over all thresholds {percent(mine, 0)} against {percent(edges, 0)})"
    if mine < 0.9 * edges:
        return f"It keeps more of the evidence than the edge detector {numbers}."
    if mine <= 1.1 * edges:
        return f"It keeps no more of the evidence than an edge detector that never saw the model {numbers}."
    return f"It keeps less of the evidence than an edge detector that never saw the model {numbers}."
