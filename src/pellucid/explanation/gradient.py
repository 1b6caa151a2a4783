"""Methods that read one gradient of the score with respect to the input."""

from __future__ import annotations

from torch import Tensor

from .method import method
from .result import Found
from .score import Score


@method(
    "gradient",
    needs="gradient",
    cost="F + B",
    channels="max",
    mission="X9",
    paper="Simonyan et al. 2014, sec. 3",
    reading="Strong where a small change of the input would change the score most, up or down; not what the score consists of.",
)
def gradient(score: Score, x: Tensor, *, absolute: bool = True) -> Found:
    """|ds/dx|: how strongly the score reacts to each input value; ``raw`` keeps the sign.

    With ``absolute=False`` the relevance is ds/dx itself. The map is the maximum over channels (Simonyan et al. 2014).
    It says where the score is sensitive, not what it is made of.
    """
    g = score.gradient()
    return Found(g.abs() if absolute else g, raw=g)


@method(
    "gradient",
    needs="gradient",
    cost="F + B",
    claims="signed",
    mission="X9",
    paper="Shrikumar et al. 2016, sec. 1",
    reading="Each value's share of the score if the network were linear: orange for the class, blue against it.",
)
def gradient_times_input(score: Score, x: Tensor) -> Tensor:
    """x * ds/dx: each value's share of the score under a linear view through zero.

    On a network of linear, ReLU and max-pooling layers without biases the shares sum to the score.
    """
    return x * score.gradient()
