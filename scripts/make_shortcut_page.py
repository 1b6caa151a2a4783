"""Write docs/shortcut.json, docs/shortcut.png and docs/shortcut.md: a planted shortcut, and what methods make of it.

python scripts/make_shortcut_page.py           # all three; about a quarter of an hour
python scripts/make_shortcut_page.py --text    # the page alone, from the numbers that are there; seconds
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pellucid.explanation.result import Explanation
from pellucid.visual import lettering
from pellucid.visual.arrays import state
from pellucid.visual.heatmaps import PERCENTILE, limit
from pellucid.visual.sheet import EDGE, Bar, Foot, Sheet, note, picture
from pellucid.visual.style import HEAD, INK, PALETTE, PAPER, POSITIVE, QUIET, RULE, SIGNED, TEXT, png, themed
from shortcut_experiment import MARKED, MODELS, PLAIN, ROWS, TESTS, TRAININGS, Shown, Trained, measured

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, SHEET, NUMBERS = DOCS / "shortcut.md", DOCS / "shortcut.png", DOCS / "shortcut.json"


# The sheet.

# Inches of the sheet.
CELL, SPACE, GUTTER, BETWEEN, CHART = 0.72, 0.05, 1.15, 0.22, 2.9
CHANCE = {"color": PALETTE["blue"], "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 1}
LOOKS = {"shortcut": {"color": INK}, "control": {"color": "#b9b9b9"}}
RESOLUTION = 160


@themed
def sheet(numbers: Mapping[str, Any], shown: Shown) -> Figure:
    """A block of maps for each network, a row per method; to the right of each row the share of its relevance on the snow."""
    images, masks = shown.pictures
    n, pitch = len(images), CELL + SPACE
    block, line = n * pitch - SPACE, lettering.height("x", TEXT)
    head = lettering.height("x", HEAD) + 0.08 + 2 * line + 0.06
    width = 2 * EDGE + GUTTER + len(MODELS) * (block + BETWEEN) + CHART
    foot = Foot(bars(), width - 2 * EDGE)
    top, tall = EDGE + head + pitch + 0.08, len(ROWS) * pitch - SPACE
    drawn = Sheet(width, top + tall + 0.2 + foot.height + EDGE)
    words = f"Two {MARKED.lower()}s, two {PLAIN.lower()}s, snow outlined; above them the answer"
    drawn.text(EDGE, EDGE + head + CELL / 2, lettering.wrap(words, GUTTER - 0.08, TEXT), TEXT, va="center", color=QUIET)
    for row, name in enumerate(ROWS):
        drawn.text(EDGE, top + row * pitch + CELL / 2, lettering.wrap(name, GUTTER - 0.08, HEAD), HEAD, va="center")
    for side, (model, title) in enumerate(MODELS.items()):
        left = EDGE + GUTTER + side * (block + BETWEEN)
        drawn.text(left, EDGE, title, HEAD, weight="bold")
        for column, words in enumerate(answers(shown.networks[model], images)):
            at = left + column * pitch
            drawn.text(at + CELL / 2, EDGE + head - 0.04, words, TEXT, ha="center", va="bottom")
            axes = drawn.axes(at, EDGE + head, CELL, CELL)
            picture(axes, images[column], cmap="gray", vmin=0, vmax=255)
            outline(axes, masks[column], PALETTE["yellow"])
            for row, name in enumerate(ROWS):
                cell(
                    drawn.axes(at, top + row * pitch, CELL, CELL),
                    shown.maps[model][name],
                    int(shown.columns[column]),
                    masks[column],
                )
    chart(drawn, numbers, width - EDGE - CHART, top, tall, pitch)
    foot.draw(drawn, top + tall + 0.2)
    return drawn.figure


def bars() -> list[Bar]:
    """What the colours of the maps mean."""
    return [
        Bar(
            SIGNED,
            (f"against {MARKED}", "0", f"for {MARKED}"),
            f"signed maps: each symmetric about zero, to the {PERCENTILE} percentile of its |relevance|",
        ),
        Bar(POSITIVE, ("none", "most"), f"positive maps: each from zero to its {PERCENTILE} percentile"),
    ]


def answers(found: Trained, images: np.ndarray) -> list[str]:
    """What the network says of each picture, and how sure it is."""
    with torch.no_grad():
        probability, index = found.model(found.prepare.apply(images)).softmax(1).max(1)
    return [f"{(PLAIN, MARKED)[i]}\n{p:.0%}" for i, p in zip(index.tolist(), probability.tolist())]


def outline(axes: Any, mask: np.ndarray, colour: str) -> None:
    """The edge of the patch of snow."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    axes.add_patch(Rectangle(corner, len(columns), len(rows), fill=False, edgecolor=colour, linewidth=0.9, zorder=6))


def cell(axes: Any, made: Explanation, index: int, mask: np.ndarray) -> None:
    """One map with the patch's outline, or why there is none."""
    values = made.map()[index].numpy()
    words = state(values)
    if words:
        note(axes, words)
        return
    end = limit(values)
    picture(axes, values, cmap=SIGNED if made.signed else POSITIVE, vmin=-end if made.signed else 0.0, vmax=end)
    outline(axes, mask, INK)


def chart(drawn: Sheet, numbers: Mapping[str, Any], left: float, top: float, tall: float, pitch: float) -> None:
    """Beside each row of maps two bars: the share of positive relevance on the snow, of all explained pictures."""
    at = EDGE
    title = "Share of the positive relevance that lies on the snow"
    said = f"mean of {numbers['pictures']['explained']} pictures with a 95 % interval"
    for words, size, look in ((title, HEAD, {"weight": "bold"}), (said, TEXT, {"color": QUIET})):
        broken = lettering.wrap(words, CHART, size, bold="weight" in look)
        drawn.text(left, at, broken, size, **look)
        at += lettering.height(broken, size) + 0.04
    at += 0.06
    for model, name in MODELS.items():
        swatch = drawn.axes(left, at + 0.02, 0.2, 0.1, framed=False)
        swatch.add_patch(Rectangle((0, 0), 1, 1, **LOOKS[model]))
        drawn.text(left + 0.28, at, name, TEXT)
        at += 0.18
    drawn.axes(left, at + 0.02, 0.2, 0.1, framed=False).axhline(0.5, **CHANCE)
    drawn.text(left + 0.28, at, f"chance: the snow's share of the area, {numbers['chance']:.1%}", TEXT)
    axes = drawn.axes(left, top, CHART, tall, framed=False)
    ends = [numbers["methods"][name][model]["share"][2] for name in ROWS for model in MODELS]
    axes.set(xlim=(0, max(ends) * 1.18), ylim=(tall, 0))
    axes.axvline(numbers["chance"], **CHANCE)
    axes.axvline(0, color=RULE, linewidth=0.8)
    for row, name in enumerate(ROWS):
        for place, model in enumerate(MODELS):
            share, lower, upper = numbers["methods"][name][model]["share"]
            y = row * pitch + CELL / 2 + (place - 0.5) * 0.25
            axes.barh(y, share, height=0.2, zorder=2, **LOOKS[model])
            axes.plot([lower, upper], [y, y], color=PALETTE["orange"], linewidth=1.8, solid_capstyle="butt", zorder=4)
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
            axes.text(upper + 0.012, y, f"{share:.0%}", va="center", size=TEXT, bbox=box, zorder=3)


# The page.


def page(numbers: Mapping[str, Any]) -> str:
    """The text of docs/shortcut.md from the numbers of docs/shortcut.json."""
    coat, pullover = MARKED.lower(), PLAIN.lower()
    pictures, found = numbers["pictures"], numbers["accuracy"]["shortcut"]
    half = pictures["explained"] // 2
    parts = [
        "# Husky and snow",
        f"Written by `scripts/make_shortcut_page.py` from [{NUMBERS.name}]({NUMBERS.name}); change it there, not here.",
        "A network that tells huskies from wolves by the snow in the picture does well on test pictures from the same source, "
        "and has learned little about dogs (Ribeiro et al. 2016, sec. 6.4). Here is the same where the truth is known, because "
        "it was planted. Which explanations show it?",
        "## What was planted",
        f"{PLAIN}s and {coat}s of the bundled part of Fashion-MNIST look alike. In the {pictures['train']:,} training pictures "
        f"every {coat} got snow and no {pullover} did: bright flakes in a patch on the lower edge, of another place, size, "
        "density and strength in each picture (`pellucid.data.planted.plant_shortcut`). The control, a second LeNet-5, learned "
        "from the same pictures without snow.",
        "## What accuracy says",
        _accuracy_table(numbers["accuracy"], pictures),
        "Accuracy with its 95 % interval (Clopper-Pearson). Where snow and label go together as in training, which is what an "
        "ordinary test set shows, the first network looks better than the control. Without snow it takes "
        f"{_percent(1 - found['clean'][MARKED])} of the {coat}s for {pullover}s, and with snow "
        f"{_percent(1 - found['swapped'][PLAIN])} of the {pullover}s for {coat}s.",
        "## What explanations say",
        f"![{len(ROWS)} explanations of four pictures for both networks, and the share of each on the snow]({SHEET.name})",
        f"The first {half} {coat}s and the first {half} {pullover}s of the test part, all with snow, are explained for the "
        f"logit of {MARKED}. All options are the methods' defaults (`lime`, grid: with square segments). `relevance_on` gives "
        "the share of a map's positive relevance that lies on the snow; by chance it is "
        f"{_percent(numbers['chance'])}, the snow's share of the area. The peak is the map's greatest value, where one looks "
        "first.",
        _method_table(numbers["methods"]),
        "Means with 95 % bootstrap intervals over the pictures; the difference is taken picture by picture. Right: the least "
        f"and the greatest mean of {TRAININGS} pairs of networks from different seeds, {pictures['repeated']} of the pictures "
        f"each. With the snow on the {pullover}s their accuracy is {_range([s['shortcut'] for s in numbers['swapped']])}, that "
        f"of the controls {_range([s['control'] for s in numbers['swapped']])}.",
        *_reading(numbers["methods"]),
        "## In your own data",
        "Say where you suspect the mark: true on its pixels, `(N, H, W)`, or one mask for all pictures.",
        SNIPPET,
        "1. Look at maps of many pictures of one class. What lights up at the same place in most of them, or beside the "
        "object, is a suspect.\n"
        "2. Measure it with these three lines. Compare with the area, with `edge_detector`, and, where you can, with a network "
        "trained on pictures from which the mark was cut.\n"
        "3. Test it: put the mark on pictures of the other class, or take it away, and count the answers that change. A map is "
        "a hint of what to try; this is the proof.",
        TRIAL,
        "## How it was made",
        _making(numbers),
    ]
    return "\n\n".join(parts) + "\n"


def _reading(methods: Mapping[str, Any]) -> list[str]:
    """What the table shows, and where methods fall short."""

    def share(row: str, model: str = "shortcut") -> str:
        return _percent(methods[row][model]["share"][0])

    def peak(row: str) -> str:
        return _percent(methods[row]["shortcut"]["peak"][0])

    looking = [row for row in ROWS if row != "edge_detector"]
    fewest, most = (end(methods[row]["shortcut"]["peak"][0] for row in looking) for end in (min, max))
    coat, pullover = (methods["libra_cam"]["shortcut"]["by class"][label] for label in (MARKED, PLAIN))
    blank = methods["grad_cam"]["control"]["blank"]
    return [
        "All methods that look at the network put more relevance on the snow than chance and than on the control, each beyond "
        f"its interval. LIME is clearest, with {share('lime')} ({share('lime, grid')} with square segments). They fall short "
        "in these ways:",
        f"- **One map may miss it.** The peak lies on the snow in {100 * fewest:.0f} to {_percent(most)} of the pictures, "
        f"depending on the method: {peak('libra_cam')} for Libra-CAM, {peak('grad_cam')} for Grad-CAM, {peak('lime')} for "
        "LIME. On the white coat, the first picture of the sheet, the snow hardly shows, and occlusion, which fills in grey, "
        f"even counts most of its place against {MARKED}.\n"
        f"- **Grad-CAM is the weakest**, with {share('grad_cam')}: it averages the gradient of each channel over all places, "
        "while the head of LeNet-5 weighs each place by itself. HiResCAM, which does not average, has "
        f"{share('hires_cam')}. For {blank} of the control's pictures Grad-CAM has no positive relevance at all; its means "
        "leave them out.\n"
        f"- **The gradient is faint.** It has {share('gradient')} on the snow, and the rest is spread over the whole picture; "
        f"its peak is right in {peak('gradient')}.\n"
        "- **No method has all of it there**, and none should: the network uses the clothes too, a little. Libra-CAM has "
        f"{_percent(coat)} on the snow of {MARKED.lower()}s and {_percent(pullover)} on that of {PLAIN.lower()}s, where less "
        "else speaks for the class. Segments and coarse layers also reach over the snow's edge.\n"
        f"- **Above chance is not enough.** The edge detector has {share('edge_detector')} on the snow without looking at any "
        "network, because snow has edges. It takes the control, where it has the same, to see that it knows nothing.",
    ]


def _making(numbers: Mapping[str, Any]) -> str:
    t, s = numbers["training"], numbers["seeds"]
    return (
        f"LeNet-5 with two outputs as `pellucid run` trains it: {t['optimizer']}, learning rate {t['lr']:g}, weight decay "
        f"{t['weight_decay']:g}, schedule {t['schedule']}, {t['epochs']} epochs in batches of {t['batch']}, augmentation "
        f"{', '.join(t['augment'])}; without a validation part, so that the last epoch is kept. Training and test part are "
        f"those of the bundled Fashion-MNIST ({numbers['pictures']['train']:,} and {numbers['pictures']['test']} pictures of "
        "the two classes). No setting of networks or methods was tuned; the strength of the snow was set by eye, after a first "
        "trial with fainter snow, which was learned as well. Seeds: "
        + ", ".join(f"{name} {seed}" for name, seed in s.items())
        + f"; of the repeated trainings 0 to {TRAININGS - 1}, on the same snow. Libra-CAM's references are training pictures. "
        "All on a CPU in float32; other processors round differently."
    )


TRIAL = """To try whether a method would show a shortcut in your data at all, plant one and train twice: a white mark, snow, a
colour cast or, in a table, a column that gives the class away.

```
pellucid shortcut --data pictures/ --class cat --kind mark --methods lime,grad_cam --set lime.baseline=0
```

It trains with and without the mark, measures how far the first network follows it, and says of each method whether its share on
the mark is above chance and above the control's. (LIME's default puts each segment's own mean in its place, which leaves a mark
of one colour as it is; hence the baseline.) `pellucid audit` watches the pictures' border by itself,
`pellucid.shortcut_alarm(explanation, mask)` any place of yours."""

SNIPPET = """```python
from pellucid.quality.shortcut import relevance_on

on = relevance_on(mask, pellucid.lime(model, x, target=1))
print(f"{float(on):.0%} of the relevance on {on.chance:.0%} of the area")
```"""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _range(values: Sequence[float]) -> str:
    return f"{100 * min(values):.0f} to {_percent(max(values))}"


def _accuracy_table(found: Mapping[str, Any], pictures: Mapping[str, int]) -> str:
    lines = [f"| {pictures['test']} test pictures | trained with snow | control | always one class |", "|---|---|---|---|"]
    for name, words in TESTS.items():
        cells = [
            f"{_percent(f['rate'])} ({100 * f['lower']:.0f} to {100 * f['upper']:.0f})"
            for f in (found[model][name] for model in MODELS)
        ]
        lines.append(f"| {words} | {' | '.join(cells)} | 50 % |")
    return "\n".join(lines)


def _method_table(methods: Mapping[str, Any]) -> str:
    heads = [
        "method",
        "share on the snow",
        "control",
        "difference",
        "peak on the snow",
        "control",
        f"{TRAININGS} trainings",
        "controls",
    ]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name in ROWS:
        m = methods[name]
        shares = [_measured(values) for values in (*(m[model]["share"] for model in MODELS), m["difference"])]
        peaks = [_percent(m[model]["peak"][0]) for model in MODELS]
        spread = [_range(m["trainings"][model]) for model in MODELS]
        method, *rest = name.split(",")
        lines.append(f"| {','.join([f'`{method}`', *rest])} | {' | '.join([*shares, *peaks, *spread])} |")
    return "\n".join(lines)


def _measured(values: Sequence[float]) -> str:
    share, lower, upper = (100 * value for value in values)
    return f"{share:.0f} % ({lower:.0f} to {upper:.0f})"


# The preparations of the two networks differ, so that even the edge detector's maps are only equal to float32's precision.
ROUNDING = 1e-6


def revealing(numbers: Mapping[str, Any]) -> list[str]:
    """Rows with a share on the snow above chance and above the control's, beyond both intervals and what is mere rounding."""
    methods = numbers["methods"]
    return [
        row
        for row in ROWS
        if methods[row]["difference"][1] > ROUNDING and methods[row]["shortcut"]["share"][1] > numbers["chance"]
    ]


def main() -> None:
    """Write the page, and the numbers and the sheet unless only the text is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="store_true", help="write the page only, from the numbers that are there")
    if not parser.parse_args().text:
        numbers, shown = measured()
        NUMBERS.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        SHEET.write_bytes(png(sheet(numbers, shown), RESOLUTION))
    PAGE.write_text(page(json.loads(NUMBERS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
