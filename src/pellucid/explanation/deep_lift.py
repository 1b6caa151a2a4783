"""DeepLIFT: the difference of the score from a reference's, shared out in finite differences."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from pellucid.core import checks
from pellucid.core.errors import InputError

from .baselines import Baseline, baselines
from .followed import Followed, followed
from .method import method
from .multipliers import VARIANTS, Multipliers
from .result import Found
from .score import Score


@method(
    "decomposition",
    needs="steps",
    cost="F + rows * F + baselines * B",
    claims="signed, complete, zero_at_baseline",
    mission="X14",
    paper="Shrikumar et al. 2017, eq. 2-15",
    reading="Shares of the difference between this score and the baseline's, orange up, blue down; they add up to it.",
)
def deep_lift(score: Score, x: Tensor, *, baseline: Baseline = 0.0, variant: str = "rescale") -> Found:
    """(x - b) * m, m the product of multipliers (y - y') / (x - x') from the input to the score; sums to score - base.

    baseline: a number; "mean" or "blur" of the sample itself; one input; or a set of references (R, ...), over which the
    relevance is averaged; for several inputs a tuple of these. variant: "rescale"; "reveal_cancel", which tells the positive
    from the negative contributions to each activation and so sees what cancels; or "genomics", reveal_cancel behind linear
    layers and rescale elsewhere. RevealCancel holds directly behind a linear layer or convolution (and its batch norm),
    elsewhere Rescale.

    Products, softmax, norms and max pools are passed in finite differences too (``explanation/multipliers.py``), so only steps
    that choose by the input's values (``where``, sorting) and the scale of a local response norm leave a ``gap``.
    """
    checks.one_of("variant", variant, VARIANTS)
    pass_ = followed(score)
    references = baselines(baseline, score.inputs, score.first)
    whole = not x.is_floating_point()
    relevance = torch.zeros_like(pass_.value.detach()[:1]).expand(x.shape).clone() if whole else torch.zeros_like(x)
    base = torch.zeros_like(pass_.value.detach())
    rows = 0
    for b in references:
        rules, theirs = _between(score, pass_, b, variant)
        rows += len(theirs.ends[0])
        score.passes.backward += len(score)
        found = pass_.flow.back(rules, pass_.value, torch.ones_like(pass_.value), pass_.ends)
        shares = [m * (mine - other).detach() for m, mine, other in zip(found, pass_.ends, theirs.ends)]
        relevance += (sum(s.sum(-1) for s in shares) if whole else shares[0]) / len(references)
        base += theirs.value.detach() / len(references)
    rows_each = rows / len(score)
    gap = score.own() - base - relevance.flatten(1).sum(1)
    return Found(relevance, base=base, gap=gap, counts={"baselines": len(references), "rows": rows_each})


def _between(score: Score, pass_: Followed, b: Tensor, variant: str) -> tuple[Multipliers, Followed]:
    """The rules between the samples and a baseline; a baseline that is the same for all of them is run once, as one row."""
    alone = len(score.inputs.parts) == 1 and score.of == "logit" and score.target is not None
    if len(b) > 1 and alone and bool((b[1:] == b[:1]).all()):
        with suppress(InputError):  # something in the network counts its samples: give it as many
            one = followed(score, b[:1])
            return Multipliers(pass_.flow, one.flow, variant), one
    every = followed(score, b)
    return Multipliers(pass_.flow, every.flow, variant), every
