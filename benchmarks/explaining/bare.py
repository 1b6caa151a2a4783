"""The passes that a method cannot do without, in plain torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .networks import SAMPLES, STEPS, Case, ResNet18, Vgg11, images


def scored(case: Case, answer: Tensor, sample: Tensor | None = None) -> Tensor:
    """The targets' logits, summed."""
    target = torch.tensor(case.target)
    return answer.gather(1, (target if sample is None else target[sample])[:, None]).sum()


def pairs(samples: int, draws: int, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of a sample and a draw, so many at a time."""
    for k in torch.arange(samples * draws).split(rows):
        yield k // draws, k % draws


def bare_gradient(case: Case) -> Tensor:
    """One forward and backward to the input."""
    found = torch.empty_like(case.x)
    for sample in torch.arange(len(case.x)).split(case.rows):
        leaf = case.x[sample].requires_grad_()
        found[sample] = torch.autograd.grad(scored(case, case.frozen(leaf), sample), leaf)[0]
    return found


def bare_gradients(case: Case, alter: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
    """As many forwards and backwards per image as draws in full passes, at points of the caller's or at noisy copies."""
    total, draws = torch.zeros_like(case.x), SAMPLES
    for sample, draw in pairs(len(case.x), draws, case.rows):
        points = case.x[sample] + 0.1 * torch.randn(len(sample), *case.x.shape[1:]) if alter is None else alter(sample, draw)
        leaf = points.requires_grad_()
        total.index_add_(0, sample, torch.autograd.grad(scored(case, case.frozen(leaf), sample), leaf)[0])
    return total / draws


def bare_straight(case: Case) -> Tensor:
    """The same on the straight way from zero."""
    return bare_gradients(case, lambda sample, draw: case.x[sample] * ((draw + 0.5) / STEPS).view(-1, 1, 1, 1))


def bare_difference(case: Case) -> Tensor:
    """One forward of a baseline, and one forward and backward to the input."""
    with torch.no_grad():
        for sample in torch.arange(len(case.x)).split(case.rows):
            case.frozen(torch.zeros_like(case.x[sample]))
    return case.x * bare_gradient(case)


def bare_in_turn(case: Case) -> Tensor:
    """As many forwards and backwards, each from where the one before led."""
    point = Case(case.model, case.frozen, torch.zeros_like(case.x))
    for _ in range(STEPS):
        point.x = point.x + 1e-3 * bare_gradient(point).sign()
    return point.x


def bare_cam(case: Case) -> Tensor:
    """One forward without a graph up to the layer, then the head forward and backward."""
    with torch.no_grad():
        a = case.frozen.trunk(case.x)
    a.requires_grad_()
    return torch.autograd.grad(scored(case, case.frozen.head(a)), a)[0]


def bare_twice_back(case: Case) -> tuple[Tensor, Tensor]:
    """One forward, one backward to the input and one through the head."""
    leaf = case.x.clone().requires_grad_()
    a = case.frozen.trunk(leaf)
    value = scored(case, case.frozen.head(a))
    return torch.autograd.grad(value, leaf, retain_graph=True)[0], torch.autograd.grad(value, a)[0]


@torch.no_grad()
def bare_forward(case: Case) -> Tensor:
    """One forward."""
    return case.frozen(case.x)


@torch.no_grad()
def bare_masked(case: Case) -> Tensor:
    """One forward per image and channel that is not constant, the image weighted by the enlarged channel, in full passes."""
    a = case.frozen.trunk(case.x)
    live = (a.amax((2, 3)) > a.amin((2, 3))).nonzero()
    found = torch.zeros(a.shape[:2])
    for sample, channel in (part.unbind(1) for part in live.split(case.rows)):
        mask = F.interpolate(a[sample, channel][:, None], case.x.shape[2:], mode="bilinear", align_corners=False)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        answer = case.frozen(case.x[sample] * ((mask - low) / (high - low)))
        found[sample, channel] = answer.gather(1, torch.tensor(case.target)[sample][:, None])[:, 0]
    return found


@torch.no_grad()
def bare_occluded(case: Case) -> Tensor:
    """One forward per image and window, in full passes."""
    across = case.size // case.window
    found = torch.zeros(len(case.x), across**2)
    for sample, draw in pairs(len(case.x), across**2, case.rows):
        hidden = case.x[sample]
        for image, k in zip(hidden, draw.tolist()):
            i, j = (k // across) * case.window, (k % across) * case.window
            image[:, i : i + case.window, j : j + case.window] = 0
        found[sample, draw] = case.frozen(hidden).gather(1, torch.tensor(case.target)[sample][:, None])[:, 0]
    return found


def seconds(run: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def prepared(model: ResNet18 | Vgg11, frozen: ResNet18 | Vgg11, batch: int, size: int) -> Case:
    """Images of this size, and how long one takes; the library's own preparations are made on the way."""
    made = Case(model, frozen, images(batch, size))
    bare_gradient(made)
    with torch.no_grad():
        a = frozen.trunk(made.x)
        made.forward_seconds = min(seconds(lambda: frozen(made.x)) for _ in range(2)) / batch
        made.head_seconds = min(seconds(lambda: frozen.head(a)) for _ in range(2)) / batch
    return made
