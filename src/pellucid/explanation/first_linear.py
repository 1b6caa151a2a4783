"""The way from a layer to the first linear layer behind it, where every step keeps channels apart.

If all steps treat each channel by itself and make zeros of zeros, then setting channel k of the layer to zero takes from the
linear layer's output exactly what that channel adds to it, sum_p W[:, k, p] u[k, p]. So for K channels the linear layer, the
costly one behind a convolutional network, is multiplied out once instead of K times.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_KINDS = ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax")
_NAMES = ("max", "avg", "adaptive_avg", "adaptive_max")
# By the number of axes: a pool for three axes takes maps of two for one volume, and mixes their channels.
_POOLS = {d: {getattr(nn, f"{kind}Pool{d}d") for kind in _KINDS} for d in (1, 2, 3)}
_POOL_FUNCTIONS = {d: {getattr(F, f"{name}_pool{d}d") for name in _NAMES} for d in (1, 2, 3)}
_MODULES = {nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Identity, nn.Dropout, nn.Dropout2d}
_FUNCTIONS = {torch.relu, F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, torch.tanh, F.dropout, torch.relu_}
_METHODS = {"relu", "relu_", "tanh", "contiguous"}


def steps_to_linear(model: nn.Module, start: fx.Node, axes: int) -> list[fx.Node] | None:
    """The steps after ``start``, whose maps have so many axes, up to and with the first linear layer.

    None where a step is among them that may not keep channels apart.
    """
    steps: list[fx.Node] = []
    node = start
    while len(node.users) == 1:
        node = next(iter(node.users))
        steps.append(node)
        if node.op == "call_module" and _plain(model, node) is nn.Linear:
            return steps
        if node.all_input_nodes != [steps[-2] if len(steps) > 1 else start] or not _by_channel(model, node, axes):
            return None
        if _flattens(model, node):
            axes = 0  # no pool any more
    return None


def _flattens(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), nn.Flatten)
    return node.target is torch.flatten or (node.op == "call_method" and node.target == "flatten")


def _plain(model: nn.Module, node: fx.Node) -> type[nn.Module] | None:
    """The kind of module a step calls, None where hooks may make something else of it."""
    module = model.get_submodule(str(node.target))
    return None if module._forward_hooks or module._forward_pre_hooks else type(module)


def _by_channel(model: nn.Module, node: fx.Node, axes: int) -> bool:
    if node.op == "call_module":
        kind = _plain(model, node)
        module = model.get_submodule(str(node.target))
        if isinstance(module, nn.Flatten):
            return kind is nn.Flatten and module.start_dim == 1 and module.end_dim == -1
        return kind in _MODULES or kind in _POOLS.get(axes, ())
    if _flattens(model, node):
        given = {**dict(zip(("start_dim", "end_dim"), node.args[1:])), **node.kwargs}
        return bool(given.get("start_dim", 0) == 1 and given.get("end_dim", -1) == -1)
    if node.op == "call_method":
        return node.target in _METHODS
    return node.target in _FUNCTIONS or node.target in _POOL_FUNCTIONS.get(axes, ())


def channel_effects(linear: nn.Linear, u: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """(B, O) the linear layer's output for ``u`` (B, channels * P), and (B, channels, O) what each channel adds to it."""
    w = linear.weight.view(len(linear.weight), channels, -1).movedim(1, 0)  # (K, O, P)
    rows = u.reshape(len(u), channels, -1).movedim(1, 0)  # (K, B, P)
    return linear(u), torch.bmm(rows, w.transpose(1, 2)).movedim(0, 1)
