"""The relatives of relevance propagation, and DeepLIFT, slowly: on the dense matrices of matrix_rules.py, one sample at a time.

c_jk = a_j w_jk, q_k = sum_j |c_jk|. What is exactly 0 in a denominator passes nothing on. Relevance and inputs are flat.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from references.matrix_rules import Activation, Affine, Share, Winner, minus, plus, shared, values

# Relevance from seeds at the outputs


def propagate(steps, inputs, r, rule, down_to=0, positive=False):
    """From the relevance of the outputs to that of the input of a step; `rule(step)` is (name, options) of an affine step.

    `positive`: averages share among their positive terms only.
    """
    for step, a in reversed(list(zip(steps, inputs))[down_to:]):
        if isinstance(step, Affine):
            name, options = rule(step)
            r = step.backward(a, r, name, {"bias": False, **options})
        elif isinstance(step, Share) and positive:
            c = plus(a[:, None] * step.weights)
            r = shared(c, c.sum(0), r, 0.0)
        else:
            r = step.backward(a, r)
    return r


def box(x, low, high):
    """z_box between these bounds, by default the smallest and the largest value of the sample."""
    return "z_box", {"low": x.min() if low is None else low, "high": x.max() if high is None else high}


def plus_and_box(x, low, high, first="z_box"):
    """z_plus everywhere but where the input enters."""
    entry = box(x, low, high) if first == "z_box" else (first, {})
    return lambda step: entry if step.first else ("z_plus", {})


def one_hot(count, target):
    return np.where(np.arange(count) == target, 1.0, 0.0)


def deep_taylor(steps, x, target, first="z_box", low=None, high=None):
    inputs = values(steps, x)
    seed = one_hot(len(inputs[-1]), target) * max(inputs[-1][target], 0)
    return propagate(steps, inputs, seed, plus_and_box(inputs[0], low, high, first), positive=True)


def negated(steps):
    """The same steps, with the weights and biases of the last affine one of the other sign."""
    steps = list(steps)
    i = max(i for i, step in enumerate(steps) if isinstance(step, Affine))
    steps[i] = replace(steps[i], weights=-steps[i].weights, biases=-steps[i].biases)
    return steps


def contrastive_lrp(steps, x, target, dual="others", low=None, high=None, clip=True):
    inputs = values(steps, x)
    rule, logit, count = plus_and_box(inputs[0], low, high), abs(inputs[-1][target]), len(inputs[-1])
    at_target = one_hot(count, target) * logit
    r = propagate(steps, inputs, at_target, rule)
    if dual == "others":
        other = propagate(steps, inputs, (1 - one_hot(count, target)) * logit / (count - 1), rule)
    else:
        other = propagate(negated(steps), inputs, at_target, rule)
    if other.sum() != 0:
        other = other * r.sum() / other.sum()
    return plus(r - other) if clip else r - other


def softmax_seed(z, target):
    y = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return np.array([y[target] * (1 - y[target]) if n == target else -y[target] * y[n] for n in range(len(z))])


def softmax_gradient_lrp(steps, x, target, low=None, high=None, rule=None):
    inputs = values(steps, x)
    return propagate(steps, inputs, softmax_seed(inputs[-1], target), rule or plus_and_box(inputs[0], low, high))


def by_size(a, w, r):
    """RAP at the last affine operation: in proportion to |c|."""
    c = np.abs(a[:, None] * w)
    out = np.zeros(len(a))
    for k in range(len(r)):
        if c[:, k].sum() != 0:
            out += c[:, k] / c[:, k].sum() * r[k]
    return out


def by_influence(a, w, r):
    """RAP at the others: the positive ones among themselves, the negative ones among all; what is too much is taken off."""
    c = a[:, None] * w
    out = np.zeros(len(a))
    for k in range(len(r)):
        up, down = plus(c[:, k]), -minus(c[:, k])
        if up.sum() != 0:
            out += up / up.sum() * r[k]
        if up.sum() + down.sum() != 0:
            out += down / (up + down).sum() * r[k]
    active = out != 0
    if active.any():
        out[active] -= (out.sum() - r.sum()) / active.sum()
    return out


def rap(steps, x, target, low=None, high=None):
    """The relevance of the input of every step, and last that of the outputs."""
    inputs = values(steps, x)
    last = [step for step in steps if isinstance(step, Affine)][-1]
    found = [one_hot(len(inputs[-1]), target) * inputs[-1][target]]
    for step, a in reversed(list(zip(steps, inputs))):
        if not isinstance(step, Affine):
            r = step.backward(a, found[0])
        elif step is last:
            r = by_size(a, step.weights, found[0])
        elif step.first and step.kind == "convolution":
            name, options = box(inputs[0], low, high)
            r = step.backward(a, found[0], name, options)
        else:
            r = by_influence(a, step.weights, found[0])
        found.insert(0, r)
    return found


def relevance_cam(steps, x, target, depth, maps):
    """sum_k w_k A^k, with the relevance of what the first `depth` steps put out, whose shape is that of `maps` (K, ...)."""
    inputs = values(steps, x)
    count = len(inputs[-1])
    seed = np.where(np.arange(count) == target, 1.0, -1.0 / count)
    r = propagate(steps, inputs, seed, lambda _: ("z_plus", {}), depth).reshape(maps.shape)
    return sum(r[k].mean() * maps[k] for k in range(len(maps)))


# DeepLIFT: multipliers of the differences between the sample (a) and the reference (b)


def slope(function, z):
    """The derivative of an activation."""
    if isinstance(function, nn.ReLU):
        return np.where(z > 0, 1.0, 0.0)
    if isinstance(function, nn.LeakyReLU):
        return np.where(z > 0, 1.0, function.negative_slope)
    if isinstance(function, nn.Tanh):
        return 1 - np.tanh(z) ** 2
    if isinstance(function, nn.Sigmoid):
        return np.exp(-z) / (1 + np.exp(-z)) ** 2
    raise ValueError(f"no derivative for {type(function).__name__}")


def quotient(over, under, instead):
    """over / under, and `instead` where under is 0."""
    return np.where(under != 0, over / np.where(under != 0, under, 1), instead)


def rescale(step, a, b):
    """dy / dx, the derivative at the sample where dx is 0."""
    return quotient(step.forward(a) - step.forward(b), a - b, slope(step.function, a))


def parts_of(affine, a, b):
    """(f's argument at the reference, D+, D-): the sums of the positive and of the negative contributions to each unit."""
    c = (a - b)[:, None] * affine.weights
    return affine.forward(b), plus(c).sum(0), minus(c).sum(0)


def gains(f, z, up, down):
    """(dy+, dy-): what each part adds to f, the mean of adding it first and adding it last."""
    both = f(z + up + down)
    return (f(z + up) - f(z) + both - f(z + down)) / 2, (f(z + down) - f(z) + both - f(z + up)) / 2


def reveal_cancel(affine, step, a, b, m):
    """From the multipliers behind an activation to those of the inputs of the affine operation before it."""
    z, up, down = parts_of(affine, a, b)
    dy_up, dy_down = gains(step.forward, z, up, down)
    flat = slope(step.function, affine.forward(a))
    m_up, m_down = quotient(dy_up, up, flat), quotient(dy_down, down, flat)
    out = np.zeros(len(a))
    for k in range(len(m)):
        c = (a - b) * affine.weights[:, k]
        part = np.where(c > 0, m_up[k], np.where(c < 0, m_down[k], (m_up[k] + m_down[k]) / 2))
        out += affine.weights[:, k] * part * m[k]
    return out


def of_winners(step, a, b, m):
    """With M = max(y, y'): (M - y') / dx for the winner of the sample, (y - M) / dx for the winner of the reference.

    Where dx is 0, the derivative at the sample: 1 for its winner, 0 for the other.
    """
    out = np.zeros(len(a))
    for k, members in enumerate(step.members.T):
        i, j = (np.where(members, v, -np.inf).argmax() for v in (a, b))
        larger = max(a[i], b[j])
        out[i] += m[k] * ((larger - b[j]) / (a[i] - b[i]) if a[i] != b[i] else 1)
        out[j] += m[k] * ((a[i] - larger) / (a[j] - b[j]) if a[j] != b[j] else 0)
    return out


def multipliers(steps, x, reference, target, variant="rescale"):
    """Those of the network's input, and its output at the sample and at the reference."""
    at_x, at_b = values(steps, x), values(steps, reference)
    m = one_hot(len(at_x[-1]), target)
    i = len(steps) - 1
    while i >= 0:
        step, before, a, b = steps[i], steps[i - 1] if i else None, at_x[i], at_b[i]
        splits = isinstance(step, Activation) and isinstance(before, Affine) and variant != "rescale"
        if splits and (variant == "reveal_cancel" or before.kind == "dense"):
            i -= 1
            m = reveal_cancel(before, step, at_x[i], at_b[i], m)
        elif isinstance(step, Activation):
            m = m * rescale(step, a, b)
        elif isinstance(step, Winner):
            m = of_winners(step, a, b, m)
        elif isinstance(step, (Affine, Share)):
            m = step.weights @ m
        i -= 1
    return m, at_x[-1][target], at_b[-1][target]


def deep_lift(steps, x, references, target, variant="rescale"):
    """(relevance, score, base), both averaged over the references."""
    x, parts, bases = np.asarray(x, dtype=np.float64).ravel(), [], []
    for reference in references:
        reference = np.broadcast_to(np.asarray(reference, dtype=np.float64).ravel(), x.shape)
        m, score, base = multipliers(steps, x, reference, target, variant)
        parts.append((x - reference) * m)
        bases.append(base)
    return sum(parts) / len(parts), score, sum(bases) / len(bases)
