"""From raw rows to float32 tensors: the part of the data that a run stores, so that new files are prepared in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from pellucid.core import checks
from pellucid.core.errors import InputError, PellucidError


class Preparation(ABC):
    """Raw rows in, a float32 tensor out; what it measured on the training rows is plain JSON."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one prepared sample."""

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """Names along the first dimension of a sample: encoded columns, channels, bases."""

    @property
    def fitted(self) -> bool:
        """Whether ``apply`` can be called."""
        return True

    @abstractmethod
    def fit(self, chunks: Iterable[Any]) -> Self:
        """Measure what is needed on the training rows, given as raw pieces, and return self."""

    @abstractmethod
    def apply(self, raw: Any) -> torch.Tensor:
        """Float32, (rows, *input_shape)."""

    @abstractmethod
    def read(self, paths: Sequence[str | Path]) -> tuple[Any, list[str]]:
        """New files as raw rows and a name for each. Raises ``InputError`` for what cannot be prepared."""

    def remarks(self, raw: Any) -> list[str]:
        """What a person should be told about these rows, e.g. how many values had to be filled."""
        return []

    def facts(self) -> list[tuple[str, str]]:
        """(fact, value) pairs for the report."""
        return []

    def show(self, raw: Any) -> Any:
        """Raw rows in the form that is drawn or printed."""
        return raw

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types; floats survive a round trip through text exactly."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]

    @classmethod
    @abstractmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The preparation that ``to_json`` described."""

    def _check_fitted(self) -> None:
        if not self.fitted:
            raise PellucidError("the data is not prepared yet", cure="Call data.fit(training_rows) first.")


def preparation_from_json(stored: Mapping[str, Any]) -> Preparation:
    """The preparation of the kind that ``stored`` names. Raises ``InputError`` when something is missing or of a wrong type."""
    from .dna import DnaPreparation
    from .image_preparation import ImagePreparation
    from .table_preparation import TablePreparation

    kinds: dict[str, type[Preparation]] = {p.kind: p for p in (DnaPreparation, ImagePreparation, TablePreparation)}
    kind = checks.one_of("kind of preparation", stored.get("kind"), kinds)
    try:
        return kinds[kind].from_json({name: value for name, value in stored.items() if name != "kind"})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"a stored preparation of kind '{kind}' is damaged: {error}", cure="Restore the file or train again."
        ) from error
