"""The experiment of docs/shortcut.md: two networks, one of which had snow on a class in training, and maps of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from pellucid.core import seeds
from pellucid.data.image_preparation import ImagePreparation
from pellucid.data.planted import Planted, plant_shortcut
from pellucid.evaluation.intervals import bootstrap, clopper_pearson
from pellucid.explanation.result import Explanation
from pellucid.quality.shortcut import OnMask, relevance_on
from pellucid.study.stages import learn

PLAIN, MARKED = "Pullover", "Coat"  # the second has the snow
SEEDS = {"snow in the training part": 0, "snow in the test part": 1, "network": 0}
# Pictures of each class that are explained, and those (the first of them) that are explained for each of several trainings.
EACH, FEWER, TRAININGS = 50, 10, 5
SHOWN = 2  # pictures of each class on the sheet, the first of the test part

# The rows of the sheet and the table: method, its options, and how the row is called.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "lime": ("lime", {}),
    "lime, grid": ("lime", {"features": "grid"}),
    "libra_cam": ("libra_cam", {}),
    "grad_cam": ("grad_cam", {}),
    "hires_cam": ("hires_cam", {}),
    "gradient": ("gradient", {}),
    "occlusion": ("occlusion", {}),
    "kernel_shap": ("kernel_shap", {}),
    "edge_detector": ("edge_detector", {}),
}
MODELS = {"shortcut": "Trained with snow on every coat", "control": "Trained without snow"}
TESTS = {"same": f"snow on every {MARKED.lower()}", "clean": "no snow", "swapped": f"snow on every {PLAIN.lower()}"}


class Pictures(NamedTuple):
    """Raw bytes (N, 28, 28) and labels (N,), 1 for the class that has the snow."""

    raw: np.ndarray
    y: Tensor

    def snowed(self, label: int, seed: int) -> Planted:
        """The same with snow on one of the classes."""
        return plant_shortcut(self.raw, (self.y == label).numpy(), seed=seed)


class Trained(NamedTuple):
    """A network, the preparation of its training part, and its references for Libra-CAM."""

    model: nn.Module
    prepare: ImagePreparation
    library: pellucid.ReferenceLibrary


class Shown(NamedTuple):
    """Some of the explained pictures: their places among the maps are ``columns``."""

    pictures: Planted
    networks: dict[str, Trained]
    maps: dict[str, dict[str, Explanation]]
    columns: np.ndarray


def part(name: str) -> Pictures:
    """The two classes in a part that Fashion-MNIST itself fixes."""
    data = pellucid.read("fashion_mnist")
    plain, marked = map(data.classes.index, (PLAIN, MARKED))
    rows = [row for row in data.parts[name].tolist() if int(data.y[row]) in (plain, marked)]
    return Pictures(data.raw(rows), (data.y[rows] == marked).long())


def trained(raw: np.ndarray, y: Tensor, *, seed: int) -> Trained:
    """LeNet-5 as `pellucid run` trains it, for two classes; no part is held back, since nothing is chosen."""
    study = pellucid.default_study()
    prepare = ImagePreparation(*raw.shape[1:], 1).fit([raw])
    x = prepare.apply(raw)
    with seeds.scoped(seed, "weights"):
        model = pellucid.build("lenet5", input_shape=prepare.input_shape, outputs=2)
    learn(study, model, pellucid.InMemory(x, y), "multiclass", seed=seed, device="cpu")
    return Trained(model.eval(), prepare, pellucid.reference_library(model, x, y))


def pair(seed: int) -> dict[str, Trained]:
    """A network that had snow on one class in training, and one that never saw any."""
    train = part("train")
    snowed = train.snowed(1, SEEDS["snow in the training part"]).images
    return {"shortcut": trained(snowed, train.y, seed=seed), "control": trained(train.raw, train.y, seed=seed)}


def right(found: Trained, raw: np.ndarray, y: Tensor) -> np.ndarray:
    """(N,) whether the answer is the label."""
    with torch.no_grad():
        return (found.model(found.prepare.apply(raw)).argmax(1) == y).numpy()


def accuracy(found: Trained, test: Pictures) -> dict[str, dict[str, float]]:
    """Of the three test sets: the rate, its 95 % interval, and the rate in each class."""
    seed = SEEDS["snow in the test part"]
    sets = {"same": test.snowed(1, seed).images, "clean": test.raw, "swapped": test.snowed(0, seed).images}
    answers = {}
    for name, raw in sets.items():
        hit = right(found, raw, test.y)
        wrong = clopper_pearson(int((~hit).sum()), len(hit))
        rates = {label: float(hit[(test.y == index).numpy()].mean()) for index, label in enumerate((PLAIN, MARKED))}
        answers[name] = {"rate": float(hit.mean()), "lower": 1 - wrong.upper, "upper": 1 - wrong.lower, **rates}
    return answers


def snowy(test: Pictures, each: int) -> Planted:
    """The first pictures of both classes, all with snow: those of the marked class first."""
    chosen = np.concatenate([np.flatnonzero((test.y == label).numpy())[:each] for label in (1, 0)])
    everywhere = plant_shortcut(test.raw, np.ones(len(test.y), bool), seed=SEEDS["snow in the test part"])
    return Planted(everywhere.images[chosen], everywhere.mask[chosen])


def explained(found: Trained, images: np.ndarray, rows: Sequence[str] = tuple(ROWS)) -> dict[str, Explanation]:
    """Each row's explanation of why the pictures would be of the marked class."""
    x = found.prepare.apply(images)
    answers = {}
    for name in rows:
        method, options = ROWS[name]
        more = {"library": found.library} if method == "libra_cam" else {}
        answers[name] = pellucid.explain(found.model, x, {method: {**options, **more}}, target=1)[method]
        print(f"  {name}", flush=True)
    return answers


def mean(values: np.ndarray) -> list[float]:
    """Mean, lower and upper end of its 95 % interval, without the NaN."""
    kept = values[~np.isnan(values)]
    ends = bootstrap(kept, lambda means: means)
    return [float(kept.mean()), ends.lower, ends.upper]


def summary(on: Mapping[str, OnMask]) -> dict[str, Any]:
    """Of one method: share and peak for both networks, and the difference of the shares picture by picture."""
    half = len(on["shortcut"]) // 2
    facts: dict[str, Any] = {
        model: {
            "share": mean(found.share),
            "peak": mean(found.peak),
            "blank": int(found.blank.sum()),
            "by class": {MARKED: float(np.nanmean(found.share[:half])), PLAIN: float(np.nanmean(found.share[half:]))},
        }
        for model, found in on.items()
    }
    return {**facts, "difference": mean(on["shortcut"].share - on["control"].share)}


def measured() -> tuple[dict[str, Any], Shown]:
    """All numbers of the page, and what the sheet shows."""
    test = part("test")
    planted = snowy(test, EACH)
    few = np.r_[:FEWER, EACH : EACH + FEWER]
    training, networks = pellucid.default_study().training, pair(SEEDS["network"])
    maps = {model: explained(found, planted.images) for model, found in networks.items()}
    on = {row: {model: relevance_on(planted.mask, maps[model][row]) for model in MODELS} for row in ROWS}
    repeats: dict[str, dict[str, list[float]]] = {row: {model: [] for model in MODELS} for row in ROWS}
    collapse = []
    for seed in range(TRAININGS):
        again = networks if seed == SEEDS["network"] else pair(seed)
        collapse.append({model: accuracy(found, test)["swapped"]["rate"] for model, found in again.items()})
        for model, found in again.items():
            print(f"training {seed}, {model}", flush=True)
            for row, made in explained(found, planted.images[few]).items():
                repeats[row][model].append(float(relevance_on(planted.mask[few], made)))
    numbers = {
        "seeds": SEEDS,
        "pictures": {"train": len(part("train").y), "test": len(test.y), "explained": 2 * EACH, "repeated": 2 * FEWER},
        "training": {
            key: getattr(training, key) for key in ("optimizer", "lr", "weight_decay", "schedule", "epochs", "batch", "augment")
        },
        "accuracy": {model: accuracy(found, test) for model, found in networks.items()},
        "chance": on["lime"]["shortcut"].chance,
        "methods": {row: {**summary(found), "trainings": repeats[row]} for row, found in on.items()},
        "swapped": collapse,
    }
    show = np.r_[:SHOWN, EACH : EACH + SHOWN]
    return numbers, Shown(Planted(planted.images[show], planted.mask[show]), networks, maps, show)
