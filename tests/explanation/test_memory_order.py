"""Altered float32 images lie channels last in memory on a CPU, where the network allows it (METHODS G9)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid import explain
from pellucid.explanation.score import over_batches


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8 * 4, 5)
        self.seen = []

    def flat(self, a):
        return a.flatten(1)

    def forward(self, x):
        self.seen.append(not x.is_contiguous())
        return self.head(self.flat(nn.functional.adaptive_avg_pool2d(self.features(x), 2)))


class Viewing(Plain):
    """Insists on the usual order and fails in another."""

    def flat(self, a):
        return a.view(len(a), -1)


class Striding(Plain):
    """Reads memory by itself: another order gives another answer without a word."""

    def flat(self, a):
        return torch.as_strided(a, (len(a), 32), (a.stride(0), 1))


def network(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


X = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
ASKED = {"smoothgrad": {"samples": 6}, "occlusion": {"window": 4}, "integrated_gradients": {"steps": 6}, "score_cam": {}}


@pytest.mark.parametrize(("kind", "last"), [(Plain, True), (Viewing, False), (Striding, False)])
def test_the_order_is_tried_once_and_changes_nothing(kind, last):
    model = network(kind)
    found = explain(model, X, ASKED, target=1, layer="features")
    assert sum(model.seen) >= 4 if last else sum(model.seen) == 1
    double = network(kind).double()
    expected = explain(double, X.double(), ASKED, target=1, layer="features")
    for name, explanation in found.items():
        if name != "smoothgrad":  # its noise is drawn in the precision of the samples
            torch.testing.assert_close(explanation.relevance.double(), expected[name].relevance, rtol=0, atol=1e-5, msg=name)
    assert not any(double.seen)
    more = sum(e.passes["forward"] for e in found.values()) - sum(e.passes["forward"] for e in expected.values())
    assert more == pytest.approx(1 / 3)  # the one row that tries it


def test_few_rows_and_other_inputs_keep_their_order():
    model = network(Plain)
    explain(model, X[:1], {"smoothgrad": {"samples": 3}}, target=1)
    assert not any(model.seen)
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 2))
    parts = over_batches(grey, X[:, :1], lambda score: score.habits.may_be_channels_last(score.x))
    assert parts == [False]
