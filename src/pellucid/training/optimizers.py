"""Torch's optimisers under their own names, and what happens to the weights after a loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from pellucid.core.checks import positive
from pellucid.core.errors import InputError, nearest
from pellucid.core.table import OPTIMIZERS

# LBFGS needs to call the loss itself, SparseAdam takes sparse gradients only, Muon matrices only.
LEFT_OUT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
# Set by arguments of their own, or of no use without a graph through the step.
NOT_OPTIONS = ("params", "lr", "weight_decay", "differentiable", "capturable")

for _name, _kind in inspect.getmembers(torch.optim, inspect.isclass):
    if issubclass(_kind, torch.optim.Optimizer) and _name not in LEFT_OUT:
        OPTIMIZERS.add("torch", name=_name)(_kind)


def optimizer(
    name: str,
    parameters: Sequence[nn.Parameter],
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Torch's optimiser ``name`` over ``parameters``; ``options`` are its own (momentum, nesterov, betas, ...).

    ``weight_decay`` means what torch means by it and holds for all parameters, biases and normalisation included: AdamW
    shrinks the weights directly, the others add ``weight_decay * w`` to the gradient. Raises ``InputError`` for an unknown
    name or option (the nearest is named) and for a value that the optimiser refuses.
    """
    entry, given = OPTIMIZERS[name], dict(options or {})
    known = entry.options()
    allowed = [key for key in known if key not in NOT_OPTIONS]
    for key in given:
        if key not in allowed:
            own = key in ("lr", "weight_decay")
            cure = f"Set {key} itself, it is an argument of train." if own else nearest(key, allowed)
            raise InputError(f"'{name}' has no option '{key}'", where="optimizer_options", cure=cure)
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    given["lr"] = positive("lr", lr)
    if "weight_decay" in known:
        given["weight_decay"] = positive("weight_decay", weight_decay, zero=True)
    elif weight_decay:
        raise InputError(f"'{name}' has no weight decay", cure="Set weight_decay to 0, or take another optimizer.")
    try:
        made: torch.optim.Optimizer = entry.value(parameters, **given)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise InputError(f"{name} refuses its options: {error}", where=dict(options or {}), cure="Change the value.") from error
    return made


class Update:
    """Called as ``update(i, loss)``: gradients of the loss, clipped, and one step of optimiser ``i``.

    The only place where weights change, so the seam for training on several devices. ``clip`` limits the 2-norm of all
    gradients of a group together. With float16 the loss is scaled up and the gradients down again, so that small ones
    survive.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        schedule: Callable[[int], float],
        clip: float | None = None,
        device: torch.device | None = None,
        precision: str = "float32",
    ) -> None:
        self.optimizers, self.schedule = list(optimizers), schedule
        self.clip = None if clip is None else positive("clip", clip)
        self.base = [[float(group["lr"]) for group in o.param_groups] for o in self.optimizers]
        self.device = device or torch.device("cpu")
        self.mixed = precision in ("float16", "bfloat16")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")
        self.lr = self.base[0][0]

    def at(self, step: int) -> None:
        """Set the learning rates of this step."""
        factor = self.schedule(step)
        for optimizer, rates in zip(self.optimizers, self.base):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor
        self.lr = self.base[0][0] * factor

    def __call__(self, i: int, loss: torch.Tensor) -> None:
        optimizer = self.optimizers[i]
        optimizer.zero_grad()
        with self._full():
            torch.autograd.backward(self.scaler.scale(loss))
            if self.clip is not None:
                self.scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)
            self.scaler.step(optimizer)
            self.scaler.update()

    def _full(self) -> AbstractContextManager[object]:
        """Mixed precision is for the forward pass alone."""
        return torch.autocast(self.device.type, enabled=False) if self.mixed else nullcontext()

    def state(self) -> list[dict[int, dict[str, Any]]]:
        """Each optimiser's memory: parameter index -> name -> tensor or number."""
        return [o.state_dict()["state"] for o in self.optimizers]

    def restore(self, states: Sequence[Mapping[int, Mapping[str, Any]]]) -> None:
        """Put back what ``state`` gave."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
            # Torch casts what it loads to the parameter's precision; a float32 factor beside float64 weights must stay so.
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for index, values in state.items():
                mine = optimizer.state[parameters[index]]
                mine.update({k: v.to(mine[k].device) for k, v in values.items() if isinstance(v, torch.Tensor)})

    def release(self) -> None:
        """Let the last gradients go."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
