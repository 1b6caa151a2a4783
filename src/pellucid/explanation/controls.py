"""What every method has to be better than: maps that know nothing of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.core.errors import UnsupportedError

from . import masks
from .method import method
from .result import Found
from .score import Score


@method(
    "baseline",
    needs="nothing",
    cost="0",
    claims="class_blind",
    mission="X25",
    paper="Adebayo et al. 2018, sec. 1; Sobel & Feldman 1968",
    reading="The picture's own edges, without any model: a method whose maps look like this has explained the picture only.",
)
def edge_detector(score: Score, x: Tensor) -> Found:
    """Length of the Sobel gradient of the channel mean (for a sequence: of the length of its step in channel space).

    It never looks at the model. A method whose maps are like it, or no better, has explained the picture, not the model.
    """
    if x.ndim == 4:
        smooth, step = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
        kernel = torch.stack([torch.outer(smooth, step), torch.outer(step, smooth)])[:, None].to(x) / 8
        grey = torch.nn.functional.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        raw = torch.nn.functional.conv2d(grey, kernel).square().sum(1).sqrt()
    elif x.ndim == 3:
        ends = torch.cat([x[..., :1], x, x[..., -1:]], -1)
        raw = ((ends[..., 2:] - ends[..., :-2]) / 2).square().sum(1).sqrt()
    else:
        raise UnsupportedError(f"a sample of shape {tuple(x.shape[1:])} has no edges", cure="Use it on images or sequences.")
    return Found(masks.spread(raw, x), raw=raw)


@method(
    "baseline",
    needs="nothing",
    cost="0",
    claims="class_blind",
    mission="X25",
    paper="Binder et al. 2023, sec. 3: uninformative maps as controls",
    reading="The same value everywhere: a measure on which a method is no better than this says nothing in its favour.",
)
def constant_map(score: Score, x: Tensor) -> Found:
    """R = 1 at every position, whatever the sample and the model.

    What a measure makes of it is its value for a map that says nothing; where a measure sorts, it shows how ties are broken.
    """
    raw = x.new_ones((len(x), *masks.spatial(x)), dtype=x.dtype if x.is_floating_point() else torch.float32)
    return Found(masks.spread(raw, x).to(raw), raw=raw)


@method(
    "baseline",
    needs="nothing",
    cost="0",
    claims="class_blind, sampled",
    mission="X25",
    paper="Binder et al. 2023, sec. 3: uninformative maps as controls",
    reading="Numbers drawn at random, different for each sample: a method that is no better than this has found nothing.",
)
def random_map(score: Score, x: Tensor) -> Found:
    """R ~ U(0, 1), independent at every position, from the seed and the sample's number alone.

    For the same seed it is the same whatever the state of the model: a check that it passes has not looked at the model.
    """
    kind = x.dtype if x.is_floating_point() else torch.float32
    drawn = [torch.rand(masks.spatial(x), generator=score.generator(i, 0, "random map"), dtype=kind) for i in range(len(x))]
    raw = torch.stack(drawn).to(x.device)
    return Found(masks.spread(raw, x).to(raw), raw=raw)
