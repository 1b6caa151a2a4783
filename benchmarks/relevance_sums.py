"""Does the relevance add up? What arrives at the input, as a share of the score that was handed back from the output.

    python benchmarks/relevance_sums.py             # trains two networks on first use (some ten minutes on two cores)
    python benchmarks/relevance_sums.py --quick     # a few steps of training and a few images: does it run?
    python benchmarks/relevance_sums.py --networks mobilenet_v2 --images 8

ResNet-18 and ResNet-50 are torchvision's, trained on the bundled part of Fashion-MNIST (32 x 32, the grey channel three
times); their weights are kept under ``--weights``. MobileNetV2 has its published ImageNet weights and its photographs, which
``scripts/mobilenet_v2.py`` downloads on first use. The networks are as torchvision has them: a plain ``+`` in every block, one
in-place ReLU used several times, batch norms behind convolutions.

Every row explains the logit of the predicted class of the same images. sum / logit: the median over the images, and the one
furthest from 1. With rules that let biases take part, the biases keep a share; "otherwise" is what stabilisers took, and units
without any contribution of the sign that a rule asks for. The three add up to 1, image by image, up to the last column. Other
packages do not say where relevance was lost. zennit runs with its canonizer for these networks and, as somebody who does not
know of it would have it, without: every ``+`` then doubles what it is given, and there are 8 and 16 of them. captum's LRP has
no such thing.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, see benchmarks/explanation.py

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pellucid
from explaining.peers import declare_torchvision, first_line, package, peer_of

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import mobilenet_v2

COMPOSITES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_gamma_box")
RULES = ("epsilon", "zero")
ZENNIT = dict(zip(COMPOSITES, ("EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonGammaBox")))
EPOCHS = {"resnet18": 3, "resnet50": 2}
OURS, MOST_MISSING = "pellucid", 1e-3
SIDE, CLASSES, BATCH, LR = 32, 10, 64, 2e-3
COLUMNS = ["network", "rule", "package", "sum / logit, median", "worst", "to biases", "otherwise", "not accounted for"]


@dataclass
class Case:
    """A network in evaluation mode, images with what is known of their bounds, and how well the network does."""

    name: str
    model: nn.Module
    x: Tensor
    low: float | Tensor
    high: float | Tensor
    said: str

    def __post_init__(self) -> None:
        with torch.no_grad():
            self.logit, self.target = self.model(self.x).max(1)


@dataclass
class Sums:
    """Per image: the relevance's sum, what biases took and what was lost otherwise, all divided by the logit."""

    total: Tensor
    biases: Tensor | None = None
    otherwise: Tensor | None = None

    def missing(self) -> float:
        """The most that is not accounted for in an image; 0 where nothing is said of what was lost."""
        if self.biases is None or self.otherwise is None:
            return 0.0
        return float((1 - self.total - self.biases - self.otherwise).abs().nan_to_num(torch.inf).max())


# Networks.


def fashion(limit: int | None) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images (n, 3, 32, 32) and classes, for training and for testing."""
    data = pellucid.read("fashion_mnist")
    data.fit(data.parts["train"])

    def part(rows: Any) -> tuple[Tensor, Tensor]:
        x, y = data.tensors(rows[:limit])
        edge = (SIDE - x.shape[-1]) // 2
        return nn.functional.pad(x, [edge] * 4, value=float(x.min())).expand(-1, 3, -1, -1).contiguous(), y

    return part(data.parts["train"]), part(data.parts["test"])


def trained(name: str, images: int, weights: Path, quick: bool) -> Case:
    """torchvision's architecture, trained once."""
    learning, testing = fashion(2 * BATCH if quick else None)
    torch.manual_seed(0)
    model: nn.Module = getattr(importlib.import_module("torchvision.models"), name)(weights=None, num_classes=CLASSES)
    kept = weights / f"{name}-fashion_mnist-{SIDE}-{EPOCHS[name]}.safetensors"
    begun = time.perf_counter()
    if kept.is_file() and not quick:
        model.load_state_dict(load_file(kept))
    else:
        epochs = 1 if quick else EPOCHS[name]
        given: dict[str, Any] = {"epochs": epochs, "batch": BATCH, "lr": LR, "weight_decay": 0.01, "schedule": "one_cycle"}
        pellucid.train(model, pellucid.InMemory(*learning), "multiclass", device="cpu", on_event=lambda event: None, **given)
        if not quick:
            weights.mkdir(parents=True, exist_ok=True)
            save_file(model.state_dict(), part := kept.with_suffix(f".{os.getpid()}"))
            os.replace(part, kept)
    taken = time.perf_counter() - begun
    model.eval()
    x, y = testing
    with torch.no_grad():
        right = torch.cat([model(some).argmax(1) for some in x.split(200)]) == y
    said = f"{name}: test accuracy {float(right.float().mean()):.3f} on {len(y):,} images, ready after {taken:.0f} s"
    return Case(name, model, x[:images], float(learning[0].min()), float(learning[0].max()), said)


def published(images: int) -> Case:
    """MobileNetV2 and photographs with known classes."""
    model, (x, y) = mobilenet_v2.pretrained(), mobilenet_v2.reference_photographs()
    with torch.no_grad():
        right = model(x).argmax(1) == y
    said = f"mobilenet_v2: {int(right.sum())} of {len(y)} photographs right"
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (mobilenet_v2.MEAN, mobilenet_v2.STD))
    return Case("mobilenet_v2", model, x[:images], -mean / std, (1 - mean) / std, said)


# Who adds up.


def ours(case: Case, rule: str, **options: Any) -> Sums:
    """Ours, with its ledger; the table says what the notes would."""
    given = {"composite": rule, "low": case.low, "high": case.high, "most_lost": 1e9, **options}
    found = pellucid.lrp(case.model, case.x, target=case.target, **given)
    assert found.ledger is not None
    lost = found.ledger.sum(1) / found.score[:, None]
    return Sums(found.relevance.flatten(1).sum(1) / found.score, lost[:, 1], lost[:, 2])


def zennit(case: Case, rule: str, canonizer: bool) -> Sums:
    """zennit, started at the logit like the others."""
    composites = package("zennit")
    attribution, rules, kinds, fitted = (
        importlib.import_module(f"zennit.{part}") for part in ("attribution", "rules", "types", "torchvision")
    )
    given: dict[str, Any] = {"canonizers": [fitted.ResNetCanonizer()] if canonizer else []}
    if rule == "epsilon":
        table = [*composites.layer_map_base(), (kinds.Linear, rules.Epsilon())]
        composite = composites.LayerMapComposite(table, **given)
    else:
        bounds = {"low": case.low, "high": case.high} if rule == "epsilon_gamma_box" else {}
        composite = getattr(composites, ZENNIT[rule])(**given, **bounds)
    chosen = nn.functional.one_hot(case.target, CLASSES).to(case.x)
    with attribution.Gradient(case.model, composite) as attributor:
        _, relevance = attributor(case.x, lambda answer: chosen * answer)
    return Sums(relevance.detach().flatten(1).sum(1) / case.logit)


def captum(case: Case) -> Sums:
    """captum's LRP with its default, the epsilon rule."""
    found = package("captum").LRP(case.model).attribute(case.x.clone().requires_grad_(), target=case.target)
    return Sums(found.detach().flatten(1).sum(1) / case.logit)


def asked(case: Case) -> list[tuple[str, str, Callable[[], Sums]]]:
    """Rule, package, and the call."""
    made: list[tuple[str, str, Callable[[], Sums]]] = []
    for rule in (*COMPOSITES, *RULES):
        made.append((rule, OURS, functools.partial(ours, case, rule)))
        if rule == "epsilon_plus":
            made.append((f"{rule}, bias=False", OURS, functools.partial(ours, case, rule, bias=False)))
        if case.name in EPOCHS and rule != "zero":
            made.append((rule, "zennit, ResNetCanonizer", functools.partial(zennit, case, rule, True)))
            made.append((rule, "zennit, no canonizer", functools.partial(zennit, case, rule, False)))
        if rule == "epsilon":
            made.append((rule, "captum LRP", functools.partial(captum, case)))
    return made


def cells(case: Case, rule: str, label: str, sums: Sums) -> list[str]:
    """A line of the table."""
    worst = sums.total[(sums.total - 1).abs().nan_to_num(torch.inf).argmax()]
    shown = [f"{float(sums.total.quantile(0.5)):.4g}", f"{float(worst):.4g}"]
    if sums.biases is None or sums.otherwise is None:
        return [case.name, rule, label, *shown, "-", "-", "-"]
    medians = (f"{float(part.quantile(0.5)):.2g}" for part in (sums.biases, sums.otherwise))
    return [case.name, rule, label, *shown, *medians, f"{sums.missing():.0e}"]


def main() -> int:
    """0 unless ours fails or does not account for all of the relevance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet18,resnet50,mobilenet_v2", help="names, with commas between them")
    parser.add_argument("--images", type=int, help="images that are explained (default 50, at most 20 photographs; quick: 4)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pellucid"
    parser.add_argument(
        "--weights", type=Path, default=cache, help="where trained weights are kept (default: the user's cache)"
    )
    parser.add_argument("--quick", action="store_true", help="hardly any training, few images, nothing kept")
    given = parser.parse_args()
    names, images = given.networks.split(","), given.images or (4 if given.quick else 50)
    unknown = [name for name in names if name not in (*EPOCHS, "mobilenet_v2")]
    if unknown:
        parser.error(f"no network is called {', '.join(unknown)}; there are {', '.join((*EPOCHS, 'mobilenet_v2'))}")
    warnings.simplefilter("ignore")  # what the peers say about themselves
    if declare_torchvision() is None or importlib.util.find_spec("torchvision") is None:
        print(
            "torchvision is not installed, and the networks are torchvision's: nothing is measured (`make peers` installs it)"
        )
        return 0
    lines, notes, good = [], [], True
    for name in names:
        try:
            case = published(images) if name == "mobilenet_v2" else trained(name, images, given.weights, given.quick)
        except RuntimeError as error:  # nothing to download from
            print(f"{name} left out: {error}", flush=True)
            continue
        print(f"{case.said}; {len(case.x)} explained", flush=True)
        for rule, label, run in asked(case):
            mine = label == OURS
            if not mine and not isinstance(peer_of(label), ModuleType):
                notes.append(f"{label}: {peer_of(label)}")
                continue
            try:
                sums = run()
            except Exception as error:
                notes.append(f"{name}, {rule}, {label}: {first_line(error)}")
                good = good and not mine
                continue
            lines.append(cells(case, rule, label, sums))
            good = good and sums.missing() < MOST_MISSING
    widths = [max(len(row[i]) for row in [COLUMNS, *lines]) for i in range(len(COLUMNS))]
    print()
    for row in [COLUMNS, ["-" * w for w in widths], *lines]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
    print("", *dict.fromkeys(notes), sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
