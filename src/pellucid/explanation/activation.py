"""Class activation maps: weighted sums of a layer's activations A (B, K, h, w) with the gradient g = ds/dA.

All of them come from one forward pass and one backward pass through the part behind the layer, made once for all that are
asked for together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.core.errors import UnsupportedError

from . import masks
from .method import method
from .result import Found
from .score import Score


def on_the_input(raw: Tensor, x: Tensor) -> Tensor:
    """A map at the layer's resolution as relevance of the input's shape."""
    return masks.spread(masks.resize(raw, masks.spatial(x)), x)


def clipped(raw: Tensor, x: Tensor, relu: bool) -> Found:
    """A signed map, clipped before it is enlarged where that is asked for."""
    return Found(on_the_input(raw.clamp(min=0) if relu else raw, x), raw=raw)


def weighted(w: Tensor, a: Tensor) -> Tensor:
    """(B, h, w): sum_k w_k A^k."""
    return (masks.beside(w, a) * a).sum(1)


@method(
    "activation",
    needs="layer",
    cost="F + H",
    claims="signed",
    mission="X18",
    paper="Zhou et al. 2016, eq. 2",
    reading="What the last features add to the class at each place, exactly: orange for the class, blue against it.",
)
def cam(score: Score, x: Tensor) -> Found:
    """sum_k w_k A^k with the weights w_k of the class in the linear layer behind global average pooling; signed.

    Its mean over the positions is the logit without its bias. UnsupportedError where anything but average pooling and
    linear steps lies between the layer and the score (``grad_cam`` is the method for those).
    """
    a, g = score.activation()
    flat = g.flatten(2)
    even = torch.allclose(flat, flat[:, :, :1].expand_as(flat), rtol=1e-5, atol=1e-9 * float(flat.abs().max()))
    if not score.affine() or not even:
        raise UnsupportedError(
            "CAM needs global average pooling and linear layers between the layer and the score",
            cure="Use grad_cam, which equals CAM there and works elsewhere, or name the last features with layer=.",
        )
    return clipped(weighted(flat.sum(2), a), x, relu=False)


@method(
    "activation",
    needs="layer",
    cost="F + H",
    mission="X19",
    paper="Selvaraju et al. 2017, eq. 1-2",
    reading="Coarse, and strong where features that speak for the class are found; it shows where, not what.",
)
def grad_cam(score: Score, x: Tensor, *, relu: bool = True) -> Found:
    """ReLU(sum_k w_k A^k), w_k = mean over positions of ds/dA^k; ``raw`` is the signed sum at the layer's resolution.

    With ``relu=False`` the relevance keeps its negative part too. Clipped before it is enlarged.
    """
    a, g = score.activation()
    return clipped(weighted(g.flatten(2).mean(2), a), x, relu)


@method(
    "activation",
    needs="layer",
    cost="F + H",
    mission="X19",
    paper="Chattopadhay et al. 2018, eq. 10 and 19",
    reading="As Grad-CAM, but several instances of a class, and small ones, get the same strength.",
)
def grad_cam_plus_plus(score: Score, x: Tensor, *, normalised: bool = False) -> Found:
    """ReLU(sum_k w_k A^k), w_k = sum over positions of alpha * max(g, 0), alpha = g^2 / (2 g^2 + g^3 * sum A^k).

    The sum of A^k runs over its positions; alpha is 0 where g is. The paper explains exp(s), whose extra factor is the same for
    all channels and is left out. ``normalised=True`` scales alpha to sum 1 over the positions where g > 0, as the authors'
    program does. ``raw`` is the signed sum.
    """
    a, g = score.activation()
    # g^2 is left out above and below: in single precision the square of a small gradient is zero
    below = 2 + g * masks.beside(a.flatten(2).sum(2), g)
    alpha = torch.where((g != 0) & (below != 0), 1 / torch.where(below != 0, below, 1), torch.zeros_like(g))
    if normalised:
        alpha = torch.where(g > 0, alpha, torch.zeros_like(alpha))
        total = masks.beside(alpha.flatten(2).sum(2), g)
        alpha = torch.where(total != 0, alpha / torch.where(total != 0, total, 1), torch.zeros_like(alpha))
    return clipped(weighted((alpha * g.clamp(min=0)).flatten(2).sum(2), a), x, relu=True)


@method(
    "activation",
    needs="layer",
    cost="F + H",
    mission="X19",
    paper="Fu et al. 2020, eq. 6",
    reading="As Grad-CAM, with each feature weighted by the gradient at the places where it is active.",
)
def xgrad_cam(score: Score, x: Tensor, *, relu: bool = True) -> Found:
    """ReLU(sum_k w_k A^k), w_k = sum(g * A^k) / sum(A^k) over positions; a channel whose sum is 0 has no weight.

    With ``relu=False`` the relevance keeps its negative part too; ``raw`` is the signed sum. Meant for activations behind a
    ReLU: where positive and negative ones cancel in the sum the weight means little.
    """
    a, g = score.activation()
    total = a.flatten(2).sum(2)
    share = torch.where(total != 0, (g * a).flatten(2).sum(2) / torch.where(total != 0, total, 1), torch.zeros_like(total))
    return clipped(weighted(share, a), x, relu)


@method(
    "activation",
    needs="layer",
    cost="F + H",
    claims="signed",
    mission="X19",
    paper="Draelos & Carin 2021, eq. 3",
    reading="What each place of the layer adds to the score to first order: orange for the class, blue against it.",
)
def hires_cam(score: Score, x: Tensor, *, relu: bool = False) -> Found:
    """sum_k g^k * A^k at each position, with its sign; ``relu=True`` clips it.

    Where one linear layer follows the activations the map adds up to the score less its bias.
    """
    a, g = score.activation()
    return clipped((g * a).sum(1), x, relu)


@method(
    "activation",
    needs="layer",
    cost="F",
    claims="class_blind",
    mission="X19",
    paper="Muhammad & Yeasin 2020, sec. III",
    reading="Where the layer's features are strong together, whatever the class: what the network looks at, not why.",
)
def eigen_cam(score: Score, x: Tensor) -> Found:
    """ReLU(A v): the activations projected on their first right singular vector v (K,), not centred; 1 F and no gradient.

    The sign of v is arbitrary; it is taken so that the map's sum is not negative. ``raw`` is the signed projection.
    """
    a = score.maps()
    rows = a.flatten(2).to(torch.promote_types(a.dtype, torch.float32))  # (B, K, hw); there is no solver for halves
    wide = rows.shape[1] > rows.shape[2]
    gram = rows.transpose(1, 2) @ rows if wide else rows @ rows.transpose(1, 2)  # the smaller of hw x hw and K x K
    values, vectors = torch.linalg.eigh(gram)
    first = vectors[..., -1:]
    # u * singular value, from the left vectors or by projection
    raw = (first * values[:, -1:, None].clamp(min=0).sqrt() if wide else rows.transpose(1, 2) @ first)[..., 0]
    raw = torch.where(raw.sum(1, keepdim=True) < 0, -raw, raw).view(len(a), *a.shape[2:]).to(a)
    return clipped(raw, x, relu=True)


@method(
    "activation",
    needs="layer",
    cost="F + H",
    mission="X22",
    paper="Jiang et al. 2021, eq. 5-8",
    reading="As Grad-CAM, but each place has its own weight, so earlier layers give finer maps; several can be fused.",
)
def layer_cam(score: Score, x: Tensor) -> Found:
    """ReLU(sum_k max(g^k, 0) * A^k); ``raw`` is the sum before clipping, of the last layer.

    With several layers (``layer=[...]``, from the first to the last) each map is divided by its maximum, all but the last pass
    through tanh(2 m), and the largest value at each position of the input is kept.
    """
    raws = [(g.clamp(min=0) * a).sum(1) for a, g in score.activations()]
    if len(raws) == 1:
        return clipped(raws[0], x, relu=True)
    shares = [masks.positive_share(raw) for raw in raws]
    bent = [torch.tanh(2 * m) for m in shares[:-1]] + shares[-1:]
    fused = torch.stack([masks.resize(m, masks.spatial(x)) for m in bent]).amax(0)
    return Found(masks.spread(fused, x), raw=raws[-1])
