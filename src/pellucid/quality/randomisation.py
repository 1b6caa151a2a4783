"""Does the explanation depend on what the model has learned? Randomise its layers and compare (Adebayo et al. 2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from pellucid.core import seeds
from pellucid.core.errors import UnsupportedError
from pellucid.core.table import MEASURES

Floats = NDArray[np.float64]

# Share of the way from chance to the original map that may be left once every layer is random: beyond a half the map
# depends more on the input than on what was learned. From a quarter on it passes narrowly.
PASSING, CLEAR = 0.5, 0.25


@MEASURES.add("similarity", larger_is_better=None, mission="Q2", paper="Adebayo et al. 2018, sec. 3: Spearman rank correlation")
def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's correlation of two maps, ties averaged; 0 where a map is constant."""
    x, y = (rankdata(m.ravel()) - (m.size + 1) / 2 for m in (a, b))
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


@MEASURES.add("similarity", larger_is_better=None, mission="Q2", paper="Wang et al. 2004, eq. 13, Gaussian weights")
def structural_similarity_index(a: Floats, b: Floats) -> float:
    """SSIM of two maps scaled to [0, 1] each; of maps smaller than the 11-cell window, the largest odd window that fits."""
    x, y = (_unit(m) for m in (a, b))
    if min(x.shape) < 3 or x.ndim < 2:
        x, y = (np.atleast_2d(m) for m in (x, y))
        return _global_ssim(x, y)
    side = min(11, min(x.shape) - 1 + min(x.shape) % 2)
    if side < 11:
        return float(structural_similarity(x, y, data_range=1.0, win_size=side))
    return float(structural_similarity(x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False))


def _unit(m: Floats) -> Floats:
    span = m.max() - m.min()
    return (m - m.min()) / span if span > 0 else np.zeros_like(m)


def _global_ssim(x: Floats, y: Floats) -> float:
    """SSIM over one window that covers everything: for rows of a table and sequences, which have no 2-d window."""
    c1, c2 = 0.01**2, 0.03**2
    covariance = float(((x - x.mean()) * (y - y.mean())).mean())
    return float(
        (2 * x.mean() * y.mean() + c1)
        * (2 * covariance + c2)
        / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2))
    )


SIMILARITIES: dict[str, Callable[[Floats, Floats], float]] = {
    "ssim": structural_similarity_index,
    "rank": rank_correlation,
    "rank_absolute": lambda a, b: rank_correlation(np.abs(a), np.abs(b)),
}


@dataclass(frozen=True)
class Randomisation:
    """Mean similarity of the maps to the original ones after each layer, from the top down, has been randomised too.

    layers: their names, top first. similarity: name -> (L,) means over samples. chance: name -> similarity between maps
    of *different* samples under the trained model, the level at which a map says nothing of its own sample.
    """

    layers: tuple[str, ...]
    similarity: dict[str, Floats]
    chance: dict[str, float]

    @property
    def kept(self) -> float:
        """How much of the way from chance to identity is left with all layers random: the larger of SSIM's and rank's."""
        return max(_left(self.similarity[name][-1], self.chance[name]) for name in ("ssim", "rank_absolute"))

    @property
    def passed(self) -> bool:
        """Whether the maps changed with the model."""
        return self.kept <= PASSING

    @property
    def verdict(self) -> str:
        """The result in words."""
        share = f"{100 * max(0.0, self.kept):.0f} % of the likeness to the original map is left with all layers random"
        if self.kept <= CLEAR:
            return f"passes: the map changes with the model ({share})"
        if self.passed:
            return f"passes narrowly: much of the map comes from the input alone ({share})"
        if self.kept > 0.9:
            return f"fails: the map does not depend on what the model has learned ({share})"
        return f"fails: the map depends more on the input than on what the model has learned ({share})"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return {
            "layers": list(self.layers),
            "similarity": {name: values.tolist() for name, values in self.similarity.items()},
            "chance": self.chance,
            "kept": self.kept,
            "passed": self.passed,
            "verdict": self.verdict,
        }


def _left(end: float, chance: float) -> float:
    return float((end - chance) / (1 - chance)) if chance < 1 else 1.0


def randomisable_layers(model: nn.Module) -> list[str]:
    """Names of the modules that own parameters, the one nearest the output first (the reverse order of definition)."""
    names = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    if not names:
        raise UnsupportedError("the model has no parameters to randomise")
    return names[::-1]


def randomise(module: nn.Module, seed: int, name: str) -> None:
    """Draw the module's own parameters anew: by its own initialisation, else from a normal of their mean and spread."""
    device = next(module.parameters()).device
    with seeds.scoped(seed, "randomise", name, device=device), torch.no_grad():
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()  # type: ignore[operator]
            return
        for parameter in module.parameters(recurse=False):
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
            parameter.normal_(float(parameter.mean()), spread or 0.02)


def cascading_randomisation(
    model: nn.Module,
    maps: Callable[[nn.Module], dict[str, Tensor]],
    *,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    original: dict[str, Tensor] | None = None,
) -> dict[str, Randomisation]:
    """Randomise the layers cumulatively from the output to the input and explain after each step.

    maps: gives, for a model, method -> (N, *spatial) maps of the same samples and targets; N of at least 2, so that chance
    can be told. The model itself is never touched: a copy is. original: the maps of the model itself, where known.
    Cost: (1 + L) explanations a sample. Each layer draws from its own seed.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedError(
            f"{type(model).__name__} has no layers to randomise", cure="Give a torch module, or measure faithfulness instead."
        )
    before = {m: t.double().cpu().numpy() for m, t in (original or maps(model)).items()}
    if any(len(t) < 2 for t in before.values()):
        raise UnsupportedError("one sample is too few to tell chance", cure="Give at least two samples.")
    names = list(layers) if layers is not None else randomisable_layers(model)
    shuffled = copy.deepcopy(model)
    found: dict[str, dict[str, list[float]]] = {m: {s: [] for s in SIMILARITIES} for m in before}
    for name in names:
        randomise(shuffled.get_submodule(name), seed, name)
        after = maps(shuffled)
        for method, original_maps in before.items():
            new = after[method].double().cpu().numpy()
            for kind, similarity in SIMILARITIES.items():
                found[method][kind].append(float(np.mean([similarity(a, b) for a, b in zip(original_maps, new)])))
    return {
        method: Randomisation(
            tuple(names),
            {kind: np.array(values) for kind, values in found[method].items()},
            {kind: _between(before[method], similarity) for kind, similarity in SIMILARITIES.items()},
        )
        for method in before
    }


def _between(maps: Floats, similarity: Callable[[Floats, Floats], float]) -> float:
    """Mean similarity of each map to the next sample's."""
    return float(np.mean([similarity(a, b) for a, b in zip(maps, np.roll(maps, 1, axis=0))]))
