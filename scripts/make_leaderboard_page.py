"""Write docs/leaderboard.json, docs/leaderboard.png and docs/leaderboard.md from a benchmark of the bundled model.

pellucid benchmark --out bundled                        # trains LeNet-5, then judges every method; about half an hour
pellucid benchmark --data known_truth_images --out truth --samples 100 --measures ...      # as the page's last section says
python scripts/make_leaderboard_page.py bundled truth   # all three files
python scripts/make_leaderboard_page.py --text          # the page alone, from the numbers that are there
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.study.leaderboard import chart, label, sanity, sentences, table
from pellucid.visual.leaderboard import leaderboard
from pellucid.visual.style import png

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURE, NUMBERS = DOCS / "leaderboard.md", DOCS / "leaderboard.png", DOCS / "leaderboard.json"
RESOLUTION = 130


def page(value: Mapping[str, Any], truth: Mapping[str, Any]) -> str:
    """The text of docs/leaderboard.md from the numbers of docs/leaderboard.json."""
    ranked = len(value["overall"])
    header, rows = table(value)
    checked = sanity(value)
    upper = {row[0]: row[1] for row in checked.rows}
    parts = [
        "# The leaderboard",
        f"Written by `scripts/make_leaderboard_page.py` from [{NUMBERS.name}]({NUMBERS.name}); change it there, not here.",
        f"{ranked} explanation methods with their default options on {value['samples']} test pictures of the bundled part of "
        f"Fashion-MNIST, explained for LeNet-5 as `pellucid run` trains it ({value['accuracy']}), and {len(value['measures'])} "
        "measures of them. Your own model and data: `pellucid benchmark RUN`, or `pellucid benchmark --data PATH`. The page "
        "that it writes has everything below, with intervals over each number.",
        "\n\n".join(sentences(value)),
        f"![Mean rank of {ranked} methods with intervals, and their milliseconds per picture]({PICTURE.name})",
        "## The ranking",
        "Mean rank over the ranked measures, one weight for each family of them. Intervals are of 2,000 resamples of the "
        "pictures, the same for all methods, so that what is hard for all moves none: they tell how far these pictures "
        "decide the order, not whether the measures agree. *Best in*: measures in which no method is better by more "
        "than chance (paired 95 % interval). *No better than a control in*: measures in which a map that knows nothing of the "
        "model is not worse by more than chance. A map without a value for a picture ranks there with "
        "the worst. Milliseconds are of one core, one method at a time.",
        _table(header, [[f"`{cell}`" if i == 1 else cell for i, cell in enumerate(row)] for row in rows]),
        "## Sanity check",
        f"On {value['checked']} of the pictures the layers were made random one after the other, from the output down "
        "(Adebayo et al. 2018). A map that stays as it was does not come from what the model has learned.",
        _table(list(checked.header), [[f"`{row[0]}`", *row[1:]] for row in checked.rows]),
        f"{checked.caption} Guided backpropagation, nearly blind to the higher layers in published checks, is so here: "
        f"{upper['guided_backpropagation']} of its map is left when the upper layers are random, of the gradient's "
        f"{upper['gradient']} and of Grad-CAM's {upper['grad_cam']}; it does change with the lower ones. "
        "LIME keeps much of its likeness because its maps are constant on segments, and segments are the picture's.",
        "## The measures, and what they favour",
        "Every measure has a known bias, and most can be satisfied by a map that knows nothing; the last columns show what the "
        "three controls get.",
        _table(
            ["measure", "family", "better", "cost", *(f"`{c}`" for c in value["controls"]), "best method", "reading", "bias"],
            [_measure(value, name) for name in value["measures"]],
        ),
        "## Every number",
        _table(["method", *(_head(value, m) for m in value["measures"])], _matrix(value)),
        "Means over the pictures; **bold**: among the best.",
        "## Where the truth is known",
        f"The same methods on {truth['samples']} pictures of `known_truth_images`: one of four shapes in a random place makes "
        "the label, and a shape of another kind, as bright and with edges of its own, does not. LeNet-5 learned them "
        f"({truth['accuracy']}), so what its maps should show is the strokes of the first. Chance is what the constant map "
        "gets. Coarse maps cannot have much on thin strokes, whatever they know: compare their ranks and peaks.",
        _table(["rank", "method", *(_head(truth, m) for m in truth["measures"]), "mean rank"], _truth(truth)),
        "Means over the pictures; **bold**: no method is better by more than chance.",
        "## How it was made",
        f"```\npellucid benchmark --out bundled --samples {value['asked']} --checked {value['checked']}\n"
        f"pellucid benchmark --data known_truth_images --out truth --samples {truth['asked']} \\\n"
        f"  --measures {','.join(truth['measures'])}\n"
        "python scripts/make_leaderboard_page.py bundled truth\n```",
        "Nothing was tuned on these pictures. "
        + "; ".join(f"`{name}` cannot explain this model ({reason.rstrip('.')})" for name, reason in value["refused"].items())
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _measure(value: Mapping[str, Any], name: str) -> list[str]:
    facts, row = value["measures"][name], value["places"][name]
    places = {m: p for m, p in row.items() if p["rank"] is not None}
    best = min(places, key=lambda m: places[m]["rank"])
    controls = [_number(row[c]["mean"]) if c in row else "–" for c in value["controls"]]
    better = "larger" if facts["larger_is_better"] else "smaller"
    shown = f"{_number(places[best]['mean'])} (`{best}`)"
    return [f"`{name}`", facts["family"], better, facts["cost"], *controls, shown, facts["reading"], facts["bias"]]


def _head(value: Mapping[str, Any], measure: str) -> str:
    return f"{label(measure)} {'↑' if value['measures'][measure]['larger_is_better'] else '↓'}"


def _matrix(value: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name in [*value["overall"], *value["controls"]]:
        cells = []
        for row in value["places"].values():
            place = row.get(name)
            text = _number(place["mean"] if place else None)
            cells.append(f"**{text}**" if place and place["best"] else text)
        rows.append([f"`{name}`", *cells])
    return rows


def _truth(value: Mapping[str, Any]) -> list[list[str]]:
    rows = _matrix(value)
    places = {name: str(i) for i, name in enumerate(value["overall"], 1)}
    means = {name: f"{row[0]:.1f}" for name, row in value["overall"].items()}
    named = [(row[0].strip("`"), row) for row in rows]
    return [[places.get(name, ""), *row, means.get(name, "control")] for name, row in named]


def _number(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.3f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def measured(run: Path) -> dict[str, Any]:
    """What a run's benchmark found, and how good the model is."""
    value: dict[str, Any] = json.loads((run / "benchmark" / "benchmark.json").read_text("utf-8"))
    name, accuracy, trivial = json.loads((run / "evaluation.json").read_text("utf-8"))["headline"][0]
    return value | {"accuracy": f"test {name} {100 * accuracy:.1f} %, always one class {100 * trivial:.1f} %"}


def main() -> None:
    """Read the benchmarks of two runs, or with --text the numbers that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="two run directories: of the bundled model, and of known truth")
    parser.add_argument("--text", action="store_true", help="the page alone, from docs/leaderboard.json")
    given = parser.parse_args()
    if not given.text and len(given.runs) != 2:
        parser.error("give two run directories, or --text")
    if not given.text:
        value, truth = map(measured, given.runs)
        NUMBERS.write_text(json.dumps({"bundled": value, "truth": truth}, indent=1, ensure_ascii=False) + "\n", "utf-8")
        PICTURE.write_bytes(png(leaderboard(*chart(value)), dpi=RESOLUTION))
    numbers = json.loads(NUMBERS.read_text("utf-8"))
    PAGE.write_text(page(numbers["bundled"], numbers["truth"]), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
