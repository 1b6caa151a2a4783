"""Does the explanation depend on how inputs and labels belong together? Compare with a model of permuted labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.core import seeds
from pellucid.core.errors import InputError
from pellucid.core.table import MEASURES

from .dependence import Comparison, Randomisation

Labels = TypeVar("Labels", Tensor, NDArray[np.generic])
LABELS = "permuted labels"


def permuted_labels(y: Labels, *, seed: int = 0) -> Labels:
    """The labels y (N,), each with another row's place, of the same type: every class stays as frequent as it was.

    By chance some rows get the label that they had, the share sum_k p_k^2 on average. Raises InputError for labels that are all
    the same, which no permutation changes.
    """
    if not isinstance(y, Tensor | np.ndarray) or y.ndim != 1:
        raise InputError("the labels are no tensor or array (N,)", cure="Give one label per row.")
    if len(y) < 2 or bool((y == y[0]).all()):
        raise InputError("all labels are the same", cure="Give labels of at least two kinds.")
    order = torch.randperm(len(y), generator=seeds.generator(seed, LABELS))
    if isinstance(y, Tensor):
        return y[order.to(y.device)]
    moved: Labels = y[order.numpy()]
    return moved


@MEASURES.add("randomisation", larger_is_better=None, mission="Q2", paper="Adebayo et al. 2018, sec. 4")
def data_randomisation(trained: Mapping[str, Tensor], permuted: Mapping[str, Tensor]) -> dict[str, Randomisation]:
    """Maps of a model beside those of the same model trained on permuted labels: method -> what is left of the likeness.

    trained, permuted: method -> (N, *spatial) with their sign, of the same samples and targets. The second model is to be
    trained with the same recipe on ``permuted_labels(y)`` until it fits them (the paper: 95 % of the training rows and more);
    one that has not learned them is only a random one. Similarities, chance and rule are those of ``Randomisation``, with a
    single step.

    Raises InputError for methods or shapes that differ, UnsupportedError for one sample. Source: Adebayo et al. 2018, sec. 4.2.
    """
    compared = Comparison(trained)
    compared.add(LABELS, permuted)
    return compared.results("labels")
