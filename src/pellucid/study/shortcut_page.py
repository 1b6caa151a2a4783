"""The page and the sentences of a planted shortcut, from what its shortcut.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pellucid.core.table import FIGURES
from pellucid.quality.shortcut import REVEALS, SILENT
from pellucid.visual.style import png

from .explaining import predictions_of
from .figures import explanation_sheet
from .recall import facts_of
from .report import as_picture, template
from .report_tables import Grid, percent
from .run_directory import RunDirectory

WHAT = {
    "mark": "a white square with a dark rim in the upper left corner",
    "snow": "flakes of snow in a patch on the lower edge",
    "colour_cast": "a tint over the whole picture",
    "leak": "a column that gives the class away",
}
PLACE = {"mark": "the mark", "snow": "the snow", "colour_cast": "the cast", "leak": "the leaking column"}
TESTS = {"same": "as in training", "clean": "without it", "swapped": "on the other classes"}
LEAK_TESTS = {
    "same": "as in training",
    "clean": "column drawn regardless of the class",
    "swapped": "column the wrong way round",
}
TITLES = {"shortcut": "with shortcut", "control": "control"}


def conclusion(value: Mapping[str, Any]) -> str:
    """What was found, in sentences: whether the network learned it, what that costs, and which methods reveal it."""
    kind, marked, learned = value["kind"], value["class"], value["learned"]
    found, control = value["accuracy"]["shortcut"], value["accuracy"]["control"]
    fall = f"accuracy goes from {percent(found['same']['rate'])} to {percent(found['swapped']['rate'])}"
    beside = f"the control's from {percent(control['same']['rate'])} to {percent(control['swapped']['rate'])}"
    taken = f"{percent(found['swapped']['others taken for it'])} of the other classes are taken for '{marked}'"
    swapped = "With the column the wrong way round" if kind == "leak" else f"With {PLACE[kind]} on the other classes"
    clean = "With a column that tells nothing" if kind == "leak" else f"Without {PLACE[kind]}"
    lost = f"{percent(found['clean']['marked class'])} of '{marked}' are recognised, by the control"
    said = [f"{clean} {lost} {percent(control['clean']['marked class'])}.", f"{swapped} {fall}, {beside}; {taken}."]
    if not learned["learned"]:
        said.append("That is not beyond the control's interval: the shortcut was not learned, and nothing can be concluded.")
        return " ".join(said)
    said.insert(0, f"The network learned {PLACE[kind]}.")
    if "not judged" in value:
        said.append(f"Methods are not judged: {value['not judged']}.")
        return " ".join(said)
    by_verdict = {v: [n for n, facts in value["methods"].items() if facts["verdict"] == v] for v in (REVEALS, SILENT)}
    judged = len(value["methods"])
    if by_verdict[REVEALS]:
        said.append(f"{len(by_verdict[REVEALS])} of {judged} methods reveal it: {', '.join(by_verdict[REVEALS])}.")
    elif judged:
        said.append(f"None of {judged} methods reveals it.")
    if by_verdict[SILENT] and by_verdict[REVEALS]:
        said.append(f"Not: {', '.join(by_verdict[SILENT])}.")
    return " ".join(said)


def method_grid(value: Mapping[str, Any]) -> Grid:
    """A row per method: share, control, difference with its interval, peak, verdict."""
    rows = []
    for name, facts in value["methods"].items():
        shares = [_measured(facts[network]["share"]) for network in ("shortcut", "control")]
        verdict = facts["verdict"] if facts["verdict"] in (REVEALS, SILENT) else f"{facts['verdict']}: {facts['why']}"
        rows.append([name, *shares, _measured(facts["difference"], "points"), percent(facts["shortcut"]["peak"], 0), verdict])
    header = ["method", f"on {PLACE[value['kind']]}", "control", "difference", "peak there", "verdict"]
    revealing = {(i, 5) for i, row in enumerate(rows) if row[5] == REVEALS}
    return Grid(header, rows, "Share of the positive relevance, mean with its 95 % bootstrap interval.", 1, revealing)


def accuracy_grid(value: Mapping[str, Any]) -> Grid:
    """A row per test set: both networks' accuracies, and how many of the other classes are taken for the marked one."""
    rows = []
    for test, words in (LEAK_TESTS if value["kind"] == "leak" else TESTS).items():
        both = [value["accuracy"][network][test] for network in ("shortcut", "control")]
        rates = [f"{percent(f['rate'])} ({percent(f['lower'])} to {percent(f['upper'])})" for f in both]
        rows.append([words, *rates, *(percent(f["others taken for it"]) for f in both)])
    taken = f"others taken for '{value['class']}'"
    header = [f"{value['rows']['test']:,} test rows", "trained with it", "control", taken, "control"]
    return Grid(header, rows, "Accuracy with its 95 % interval (Clopper-Pearson).", 1)


def _measured(values: Any, unit: str = "%") -> str:
    mean, lower, upper = values
    if mean is None or mean != mean:
        return "–"
    numbers = [f"{100 * v:.1f}".replace("-", "\N{MINUS SIGN}") for v in (mean, lower, upper)]
    return f"{numbers[0]}{' %' if unit == '%' else ''} ({numbers[1]} to {numbers[2]})"


def write_page(top: RunDirectory, runs: Mapping[str, RunDirectory], shown: Mapping[str, Any] | None) -> None:
    """Write shortcut.html, self-contained, and its figures as PNG files beside it."""
    value = top.read_json("shortcut.json")
    figures: dict[str, tuple[Figure, str]] = {}
    if value["methods"]:
        draw = FIGURES["shortcut_shares"].value
        bars = {
            name: {**{n: facts[n]["share"] for n in TITLES}, "verdict": facts["verdict"]}
            for name, facts in value["methods"].items()
        }
        alt = f"Share of the positive relevance on {PLACE[value['kind']]}, per method, for both networks."
        figures["shares"] = draw(bars, value["chance"], place=PLACE[value["kind"]]), alt
    if shown is not None and len(shown["x"]):
        figures["samples"] = _samples(value, runs, shown), "Test rows with the shortcut and their maps."
    for name, (figure, _) in figures.items():
        top.write_bytes(f"{name}.png", png(figure))
    grids = {"accuracy": accuracy_grid(value), "methods": method_grid(value) if value["methods"] else None}
    drawn = {name: as_picture(figure, alt) for name, (figure, alt) in figures.items()}
    page = template("shortcut.html.j2")
    words = {"what": WHAT[value["kind"]], "place": PLACE[value["kind"]]}
    top.write_text("shortcut.html", page.render(value=value, grids=grids, pictures=drawn, **words))


def _samples(value: Mapping[str, Any], runs: Mapping[str, RunDirectory], shown: Mapping[str, Any]) -> Figure:
    """Maps of both networks; of a table the first's; of a cast the pictures alone."""
    classes = value["classes"]
    names = [str(classes[int(label)]) for label in shown["y"]]
    answers = {network: predictions_of(run, shown["x"], names) for network, run in runs.items()}
    if value["kind"] == "leak":
        run = runs["shortcut"]
        rows = [{**answer, "true": name, "explained": value["class"]} for answer, name in zip(answers["shortcut"], names)]
        maps = shown["maps"]["shortcut"]
        return explanation_sheet(facts_of(run), shown["raw"], shown["x"], maps, shown.get("signed", {}), rows)
    titles = {}
    for network, found in answers.items():
        said = [f"{TITLES[network]}: {answer['predicted']} {answer['probability']:.0%}" for answer in found]
        titles[network] = [f"{name}\n{words}" if network == "shortcut" else words for name, words in zip(names, said)]
    if "not judged" in value:
        draw = FIGURES["heatmap_sheet"].value
        both = np.stack([shown["before"], shown["raw"]], 1).reshape(-1, *shown["raw"].shape[1:])
        heads = [
            w
            for i, name in enumerate(names)
            for w in (f"{name}, as it was", f"{titles['shortcut'][i]}\n{titles['control'][i]}")
        ]
        pictures: Figure = draw(both, {}, titles=heads)
        return pictures
    arrays = {n: {m: np.asarray(a.double().cpu()) for m, a in found.items()} for n, found in shown["maps"].items()}
    draw = FIGURES["shortcut_maps"].value
    sheet: Figure = draw(shown["raw"], shown["mask"], arrays, titles=titles, signed=shown.get("signed"))
    return sheet
