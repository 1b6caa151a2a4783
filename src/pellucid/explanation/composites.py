"""Which rule which affine operation of a network gets: named composites, and how one is made from a person's own table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.core.errors import InputError, nearest
from pellucid.core.table import COMPOSITES

from .rules import RULES, Epsilon, Rule, Zero
from .steps import Step

KINDS = ("first", "convolution", "dense")


@dataclass(frozen=True)
class Settings:
    """The numbers that the named composites take.

    epsilon, relative: of the epsilon rule. gamma: of the gamma rule. low, high: the bounds of z^B. bias: whether biases take
    part in denominators. stabiliser: added to the denominators of all other rules, and of sums and averages.
    """

    epsilon: float = 1e-6
    relative: bool = False
    gamma: float = 0.25
    low: Any = None
    high: Any = None
    bias: bool = True
    stabiliser: float = 0.0

    def rule(self, name: str) -> Rule:
        """The rule of this name with these numbers."""
        if name not in RULES:
            raise InputError(f"no rule '{name}'", cure=nearest(name, RULES))
        fields = RULES[name].__dataclass_fields__
        given = {key: getattr(self, key) for key in fields if hasattr(self, key)}
        if name == "epsilon":
            given["stabiliser"] = 0.0  # it has one of its own
        return RULES[name](**given)


@dataclass(frozen=True)
class Place:
    """Where an affine operation stands: its kind, whether it is the first on its way, its number among all of its kind."""

    kind: str
    first: bool
    number: int
    total: int
    name: str


Composite = Callable[[Place], Rule]
Make = Callable[[Settings], Composite]


def composite(name: str, *, paper: str, average_pools: bool = False) -> Callable[[Make], Make]:
    """Enter a composite in the table; ``average_pools``: whether max pools share like average pools on the way back."""

    def register(make: Make) -> Make:
        COMPOSITES.add("named", name=name, paper=paper, average_pools=average_pools)(make)
        return make

    return register


def _by_kind(dense: Rule, convolution: Rule, first: Callable[[Place], Rule | None] = lambda place: None) -> Composite:
    def of(place: Place) -> Rule:
        special = first(place) if place.first else None
        return special or (dense if place.kind == "dense" else convolution)

    return of


@composite("epsilon_plus", paper="Montavon et al. 2019, sec. 10.3; Kohlbrenner et al. 2020")
def epsilon_plus(s: Settings) -> Composite:
    """Convolutions z+, linear layers epsilon."""
    return _by_kind(s.rule("epsilon"), s.rule("z_plus"))


@composite("epsilon_plus_flat", paper="Kohlbrenner et al. 2020; Lapuschkin et al. 2019")
def epsilon_plus_flat(s: Settings) -> Composite:
    """As epsilon_plus, the first layer flat: relevance at the input is spread over what the first layer's units see."""
    return _by_kind(s.rule("epsilon"), s.rule("z_plus"), lambda place: s.rule("flat"))


@composite("epsilon_alpha2_beta1", paper="Kohlbrenner et al. 2020; Bach et al. 2015, eq. 60")
def epsilon_alpha2_beta1(s: Settings) -> Composite:
    """Convolutions alpha = 2, beta = 1, linear layers epsilon."""
    return _by_kind(s.rule("epsilon"), s.rule("alpha_beta"))


@composite("epsilon_alpha2_beta1_flat", paper="Kohlbrenner et al. 2020")
def epsilon_alpha2_beta1_flat(s: Settings) -> Composite:
    """As epsilon_alpha2_beta1, the first layer flat."""
    return _by_kind(s.rule("epsilon"), s.rule("alpha_beta"), lambda place: s.rule("flat"))


@composite("epsilon_gamma_box", paper="Montavon et al. 2019, sec. 10.3")
def epsilon_gamma_box(s: Settings) -> Composite:
    """Convolutions gamma, linear layers epsilon, a first convolution z^B between ``low`` and ``high``."""
    return _by_kind(s.rule("epsilon"), s.rule("gamma"), lambda place: s.rule("z_box") if place.kind == "convolution" else None)


@composite("vgg", paper="Montavon et al. 2019, sec. 10.3 and its tutorial", average_pools=True)
def vgg(s: Settings) -> Composite:
    """The recipe for VGG-16: first z^B, the lower half of the convolutions gamma, the upper half epsilon, linear layers LRP-0.

    Epsilon is a quarter of the activations' scale; max pools share like average pools. In VGG-16 the lower half is the seven
    convolutions up to the third of the third block.
    """
    relative = Epsilon(epsilon=0.25, relative=True, bias=s.bias)
    zero, gamma, box = Zero(bias=s.bias, stabiliser=s.stabiliser), s.rule("gamma"), s.rule("z_box")

    def of(place: Place) -> Rule:
        if place.kind == "dense":
            return zero
        if place.first:
            return box
        return gamma if 2 * place.number < place.total else relative

    return of


@dataclass(frozen=True)
class Chosen:
    """A composite as it is used."""

    of: Composite
    average_pools: bool = False
    names: frozenset[str] = frozenset()

    def check(self, steps: list[Step]) -> None:
        """Refuse a key of a person's table that is no kind and no module that a linear layer or convolution is in."""
        inside = {".".join(s.where.split(".")[:n]) for s in steps for n in range(1, s.where.count(".") + 2)}
        for key in self.names - {*KINDS, *inside}:
            raise InputError(f"no linear layer or convolution in '{key}'", cure=nearest(key, [*KINDS, *filter(None, inside)]))


def chosen(given: Any, settings: Settings) -> Chosen:
    """What ``composite=`` means: a name of a composite or a rule, a rule, a table of rules, or a function of the place."""
    if isinstance(given, str):
        if given in RULES:
            rule = settings.rule(given)
            return Chosen(lambda place: rule)
        if given not in COMPOSITES:
            raise InputError(f"no composite '{given}'", cure=nearest(given, [*COMPOSITES.names(), *RULES]))
        entry = COMPOSITES[given]
        return Chosen(entry.value(settings), entry.facts["average_pools"])
    if isinstance(given, Rule):
        return Chosen(lambda place: given)
    if isinstance(given, Mapping):
        table = {key: settings.rule(rule) if isinstance(rule, str) else rule for key, rule in given.items()}
        wrong = next((rule for rule in table.values() if not isinstance(rule, Rule)), None)
        if wrong is not None:
            raise InputError(f"{wrong!r} is no rule", cure=f"Give rules or their names: {', '.join(RULES)}.")
        return Chosen(lambda place: _looked_up(table, place), names=frozenset(map(str, table)))
    if callable(given):
        return Chosen(given)
    raise InputError(f"composite is {given!r}", cure=f"Known: {', '.join([*COMPOSITES.names(), *RULES])}.")


def _looked_up(table: Mapping[str, Rule], place: Place) -> Rule:
    """By the module's name or that of one around it, the longest first; then "first"; then by kind."""
    parts = place.name.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    for key in (*names, *(["first"] if place.first else []), place.kind):
        if key in table:
            return table[key]
    raise InputError(
        f"no rule for the {place.kind} operation in '{place.name}'",
        cure=f'Give one under "{place.kind}", or under the name of the module.',
    )


def places(steps: list[Step]) -> dict[Step, Place]:
    """Where each affine step stands."""
    totals = {kind: sum(s.affine.kind == kind for s in steps if s.affine) for kind in KINDS[1:]}
    seen = dict.fromkeys(totals, 0)
    found: dict[Step, Place] = {}
    for step in steps:
        assert step.affine is not None
        kind = step.affine.kind
        found[step] = Place(kind, step.first, seen[kind], totals[kind], step.where)
        seen[kind] += 1
    return found
