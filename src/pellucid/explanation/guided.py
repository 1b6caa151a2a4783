"""Gradients with another rule at rectified units: deconvnet, guided backpropagation, guided Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import masks
from .activation import on_the_input, weighted
from .followed import Followed, followed
from .method import method
from .operations import RECTIFIERS
from .result import Found
from .score import Score
from .steps import Backward, Step


class Deconvolution(Backward):
    """At a rectified unit what comes back is rectified, whatever the unit did on the way forward."""

    def activation(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """max(r, 0)."""
        return [r.clamp(min=0)] if step.name in RECTIFIERS else self.gradient(step, r)


class Guided(Backward):
    """At a rectified unit only what is positive comes back, and only where the unit was active."""

    def activation(self, step: Step, r: Tensor) -> Sequence[Tensor | None]:
        """max(r, 0) f'(x)."""
        return self.gradient(step, r.clamp(min=0) if step.name in RECTIFIERS else r)


def _back(score: Score, rules: Backward) -> tuple[Followed, Tensor]:
    pass_ = followed(score)
    if not any(step.name in RECTIFIERS for step in pass_.flow.steps):
        score.notes.append("the network has no rectified units: deconvnet and guided backpropagation are the gradient")
    return pass_, pass_.back(rules, seed=torch.ones_like(pass_.value))


@method(
    "gradient",
    needs="steps",
    cost="F + B",
    claims="signed",
    mission="X10",
    paper="Zeiler & Fergus 2014, sec. 2.1",
    reading="What pattern would excite the class's units; the picture's edges show whatever the class, so distrust its "
    "sharpness.",
)
def deconvnet(score: Score, x: Tensor) -> Tensor:
    """The gradient with max(R, 0) in the place of ReLU's derivative; switches of max pools are kept.

    Functional, in-place and re-used ReLUs count like any other, and so do leaky ReLU, ELU, GELU, SiLU and their kin.
    """
    return _back(score, Deconvolution())[1]


@method(
    "gradient",
    needs="steps",
    cost="F + B",
    claims="signed",
    mission="X10",
    paper="Springenberg et al. 2015, sec. 3.4",
    reading="Sharp edges that excite the class's units; much of it is the same for every class and survives random weights.",
)
def guided_backpropagation(score: Score, x: Tensor) -> Tensor:
    """The gradient with max(R, 0) 1[a > 0] at every ReLU: positive signals through active units only.

    At leaky ReLU, ELU, GELU, SiLU and their kin max(R, 0) f'(a).
    """
    return _back(score, Guided())[1]


@method(
    "gradient",
    needs="layer",
    cost="F + B + H",
    claims="signed",
    mission="X10",
    paper="Selvaraju et al. 2017, sec. 3.3",
    reading="Guided backpropagation where Grad-CAM is positive: sharp, and about this class as far as Grad-CAM is.",
)
def guided_grad_cam(score: Score, x: Tensor) -> Found:
    """Guided backpropagation times ReLU(Grad-CAM), the map enlarged linearly to the input; ``raw``: Grad-CAM with its sign.

    One forward serves both; their backward passes differ.
    """
    pass_, guided = _back(score, Guided())
    one = torch.ones_like(pass_.value)
    a, g = pass_.back_to_layer(Backward(), one)
    raw = weighted(g.flatten(2).mean(2), a)
    cam = masks.collect(on_the_input(raw.clamp(min=0), x))
    return Found(guided * (cam[:, None] if x.ndim > 2 else cam), raw=raw)
