"""``pellucid train``: the path up to a trained model."""

from __future__ import annotations

from .answers import Json, verb
from .run import Out, StudyPath, walk


@verb
def train(study: StudyPath, out: Out = None, as_json: Json = False) -> None:
    """Train the model of a study, and stop there. 'pellucid resume' does the rest.

    Example: pellucid train shapes.yaml --out shapes-run
    """
    walk(study, out, "train", as_json)
