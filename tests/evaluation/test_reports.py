"""L1: reports as plain JSON."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from pellucid.evaluation.reports import to_plain


@dataclass
class Inner:
    value: float


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Inner(float("nan")), {"value": None}),
        (np.array([[1.0, np.inf], [2.0, -np.inf]]), [[1.0, None], [2.0, None]]),
        ({1: np.float32(0.5), "a": np.int64(3)}, {"1": 0.5, "a": 3}),
        ((np.bool_(True), "text", None), [True, "text", None]),
        ([Inner(1.0)], [{"value": 1.0}]),
    ],
)
def test_everything_becomes_what_json_knows(value, plain):
    assert to_plain(value) == plain
    assert json.loads(json.dumps(to_plain(value), allow_nan=False)) == plain
