"""One table per kind of part: a decorator fills it, everything else reads it.

A table knows the package its parts live in and imports that package's modules when it is first read,
so that adding a part means adding one file and nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pellucid.core.errors import InputError, nearest

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A part under its name: the object, its family, and the facts declared about it."""

    name: str
    family: str
    value: T
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.value) or "").split("\n", 1)[0].rstrip(".")

    @property
    def where(self) -> str:
        """``file:line`` of the definition."""
        value = inspect.unwrap(self.value)
        try:
            line = inspect.getsourcelines(value)[1]
        except OSError:  # a class made by a function has a file but no line of its own
            line = 1
        return f"{inspect.getsourcefile(value)}:{line}"

    def options(self) -> dict[str, inspect.Parameter]:
        """Keyword-only parameters of a function, every parameter of a class: what may be set from outside."""
        value = inspect.unwrap(self.value)
        parameters = inspect.signature(value).parameters.values()
        everything = inspect.isclass(value)
        return {p.name: p for p in parameters if everything or p.kind is p.KEYWORD_ONLY}

    def check_options(self, given: Mapping[str, Any], where: object = None) -> None:
        """Refuse an option that the signature does not have, naming the nearest one that it has."""
        known = self.options()
        for key in given:
            if key not in known:
                raise InputError(f"'{self.name}' has no option '{key}'", where=where, cure=nearest(key, known))


class Table(Generic[T]):
    """Name -> entry, filled by a decorator, listed by family."""

    def __init__(self, kind: str, *packages: str) -> None:
        self.kind, self.packages = kind, packages
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def add(self, family: str, *, name: str | None = None, **facts: Any) -> Callable[[T], T]:
        """Decorator: register under the function's name (a class under its name in lower case)."""

        def register(value: T) -> T:
            key = name or value.__name__.lower()
            if key in self._entries and self._entries[key].value.__module__ != value.__module__:
                raise ValueError(f"two entries named '{key}' in the table of {self.kind}s")
            self._entries[key] = Entry(key, family, value, facts)
            return value

        return register

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for package in self.packages:
            module = importlib.import_module(package)
            for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
                importlib.import_module(found.name)

    def __getitem__(self, name: str) -> Entry[T]:
        self._load()
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise InputError(f"no {self.kind} '{name}'", cure=nearest(name, self._entries)) from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda e: (e.family, e.name)))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def names(self, family: str | None = None) -> list[str]:
        """The names of one family, or of all."""
        return [entry.name for entry in self if family in (None, entry.family)]

    def families(self) -> list[str]:
        """The families that have at least one entry."""
        return sorted({entry.family for entry in self})


METHODS: Table[Any] = Table("method", "pellucid.explanation")
COMPOSITES: Table[Any] = Table("composite", "pellucid.explanation")
MODELS: Table[Any] = Table("model", "pellucid.models")
MEASURES: Table[Any] = Table("measure", "pellucid.evaluation", "pellucid.quality")
DATA: Table[Any] = Table("data set", "pellucid.data")
AUGMENTATIONS: Table[Any] = Table("augmentation", "pellucid.data")
ACTIVATIONS: Table[Any] = Table("activation", "pellucid.nn")
OBJECTIVES: Table[Any] = Table("objective", "pellucid.training")
OPTIMIZERS: Table[Any] = Table("optimiser", "pellucid.training")
SCHEDULES: Table[Any] = Table("schedule", "pellucid.training")
BESIDE: Table[Any] = Table("model beside the network", "pellucid.study")
FIGURES: Table[Any] = Table("figure", "pellucid.visual")

# What `pellucid list` shows, and `pellucid where` searches.
LISTED: dict[str, Table[Any]] = {
    "methods": METHODS,
    "composites": COMPOSITES,
    "models": MODELS,
    "beside": BESIDE,
    "measures": MEASURES,
    "data": DATA,
    "augmentations": AUGMENTATIONS,
    "activations": ACTIVATIONS,
    "objectives": OBJECTIVES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "figures": FIGURES,
}
