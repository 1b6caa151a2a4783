"""Write docs/methods.md, the list of all explanation methods, and docs/methods.png, their maps for four photographs.

python scripts/make_methods_page.py           # both; minutes, and two packages to download on first use
python scripts/make_methods_page.py --text    # the list alone; seconds
"""

from __future__ import annotations

import argparse
import io
import re
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import pellucid
from pellucid.core.errors import UnsupportedError
from pellucid.core.table import METHODS, Entry
from pellucid.visual import lettering
from pellucid.visual.arrays import state
from pellucid.visual.heatmaps import PERCENTILE, limit
from pellucid.visual.sheet import EDGE, Bar, Foot, Sheet, note, picture
from pellucid.visual.style import HEAD, LARGE, POSITIVE, QUIET, RULE, SIGNED, TEXT, png, themed

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, SHEET = DOCS / "methods.md", DOCS / "methods.png"
LAYER = "features"
# Photographs that come with scikit-image, and the class that the network sees in each: its index and its name.
PHOTOGRAPHS = {
    "chelsea": (285, "Egyptian cat"),
    "coffee": (967, "espresso"),
    "camera": (872, "tripod"),
    "stereo_motorcycle": (670, "motor scooter"),
}
# Options of methods that ask a score many times, to draw the sheet in minutes.
SHORTER: dict[str, dict[str, Any]] = {
    "shapley": {"features": 6},
    "kernel_shap": {"samples": 130},
    "shapley_sampling": {"samples": 1},
    "lime": {"samples": 130},
    "rise": {"masks": 300},
    "extremal_perturbation": {"steps": 40},
    "xrai": {"steps": 8},
}
CLAIMS = {
    "signed": "negative relevance is evidence against the class, not merely less of it",
    "complete": "the relevance sums to the score less the score of the baseline",
    "zero_at_baseline": "where the input equals the baseline the relevance is zero",
    "sampled": "it draws random numbers; they depend on the seed and the place of the sample only",
    "class_blind": "the map is the same whichever class is asked about",
}
UNITS = {
    "F": "forward",
    "B": "backward to the input",
    "H": "backward through the part after the layer only",
    "T": "forward through the part after the layer only",
}

# Inches and points of the sheet. The letters are large, since a page shows the sheet at about half its size.
CELL, SPACE, GUTTER, BETWEEN, HEADING = 0.8, 0.05, 1.4, 0.3, 0.32
NAME = LARGE
COARSER = 2  # a pixel of the sheet is the mean of 2 x 2 of the map: relevance adds up, colours do not
RESOLUTION = 140  # 224 / COARSER pixels in CELL inches: one each


# The page.


def page() -> str:
    """The text of docs/methods.md: everything it says about a method stands in the table of methods."""
    seen = [f"{name} ({place})" for place, (_, name) in zip(("left", "second", "third", "right"), PHOTOGRAPHS.values())]
    parts = [
        "# Methods",
        "Written by `scripts/make_methods_page.py` from the table of methods; change it there, not here.",
        f"![One row of four maps for each method, under the four photographs]({SHEET.name})",
        "MobileNetV2 with its published ImageNet weights looks at four photographs that come with scikit-image. Every map "
        f"explains the logit of the class that it answers with: {_listed(seen)}. Methods that look at a layer look at "
        f"`{LAYER}`, the last with spatial axes; those that compare with other samples are given 20 labelled ImageNet "
        f"photographs; those that ask many times are given {_shorter()}; all other options are the defaults. A pixel of "
        "the picture is the mean of "
        f"{COARSER} x {COARSER} values of the map, and colours end as the bars at its foot say.",
        "## How to read the entries",
        f"**Cost** is in rows through the network per sample: {_listed([f'`{u}` {words}' for u, words in UNITS.items()])}. "
        "The words in it are options of the method, or numbers that the explanation gives in its `counts`.",
        "**Claims** are what the tests hold a method to:",
        "\n".join(f"- `{claim}`: {words}." for claim, words in CLAIMS.items()),
    ]
    for family in METHODS.families():
        parts.append(f"## {family.capitalize()}")
        parts += [_entry(entry) for entry in METHODS if entry.family == family]
    return "\n\n".join(parts) + "\n"


def _entry(entry: Entry[Any]) -> str:
    facts = entry.facts
    claims = _listed([f"`{claim}`" for claim in facts["claims"].split(", ") if claim]) or "none"
    lines = [
        f"- How to read the map: {_markdown(facts.get('reading', ''))}",
        f"- Paper: {_markdown(facts['paper'])}",
        f"- Cost: `{facts['cost']}`",
        f"- Claims: {claims}",
    ]
    return f"### `{entry.name}`\n\n{_markdown(entry.summary)}.\n\n" + "\n".join(lines)


def _shorter() -> str:
    return _listed([f"`{name}({', '.join(f'{key}={value}' for key, value in o.items())})`" for name, o in SHORTER.items()])


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _markdown(text: str) -> str:
    """Code in single back-quotes, and no sign of a formula taken for emphasis or a tag."""
    pieces = re.split(r"(``?[^`]+``?)", text)
    for index in range(0, len(pieces), 2):
        pieces[index] = re.sub(r"([*<~])(?=\S)|(?<=\S)([*<~])|(?<!\w)(_)|(_)(?!\w)", r"\\\g<0>", pieces[index])
    return "".join(pieces).replace("``", "`")


# The sheet.


class Row(NamedTuple):
    """What the sheet shows of one method: its maps (n, H, W), or why there are none."""

    name: str
    family: str
    maps: np.ndarray | None = None
    signed: bool = False
    reason: str = ""


@themed
def sheet(images: np.ndarray, answers: Sequence[tuple[str, float]], rows: Sequence[Row]) -> Figure:
    """Two blocks side by side: the photographs (n, H, W, 3) with the network's answers on top, a row per method below."""
    n, pitch = len(images), CELL + SPACE
    block = GUTTER + n * pitch - SPACE
    blocks = _halves(rows)
    names = [lettering.wrap(name, CELL + SPACE - 0.02, TEXT, bold=True) for name, _ in answers]
    line = lettering.height("x", TEXT)
    answer = max(lettering.height(name, TEXT) for name in names) + line + 0.06
    head = answer + CELL + 0.06
    tall = max(map(_height, blocks))
    width = 2 * EDGE + 2 * block + BETWEEN
    bars = [
        Bar(
            SIGNED,
            ("against the class", "0", "for the class"),
            f"signed maps: each symmetric about zero, to the {PERCENTILE} percentile of its |relevance|",
        ),
        Bar(POSITIVE, ("none", "most"), f"positive maps: each from zero to its {PERCENTILE} percentile"),
    ]
    foot = Foot(bars, width - 2 * EDGE)
    drawn = Sheet(width, 2 * EDGE + head + tall + 0.16 + foot.height)
    for side, part in enumerate(blocks):
        left = EDGE + side * (block + BETWEEN)
        lefts = [left + GUTTER + column * pitch for column in range(n)]
        drawn.text(left, EDGE + answer / 2, "The network's\nanswer", TEXT, va="center", color=QUIET)
        for at, image, name, (_, probability) in zip(lefts, images, names, answers):
            below = EDGE + answer - 0.06 - line
            drawn.text(at + CELL / 2, below, name, TEXT, ha="center", va="bottom", weight="bold")
            drawn.text(at + CELL / 2, below, f"{probability:.1%}", TEXT, ha="center")
            picture(drawn.axes(at, EDGE + answer, CELL, CELL), _coarser(image))
        top, family = EDGE + head, ""
        for row in part:
            if row.family != family:
                family = row.family
                _heading(drawn, left, top, block, family)
                top += HEADING
            drawn.text(left, top + CELL / 2, lettering.wrap(row.name, GUTTER - 0.08, NAME), NAME, va="center")
            _cells(drawn, row, lefts, top)
            top += pitch
    foot.draw(drawn, EDGE + head + tall + 0.16)
    return drawn.figure


def _heading(drawn: Sheet, left: float, top: float, width: float, family: str) -> None:
    drawn.text(left, top + HEADING - 0.09, family.capitalize(), HEAD, va="baseline", weight="bold", color=QUIET)
    start = left + lettering.width(family.capitalize(), HEAD, bold=True) + 0.1
    line = drawn.axes(start, top + HEADING - 0.13, left + width - start, 0.02, framed=False)
    line.axhline(0.5, color=RULE, linewidth=0.8)


def _cells(drawn: Sheet, row: Row, lefts: Sequence[float], top: float) -> None:
    if row.maps is None:
        width = lefts[-1] + CELL - lefts[0]
        note(drawn.axes(lefts[0], top, width, CELL), lettering.wrap(row.reason, width - 0.3, TEXT))
        return
    for at, values in zip(lefts, row.maps):
        axes = drawn.axes(at, top, CELL, CELL)
        words = state(values)
        if words:
            note(axes, words)
            continue
        shown = _coarser(values)
        end = limit(shown)
        picture(axes, shown, cmap=SIGNED if row.signed else POSITIVE, vmin=-end if row.signed else 0.0, vmax=end)


def _coarser(values: np.ndarray) -> np.ndarray:
    """(H, W, ...) -> (H / COARSER, W / COARSER, ...), the mean over each square."""
    height, width = (size // COARSER for size in values.shape[:2])
    return values.reshape(height, COARSER, width, COARSER, *values.shape[2:]).mean(axis=(1, 3))


def _height(rows: Sequence[Row]) -> float:
    return len(rows) * (CELL + SPACE) + HEADING * len({row.family for row in rows})


def _halves(rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """Cut where the taller block is least tall; headings count, so a family stays together where that costs nothing."""
    cuts = [(rows[:cut], rows[cut:]) for cut in range(len(rows) + 1)]
    return min(cuts, key=lambda both: max(map(_height, both)))


# What is drawn.


def explained() -> tuple[np.ndarray, list[tuple[str, float]], list[Row]]:
    """Photographs, answers and every method's maps, from the real network."""
    import mobilenet_v2  # lies beside this file; the page can be made without it

    model = mobilenet_v2.pretrained()
    x = mobilenet_v2.photographs(list(PHOTOGRAPHS))
    with torch.no_grad():
        probability, found = model(x).softmax(1).max(1)
    for place, (index, name), got in zip(PHOTOGRAPHS, PHOTOGRAPHS.values(), found.tolist()):
        if got != index:
            raise SystemExit(f"The network sees class {got} in '{place}', not {index} ({name}): PHOTOGRAPHS is out of date.")
    images, labels = mobilenet_v2.reference_photographs()
    options: Mapping[str, Mapping[str, Any]] = {
        **SHORTER,
        "expected_gradients": {"references": images},
        "libra_cam": {"library": pellucid.reference_library(model, images, labels, layer=LAYER)},
    }
    rows = []
    for entry in METHODS:
        began = time.perf_counter()
        try:
            made = pellucid.explain(model, x, {entry.name: options.get(entry.name, {})}, layer=LAYER, target=found)[entry.name]
            rows.append(Row(entry.name, entry.family, made.map().numpy(), made.signed))
        except UnsupportedError as error:
            rows.append(Row(entry.name, entry.family, reason=f"It cannot explain this network: {error}"))
        print(f"{entry.name:32} {time.perf_counter() - began:7.1f} s  {rows[-1].reason}", flush=True)
    answers = [(name, float(p)) for (_, name), p in zip(PHOTOGRAPHS.values(), probability)]
    return mobilenet_v2.displayed(x), answers, rows


def main() -> None:
    """Write the page, and the picture unless only the text is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="write the page only, not the picture")
    only_text = parser.parse_args().text
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    if not only_text:
        SHEET.write_bytes(smaller(png(sheet(*explained()), RESOLUTION)))
        print(f"{SHEET}, {SHEET.stat().st_size:,} bytes")


def smaller(content: bytes) -> bytes:
    """Nearly the same PNG picture at less than half the size.

    Colours are rounded to multiples of three (white stays white), which nobody sees, and no line is predicted from the one
    above it, which helps with smooth pictures but makes speckled maps longer.
    """
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    pixels = (np.round(pixels / 3) * 3).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    header = struct.pack(">2I5B", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 0)  # 8 bits of red, green and blue
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    packed = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


if __name__ == "__main__":
    main()
