"""Relevance propagation, slowly: every operation one dense matrix, every rule its formula, one sample at a time, no autograd.

c_jk = a_j w_jk, z_k = sum_j c_jk + b_k, x^+ = max(x, 0), x^- = min(x, 0). `bias=False` is the rule for the same operation with
b = 0. A denominator d becomes d + stabiliser * sign(d) with sign(0) = +1, and what is exactly 0 after that passes nothing on.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAXIMA = {nn.MaxPool1d: nn.AvgPool1d, nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}
AVERAGES = (*MAXIMA.values(), nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.GELU, nn.SiLU)
SILENT = (nn.Flatten, nn.Dropout, nn.Identity)

# The rules: a (D,), w (D, K), b (K,), r (K,) -> (D,)


def plus(x):
    return np.maximum(x, 0)


def minus(x):
    return np.minimum(x, 0)


def sign(x):
    return np.where(x < 0, -1.0, 1.0)


def shared(parts, total, r, stabiliser):
    """sum_k parts_jk / total_k * r_k, with the total stabilised and 0 for a total of 0."""
    total = total + stabiliser * sign(total)
    out = np.zeros(len(parts))
    for k in range(len(total)):
        if total[k] != 0:
            out += parts[:, k] / total[k] * r[k]
    return out


def zero(a, w, b, r, *, bias=True, stabiliser=0.0):
    c = a[:, None] * w
    return shared(c, c.sum(0) + b * bias, r, stabiliser)


def epsilon(a, w, b, r, *, epsilon=1e-6, relative=False, bias=True, stabiliser=0.0):
    c = a[:, None] * w
    z = c.sum(0) + b * bias
    scale = np.sqrt((z**2).mean()) if relative else 1.0
    return shared(c, z, r, epsilon * scale + stabiliser)


def gamma(a, w, b, r, *, gamma=0.25, bias=True, stabiliser=0.0):
    c, b = a[:, None] * w, b * bias
    z = c.sum(0) + b
    above = shared(c + gamma * plus(c), z + gamma * (plus(c).sum(0) + plus(b)), np.where(z > 0, r, 0), stabiliser)
    below = shared(c + gamma * minus(c), z + gamma * (minus(c).sum(0) + minus(b)), np.where(z < 0, r, 0), stabiliser)
    return above + below


def alpha_beta(a, w, b, r, *, alpha=2.0, bias=True, stabiliser=0.0):
    c, b = a[:, None] * w, b * bias
    for_it = shared(plus(c), plus(c).sum(0) + plus(b), r, stabiliser)
    against = shared(minus(c), minus(c).sum(0) + minus(b), r, stabiliser)
    return alpha * for_it - (alpha - 1) * against


def z_plus(a, w, b, r, *, bias=True, stabiliser=0.0):
    c = a[:, None] * w
    return shared(plus(c), plus(c).sum(0) + plus(b) * bias, r, stabiliser)


def w_square(a, w, b, r, *, bias=True, stabiliser=0.0):
    return shared(w**2, (w**2).sum(0) + b**2 * bias, r, stabiliser)


def flat(a, taps, b, r, *, bias=True, stabiliser=0.0):
    """`taps` in the place of the weights: 1 wherever j is an input of k. Never a bias."""
    return shared(taps, taps.sum(0), r, stabiliser)


def z_box(a, w, b, r, *, low, high, bias=True, stabiliser=0.0):
    """`low` and `high`: numbers, or one per input. Never a bias."""
    low, high = (np.broadcast_to(bound, a.shape)[:, None] for bound in (low, high))
    parts = a[:, None] * w - low * plus(w) - high * minus(w)
    return shared(parts, parts.sum(0), r, stabiliser)


RULES = {f.__name__: f for f in (zero, epsilon, gamma, alpha_beta, z_plus, w_square, flat, z_box)}

# Modules as matrices


def columns(module, shape):
    """(D, K): what each unit vector of an input of this shape becomes in a linear module, all flattened."""
    count = int(np.prod(shape))
    with torch.no_grad():
        return module(torch.eye(count, dtype=torch.float64).reshape(count, *shape)).reshape(count, -1).numpy()


def as_matrix(module, shape):
    """(weights, taps, biases) of a Linear, Conv or ConvTranspose module: (D, K), (D, K), (K,)."""
    if getattr(module, "padding_mode", "zeros") != "zeros":
        raise ValueError("only zero padding is one weight per pair of input and output")
    bare = copy.deepcopy(module).double()
    bare.bias = None
    ones = copy.deepcopy(bare)
    nn.init.ones_(ones.weight)
    with torch.no_grad():
        at_zero = copy.deepcopy(module).double()(torch.zeros(1, *shape, dtype=torch.float64))
    return columns(bare, shape), columns(ones, shape), at_zero.reshape(-1).numpy()


def factors(norm, shape):
    """(g, c), one per value of this shape: batch norm in evaluation mode is g * x + c."""
    mean, var = norm.running_mean.double(), norm.running_var.double()
    weight = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()
    offset = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    g = weight / torch.sqrt(var + norm.eps)
    each = int(np.prod(shape[1:]))
    return np.repeat(g.numpy(), each), np.repeat((offset - mean * g).numpy(), each)


# The steps of a sequential network


@dataclass
class Affine:
    """An affine operation with its batch norms folded in."""

    name: str
    kind: str
    first: bool
    shape: tuple
    weights: np.ndarray
    taps: np.ndarray
    biases: np.ndarray

    def forward(self, a):
        return a @ self.weights + self.biases

    def backward(self, a, r, rule, options):
        options = dict(options)
        for bound in {"low", "high"} & options.keys():
            options[bound] = np.broadcast_to(np.asarray(options[bound], dtype=np.float64), self.shape).ravel()
        return RULES[rule](a, self.taps if rule == "flat" else self.weights, self.biases, r, **options)


@dataclass
class Activation:
    """Elementwise: relevance passes unchanged."""

    function: nn.Module

    def forward(self, a):
        with torch.no_grad():
            return self.function(torch.from_numpy(a)).numpy()

    def backward(self, a, r):
        return r


@dataclass
class Winner:
    """Max pooling: the first of the largest values in a window takes all."""

    members: np.ndarray

    def forward(self, a):
        return np.where(self.members, a[:, None], -np.inf).max(0)

    def backward(self, a, r):
        out = np.zeros(len(a))
        for k, j in enumerate(np.where(self.members, a[:, None], -np.inf).argmax(0)):
            out[j] += r[k]
        return out


@dataclass
class Share:
    """Average pooling, mean, sum: in proportion to the values."""

    weights: np.ndarray

    def forward(self, a):
        return a @ self.weights

    def backward(self, a, r):
        return shared(a[:, None] * self.weights, self.forward(a), r, 0.0)


def window_members(pool, shape):
    """(D, K), true where j lies in the window of k, from the average over the same windows."""
    if pool.dilation not in (1, (1,), (1, 1), (1, 1, 1)) or pool.ceil_mode:
        raise ValueError("max pooling without dilation or ceil_mode only")
    kind = next(average for maximum, average in MAXIMA.items() if isinstance(pool, maximum))
    return columns(kind(pool.kernel_size, pool.stride, pool.padding), shape) != 0


def steps_of(model, shape, linear=()):
    """The steps of nested nn.Sequential modules, in order; `linear`: further classes that average or add.

    A batch norm belongs to the affine operation directly before it, else to the one directly behind it.
    """
    leaves = [(name, module) for name, module in model.named_modules() if not isinstance(module, nn.Sequential)]
    steps, waiting, previous, first = [], None, None, True
    for name, module in leaves:
        with torch.no_grad():
            after = tuple(module.eval()(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])
        if waiting is not None and not isinstance(module, (nn.Linear, *CONVOLUTIONS)):
            raise ValueError(f"a batch norm before {name!r} has no affine operation beside it")
        if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
            weights, taps, biases = as_matrix(module, shape)
            if waiting is not None:
                g, c = factors(waiting, shape)
                weights, biases, waiting = g[:, None] * weights, biases + c @ weights, None
            kind = "dense" if isinstance(module, nn.Linear) else "convolution"
            steps.append(Affine(name, kind, first, shape, weights, taps, biases))
            first = False
        elif isinstance(module, NORMS) and isinstance(previous, (nn.Linear, *CONVOLUTIONS)):
            g, c = factors(module, shape)
            steps[-1].weights, steps[-1].biases = steps[-1].weights * g, steps[-1].biases * g + c
        elif isinstance(module, NORMS):
            waiting = module
        elif isinstance(module, tuple(MAXIMA)):
            steps.append(Winner(window_members(module, shape)))
        elif isinstance(module, (*AVERAGES, *linear)):
            steps.append(Share(columns(module, shape)))
        elif isinstance(module, ACTIVATIONS):
            steps.append(Activation(module))
        elif not isinstance(module, SILENT):
            raise ValueError(f"no step for {type(module).__name__} {name!r}")
        shape, previous = after, module
    if waiting is not None:
        raise ValueError("the last batch norm has no affine operation beside it")
    return steps


def composite_named(name, **options):
    """The table of a named composite: key -> (rule, options); `options` for z_box and the dense epsilon."""
    box = {key: options[key] for key in ("low", "high") if key in options}
    dense = ("epsilon", {key: options[key] for key in ("epsilon", "relative") if key in options})
    table = {
        "epsilon_plus": {"convolution": ("z_plus", {})},
        "epsilon_plus_flat": {"first": ("flat", {}), "convolution": ("z_plus", {})},
        "epsilon_alpha2_beta1": {"convolution": ("alpha_beta", {"alpha": 2.0})},
        "epsilon_gamma_box": {"first convolution": ("z_box", box), "convolution": ("gamma", {"gamma": 0.25})},
    }[name]
    return {**table, "dense": dense}


def choose(composite, step):
    """The (rule, options) of an affine step: by its name, else as first, else by its kind, else the one for every step."""
    keys = [step.name, f"first {step.kind}" if step.first else None, "first" if step.first else None, step.kind, "every"]
    return next(composite[key] for key in keys if key in composite)


def values(steps, x):
    """The flat input of every step, and the output."""
    found = [np.asarray(x, dtype=np.float64).ravel()]
    for step in steps:
        found.append(step.forward(found[-1]))
    return found


def relevance(steps, x, target, composite, down_to=0):
    """The relevance of one sample, flat, from its target's logit down to the input of a step (0: the network's own).

    Bounds of z_box that are missing are the smallest and the largest value of x.
    """
    inputs = values(steps, x)
    r = np.zeros_like(inputs[-1])
    r[target] = inputs[-1][target]
    for step, a in reversed(list(zip(steps, inputs))[down_to:]):
        if isinstance(step, Affine):
            rule, options = choose(composite, step)
            if rule == "z_box":
                options = {"low": inputs[0].min(), "high": inputs[0].max(), **options}
            r = step.backward(a, r, rule, options)
        else:
            r = step.backward(a, r)
    return r
