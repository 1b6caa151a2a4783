"""Rows about images: LIME and RISE on ResNet-18 with seeded weights, and half precision on a network that was trained."""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from explaining.networks import FULL, images, network

from . import bare, calls
from .cases import grid
from .curves import ratio, rounds
from .rows import Row, same

TARGET = 37
COARSE = 64  # pixels of the image on which all coalitions of twelve segments are affordable


def names() -> dict[str, Callable[[bool], Row]]:
    """Row by name, as ``rows.names``."""
    return {
        "lime, ResNet-18, 224, 49 segments": lambda small: lime_row(FULL, (7, 7), 64, ()),
        "lime, ResNet-18, 64, 12 segments": lambda small: lime_row(COARSE, (4, 3), 512, (32, 64, 128, 256, 512), exact=2**12),
        "rise, ResNet-18, 224": lambda small: rise_row(FULL, 64),
    }


@functools.cache
def resnet() -> nn.Module:
    """ResNet-18 with frozen seeded weights."""
    return network("resnet").requires_grad_(False)


def lime_row(size: int, parts: tuple[int, int], budget: int, budgets: tuple[int, ...], exact: int = 0) -> Row:
    """LIME on rectangles. ``exact``: so many coalitions are all of them, whose answer both packages converge to."""
    model, x, labels = resnet(), images(1, size), grid(size, *parts)
    count = int(labels.max()) + 1
    first = torch.tensor([int((labels.flatten() == f).nonzero()[0]) for f in range(count)])

    def mine(i: int, evaluations: int, seed: int) -> np.ndarray:
        found = pellucid.lime(model, x, features=labels, target=[TARGET], samples=evaluations, seed=seed)
        return found.raw[0].flatten()[first].double().numpy()

    means = torch.stack([x[:, :, labels == f].mean(2) for f in range(count)], 2)[:, :, labels]
    stay = torch.rand(budget, count, generator=torch.Generator().manual_seed(0)) < 0.5
    masks = stay[:, labels][:, None].float()
    peers = {"lime_image": calls.lime_image(model, x, TARGET, labels, bare.rows_of(x))}
    values = functools.cache(lambda: mine(0, exact, 0)[None])
    return Row(
        budget,
        mine,
        lambda: bare.of_images(model, x, means, masks),
        peers,
        same(values, "ours", *peers) if exact else None,
        budgets,
    )


def rise_row(size: int, masks: int) -> Row:
    """RISE beside blending with masks that are there already and the passes."""
    model, x = resnet(), images(1, size)
    drawn = torch.rand(masks, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    wide = nn.functional.interpolate(drawn, (size, size), mode="bilinear", align_corners=False)

    def mine(i: int, evaluations: int, seed: int) -> Any:
        return pellucid.explain(model, x, {"rise": {"masks": evaluations}}, target=[TARGET], seed=seed)

    return Row(masks, mine, lambda: bare.of_images(model, x, torch.zeros_like(x), wide))


def half_precision(masks: int, repeats: int) -> list[str]:
    """Time of masked photographs in bfloat16 over that in float32, and whether the two maps rank the places alike."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    import mobilenet_v2

    try:
        model, x = mobilenet_v2.pretrained(), mobilenet_v2.photographs(["chelsea", "coffee"])
    except RuntimeError as error:
        return [f"bfloat16: left out, {error}"]
    lines = []
    asked: dict[str, dict[str, Any]] = {
        "rise": {"masks": masks},
        "lime": {"samples": masks},
        "occlusion": {"window": FULL // 4, "stride": FULL // 4},
    }
    for name, options in asked.items():
        maps: dict[str, Tensor] = {}

        def run(precision: str, name: str = name, options: dict[str, Any] = options, maps: dict[str, Tensor] = maps) -> None:
            maps[precision] = pellucid.explain(model, x, {name: options}, precision=precision)[name].map()

        times = rounds({p: functools.partial(run, p) for p in ("float32", "bfloat16")}, repeats)
        share = ratio(times, "bfloat16", "float32")
        agreement = statistics.fmean(rank_agreement(a, b) for a, b in zip(maps["float32"], maps["bfloat16"]))
        lines.append(
            f"{name}, MobileNetV2, {len(x)} photographs: {share:.2f} of float32's time, rank agreement {agreement:.4f}"
        )
    return lines


def rank_agreement(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation of two maps; equal values share the mean of their ranks."""

    def ranks(values: Tensor) -> Tensor:
        _, place, times = values.flatten().unique(return_inverse=True, return_counts=True)
        return (times.cumsum(0) - (times - 1) / 2)[place].double()

    return float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])
