"""The figures of a report, from what the run has on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.core.table import FIGURES
from pellucid.data.preparation import preparation_from_json
from pellucid.data.table_preparation import TablePreparation


def explanation_sheet(
    facts: Mapping[str, Any],
    shown: Any,
    x: Tensor,
    maps: Mapping[str, Tensor],
    signed: Mapping[str, bool],
    samples: Sequence[Mapping[str, Any]],
) -> Figure:
    """Sample x method in the form that suits the data: heat maps, bars of table columns, letters of a sequence.

    ``shown`` is what a person recognises (``Preparation.show``), ``x`` what the model saw; encoded columns of a table are
    added up to the column that they come from.
    """
    arrays = {name: values.detach().cpu().double().numpy() for name, values in maps.items()}
    titles = [title(sample) for sample in samples]
    regression = ("lowers the value", "raises the value")
    words: dict[str, Any] = {"titles": titles} | ({"ends": regression} if facts["task"] == "regression" else {})
    draw: Callable[..., Figure]
    if facts["kind"] == "image":
        draw = FIGURES["heatmap_sheet"].value
        return draw(np.asarray(shown), arrays, signed=dict(signed), **words)
    if facts["kind"] == "dna":
        draw = FIGURES["dna_sheet"].value
        return draw(list(map(str, shown)), arrays, **words)
    draw = FIGURES["table_sheet"].value
    preparation = preparation_from_json(facts["preparation"])
    if not isinstance(preparation, TablePreparation):
        return draw(x.cpu().numpy(), arrays, facts["features"], **words)
    names = [column.name for column in preparation.columns]
    values = np.array([[row.get(name) for name in names] for row in _records(shown)], dtype=object)
    return draw(values, {n: pooled(a, preparation.sources) for n, a in arrays.items()}, names, **words)


def pooled(relevance: np.ndarray, sources: Sequence[int]) -> np.ndarray:
    """(n, columns): relevance of encoded columns added up by the column they come from."""
    belongs = np.asarray(sources)[:, None] == np.arange(max(sources) + 1)
    return np.asarray(relevance @ belongs)


def title(sample: Mapping[str, Any]) -> str:
    """A row's heading: prediction with its probability; truth and explained class where they are others."""
    predicted = sample["predicted"]
    words = f"{predicted:.4g}" if isinstance(predicted, float) else str(predicted)
    if "probability" in sample:
        words += f" {100 * sample['probability']:.0f} %"
    truth = sample.get("true")
    if truth is not None and truth != predicted and not isinstance(truth, list):
        words += f"; true: {truth:.4g}" if isinstance(truth, float) else f"; true: {truth}"
    explained = sample.get("explained")
    if explained not in (None, predicted) and isinstance(predicted, str):
        words += f"; explained: {explained}"
    return words


def _records(shown: Any) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = shown.to_dict("records") if hasattr(shown, "to_dict") else list(shown)
    return records
