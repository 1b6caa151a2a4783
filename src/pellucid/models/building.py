"""From a name in the table of models and the shape of the data to a network that takes that data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError
from pellucid.core.table import MODELS, Entry

from .description import describe

# Argument of a model -> its value from the shape of one sample and the number of outputs.
# Of these a model declares the ones that it needs; all its other arguments are options.
FROM_DATA: dict[str, Callable[[Sequence[int], int], int]] = {
    "channels": lambda shape, outputs: shape[0],
    "size": lambda shape, outputs: shape[-1],
    "inputs": lambda shape, outputs: math.prod(shape),
    "classes": lambda shape, outputs: outputs,
}


def build(name: str, *, input_shape: Sequence[int], outputs: int, seed: int = 0, **options: Any) -> nn.Module:
    """The model called ``name`` for samples of ``input_shape``, with ``outputs`` outputs and weights that follow from ``seed``.

    The arguments in ``FROM_DATA`` that the model's signature declares come from the data; ``options`` are the others.
    One forward pass on zeros shows that the model takes the shape. ``InputError``: an unknown name or option, an option
    that contradicts the data, a shape that does not fit (with the layer that refused it).
    """
    entry = MODELS[name]
    shape = [checks.count(f"input_shape[{i}]", n) for i, n in enumerate(input_shape)]
    checks.count("outputs", outputs)
    entry.check_options(options)
    known = entry.options()
    _check_rank(entry, shape)
    arguments = dict(options)
    for argument in FROM_DATA.keys() & known.keys():
        value = FROM_DATA[argument](shape, outputs)
        if options.get(argument, value) != value:
            what = f"option '{argument}' of '{name}' is {options[argument]!r}, and the data has {value}"
            raise InputError(what, cure=f"Leave '{argument}' out: it is read from the data.")
        arguments[argument] = value
    _check_complete(entry, known, arguments)
    with seeds.scoped(seed, "initialisation"):
        model: nn.Module = entry.value(**arguments)
    describe(model, shape)
    return model


def _check_rank(entry: Entry[Any], shape: Sequence[int]) -> None:
    """A model that declares channels or a size takes samples with as many axes as its declared input, and square ones."""
    known, example = entry.options(), tuple(entry.facts.get("input", ()))
    if not {"channels", "size"} & known.keys():
        return
    if example and len(shape) != len(example):
        what = f"'{entry.name}' takes samples such as {example}, and the data has {tuple(shape)}"
        anything = [e.name for e in MODELS if "inputs" in e.options()]
        raise InputError(what, cure=f"Choose a model that takes any shape: {', '.join(anything)}.")
    if "size" in known and len(shape) == 3 and shape[1] != shape[2]:
        what = f"'{entry.name}' takes square images, and the data has {shape[1]} x {shape[2]}"
        raise InputError(what, cure=f"Set the data's size to one number, such as size: {max(shape[1:])}.")


def _check_complete(entry: Entry[Any], known: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> None:
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise InputError(f"'{entry.name}' needs the option '{name}'", cure=f"Add {name}: ... to the model's options.")
