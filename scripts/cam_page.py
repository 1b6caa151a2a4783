"""The text of docs/cam_comparison.md, from the numbers of docs/cam_comparison.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

# Photographs on the sheet and the class that the network sees in each: its index and its name.
SHOWN = {
    "explore_world_animals/animals/polar_bear": (296, "ice bear"),
    "explore_world_animals/animals/hedgehog": (334, "porcupine"),
    "explore_world_animals/animals/lemur": (383, "Madagascar cat"),
    "explore_world_animals/animals/chameleon": (47, "African chameleon"),
    "explore_farm_animals/animals/cow": (345, "ox"),
    "categorization/images/others/pan": (567, "frying pan"),
}
GRID = 7  # cells along the side of the layer
MEASURES = {"api": "API ↑", "apd": "APD ↓", "ir": "IR ↑", "dr": "DR ↓"}
HIGHER = ("api", "ir")
NAMES = {"random_filtered": "random, filtered"}
# From the official repository, Results/main_result_table.png: AUC, API, APD, IR, DR on ImageNet.
PUBLISHED = {
    "libra_cam": ((0.273, 0.115, 0.034, 0.721, 0.276), (0.267, 0.129, 0.030, 0.705, 0.291)),
    "score_cam": ((0.190, 0.060, 0.064, 0.421, 0.574), (0.163, 0.061, 0.104, 0.318, 0.678)),
    "grad_cam_plus_plus": ((0.145, 0.043, 0.100, 0.379, 0.618), (0.101, 0.037, 0.145, 0.278, 0.717)),
    "grad_cam": ((0.145, 0.043, 0.100, 0.381, 0.616), (0.114, 0.041, 0.137, 0.294, 0.702)),
    "relevance_cam": ((0.163, 0.051, 0.099, 0.393, 0.603), (0.138, 0.052, 0.137, 0.304, 0.692)),
}


def page(numbers: Mapping[str, Any]) -> str:
    """The whole page."""
    every, shared, sure = (numbers["tables"][name] for name in ("all", "shared", "sure"))
    n, few = every["photographs"], shared["photographs"]
    parts = [
        "# Class activation maps on photographs: Libra-CAM and others",
        "Written by `scripts/make_cam_comparison.py` from [cam_comparison.json](cam_comparison.json); change it there, not "
        "here.",
        "Keep the part of a picture that a map marks and ask the network again: Lee and Han (IJCAI 2022) report that Libra-CAM "
        "leads other class activation maps in this by far. Its last step is a calibration that the others did not get. Here "
        f"all get it, on {n} photographs and MobileNetV2 with its published ImageNet weights.",
        "## What holds",
        *holds(numbers),
        "## What was measured",
        *measures(numbers),
        f"### All {n} photographs",
        table(every["rows"]),
        f"**Bold**: the best method of a column. {slow(numbers)}",
        f"### Every fourth of them, {few} photographs, with Score-CAM",
        table(shared["rows"]),
        "### As published, on other networks",
        published(),
        "ImageNet, from `Results/main_result_table.png` of the authors' repository. **Other networks and other photographs: "
        "compare the order of the methods, not the numbers.** Only Libra-CAM is calibrated. What AUC is the area of was not "
        "found; ours is defined above. Layer-CAM is not in that table, and the authors' Grad-CAM clips each channel before the "
        "sum, which the paper of Grad-CAM does not.",
        "## How sure the differences are",
        "Difference to Grad-CAM in the same column, photograph by photograph, with a 95 % bootstrap interval over them. "
        f"**Bold** where it leaves out zero. On {n} photographs; Score-CAM and Grad-CAM beside it on {few}.",
        differences(every["rows"], shared["rows"], "plain"),
        differences(every["rows"], shared["rows"], "calibrated"),
        "API is not bounded above: where the network is unsure, a little more is much. On the "
        f"{sure['photographs']} photographs of which it is surer than 50 %:",
        table(sure["rows"]),
        "## Areas of all four measures",
        "At higher thresholds all maps keep little and the probability falls to nothing. An area says how large a part of the "
        f"photograph a map keeps, as much as whether it is the right part. On {few} photographs:",
        areas(shared["rows"]),
        f"![API, APD, IR and DR of the plain maps over the threshold, on {few} photographs](cam_comparison_curves.png)",
        "## What the network was shown",
        f"![{len(SHOWN)} photographs and what the maps leave of each, plain and calibrated](cam_comparison.png)",
        "Each cell is the input as the network got it, with the probability of its class below and the threshold t that the "
        "calibration chose; grey is removed. Left the whole photograph.",
        "## The photographs and the references",
        *sources(numbers),
        "## How to make it again",
        *making(numbers),
    ]
    return "\n\n".join(parts) + "\n"


def measures(numbers: Mapping[str, Any]) -> list[str]:
    """What the words and the rows of the tables mean."""
    return [
        "A map I in [0, 1] multiplies the normalised photograph, so that removed means the mean colour. y is the probability "
        "(softmax) of the class that the network answers with, o that of the same class on what is left. API is the mean of "
        "max(o - y, 0) / y, APD that of max(y - o, 0) / y; IR is the share of photographs with o > y, DR that with o < y "
        "(`pellucid.quality.faithfulness`).",
        "- *Plain* is the map as the method gives it, its positive part over its maximum. Libra-CAM has its calibration "
        "inside; plain, it runs with `calibrated=False`.\n"
        "- *Calibrated* (cal.) is zero below the one of the thresholds 0, 0.1 ... 0.9 that leaves the network surest of the "
        "class (`pellucid.calibrate`). It looks at the number that is then measured, so every map gains, a random one too.\n"
        "- *Area* is the mean of a measure over the thresholds 0, 0.1 ... 1, by the trapezoid rule; where not said otherwise, "
        "of API.",
        "Four rows explain nothing. `constant` keeps everything. `edge_detector` never looks at the network. `random` is "
        f"{GRID} x {GRID} random numbers, enlarged as class activation maps are. `random, filtered` is what Libra-CAM does "
        f"with the maps of its references, done with {numbers['references']['each']} random maps: the mean of those on which "
        "the network is surer than on the whole photograph. It shows what choosing alone brings.",
    ]


def slow(numbers: Mapping[str, Any]) -> str:
    """Why Score-CAM has fewer photographs."""
    score, grad, libra = (numbers["rows"][name]["seconds"] for name in ("score_cam", "grad_cam", "libra_cam"))
    return (
        f"Score-CAM is missing: it tried {numbers['channels']:.0f} channels of a photograph, one forward each, which took "
        f"{score:.0f} s; Grad-CAM took {grad:.1f} s and Libra-CAM {libra:.1f} s (medians, one core of a busy machine)."
    )


def holds(numbers: Mapping[str, Any]) -> list[str]:
    """What the numbers say; tests/test_cam_comparison_page.py holds each sentence to them."""
    every, shared, sure = (numbers["tables"][name] for name in ("all", "shared", "sure"))
    rows, libra = every["rows"], every["rows"]["libra_cam"]
    chance, grad = (rows[name]["calibrated"]["value"] for name in ("random_filtered", "grad_cam"))
    published, fair = every["as_published"], libra["calibrated"]["difference"]
    return [
        "**The lead over Grad-CAM is there as published, and most of it is the calibration.** Libra-CAM calibrated, Grad-CAM "
        f"plain, as in the published table: {leads(published)}. Both calibrated: {leads(fair)}.",
        f"**Without calibration**, of the five methods that got all photographs, {champion(rows, 'plain')}; its lead over "
        f"Grad-CAM is larger than chance explains in {listed(certain(libra['plain']['difference']))}. **With calibration for "
        f"all** {champion(rows, 'calibrated')}, and its lead over Grad-CAM is larger than chance explains in "
        f"{listed(certain(fair))}. Among the {shared['photographs']} photographs that Score-CAM got too, plain, "
        f"{champion(shared['rows'], 'plain')}; calibrated, {champion(shared['rows'], 'calibrated')}.",
        "**Choosing goes far without knowing anything.** Random maps, filtered as Libra-CAM filters and calibrated, reach API "
        f"{chance['api']:.3f}, APD {chance['apd']:.3f}, IR {chance['ir']:.3f} and DR {chance['dr']:.3f}; calibrated Grad-CAM "
        f"has {grad['api']:.3f}, {grad['apd']:.3f}, {grad['ir']:.3f} and {grad['dr']:.3f}. Libra-CAM is ahead of these random "
        f"maps by {leads(every['over_random'])}: larger than chance explains in {listed(certain(every['over_random']))}, and "
        f"on the {sure['photographs']} photographs of which the network is surer than 50 % in "
        f"{listed(certain(sure['over_random']))}. A map that keeps everything has APD 0 and DR 0. Filter and calibration look "
        "for what raises the number that is measured, so these measures cannot say by themselves that such a map is right.",
        f"What this does not say: it is one network, {every['photographs']} photographs, and a library of "
        f"{numbers['references']['right']} references in place of the authors'. Nothing here contradicts their numbers; it "
        "says how to read them.",
    ]


def leads(found: Mapping[str, Sequence[float]]) -> str:
    """Differences with their intervals in a sentence."""
    words = [f"{name.split()[0]} {_difference(found[measure])}" for measure, name in MEASURES.items()]
    return ", ".join(words).replace("**", "")


def certain(found: Mapping[str, Sequence[float]]) -> list[str]:
    """Measures of which the whole interval is on the good side of zero."""
    return [
        name.split()[0]
        for measure, name in MEASURES.items()
        if (found[measure][1] > 0 if measure in HIGHER else found[measure][2] < 0)
    ]


def champion(rows: Mapping[str, Any], column: str) -> str:
    """In which measures Libra-CAM is the best method, and which one is in the others."""
    by: dict[str, list[str]] = {"`libra_cam`": []}
    for measure, name in MEASURES.items():
        first = sorted(best(rows, column, measure), key=lambda row: (row != "libra_cam", row))
        by.setdefault(listed([f"`{row}`" for row in first]), []).append(name.split()[0])
    return ", ".join(
        f"{methods} {'are best together' if ' ' in methods else 'is best'} in {listed(m)}" for methods, m in by.items()
    )


def listed(words: Sequence[str]) -> str:
    """Words with commas and an "and"; "none" for none."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]])) or "none of the four"


def label(row: str) -> str:
    """A row's name for a table."""
    return NAMES.get(row, f"`{row}`")


def best(rows: Mapping[str, Any], column: str, measure: str, kind: str = "value") -> set[str]:
    """The rows with the best value as it is printed, of those that are methods."""
    methods = {
        name: round(row[column][kind][measure], 3) for name, row in rows.items() if name.endswith("_cam") or "cam_" in name
    }
    end = (max if measure in HIGHER else min)(methods.values())
    return {name for name, value in methods.items() if value == end}


def table(rows: Mapping[str, Any]) -> str:
    """Area of API, then the four measures, plain and calibrated, the best method of a column in bold."""
    heads = [f"{name}{mark}" for mark in ("", " cal.") for name in ("area ↑", *MEASURES.values())]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for name, row in rows.items():
        cells = []
        for column in ("plain", "calibrated"):
            for kind, measure in (("area", "api"), *(("value", measure) for measure in MEASURES)):
                words = f"{row[column][kind][measure]:.3f}"
                cells.append(f"**{words}**" if name in best(rows, column, measure, kind) else words)
        lines.append(f"| {label(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def published() -> str:
    """The published table of ImageNet."""
    heads = [f"{network} {name}" for network in ("R50", "VGG16") for name in ("AUC ↑", *MEASURES.values())]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for name, values in PUBLISHED.items():
        lines.append(f"| {label(name)} | {' | '.join(f'{value:.3f}' for one in values for value in one)} |")
    return "\n".join(lines)


def areas(rows: Mapping[str, Any]) -> str:
    """The areas of all four measures, plain and calibrated."""
    heads = [f"{name}{mark}" for mark in ("", " cal.") for name in MEASURES.values()]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for name, row in rows.items():
        cells = [f"{row[column]['area'][measure]:.3f}" for column in ("plain", "calibrated") for measure in MEASURES]
        lines.append(f"| {label(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(every: Mapping[str, Any], shared: Mapping[str, Any], column: str) -> str:
    """Of each row but Grad-CAM the four differences to it."""
    lines = [f"| {column} | {' | '.join(MEASURES.values())} |", "|---|" + "---:|" * len(MEASURES)]
    for name in [name for name in shared if name != "grad_cam"]:
        found = (every if name in every else shared)[name][column]["difference"]
        lines.append(f"| {label(name)} | {' | '.join(_difference(found[measure]) for measure in MEASURES)} |")
    return "\n".join(lines)


def _difference(found: Sequence[float]) -> str:
    mean, lower, upper = found
    words = f"{mean:+.3f} ({lower:+.3f} to {upper:+.3f})"
    return f"**{words}**" if lower > 0 or upper < 0 else words


def sources(numbers: Mapping[str, Any]) -> list[str]:
    """Where the photographs come from, under which licences, and which the references are."""
    licences = Counter(one["licence"] for one in numbers["photographs"])
    counted = ", ".join(f"{name} {count}" for name, count in licences.most_common())
    shown = [one for one in numbers["photographs"] if one["name"] in SHOWN]
    credited = "; ".join(f"[{SHOWN[one['name']][1]}]({one['source']}) by {one['author']}, {one['licence']}" for one in shown)
    r = numbers["references"]
    return [
        "The photographs are those of animals and things in GCompris, a collection of games for children (`gcompris-qt-data` "
        "3.1-2 of Debian): all in six folders of which the package names the licence, none chosen by what a method made of it. "
        f"Their licences: {counted}. Author, licence and source of each are in cam_comparison.json. Some show what ImageNet "
        "has no class for; explained is always the network's answer, right or wrong. No photograph is in this repository but "
        f"those shown above: {credited}.",
        f"Libra-CAM's references are others: the 20 labelled photographs of ImageNet in the package foolbox, {r['right']} of "
        f"which the network classifies correctly, so that a class has {r['each']}. **The authors' library has 30 for each "
        "class out of the training set of ImageNet, which is not to be had here; this one is tiny.** All classes share nearly "
        "the same references, and what a map contrasts with is whatever they happen to show. The filter kept "
        f"{numbers['kept']:.1f} of {r['each']} on average.",
    ]


def making(numbers: Mapping[str, Any]) -> list[str]:
    """The command, and what it needs."""
    return [
        "```\npython scripts/make_cam_comparison.py\n```",
        "It fetches the network, the references and the photographs with pip and apt-get into the user's cache, and keeps each "
        "map there as soon as it is made: a stopped run goes on where it was. Most of the time is Score-CAM's. Methods have "
        f"their default options and layer, `{numbers['layer']}`, the last with spatial axes ({GRID} x {GRID}). The network's "
        "batch normalisations are folded into its convolutions, which halves the time and changes no answer. On a CPU in "
        "float32, which rounds differently in batches of different sizes: o counts as equal to y within 0.00001.",
    ]
