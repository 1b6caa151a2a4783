"""What the graph of one pass shows of whether a score depends linearly on a layer's output."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# Steps that are linear in the one input that carries a gradient, as the graph names them. Weights are frozen, so a product
# or a convolution has one such input; where it has two (attention, gates) the step is refused below.
_LINEAR = {
    "AccumulateGrad",
    "AdaptiveAvgPool1DBackward0",
    "AdaptiveAvgPool2DBackward0",
    "AdaptiveAvgPool3DBackward0",
    "AddBackward0",
    "AddbmmBackward0",
    "AddmmBackward0",
    "AliasBackward0",
    "AsStridedBackward0",
    "AvgPool2DBackward0",
    "AvgPool3DBackward0",
    "BmmBackward0",
    "CatBackward0",
    "CloneBackward0",
    "ConstantPadNdBackward0",
    "ConvolutionBackward0",
    "DivBackward0",
    "ExpandBackward0",
    "FlipBackward0",
    "GatherBackward0",
    "IndexBackward0",
    "IndexSelectBackward0",
    "LinearBackward0",
    "MeanBackward0",
    "MeanBackward1",
    "MkldnnConvolutionBackward0",
    "MmBackward0",
    "MulBackward0",
    "MvBackward0",
    "NegBackward0",
    "PermuteBackward0",
    "ReshapeAliasBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "StackBackward0",
    "SubBackward0",
    "SumBackward0",
    "SumBackward1",
    "TBackward0",
    "ToCopyBackward0",
    "TransposeBackward0",
    "UnbindBackward0",
    "UnfoldBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "UpsampleBilinear2DBackward0",
    "UpsampleNearest2DBackward0",
    "ViewBackward0",
}
# Linear where they use stored statistics.
_NORMS = {"NativeBatchNormBackward0", "CudnnBatchNormBackward0"}
# Several inputs with a gradient are added or put side by side here, never multiplied.
_JOINS = {"AddBackward0", "SubBackward0", "CatBackward0", "StackBackward0"}


def affine(value: Tensor, leaf: Tensor) -> bool:
    """Whether ``value`` is a linear function of ``leaf`` plus a constant.

    Every step of the graph from one to the other has to be known as linear; of what is not known it is not claimed. What the
    graph does not show, a choice by comparison or a part that was detached, has to be looked for otherwise.
    """
    start = value.grad_fn
    if start is None or not leaf.requires_grad:
        return False
    seen: set[Any] = set()
    waiting: list[Any] = [start]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is leaf or node is leaf.grad_fn:
            continue
        name = node.name().rsplit("::", 1)[-1]
        before = [following for following, _ in node.next_functions if following is not None]
        norm = name in _NORMS and getattr(node, "_saved_training", True) is False
        if name == "DivBackward0" and node.next_functions[1][0] is not None:  # in the denominator
            return False
        if not norm and (name not in _LINEAR or (len(before) > 1 and name not in _JOINS)):
            return False
        waiting += before
    return True
