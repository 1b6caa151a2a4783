"""The errors a person can meet: what was wrong, where, and how to cure it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PellucidError(Exception):
    """A failure that is explained: ``what (where). cure``.

    ``exit_code`` is what the command line leaves with: 1 for a failure, 2 for bad input.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, cure: str = "") -> None:
        self.what, self.where, self.cure = what, where, cure
        place = f" ({where})" if where not in (None, "") else ""
        super().__init__(f"{what}{place}." + (f" {cure}" if cure else ""))


class InputError(PellucidError, ValueError):
    """Something handed in cannot be used: a file, a value, an option, a run directory."""

    exit_code = 2


class UnsupportedError(InputError):
    """A method cannot explain this model or this input, and says why."""


class MissingExtraError(InputError, ImportError):
    """An optional dependency is absent; the message says what to install."""


def nearest(name: object, known: Iterable[str]) -> str:
    """A sentence that names the closest known spelling, or lists what there is."""
    options = sorted(map(str, known))
    close = difflib.get_close_matches(str(name).lower(), [o.lower() for o in options], n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{next(o for o in options if o.lower() == close[0])}'?"
    if not options:
        return "There is nothing to choose from."
    shown = ", ".join(options[:20])
    return f"Known: {shown}{', ...' if len(options) > 20 else ''}."
