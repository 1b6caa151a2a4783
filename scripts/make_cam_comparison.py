"""Write docs/cam_comparison.json, .md and two pictures: class activation maps of photographs, with and without calibration.

python scripts/make_cam_comparison.py           # all; about an hour and a half on one core, continued where it was stopped
python scripts/make_cam_comparison.py --text    # the page alone, from the numbers that are there; seconds
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cam_page import SHOWN, page
from pellucid.visual import lettering
from pellucid.visual.quality import quality_curves
from pellucid.visual.sheet import EDGE, Sheet, picture
from pellucid.visual.style import HEAD, QUIET, SMALL, TEXT, png, themed

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, NUMBERS = DOCS / "cam_comparison.md", DOCS / "cam_comparison.json"
SHEET, CURVES = DOCS / "cam_comparison.png", DOCS / "cam_comparison_curves.png"

COLUMNS = ("libra_cam", "score_cam", "grad_cam_plus_plus", "grad_cam", "layer_cam", "relevance_cam", "random")
# Inches of the sheet: a cell, the words under it, the space between, and the names on the left.
CELL, WORDS, SPACE, GUTTER = 0.84, 0.15, 0.05, 0.92
HALVED = 2  # a pixel of the sheet is the mean of 2 x 2 of the input
RESOLUTION = 133  # 224 / HALVED pixels in CELL inches


@themed
def sheet(shown: Sequence[Mapping[str, Any]]) -> Figure:
    """Two rows for each photograph, the map as it is and calibrated: what the network sees of it, and how sure it then is."""
    pitch, line = CELL + SPACE, CELL + WORDS + 0.02
    names = [lettering.wrap(name, pitch - 0.02, TEXT, bold=True) for name in ("photograph", *COLUMNS)]
    head = max(lettering.height(name, TEXT) for name in names) + 0.08
    block = 2 * line + 0.1
    drawn = Sheet(2 * EDGE + GUTTER + len(names) * pitch - SPACE, 2 * EDGE + head + len(shown) * block)
    lefts = [EDGE + GUTTER + column * pitch for column in range(len(names))]
    for left, name in zip(lefts, names):
        drawn.text(left + CELL / 2, EDGE + head - 0.1, name, TEXT, ha="center", va="baseline", weight="bold")
    for row, one in enumerate(shown):
        top = EDGE + head + row * block
        drawn.text(EDGE, top, lettering.wrap(one["name"], GUTTER - 0.05, HEAD), HEAD, weight="bold")
        for place, words in enumerate(("as it is", "calibrated")):
            drawn.text(EDGE, top + place * line + CELL / 2, words, TEXT, va="center", color=QUIET)
        _cell(drawn, lefts[0], top, one["image"], f"{one['y']:.2f}")
        for left, name in zip(lefts[1:], COLUMNS):
            for place, (image, words) in enumerate(one[name]):
                _cell(drawn, left, top + place * line, image, words)
    return drawn.figure


def _cell(drawn: Sheet, left: float, top: float, image: np.ndarray, words: str) -> None:
    height, width = (size // HALVED for size in image.shape[:2])
    picture(drawn.axes(left, top, CELL, CELL), image.reshape(height, HALVED, width, HALVED, 3).mean(axis=(1, 3)))
    drawn.text(left + CELL / 2, top + CELL + 0.015, words, SMALL, ha="center")


def measured() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The numbers, and what the sheet shows."""
    import cam_experiment  # with the network and the photographs; the page can be made without them
    from cam_numbers import numbers

    found = cam_experiment.measured(say=lambda words: print(words, flush=True))
    on = cam_experiment.bench()
    return numbers(on, found, dict(cam_experiment.SETTINGS)), drawings(on, found)


def drawings(on: Any, found: Mapping[str, Mapping[int, Any]]) -> list[dict[str, Any]]:
    """For each photograph of the sheet the input itself and, per row, what the plain and the calibrated map leave of it."""
    from cam_numbers import THRESHOLDS
    from mobilenet_v2 import displayed
    from pellucid.explanation import masks
    from pellucid.explanation.calibration import at_threshold

    shown = []
    for index, one in enumerate(on.photographs):
        if one.name not in SHOWN:
            continue
        x = on.x[index : index + 1]
        drawn: dict[str, Any] = {"name": SHOWN[one.name][1], "image": displayed(x)[0], "y": found["grad_cam"][index].y}
        if int(on.target[index]) != SHOWN[one.name][0]:
            raise SystemExit(f"The network sees class {int(on.target[index])} in {one.name}: SHOWN is out of date.")
        for name in COLUMNS:
            made = found[name][index]
            best = int(made.o[: len(THRESHOLDS)].argmax())
            cut = at_threshold(made.evidence[None], made.evidence.new_tensor([THRESHOLDS[best]]))
            drawn[name] = [
                (displayed(masks.keep(x, made.evidence[None]))[0], f"{made.o[0]:.2f}"),
                (displayed(masks.keep(x, cut))[0], f"{made.o[best]:.2f}, t = {THRESHOLDS[best]:.1f}"),
            ]
        shown.append(drawn)
    return shown


def curves(numbers: Mapping[str, Any]) -> Figure:
    """API, APD, IR and DR of the plain maps over the threshold, for the photographs that all methods share."""
    rows = numbers["tables"]["shared"]["rows"]
    return quality_curves(numbers["thresholds"], {name: rows[name]["plain"]["curve"] for name in (*COLUMNS, "edge_detector")})


def written(numbers: Mapping[str, Any]) -> str:
    """JSON with one line for each photograph and each list of probabilities."""
    compact = json.dumps(numbers, separators=(",", ": "))
    return compact.replace("],[", "],\n[").replace("},{", "},\n{").replace('},"', '},\n"') + "\n"


def main() -> None:
    """Write the page, and the numbers and the pictures unless only the text is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="write the page only, from the numbers that are there")
    if not parser.parse_args().text:
        from make_methods_page import smaller

        numbers, shown = measured()
        NUMBERS.write_text(written(numbers), encoding="utf-8")
        SHEET.write_bytes(smaller(png(sheet(shown), RESOLUTION)))
        CURVES.write_bytes(png(curves(numbers), RESOLUTION))
    PAGE.write_text(page(json.loads(NUMBERS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
