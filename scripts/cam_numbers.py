"""From probabilities to tables: API, APD, IR and DR of every row, plain and calibrated, and how sure the differences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.evaluation.intervals import bootstrap
from pellucid.explanation.calibration import THRESHOLDS
from pellucid.quality.faithfulness import LEVELS, MEASURED, Faithfulness

Floats = NDArray[np.float64]
# In float32 the same input can answer differently by a few 1e-6 in batches of different sizes: no increase and no decrease.
TIE = 1e-5
DIGITS = 6
SURE = 0.5
COLUMNS = ("plain", "calibrated")
AGAINST = "grad_cam"


def numbers(on: Any, found: Mapping[str, Mapping[int, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """All of docs/cam_comparison.json from what ``cam_experiment`` has on its bench and measured; see ``tables``."""
    y = [found[AGAINST][index].y for index in range(len(on.photographs))]
    rows = {
        row: {
            "photographs": list(measured),
            "seconds": round(float(np.median([one.facts["seconds"] for one in measured.values()])), 2),
            "o": [tied(y[index], one.o.numpy()).round(DIGITS).tolist() for index, one in measured.items()],
        }
        for row, measured in found.items()
    }
    raw = {
        "settings": dict(settings),
        "layer": found[AGAINST][0].facts["layer"],
        "references": {"right": len(on.library.activations), "each": len(on.library.index[0])},
        "kept": _mean(found["libra_cam"], "kept"),
        "channels": _mean(found["score_cam"], "channels"),
        "thresholds": list(LEVELS),
        "photographs": [
            {"name": one.name, "class": int(c), "y": round(before, DIGITS), **_credit(one)}
            for one, c, before in zip(on.photographs, on.target, y)
        ],
        "rows": rows,
    }
    return raw | {"tables": tables(raw)}


def _mean(measured: Mapping[int, Any], fact: str) -> float:
    return round(float(np.mean([one.facts[fact] for one in measured.values()])), DIGITS)


def _credit(one: Any) -> dict[str, str]:
    return {"author": one.author, "licence": one.licence, "source": one.source}


def tied(y: float, o: Floats) -> Floats:
    """Probabilities (T,) of what is left, those that differ from y by no more than rounding made equal to it."""
    return np.where(np.abs(o - y) <= TIE, y, o)


def calibrated(o: Floats) -> Floats:
    """(n, T) of plain maps -> of calibrated ones: the cut at t of a map cut at t* is its cut at the greater of the two.

    t* is the first of the best thresholds below 1, as ``pellucid.calibrate`` chooses it; no further forward is needed.
    """
    best = o[:, : len(THRESHOLDS)].argmax(1)
    places = np.maximum(best[:, None], np.arange(o.shape[1]))
    return np.take_along_axis(o, places, 1)


def tables(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Group of photographs -> row -> values, areas, curves and differences to Grad-CAM, each plain and calibrated."""
    return {name: group(raw, places) for name, places in groups(raw).items()}


def groups(raw: Mapping[str, Any]) -> dict[str, list[int]]:
    """All photographs, those that all rows have, and those that the network is sure of."""
    y = [one["y"] for one in raw["photographs"]]
    shared = min((row["photographs"] for row in raw["rows"].values()), key=len)
    return {"all": list(range(len(y))), "shared": shared, "sure": [i for i, before in enumerate(y) if before >= SURE]}


def probabilities(raw: Mapping[str, Any], places: Sequence[int]) -> tuple[Floats, dict[str, dict[str, Floats]]]:
    """y (n,) and, of the rows that have all of these photographs, o (n, T), plain and calibrated."""
    found = {}
    for name, row in raw["rows"].items():
        at = {index: line for line, index in enumerate(row["photographs"])}
        if at.keys() >= set(places):
            o = np.array(row["o"])[[at[index] for index in places]]
            found[name] = {"plain": o, "calibrated": calibrated(o)}
    return np.array([raw["photographs"][index]["y"] for index in places]), found


def group(raw: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """The table of these photographs, and Libra-CAM calibrated less Grad-CAM plain and less calibrated filtered random maps."""
    y, found = probabilities(raw, places)
    rows = {}
    for name, both in found.items():
        rows[name] = {
            column: summary(y, o) | {"difference": differences(y, o, found[AGAINST][column])} for column, o in both.items()
        }
        chosen = both["plain"][:, : len(THRESHOLDS)].argmax(1)
        rows[name]["threshold"] = round(float(np.mean([LEVELS[i] for i in chosen])), DIGITS)
    libra = found["libra_cam"]["calibrated"]
    return {
        "photographs": len(places),
        "rows": rows,
        "as_published": differences(y, libra, found[AGAINST]["plain"]),
        "over_random": differences(y, libra, found["random_filtered"]["calibrated"]),
    }


def summary(y: Floats, o: Floats) -> dict[str, Any]:
    """Values at threshold 0, areas over the thresholds, and curves."""
    made = Faithfulness(np.array(LEVELS), y, o, np.zeros(len(LEVELS)))
    return {
        "value": {measure: round(value, DIGITS) for measure, value in made.plain().items()},
        "area": {measure: round(value, DIGITS) for measure, value in made.area().items()},
        "curve": {measure: made.curve(measure).round(DIGITS).tolist() for measure in MEASURED},
    }


def differences(y: Floats, o: Floats, other: Floats) -> dict[str, list[float]]:
    """Of each measure at threshold 0 the difference of two rows, see ``difference``."""
    return {measure: difference(each(measure, y, o[:, 0]), each(measure, y, other[:, 0])) for measure in MEASURED}


def each(measure: str, y: Floats, o: Floats) -> Floats:
    """(n,) one measure of every photograph by itself, whose mean is that of all."""
    return np.array([MEASURED[measure]([before], [after]) for before, after in zip(y, o)])


def difference(one: Floats, other: Floats) -> list[float]:
    """Mean difference, and the ends of its 95 % bootstrap interval over photographs, taken photograph by photograph."""
    interval = bootstrap(one - other, lambda means: means)
    return [round(float(value), DIGITS) for value in ((one - other).mean(), interval.lower, interval.upper)]
