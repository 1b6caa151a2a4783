"""The leaderboard of a run: what a contest has found, as standings, as a table for the terminal, as a page to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.table import MEASURES, METHODS
from pellucid.quality.ranking import Column, rank
from pellucid.training.checkpoint import write_atomically

from . import report_tables as tables
from .contest import CHECKED, EXPLAINED, FOLDER, Contest, Measures, compete, contest, suited_measures
from .explaining import Methods
from .recall import facts_of, study_of
from .report import picture, template
from .run_directory import RunDirectory, plain
from .stages import Interrupted, Tell

# Families of which a map that knows nothing can be the best: they are shown and not ranked by.
UNRANKED = ("robustness", "randomisation")
LABELS = {
    "api": "API",
    "apd": "APD",
    "ir": "IR",
    "dr": "DR",
    "insertion": "insertion",
    "deletion": "deletion",
    "faithfulness_correlation": "correlation",
    "max_sensitivity": "sensitivity",
    "cascading_randomisation": "kept at random",
}
SHADES = ("#0072b2", "#4d9ccb", "#8fc1de", "#c9e1f0", "#eef6fb")


def benchmark(
    run: RunDirectory,
    *,
    methods: Methods | None = None,
    measures: Measures | None = None,
    samples: int = 200,
    checked: int = CHECKED,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Judge methods (all) by measures (all that suit the data) on ``samples`` test rows, and write the page.

    What is already in the run's results is not measured again: a benchmark that was stopped or killed goes on where it was and
    ends with the same numbers. checked: rows on which the costly checks are made, which explain again and again.
    Raises InputError for unknown names and options; ``Interrupted`` after Ctrl-C, when the page of what there is was written.
    """
    c = contest(run, methods=methods, measures=measures, samples=samples, checked=checked, tell=tell)
    tell(
        f"{len(c.methods)} methods by {len(c.measures)} measures on {len(c.rows)} test rows of {run.path}. "
        "Ctrl-C stops and keeps what there is."
    )
    try:
        compete(c)
        value = standings(c)
        return value | {"page": str(write_page(c, value))}
    except KeyboardInterrupt:
        write_page(c, standings(c))
        raise Interrupted("stopped; what was measured is kept", cure=f"Go on with: {command(c)}") from None
    finally:
        c.results.close()


def command(c: Contest) -> str:
    """What to type for the same contest."""
    words = [f"pellucid benchmark {c.run.path} --samples {len(c.rows)} --checked {len(c.few())}"]
    if set(c.methods) != set(METHODS.names()):
        words.append(f"--methods {','.join(c.methods)}")
    words += [f"--set {name}.{key}={value}" for name, options in c.methods.items() for key, value in options.items()]
    if set(c.measures) != set(suited_measures(c.run)):
        words.append(f"--measures {','.join(c.measures)}")
    return " ".join(words)


def standings(c: Contest) -> dict[str, Any]:
    """Means, intervals, ranks, verdicts, seconds and passes of every method, from the results alone."""
    pieces = _whole(c)
    methods = [m for m in c.methods if c.found(m, EXPLAINED, pieces) is not None] if pieces else []
    controls = [m for m in methods if METHODS[m].family == "baseline"]
    ordered = sorted(c.measures, key=_order)
    refused = _refused(c)
    asked = [name for name in ordered if name not in refused]
    columns = {name: column for name in asked if (column := _column(c, name, methods, controls, pieces, asked)) is not None}
    found = rank(columns, seed=c.seed) if columns else None
    value: dict[str, Any] = {
        "samples": int(sum(map(len, pieces))),
        "checked": len(c.few()),
        "asked": len(c.rows),
        "seed": c.seed,
        "controls": controls,
        "overall": {name: list(row) for name, row in found.overall.items()} if found else {},
        "measures": {name: _about(name, columns[name].weight) for name in columns},
        "places": {m: {n: asdict(p) for n, p in row.items()} for m, row in found.places.items()} if found else {},
        "methods": {name: _cost(c, name, pieces) | _verdict(c, name) for name in methods},
        "refused": dict(c.refused),
        "not measured": refused,
    }
    plain_value: dict[str, Any] = plain(value)
    return plain_value


def _whole(c: Contest) -> list[np.ndarray]:
    """The leading pieces that every method which can explain this model has; of an unfinished first piece, that one."""
    pieces = list(c.pieces())
    able = [m for m in c.methods if m not in c.refused]
    whole = 0
    while whole < len(pieces) and all(_has(c, m, pieces[whole]) for m in able):
        whole += 1
    return pieces[: max(1, whole)] if any(_has(c, m, pieces[0]) for m in able) else []


def _has(c: Contest, method: str, rows: np.ndarray) -> bool:
    wanted = [EXPLAINED, *c.asked("model"), *c.asked("truth")]
    return all(c.key(method, what, rows) in c.results for what in wanted)


def _column(
    c: Contest,
    measure: str,
    methods: Sequence[str],
    controls: Sequence[str],
    pieces: Sequence[np.ndarray],
    asked: Sequence[str],
) -> Column | None:
    entry = MEASURES[measure]
    rows = [c.few()] if entry.facts["asks"] in ("method", "states") else pieces
    values = {}
    for method in methods:
        lines = c.found(method, measure, rows)
        if lines is not None:
            kept = [line["values"] for line in lines]
            values[method] = np.array([np.nan if v is None else v for part in kept for v in part], dtype=np.float64)
    if not values:
        return None
    alike = [name for name in asked if MEASURES[name].family == entry.family]
    weight = 0.0 if entry.family in UNRANKED else 1 / len(alike)
    won = entry.facts.get("won_by", "").split(", ")
    return Column(values, bool(entry.facts["larger_is_better"]), controls, weight, [name for name in controls if name in won])


def _order(measure: str) -> tuple[bool, str, str]:
    """Ranked families first, each together."""
    family = MEASURES[measure].family
    return family in UNRANKED, family, measure


def _about(name: str, weight: float) -> dict[str, Any]:
    entry = MEASURES[name]
    facts = {key: entry.facts[key] for key in ("larger_is_better", "cost", "mission", "paper")}
    facts |= {key: entry.facts[key].rstrip(".") for key in ("reading", "bias")}
    return {
        "label": label(name.removesuffix("_calibrated")),
        "family": entry.family,
        "summary": entry.summary,
        "weight": weight,
        **facts,
    }


def label(measure: str) -> str:
    """A short name for the head of a column."""
    base = measure.removesuffix("_calibrated")
    said = LABELS.get(base, tables.words(base))
    return f"{said}, calibrated" if base != measure else said


def _cost(c: Contest, method: str, pieces: Sequence[np.ndarray]) -> dict[str, Any]:
    lines = c.found(method, EXPLAINED, pieces) or []
    rows = sum(line["rows"] for line in lines)
    passes = {k: sum(line["passes"][k] * line["rows"] for line in lines) / rows for k in lines[0]["passes"]}
    notes = sorted({note for line in lines for note in line["notes"]})
    return {"seconds": sum(line["seconds"] for line in lines) / rows, "passes": passes, "notes": notes}


def _verdict(c: Contest, method: str) -> dict[str, Any]:
    lines = c.found(method, "cascading_randomisation", [c.few()]) if "cascading_randomisation" in c.measures else None
    kept = ("passed", "verdict", "layers", "left")
    return {"passed": None, "verdict": ""} if not lines else {key: lines[0]["judged"][key] for key in kept}


def _refused(c: Contest) -> dict[str, str]:
    """Measures that cannot judge this model or these data, with the reason."""
    found = {}
    for name in c.measures:
        rows = [c.few()] if MEASURES[name].facts["asks"] in ("method", "states") else list(c.pieces())
        lines = [c.results.lines.get(c.key(m, name, part)) for m in c.methods if m not in c.refused for part in rows]
        reasons = {line["refused"] for line in lines if line is not None and "refused" in line}
        if reasons and not any(line is not None and "refused" not in line for line in lines):
            found[name] = "; ".join(sorted(reasons))
    return found


def table(value: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the ranking for a terminal; the controls at the end."""
    header = ["rank", "method", "mean rank", "95 % interval", "sanity", "best in", "no better than a control in"]
    header += ["ms/sample", "passes"]
    rows = []
    for place, name in enumerate([*value["overall"], *value["controls"]], 1):
        facts = value["methods"][name]
        ranked = name in value["overall"]
        mean, lower, upper = value["overall"].get(name, (None, None, None))
        best, beaten = tally(value, name)
        rows.append(
            [
                str(place) if ranked else "",
                name,
                f"{mean:.1f}" if ranked else "control",
                f"{lower:.1f} to {upper:.1f}" if ranked else "",
                {True: "passes", False: "fails", None: ""}[facts["passed"]],
                str(best) if ranked else "",
                str(beaten) if ranked else "",
                f"{1000 * facts['seconds']:,.2f}",
                f"{sum(facts['passes'].values()):.0f}",
            ]
        )
    return header, rows


def tally(value: Mapping[str, Any], method: str) -> tuple[int, int]:
    """In how many ranked measures a method is among the best, and in how many no better than a map that knows nothing."""
    places = [value["places"][m][method] for m, facts in value["measures"].items() if facts["weight"] > 0]
    known = [place for place in places if place["rank"] is not None]
    return sum(place["best"] for place in known), sum(place["beats"] is False for place in known)


def sentences(value: Mapping[str, Any]) -> list[str]:
    """What the standings say, at a glance."""
    overall = value["overall"]
    if not overall:
        return ["Nothing has been ranked yet."]
    first, *rest = overall
    near = [name for name in rest if overall[name][1] <= overall[first][2]]
    said = [
        f"{first} has the best mean rank, {overall[first][0]:.1f} of {len(overall)} "
        f"(95 % interval {overall[first][1]:.1f} to {overall[first][2]:.1f})"
        + (f"; the intervals of {_listed(near)} reach into its own." if near else "; no other interval reaches into its own.")
    ]
    failed = [name for name in overall if value["methods"][name]["passed"] is False]
    if failed:
        verb = "does" if len(failed) == 1 else "do"
        said.append(
            f"{_listed(failed)} {verb} not pass the sanity check: the map stays much the same when the layers are random."
        )
    ranked = sum(facts["weight"] > 0 for facts in value["measures"].values())
    weak = [name for name in overall if tally(value, name)[1] > ranked / 2]
    if weak and value["controls"]:
        verb = "is" if len(weak) == 1 else "are"
        said.append(f"{_listed(weak)} {verb} no better than a map that knows nothing in more than half of the ranked measures.")
    return said


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    shown = list(names[:most]) + ([f"{more} others"] if more > 0 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def sanity(value: Mapping[str, Any]) -> tables.Grid:
    """How much of each map is left as the layers become random: of the upper half, of all, and the verdict."""
    known = {name: facts for name, facts in value["methods"].items() if facts["verdict"]}
    layers = next(iter(known.values()))["layers"] if known else []
    upper = -(-len(layers) // 2)
    shown = [[tables.percent(max(0.0, f["left"][i - 1]), 0) for i in (upper, len(layers))] for f in known.values()]
    rows = [[name, *cells, facts["verdict"].split(" (")[0]] for (name, facts), cells in zip(known.items(), shown)]
    header = ["method", f"upper {upper} of {len(layers)} layers", "all layers", "verdict"]
    return tables.Grid(header, rows, "Likeness to the original map that is left when layers are random; chance is 0 %.")


def chart(value: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """What the figure ``leaderboard`` shows: mean ranks with intervals, verdicts, seconds."""
    ranks = {name: tuple(row) for name, row in value["overall"].items()}
    passed = {name: facts["passed"] for name, facts in value["methods"].items()}
    return ranks, passed, {name: max(value["methods"][name]["seconds"], 1e-6) for name in ranks}


def matrix(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each method, then the controls: per measure the text, how dark its cell is, and its marks."""
    decimals = {m: _decimals([p["mean"] for p in row.values()]) for m, row in value["places"].items()}
    found = []
    for name in [*value["overall"], *value["controls"]]:
        cells = []
        for measure, row in value["places"].items():
            place = row.get(name)
            if place is None or place["mean"] is None:
                cells.append({"text": "–", "style": "", "best": False, "weak": False, "title": "no value"})
                continue
            ranked = sum(p["rank"] is not None for p in row.values())
            shade = _shade(place["rank"], ranked)
            text = f"{place['mean']:.{decimals[measure]}f}".replace("-", "\N{MINUS SIGN}")
            interval = f"{place['lower']:.4g} to {place['upper']:.4g}, {place['samples']} samples"
            title = interval if place["rank"] is None else f"rank {place['rank']:g} of {ranked}; {interval}"
            cells.append({"text": text, "style": shade, "best": place["best"], "weak": place["beats"] is False, "title": title})
        found.append({"name": name, "cells": cells, "control": name in value["controls"]})
    return found


def _decimals(means: Sequence[float | None]) -> int:
    known = [abs(m) for m in means if m]
    largest = max(known, default=1.0)
    return 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0


def _shade(place: float | None, ranked: int) -> str:
    """Darker blue is better; the lower half of the ranks has none."""
    if place is None or ranked < 2:
        return ""
    share = (place - 1) / (ranked - 1)
    level = int(share * 2 * len(SHADES))
    if level >= len(SHADES):
        return ""
    return f"background:{SHADES[level]};color:{'#fff' if level < 1 else '#1d2430'}"


def write_page(c: Contest, value: Mapping[str, Any]) -> Path:
    """Write benchmark.json and index.html into the run's benchmark folder."""
    folder = c.run.path / FOLDER
    c.run.write_json(f"{FOLDER}/benchmark.json", value)
    evaluation = c.run.read_json("evaluation.json") if (c.run.path / "evaluation.json").is_file() else None
    alt = "Mean rank of every method with its interval, the best on top, and its seconds per sample."
    header, rows = table(value)
    page = template("leaderboard.html.j2").render(
        value=value,
        facts=facts_of(c.run),
        study=study_of(c.run),
        model_title=tables.model_title(study_of(c.run).model.name),
        headline=evaluation and evaluation["headline"],
        sentences=sentences(value),
        picture=picture("leaderboard", alt, *chart(value)),
        ranking=tables.Grid(header, rows, "Methods by their mean rank over the ranked measures.", numbers=2),
        matrix=matrix(value),
        families=_families(value),
        sanity=sanity(value),
        command=command(c),
    )
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"


def _families(value: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Families of measures as they stand side by side, with how many columns each takes."""
    found: list[tuple[str, int]] = []
    for facts in value["measures"].values():
        if found and found[-1][0] == facts["family"]:
            found[-1] = (facts["family"], found[-1][1] + 1)
        else:
            found.append((facts["family"], 1))
    return found
