"""A model on loan: evaluated and differentiated, then handed back; and ways to watch or stand in for its modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.core.errors import InputError

Model = nn.Module | Callable[..., Any]


@contextmanager
def borrowed(model: Model) -> Iterator[None]:
    """Evaluation mode, frozen parameters, gradients on; put back afterwards, also after an error.

    Parameters, buffers, modes and torch's random numbers on the CPU are then bit for bit what they were. What a model's own
    code keeps on itself (``self.last = x``) stays as after any other call.
    """
    with torch.inference_mode(False), torch.enable_grad():
        if not isinstance(model, nn.Module):
            yield
            return
        modules = list(model.modules())
        modes = [(module, module.training) for module in modules]
        # read where torch keeps them: its own walks cost a tenth of a forward of a small network
        parameters = [p for module in modules for p in module._parameters.values() if p is not None]
        if any(isinstance(p, nn.UninitializedParameter) for p in parameters):
            raise InputError("the model has parameters without values yet", cure="Run it once on a batch first.")
        if any(p.is_inference() for p in parameters):
            raise InputError("the model was made in inference mode, which allows no gradients", cure="Make it outside.")
        frozen = [p for p in parameters if p.requires_grad]
        slots = [(module, name, b) for module in modules for name, b in module._buffers.items() if b is not None]
        buffers = [(*slot, slot[2].clone()) for slot in slots]
        random = torch.get_rng_state()
        try:
            if any(training for _, training in modes):
                model.eval()
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, training in modes:
                if module.training is not training:
                    module.training = training
            for parameter in frozen:
                parameter.requires_grad_(True)
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer  # it may have been replaced
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
            torch.set_rng_state(random)


def is_keras(module: object) -> bool:
    """Whether this is a layer of Keras, which is a torch module whose ``__call__`` passes torch's hooks by."""
    return any(kind.__module__.partition(".")[0] == "keras" for kind in type(module).__mro__)


def children(module: nn.Module) -> dict[str, nn.Module]:
    """The modules directly inside one, by name. Keras does not tell torch of its layers."""
    if is_keras(module):
        inside = getattr(module, "layers", None) or getattr(module, "_layers", [])
        return {str(layer.name): layer for layer in inside if isinstance(layer, nn.Module)}
    return dict(module.named_children())


def descendants(module: nn.Module, name: str = "") -> dict[str, nn.Module]:
    """A module and all inside it, by their dotted names; each once, under the name that is met first."""
    if not is_keras(module):
        return dict(module.named_modules(prefix=name))
    found = {name: module}
    for key, child in children(module).items():
        for inner, part in descendants(child, f"{name}.{key}" if name else key).items():
            if not any(part is known for known in found.values()):
                found[inner] = part
    return found


@contextmanager
def replaced(changes: Mapping[nn.Module, Callable[[Callable[..., Any]], Callable[..., Any]]]) -> Iterator[None]:
    """Other functions in the place of modules' own, each made from the module's own; the modules' hooks still run."""
    done: list[tuple[nn.Module, str, bool, Any]] = []
    try:
        for module, change in changes.items():
            name = "call" if is_keras(module) else "forward"
            done.append((module, name, name in vars(module), vars(module).get(name)))
            vars(module)[name] = change(getattr(module, name))
        yield
    finally:
        for module, name, had, before in reversed(done):
            if had:
                vars(module)[name] = before
            else:
                del vars(module)[name]


@contextmanager
def watched(changes: Mapping[nn.Module, Callable[[Any], Any]]) -> Iterator[None]:
    """See every output of these modules, behind whatever hooks they have; what is returned takes its place, None keeps it."""
    handles = []
    wrapped: dict[nn.Module, Any] = {}

    def around(change: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(own: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                output = own(*args, **kwargs)
                new = change(output)
                return output if new is None else new

            return call

        return make

    try:
        for module, change in changes.items():
            if is_keras(module):
                wrapped[module] = around(change)
            else:
                handles.append(module.register_forward_hook(lambda m, i, output, change=change: change(output)))
        with replaced(wrapped):
            yield
    finally:
        for handle in handles:
            handle.remove()


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor, or tuples, lists and dictionaries of them, with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(item, change) for item in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(mapped(item, change) for item in tree)
    if isinstance(tree, dict):
        changed = copy.copy(tree)
        changed.update({key: mapped(item, change) for key, item in tree.items()})
        return changed
    return tree


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of an answer, however it is nested."""
    found: list[Tensor] = []
    mapped(tree, lambda t: found.append(t) or t)  # type: ignore[func-returns-value]
    return found


def first_tensor(output: Any) -> Tensor | None:
    """A layer's output, or the first part of it where it answers with several."""
    if isinstance(output, tuple | list) and output:
        return first_tensor(output[0])
    return output if isinstance(output, Tensor) else None


def with_first(output: Any, tensor: Tensor) -> Any:
    """The same output with another first tensor."""
    if isinstance(output, tuple | list):
        rest = (with_first(output[0], tensor), *output[1:])
        return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)
    return tensor
