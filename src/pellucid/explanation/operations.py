"""What kind of operation each function of torch is, by its name, for methods that go back through a network by rules.

A name stands for every spelling of it: ``relu``, ``relu_``, ``torch.relu``, ``Tensor.relu`` and ``functional.relu`` are one
operation, and so are ``add``, ``+``, ``+=`` and ``__radd__``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def names(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


# Values are moved, repeated, chosen or left out, never changed: what comes back goes where it came from, as torch has it.
ROUTES = names("""
    view reshape reshape_as view_as flatten unflatten ravel squeeze unsqueeze permute transpose t swapaxes swapdims movedim
    moveaxis expand expand_as broadcast_to broadcast_tensors repeat repeat_interleave tile contiguous clone alias identity
    cat concat concatenate hstack vstack dstack column_stack stack split chunk tensor_split unbind unsafe_chunk unsafe_split
    split_with_sizes hsplit vsplit dsplit narrow select slice getitem index_select index gather take take_along_dim
    masked_select roll flip fliplr flipud rot90 pad pixel_shuffle pixel_unshuffle channel_shuffle tril triu diagonal
    masked_fill masked_scatter where scatter index_put index_copy index_fill setitem copy fill zero
    to type float double half bfloat16 cpu cuda type_as requires_grad atleast_1d atleast_2d atleast_3d
    topk sort kthvalue median mode cummax cummin max_unpool1d max_unpool2d max_unpool3d unfold meshgrid
""")
# One value in, one value out, each by itself; f(0) = 0 or not, what comes back is passed on.
ACTIVATIONS = names("""
    relu relu6 leaky_relu rrelu elu celu selu gelu silu mish hardswish hardtanh softplus softsign tanhshrink hardshrink
    softshrink threshold _threshold prelu tanh log_sigmoid logsigmoid sigmoid hardsigmoid clamp clip clamp_min clamp_max
    exp expm1 log log1p log2 log10 sqrt rsqrt square abs pow reciprocal sin cos tan atan erf sinh cosh float_power
""")
RECTIFIERS = frozenset(names("relu relu6 leaky_relu rrelu elu celu selu gelu silu mish hardswish softplus prelu"))
# Between zero and one, or a scale: in a product with something else they say how much of it passes.
GATES = frozenset(names("sigmoid hardsigmoid softmax rsqrt reciprocal"))
# Sums and averages, and interpolation, which averages neighbours.
POOLS = names("""
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean sum nanmean
    interpolate upsample upsample_nearest upsample_bilinear cumsum fold
""")
MAX_POOLS = [f"{kind}max_pool{d}d{more}" for kind in ("", "adaptive_") for d in (1, 2, 3) for more in ("", "_with_indices")]
EXTREMA = names("max min amax amin maximum minimum")
SUMS = names("add radd sub rsub subtract iadd isub")
PRODUCTS = names("mul rmul multiply div rdiv divide true_divide truediv rtruediv imul itruediv idiv neg negative")
DROPOUTS = names("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout")
AFFINE = names("linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
MATRIX = names("matmul rmatmul mm bmm mv imatmul")
# What is written out in other operations before it is followed (``unrolled.py``).
UNROLLED = names("""
    glu einsum addmm baddbmm addmv addcmul lerp bilinear multi_head_attention_forward scaled_dot_product_attention
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell var std local_response_norm
    softmin normalize
""")

KINDS: dict[str, str] = {
    **dict.fromkeys(ROUTES, "route"),
    **dict.fromkeys(ACTIVATIONS, "activation"),
    **dict.fromkeys(POOLS, "pool"),
    **dict.fromkeys(MAX_POOLS, "max_pool"),
    **dict.fromkeys(EXTREMA, "extremum"),
    **dict.fromkeys(DROPOUTS, "dropout"),
    **dict.fromkeys(SUMS, "sum"),
    **dict.fromkeys(PRODUCTS, "product"),
    **dict.fromkeys(AFFINE, "affine"),
    **dict.fromkeys(MATRIX, "matrix"),
    **dict.fromkeys(UNROLLED, "unrolled"),
    **dict.fromkeys(names("softmax log_softmax"), "softmax"),
    **dict.fromkeys(names("layer_norm group_norm instance_norm rms_norm"), "norm"),
    "batch_norm": "batch_norm",
}
IN_PLACE = frozenset(names("setitem iadd isub imul itruediv idiv imatmul ipow"))


@functools.lru_cache(1 << 14)
def plain_name(func: Callable[..., Any]) -> tuple[str, bool]:
    """The name that all spellings of an operation share, and whether this one changes its first argument in place."""
    name = getattr(func, "__name__", type(func).__name__)
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        return ("pow" if name in ("ipow", "rpow") else name), name in IN_PLACE
    if name.endswith("_") and not name.startswith("_"):
        return name[:-1], True
    return name, False
