"""What the side-by-side tests share: a tolerance in one wording, and each peer's map before it is scaled for display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TARGET = [4, 0]  # one class per image; their logits have both signs, and most of their maps too


def close(ours: Tensor, theirs: Any, relative: float = 1e-9) -> None:
    """Equal to ``relative`` times the largest absolute value; a blank answer compares nothing and is refused."""
    theirs = torch.as_tensor(theirs).detach().to(ours.dtype)
    assert theirs.abs().max() > 0, "the peer's answer is blank"
    torch.testing.assert_close(ours, theirs, rtol=0, atol=relative * float(theirs.abs().max()))


def per_image_unit(maps: Tensor) -> Tensor:
    """Minimum 0 and maximum 1 per image, as the peers scale for display; a constant map becomes zeros."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    top = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(top > 0, top, 1)


def score_of(model: nn.Module, x: Tensor, target: list[int]) -> Tensor:
    """(B,) logits of the targets."""
    with torch.no_grad():
        return model(x)[torch.arange(len(x)), target]


class Times(nn.Module):
    """Its input times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Centre(nn.Module):
    """Maps without their mean over positions."""

    def forward(self, a: Tensor) -> Tensor:
        return a - a.mean((2, 3), keepdim=True)


def behind(model: nn.Module, layer: str, *modules: nn.Module) -> str:
    """Put modules behind a layer; the name of the first of them."""
    model.set_submodule(layer, nn.Sequential(model.get_submodule(layer), *modules))
    return f"{layer}.1"


def activations(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """(B, K, h, w) what the layer gives for x."""
    found: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, a: found.append(a.detach().clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return found[0]


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Tensor]]:
    """The rows that are sent through the model to be differentiated, in order."""
    rows: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            rows.extend(inputs[0].detach().clone())

    handle = model.register_forward_pre_hook(look)
    try:
        yield rows
    finally:
        handle.remove()


def grad_cam_package(name: str, model: nn.Module, layer: nn.Module, x: Tensor, target: list[int]) -> Tensor:
    """(B, h, w) a map of pytorch-grad-cam with its sign, at the layer's resolution."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(c) for c in target]
    with getattr(pytorch_grad_cam, name)(model, [layer]) as cam:
        if not cam.uses_gradients:
            cam.activations_and_grads(x)
        else:
            cam(x, targets)
        a, *_ = (a.numpy() for a in cam.activations_and_grads.activations)
        g = [g.numpy() for g in cam.activations_and_grads.gradients]
        return torch.as_tensor(cam.get_cam_image(x, layer, targets, a, g[0] if g else None, False))


def torchcam_package(name: str, model: nn.Module, layer: nn.Module, x: Tensor, target: list[int], **options: Any) -> Tensor:
    """(B, h, w) a map of torchcam at the layer's resolution, behind its ReLU where it has one, not scaled."""
    import torchcam.methods

    with getattr(torchcam.methods, name)(model, layer, **options) as extractor:
        scores = model(x)
        return extractor(target, scores, normalized=False)[0].detach()


def at_target(target: list[int]) -> Callable[[Tensor], Tensor]:
    """What relevance starts from in zennit: at the classes of the targets their logits, elsewhere zero."""
    return lambda z: torch.zeros_like(z).scatter(1, torch.tensor(target)[:, None], 1) * z.detach()


def zennit_package(model: nn.Module, x: Tensor, start: Callable[[Tensor], Tensor], composite: Any) -> Tensor:
    """The relevance of the input, from ``start`` of the logits."""
    from zennit.attribution import Gradient

    with Gradient(model, composite) as attributor:
        return attributor(x.clone(), start)[1].detach()


def zennit_composite(rule: Any, stabiliser: float = 1e-6, first: Any = None) -> Any:
    """One rule for linear layers and convolutions, another for the first if given; the rest as in zennit's own composites."""
    from zennit.composites import SpecialFirstLayerMapComposite, layer_map_base
    from zennit.types import Linear

    table = [*layer_map_base(stabiliser), (Linear, rule)]
    return SpecialFirstLayerMapComposite(table, [(Linear, rule if first is None else first)])
