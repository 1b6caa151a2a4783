"""What every report has in common: a head line beside the trivial answer, and a plain form for JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

Measure = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Baseline:
    """The best answer that never looks at the input: ``what`` it says, its ``prediction``, and its ``scores`` on the same rows.

    ``scores`` has the fields of the report that can be measured on it. A model that is no better has learnt nothing.
    """

    what: str
    prediction: list[float]
    scores: dict[str, float]


class Report:
    """Base of the reports: fields that are scores are filled from ``measures``, field name to measure."""

    measures: ClassVar[Mapping[str, Measure]] = {}
    baseline: Baseline | None

    def headline(self) -> list[tuple[str, float, float | None]]:
        """Rows of (name of the measure, value, value of the baseline), the most important first; not a number: undefined."""
        against = self.baseline.scores if self.baseline else {}
        return [(measure.__name__, getattr(self, field), against.get(field)) for field, measure in self.measures.items()]

    def to_json(self) -> dict[str, Any]:
        """The fields as dictionaries, lists, numbers, texts and None (for what is undefined)."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def scores(measures: Mapping[str, Measure], y: Any, p: Any) -> dict[str, float]:
    """Every measure of ``p`` against the truth ``y``, by field name."""
    return {field: measure(y, p) for field, measure in measures.items()}


def to_plain(value: Any) -> Any:
    """Dataclasses, arrays and mappings as what JSON knows; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
