"""Operations that torch offers in one piece, written out in operations that have rules.

Called while the flow listens, so that every line below is a step: recurrent layers and cells, attention, einsum and the like.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.core.errors import UnsupportedError

from .flow import Flow

UNROLLED: dict[str, Callable[..., Any]] = {}


def unrolled(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function under the names of the torch functions that it stands for."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        UNROLLED.update(dict.fromkeys(names, function))
        return function

    return register


@unrolled("glu")
def glu(flow: Flow, input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b) of the two halves."""
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


@unrolled("addmm", "baddbmm", "addmv")
def addmm(flow: Flow, input: Tensor, *factors: Tensor, beta: float = 1, alpha: float = 1, **named: Tensor) -> Tensor:
    """beta * input + alpha * a @ b; the factors by their place or by the names that torch has for them."""
    a, b = [*factors, *(named[key] for key in ("mat1", "batch1", "mat", "mat2", "batch2", "vec") if key in named)]
    product = torch.matmul(a, b)
    product = product if alpha == 1 else product * alpha
    return product + (input if beta == 1 else input * beta)


@unrolled("addcmul")
def addcmul(flow: Flow, input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """input + value * a * b."""
    return input + tensor1 * tensor2 * value


@unrolled("lerp")
def lerp(flow: Flow, input: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """input + weight * (end - input)."""
    return input * (1 - weight) + end * weight


@unrolled("var", "std")
def variance(flow: Flow, *args: Any, **kwargs: Any) -> Tensor:
    """Refused: relevance of a spread is not defined; layer norms have a rule of their own."""
    raise UnsupportedError(
        "there is no rule for the operation 'var' or 'std'",
        where=flow.place(line=True),
        cure="Write a norm with nn.LayerNorm or nn.GroupNorm, which have rules.",
    )


@unrolled("local_response_norm")
def local_response_norm(
    flow: Flow, input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of squares over neighbouring channels)^beta, the denominator held: a scale."""
    with torch.no_grad():
        y = F.local_response_norm(input, size, alpha, beta, k)
        scale = torch.where(input != 0, y / torch.where(input != 0, input, 1), torch.zeros_like(y))
    return input * scale


@unrolled("softmin")
def softmin(flow: Flow, input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    return F.softmax(-input, dim, _stacklevel, dtype)


@unrolled("normalize")
def normalize(flow: Flow, input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Tensor:
    """x / max(|x|, eps), the length a scale."""
    if p != 2:
        raise UnsupportedError(f"there is no rule for normalize with p = {p}", where=flow.place(line=True))
    return input * torch.rsqrt((input * input).sum(dim, keepdim=True).clamp(min=eps**2))


@unrolled("bilinear")
def bilinear(flow: Flow, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 W_k x2 for every output k."""
    left = torch.matmul(input1[..., None, None, :], weight)[..., 0, :]  # (..., K, D2)
    product = torch.matmul(left, input2[..., None])[..., 0]
    return product if bias is None else product + bias


@unrolled("einsum")
def einsum(flow: Flow, equation: str, *operands: Any) -> Tensor:
    """Two operands without repeated letters, as a matrix product: letters of both that stay, then rows, then columns."""
    tensors = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else list(operands)
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    plain = all(len(set(t)) == len(t) and t.isalpha() for t in terms) and (right.isalpha() or right == "")
    if len(tensors) != 2 or not plain or "->" not in equation:
        raise UnsupportedError(
            f"there is no rule for einsum '{equation}'", where=flow.place(line=True), cure="Write it with matmul."
        )
    a, b = terms
    if set(right) - set(a + b):
        raise UnsupportedError(f"there is no rule for einsum '{equation}'", where=flow.place(line=True))
    x, y = tensors
    for letter in [c for c in a if c not in b and c not in right]:
        x, a = x.sum(a.index(letter)), a.replace(letter, "")
    for letter in [c for c in b if c not in a and c not in right]:
        y, b = y.sum(b.index(letter)), b.replace(letter, "")
    both = [c for c in a if c in b and c in right]
    summed = [c for c in a if c in b and c not in right]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    sizes = dict(zip(a, x.shape)) | dict(zip(b, y.shape))
    if any(sizes[c] != n for c, n in zip(a, x.shape)):
        raise UnsupportedError(f"there is no rule for einsum '{equation}' with an axis of size 1", where=flow.place(line=True))
    count: Callable[[list[str]], int] = lambda letters: math.prod(sizes[c] for c in letters)  # noqa: E731
    x = x.permute([a.index(c) for c in both + rows + summed]).reshape(*[sizes[c] for c in both], count(rows), count(summed))
    y = y.permute([b.index(c) for c in both + summed + columns]).reshape(
        *[sizes[c] for c in both], count(summed), count(columns)
    )
    order = both + rows + columns
    z = torch.matmul(x, y).reshape([sizes[c] for c in order])
    return z.permute([order.index(c) for c in right])


def attend(q: Tensor, k: Tensor, v: Tensor, masks: list[Tensor | None], dropout: float, scale: float) -> tuple[Tensor, Tensor]:
    """softmax(scale Q K^T + masks) V, and the weights; a mask of truth values says what is hidden, any other is added."""
    scores = torch.matmul(q, k.transpose(-2, -1)) * scale
    for mask in masks:
        if mask is not None:
            scores = scores.masked_fill(mask, -math.inf) if mask.dtype is torch.bool else scores + mask
    weights = F.dropout(scores.softmax(-1), dropout, training=dropout > 0)
    return torch.matmul(weights, v), weights


@unrolled("scaled_dot_product_attention")
def scaled_dot_product_attention(
    flow: Flow,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = ~attn_mask  # here it says what is seen
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return attend(query, key, value, [attn_mask], dropout_p, scale)[0]


@unrolled("multi_head_attention_forward")
def multi_head_attention_forward(
    flow: Flow,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """nn.MultiheadAttention: three projections, attention in each head, one projection back; (T, B, D) or (T, D)."""
    if add_zero_attn or bias_k is not None or bias_v is not None or static_k is not None or static_v is not None:
        raise UnsupportedError("attention with added keys has no rule", where=flow.place(line=True))
    lone = query.dim() == 2
    if lone:
        query, key, value = query[:, None], key[:, None], value[:, None]
        key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
    width = query.shape[2]
    if use_separate_proj_weight:
        weights: list[Any] = [q_proj_weight, k_proj_weight, v_proj_weight]
    else:
        assert in_proj_weight is not None
        weights = list(in_proj_weight.chunk(3))
    biases = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
    heads = []
    for x, w, b in zip((query, key, value), weights, biases):
        y = F.linear(x, w, b)  # (T, B, D)
        heads.append(y.reshape(y.shape[0], y.shape[1], num_heads, width // num_heads).permute(1, 2, 0, 3))
    q, k, v = heads  # (B, heads, T, d)
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.reshape(-1, num_heads, *attn_mask.shape[1:])
    hidden = None if key_padding_mask is None else key_padding_mask[:, None, None]
    dropout = dropout_p if training else 0.0
    y, weights_of = attend(q, k, v, [attn_mask, hidden], dropout, (width // num_heads) ** -0.5)
    y = y.permute(2, 0, 1, 3).flatten(2)
    y = F.linear(y, out_proj_weight, out_proj_bias)
    shown = None
    if need_weights:
        shown = weights_of.mean(1) if average_attn_weights else weights_of
        shown = shown[0] if lone else shown
    return (y[:, 0] if lone else y), shown


# Recurrent cells: (input, state, weights of the input, weights of the state, biases) -> state.


def _lstm_step(x: Tensor, state: tuple[Tensor, Tensor], w: Any, u: Any, b: Any, c: Any) -> tuple[Tensor, Tensor]:
    h, cell = state
    i, f, g, o = (F.linear(x, w, b) + F.linear(h, u, c)).chunk(4, 1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru_step(x: Tensor, state: tuple[Tensor], w: Any, u: Any, b: Any, c: Any) -> tuple[Tensor]:
    (h,) = state
    (r, z, n), (rh, zh, nh) = F.linear(x, w, b).chunk(3, 1), F.linear(h, u, c).chunk(3, 1)
    z = (z + zh).sigmoid()
    n = (n + (r + rh).sigmoid() * nh).tanh()
    return (n * (1 - z) + h * z,)


def _plain_step(activation: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def step(x: Tensor, state: tuple[Tensor], w: Any, u: Any, b: Any, c: Any) -> tuple[Tensor]:
        return (activation(F.linear(x, w, b) + F.linear(state[0], u, c)),)

    return step


_CELLS: dict[str, Callable[..., Any]] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": _plain_step(torch.tanh),
    "rnn_relu": _plain_step(torch.relu),
}


def _cell(kind: str) -> Callable[..., Any]:
    def run(flow: Flow, input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
        state = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
        found = _CELLS[kind](input, state, w_ih, w_hh, b_ih, b_hh)
        return found if kind == "lstm" else found[0]

    return run


def _layers(kind: str) -> Callable[..., Any]:
    def run(
        flow: Flow,
        input: Tensor,
        hx: Any,
        params: Any,
        has_biases: Any,
        num_layers: Any,
        dropout: Any,
        train: Any,
        bidirectional: Any,
        batch_first: Any = None,
    ) -> Any:
        if batch_first is None:
            raise UnsupportedError(
                "packed sequences have no rules", where=flow.place(line=True), cure="Give the layer a padded tensor."
            )
        several = kind == "lstm"
        states = tuple(hx) if several else (hx,)
        per = 4 if has_biases else 2
        if several and any(params[i].size(0) != 4 * states[0].size(2) for i in range(0, len(params), per)):
            raise UnsupportedError("an LSTM with projections has no rules", where=flow.place(line=True))
        directions = 2 if bidirectional else 1
        x = input.transpose(0, 1) if batch_first else input  # (T, B, D)
        last: list[Any] = []
        for layer in range(num_layers):
            outputs = []
            for direction in range(directions):
                at = layer * directions + direction
                w, u, b, c = (*params[at * per : (at + 1) * per], None, None)[:4]
                state = tuple(s[at] for s in states)
                steps = list(x.unbind(0))
                found = []
                for row in reversed(steps) if direction else steps:
                    state = _CELLS[kind](row, state, w, u, b, c)
                    found.append(state[0])
                outputs.append(torch.stack(found[::-1] if direction else found))
                last.append(state)
            x = outputs[0] if directions == 1 else torch.cat(outputs, 2)
            if layer < num_layers - 1:
                x = F.dropout(x, dropout, training=bool(train))
        ends = [torch.stack(list(s)) for s in zip(*last)]
        return (x.transpose(0, 1) if batch_first else x, *ends)

    return run


for _kind in _CELLS:
    UNROLLED[_kind] = _layers(_kind)
    UNROLLED[f"{_kind}_cell"] = _cell(_kind)
