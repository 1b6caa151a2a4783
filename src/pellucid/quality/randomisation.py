"""Does the explanation depend on what the model has learned? Randomise its layers and compare (Adebayo et al. 2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError, UnsupportedError, nearest
from pellucid.core.table import MEASURES
from pellucid.explanation import masks

from .dependence import Comparison, Randomisation

MapsOf = Callable[[nn.Module], Mapping[str, Tensor]]
OWN = "the model's own"  # what belongs to no module but the outermost


@dataclass(frozen=True)
class _Step:
    """Modules that are randomised together: name -> the names of its own parameters that an earlier step has drawn."""

    name: str
    parts: dict[str, set[str]]


def randomisable_layers(model: nn.Module) -> list[str]:
    """Names of the modules that own parameters, the one nearest the output first (the reverse order of definition).

    A module that is used twice is there once. Raises UnsupportedError where there is none, or for what is no torch module.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedError(
            f"{type(model).__name__} has no layers to randomise", cure="Give a torch module, or measure faithfulness instead."
        )
    names = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    if not names:
        raise UnsupportedError("the model has no parameters to randomise")
    return names[::-1]


def randomise(module: nn.Module, seed: int, name: str, *, fixed: Collection[str] = ()) -> None:
    """Draw the module's own parameters anew: by its own ``reset_parameters``, else from a normal of their mean and spread.

    What ``reset_parameters`` does not reach (such as the factors of a weight norm) is drawn from that normal too. Buffers are
    what it makes of them: the running mean and variance of a batch norm become 0 and 1. fixed: parameters that stay.
    The numbers depend on ``seed`` and ``name`` alone.
    """
    own = dict(module.named_parameters(recurse=False))
    if not own:
        return
    before = {key: (p, p._version, p.detach().clone()) for key, p in own.items()}
    with seeds.scoped(seed, "randomise", name, device=next(iter(own.values())).device), torch.no_grad():
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()  # type: ignore[operator]
        for key, (parameter, version, values) in before.items():
            if key in fixed:
                module._parameters[key] = parameter
                parameter.copy_(values)
            elif module._parameters[key] is parameter and parameter._version == version and torch.equal(parameter, values):
                spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
                parameter.normal_(float(parameter.mean()), spread or 0.02)


def _steps(model: nn.Module, layers: Sequence[str] | None, order: str) -> list[_Step]:
    """What is randomised in turn. A parameter that several modules share is drawn in the first step that reaches it, once."""
    known = randomisable_layers(model)
    if layers is not None and (isinstance(layers, str) or not layers):
        raise InputError(f"layers is {layers!r}", cure="Give a list of names of layers.")
    names = known if layers is None else list(layers)
    done: set[int] = set()
    steps = []
    for name in names[::-1] if order == "bottom_up" else names:
        if layers is None:
            members = [name]
        else:
            members = [n for n in known if not name or n == name or n.startswith(f"{name}.")]
            if not members:
                raise InputError(f"no layer '{name}' that has parameters", cure=nearest(name, known))
        parts = {}
        for member in members:
            own = dict(model.get_submodule(member).named_parameters(recurse=False))
            fixed = {key for key, p in own.items() if id(p) in done}
            done |= {id(p) for p in own.values()}
            if len(fixed) < len(own):
                parts[member] = set() if order == "independent" else fixed
        if parts:
            steps.append(_Step(name, parts))
    return steps


def _randomised(model: nn.Module, steps: Sequence[_Step], seed: int, *, independent: bool = False) -> Iterator[nn.Module]:
    """A copy of the model after each step; the next one changes the copy, unless ``independent``, where each has its own."""
    shuffled = copy.deepcopy(model)
    for i, step in enumerate(steps):
        if independent and i:
            shuffled = copy.deepcopy(model)
        for name, fixed in step.parts.items():
            randomise(shuffled.get_submodule(name), seed, name, fixed=fixed)
        yield shuffled


def fully_randomised(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """A copy of the model with every layer drawn anew, the same that a cascade from the top ends with."""
    *_, last = _randomised(model, _steps(model, None, "top_down"), seed)
    return last


def _followed(
    model: nn.Module,
    maps: MapsOf,
    *,
    seed: int,
    layers: Sequence[str] | None,
    original: Mapping[str, Tensor] | None,
    order: str,
) -> dict[str, Randomisation]:
    """The loop of all of them: explain every randomised copy, and compare with the model itself."""
    steps = _steps(model, layers, order)
    compared = Comparison(maps(model) if original is None else original)
    for step, shuffled in zip(steps, _randomised(model, steps, seed, independent=order == "independent")):
        compared.add(step.name or OWN, maps(shuffled))
    reached = {name for step in steps for name in step.parts}
    every = {name for step in _steps(model, None, order) for name in step.parts}
    return compared.results(order, whole=layers is None or every <= reached)


@MEASURES.add(
    "randomisation",
    larger_is_better=False,
    asks="states",
    cost="(1 + L) explanations",
    mission="Q2",
    paper="Adebayo et al. 2018, sec. 3",
    reading="The share of the likeness to the original map that is left when every layer is random: small if the map depends "
    "on what the model has learned.",
    bias="Says nothing of whether a map is right: noise that differs from model to model passes, as do scattered gradients.",
)
def cascading_randomisation(
    model: nn.Module,
    maps: MapsOf,
    *,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    original: Mapping[str, Tensor] | None = None,
    order: str = "top_down",
) -> dict[str, Randomisation]:
    """Randomise the layers cumulatively, from the output to the input or back, and explain after each step.

    maps: gives, for a model, method -> (N, *spatial) maps of the same samples and targets; N of at least 2, so that chance
    can be told (``Maps`` makes one). The model itself is never touched: a copy is, the same one for all steps. original: the
    maps of the model itself, where known. layers: names, the top first; a name stands for everything in that module. order:
    "top_down", or "bottom_up", which does not keep the scale of what the upper layers are given (Binder et al. 2023).
    Cost: (1 + L) explanations a sample. Each layer draws from its own seed, by its own initialisation (``randomise``); of a
    batch norm that resets the running statistics too, of one without parameters they stay. Weights that are shared are drawn
    once.

    Raises UnsupportedError for what has no parameters and for fewer than two samples, InputError for an unknown layer and for
    maps that change their shape. Source: Adebayo et al. 2018, sec. 3; ``Randomisation`` states the rule and its limits.
    """
    checks.one_of("order", order, ("top_down", "bottom_up"))
    return _followed(model, maps, seed=seed, layers=layers, original=original, order=order)


@MEASURES.add("randomisation", larger_is_better=None, mission="Q2", paper="Adebayo et al. 2018, sec. 3.2")
def independent_randomisation(
    model: nn.Module,
    maps: MapsOf,
    *,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    original: Mapping[str, Tensor] | None = None,
) -> dict[str, Randomisation]:
    """Randomise one layer at a time, all others as trained, and explain: on which layers does the map depend?

    Arguments, cost, errors and source as for ``cascading_randomisation``; each layer is drawn as it is there. The verdict is
    about the layer that changes the maps most, ``unmoved`` names those that change nothing. A layer that others bypass (a
    residual branch) may rightly change little.
    """
    return _followed(model, maps, seed=seed, layers=layers, original=original, order="independent")


@MEASURES.add("randomisation", larger_is_better=None, mission="Q2", paper="Hedström et al. 2024, sec. 3.1: sMPRT")
def smoothed_randomisation(
    model: nn.Module,
    maps: Callable[[nn.Module, Tensor], Mapping[str, Tensor]],
    x: Tensor,
    *,
    samples: int = 50,
    noise: float = 0.1,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    order: str = "bottom_up",
) -> dict[str, Randomisation]:
    """Cascading randomisation of maps that are averaged over noisy inputs first (sMPRT): M = mean_i map(x + e_i).

    e_i ~ N(0, (noise * (max x - min x))^2) with the range of each sample, ``samples - 1`` times, and once e = 0; the same noise
    for every state of the model, so that it is the model that differs. Averaging takes away the noise of single gradients,
    which would pass for change. maps: as before, but of a model *and inputs* (N, ...): ``Maps`` is one; targets must not change
    with the noise. Cost: samples * (1 + L) explanations a sample.

    Source: Hedström et al. 2024, sec. 3.1, with its 50 inputs, noise of 0.1 and bottom-up order.
    """
    checks.one_of("order", order, ("top_down", "bottom_up"))
    count, size = checks.count("samples", samples), checks.positive("noise", noise, zero=True)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError("x is no tensor of real numbers", cure="Give the samples as one tensor; only those can be made noisy.")
    checks.finite("x", x)
    rows = x.flatten(1)
    sigma = masks.beside(size * (rows.amax(1) - rows.amin(1)), x)

    def noisy(draw: int) -> Tensor:
        drawn = [
            torch.randn(x.shape[1:], generator=seeds.generator(seed, "noisy inputs", i, draw), dtype=x.dtype)
            for i in range(len(x))
        ]
        return x + sigma * torch.stack(drawn).to(x.device)

    def averaged(state: nn.Module) -> dict[str, Tensor]:
        total = {name: found.detach().double() for name, found in maps(state, x).items()}
        for draw in range(count - 1):
            more = maps(state, noisy(draw))
            total = {name: summed + more[name].detach().double() for name, summed in total.items()}
        return {name: summed / count for name, summed in total.items()}

    return _followed(model, averaged, seed=seed, layers=layers, original=None, order=order)
