"""How much of what the model learnt carries over to rows it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from .classification import error_rate, log_loss
from .intervals import Interval, clopper_pearson, hoeffding
from .multilabel import subset_error
from .reports import Measure, to_plain


@dataclass(frozen=True)
class Gap:
    """A measure on the training rows and on the test rows; ``gap = test - training``."""

    name: str
    training: float
    test: float
    gap: float


@dataclass(frozen=True)
class HoldOut:
    """Training and test side by side, and where the true 0/1 error lies.

    The test value estimates the generalisation error, the training value is too good. ``exact`` (Clopper-Pearson) and
    ``hoeffding`` are intervals for the true error; they hold as long as no choice was made on the test rows, and are
    None where no 0/1 rate was asked for.
    """

    training_samples: int
    test_samples: int
    rows: list[Gap]
    exact: Interval | None
    hoeffding: Interval | None

    def to_json(self) -> dict[str, Any]:
        """The fields as dictionaries, lists, numbers, texts and None."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def hold_out(
    y_train: Any,
    p_train: Any,
    y_test: ArrayLike,
    p_test: ArrayLike,
    *,
    measures: Sequence[Measure] = (error_rate, log_loss),
    level: float = 0.95,
) -> HoldOut:
    """Each of ``measures`` for the training rows and for the held-out ones, in the shapes that the measures take."""
    rows, exact, loose = [], None, None
    n = len(y_test)  # type: ignore[arg-type]
    for measure in measures:
        training, test = measure(y_train, p_train), measure(y_test, p_test)
        rows.append(Gap(measure.__name__, training, test, test - training))
        if measure in (error_rate, subset_error):
            errors = round(test * n)
            exact, loose = clopper_pearson(errors, n, level=level), hoeffding(errors, n, level=level)
    return HoldOut(len(y_train), n, rows, exact, loose)
