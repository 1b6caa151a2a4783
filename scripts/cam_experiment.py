"""Class activation maps of photographs by MobileNetV2, and what it makes of the parts that they keep: measured, and kept.

python scripts/cam_experiment.py              # measure what is missing; it can be stopped and started again
python scripts/cam_experiment.py score_cam    # of one method only

Each map and its probabilities are one file in ``$XDG_CACHE_HOME/pellucid``. Everything is measured again only where
``SETTINGS`` differs; after a change of a method, delete its folder there.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import mobilenet_v2
import pellucid
import photographs
from pellucid.explanation import masks
from pellucid.quality.faithfulness import LEVELS, faithfulness

# What is compared, in the order of the tables: methods of the published table, then maps that explain nothing.
METHODS = ("libra_cam", "score_cam", "grad_cam_plus_plus", "grad_cam", "layer_cam", "relevance_cam")
CONTROLS = ("edge_detector", "constant", "random", "random_filtered")
ROWS = METHODS + CONTROLS
# Score-CAM tries more than a thousand channels of a photograph, one forward each: it gets every fourth.
EVERY = {"score_cam": 4}
GRID = 7  # cells along the side of the network's last layer, and so of the random maps
SETTINGS = {
    "weights": mobilenet_v2.DIGEST,
    "photographs": photographs.DIGEST[:8],
    "references": mobilenet_v2.REFERENCES_DIGEST,
    "levels": len(LEVELS),
}


@dataclass(frozen=True)
class Measured:
    """evidence (H, W) in [0, 1] to draw; y the target's probability, o (T,) that of what the map keeps at each threshold."""

    evidence: Tensor
    y: float
    o: Tensor
    facts: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """The network, Libra-CAM's references, and the photographs with the class that the network answers with."""

    model: nn.Module
    library: pellucid.ReferenceLibrary
    photographs: list[photographs.Photograph]
    x: Tensor
    target: Tensor

    def chosen(self, row: str) -> range:
        """The photographs that this row is measured on."""
        return range(0, len(self.x), EVERY.get(row, 1))


def folded(model: nn.Module) -> nn.Module:
    """The same function at less than half the time: each batch normalisation becomes part of the convolution before it.

    Nothing above the layer that the maps are made of is touched, so that the maps are the same too.
    """
    model = copy.deepcopy(model)
    for block in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        names = list(block._modules)
        for first, second in itertools.pairwise(names):
            one, other = block._modules[first], block._modules[second]
            if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                block._modules[first], block._modules[second] = fuse_conv_bn_eval(one, other), nn.Identity()
    return model.to(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def bench() -> Bench:
    """Everything that is needed, downloaded where it is missing."""
    published = mobilenet_v2.pretrained()
    model = folded(published)
    images, labels = mobilenet_v2.reference_photographs()
    found = photographs.photographs()
    x = mobilenet_v2.prepared([one.image for one in found])
    with torch.no_grad():
        if not torch.allclose(model(x[:4]).softmax(1), published(x[:4]).softmax(1), rtol=0, atol=1e-5):
            raise RuntimeError("The folded network answers differently from the published one.")
        target = torch.cat([model(part).argmax(1) for part in x.split(16)])
    return Bench(model, pellucid.reference_library(model, images, labels), found, x, target)


def evidence(on: Bench, row: str, index: int) -> tuple[Tensor, dict[str, Any]]:
    """(1, H, W) in [0, 1]: the map of one photograph, before any calibration, and what else is known of it."""
    x, target = on.x[index : index + 1], on.target[index : index + 1]
    if row == "constant":
        return torch.ones_like(x[:, 0]), {}
    if row.startswith("random"):
        generator = torch.Generator().manual_seed(index)
        maps = torch.rand(len(on.library.index[0]) + 1, GRID, GRID, generator=generator)
        enlarged = masks.resize(masks.unit(maps), masks.spatial(x))
        return (enlarged[:1], {}) if row == "random" else filtered(on.model, x, target, enlarged[1:])
    options = {"library": on.library, "calibrated": False} if row == "libra_cam" else {}
    made = pellucid.explain(on.model, x, {row: options}, target=target)[row]
    facts = {name: value.tolist()[0] for name, value in made.details.items()} | dict(made.counts)
    return made.evidence(), facts | {"layer": made.layer}


def filtered(model: nn.Module, x: Tensor, target: Tensor, maps: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """What Libra-CAM does with its references' maps, done with any: the mean of those that raise the class, else the best."""
    with torch.no_grad():
        own, p = (model(a).softmax(1)[:, target] for a in (x, masks.keep(x.expand(len(maps), -1, -1, -1), maps)))
    kept = (p > own)[:, 0]
    kept = kept if bool(kept.any()) else (p == p.max())[:, 0]
    return masks.unit(maps[kept].mean(0, keepdim=True)), {"kept": int(kept.sum())}


def measure(row: str, index: int) -> Measured:
    """One map of one photograph, from its file or made now."""
    path = _folder(row) / f"{index:03}.safetensors"
    if not path.is_file():
        on, began = bench(), time.perf_counter()
        made, facts = evidence(on, row, index)
        facts["seconds"] = round(time.perf_counter() - began, 3)
        found = faithfulness(on.model, on.x[index : index + 1], made, target=on.target[index : index + 1])
        tensors = {"evidence": made[0].half(), "y": torch.tensor(found.y), "o": torch.tensor(found.o)}
        _kept(path, tensors, facts)
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        return Measured(file.get_tensor("evidence").float(), float(file.get_tensor("y")[0]), file.get_tensor("o")[0], facts)


def _folder(row: str) -> Path:
    settings = "-".join(str(value) for value in SETTINGS.values())
    return mobilenet_v2.cache() / "cam_comparison" / settings / row


def _kept(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        pass
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part.name, metadata={"facts": json.dumps(facts)})
    os.replace(part.name, path)


def measured(rows: tuple[str, ...] = ROWS, say: Callable[[str], None] = print) -> dict[str, dict[int, Measured]]:
    """Row -> number of a photograph -> what was measured. First come the photographs that all rows have."""
    on, began = bench(), time.perf_counter()
    shared = [index for index in range(len(on.x)) if all(index in on.chosen(row) for row in ROWS)]
    order = shared + [index for index in range(len(on.x)) if index not in shared]
    found: dict[str, dict[int, Measured]] = {row: {} for row in rows}
    for done, index in enumerate(order, 1):
        for row in rows:
            if index in on.chosen(row):
                found[row][index] = measure(row, index)
        say(f"{done} of {len(on.x)} photographs  {time.perf_counter() - began:7.0f} s")
    return {row: dict(sorted(measured.items())) for row, measured in found.items()}


if __name__ == "__main__":
    asked = tuple(sys.argv[1:]) or ROWS
    unknown = [row for row in asked if row not in ROWS]
    if unknown:
        raise SystemExit(f"There is no row {', '.join(unknown)}: {', '.join(ROWS)}.")
    measured(asked, lambda words: print(words, flush=True))
