"""What a training leaves behind besides the weights: a row per epoch, the best one, and why it stopped."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pellucid.core.errors import InputError, nearest

from .checkpoint import write_atomically

# Which way a metric improves. Add a line for a metric of your own.
DIRECTIONS = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "top_k", "precision", "recall", "f1", "macro_f1"), "up"),
    **dict.fromkeys(("auc", "average_precision", "r2", "explained_variance"), "up"),
    **dict.fromkeys(("loss", "error", "risk", "log_loss", "brier", "ece", "mse", "rmse", "mae"), "down"),
}
COLUMNS = ("epoch", "step", "lr", "train_loss", "seconds")


def improves(metric: str, value: float, best: float | None) -> bool:
    """Whether ``value`` is strictly better than ``best`` in the direction of ``metric``; NaN never is."""
    if math.isnan(value) or best is None:
        return not math.isnan(value)
    return value > best if DIRECTIONS[metric] == "up" else value < best


def direction_known(metric: str) -> str:
    """``metric``, or ``InputError`` with the nearest one whose direction is known."""
    if metric not in DIRECTIONS:
        cure = f"{nearest(metric, DIRECTIONS)} Add your own to pellucid.training.history.DIRECTIONS as 'up' or 'down'."
        raise InputError(f"best is '{metric}', and it is not known which way that improves", cure=cure)
    return metric


@dataclass
class History:
    """The course of a training.

    ``rows``: one dict per epoch with ``epoch`` (from 1), ``step`` (optimiser steps so far), ``lr`` (of the last step),
    ``train_loss`` (mean over the epoch, in training mode), the metrics of ``validate`` under their own names, and
    ``seconds`` (this epoch, validation included). ``best_epoch``, ``best_value`` and ``best_metric`` name the epoch whose
    weights the model holds, or are None without validation, when it holds the last. ``stopped``: "finished", "early" or
    "interrupted"; "" while it runs.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_value: float | None = None
    best_metric: str | None = None
    stopped: str = ""

    def record(self, row: dict[str, Any], metrics: dict[str, float], seconds: float) -> bool:
        """Add an epoch; whether it is the best so far by ``best_metric``."""
        for name in metrics:
            if name in COLUMNS:
                raise InputError(
                    f"validate returns a metric called '{name}'", cure=f"Rename it: {', '.join(COLUMNS)} are taken."
                )
        self.rows.append({**row, **metrics, "seconds": seconds})
        if self.best_metric is None:
            return False
        if self.best_metric not in metrics:
            raise InputError(
                f"best is '{self.best_metric}', which validate does not return", cure=nearest(self.best_metric, metrics)
            )
        if not improves(self.best_metric, metrics[self.best_metric], self.best_value):
            return False
        self.best_epoch, self.best_value = row["epoch"], metrics[self.best_metric]
        return True

    def to_rows(self) -> list[dict[str, Any]]:
        """A copy of the rows."""
        return [dict(row) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able; ``History(**that)`` is equal."""
        return asdict(self)

    def write_csv(self, path: str | Path) -> None:
        """The rows as CSV with a header, written atomically; numbers in full precision."""
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in self.rows for name in row)) or list(COLUMNS)
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(path, text.getvalue().encode())
