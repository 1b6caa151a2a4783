"""Replaying only what follows a layer: every way gives the numbers of the whole network (X21)."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from networks import Concatenated, DenseHead, GapLinear, Residual, Transformer, Volume, network, samples
from pellucid import UnsupportedError, explain
from pellucid.explanation.borrowing import borrowed
from pellucid.explanation.linearity import affine
from pellucid.explanation.replay import replayed, without_channels
from pellucid.explanation.score import over_batches
from pellucid.explanation.tail import WAYS, Tail

PLACES = [
    (DenseHead, "features"),
    (DenseHead, "features.0"),
    (Residual, "last"),
    (Residual, "norm"),
    (Residual, "block"),  # used twice: the last use counts
    (Concatenated, "five"),
    (Concatenated, "grow"),
    (Concatenated, "stem"),
    (Transformer, "patches"),
    (Transformer, "blocks.0"),
    (Transformer, "blocks.1.before"),
    (Volume, "features.1"),
]


def by_hand(model, layer, x, edit):
    """(B, K) scores of class 1 with an edited layer, each by a whole pass of one row; the layer's last use is edited."""
    module, calls = model.get_submodule(layer), []
    handle = module.register_forward_hook(lambda m, i, o: calls.append(o))
    with torch.no_grad():
        model(x)
    handle.remove()
    uses, channels = len(calls), calls[-1].shape[1 if calls[-1].ndim > 3 or not isinstance(model, Transformer) else 2]
    found = torch.zeros(len(x), channels, dtype=x.dtype)
    for i in range(len(x)):
        for k in range(channels):
            count = []

            def change(m, inputs, o, k=k, count=count):
                count.append(1)
                return edit(o.clone(), k) if len(count) == uses else None

            handle = module.register_forward_hook(change)
            with torch.no_grad():
                found[i, k] = model(x[i : i + 1])[0, 1]
            handle.remove()
    return found


def zero(output, k):
    if output.ndim == 3:
        output[:, 1:, k] = 0  # tokens of patches
    else:
        output[:, k] = 0
    return output


def every_channel(score):
    return without_channels(score, torch.ones(score.maps().shape[:2]) > 0)


def kind_is_volume(model):
    return isinstance(model, Volume)


def in_way(way, model, layer, x, run, rows=5):
    with borrowed(model):
        tail = Tail(model, model.get_submodule(layer), 3 if kind_is_volume(model) else 2)
    for other in WAYS[:-1]:
        if other != way:
            tail.give_up(other)
    scores = []

    def both(score):
        scores.append(score)
        return run(score)

    parts = over_batches(model, x, both, target=1, layers=[model.get_submodule(layer)], tail=tail, batch=rows)
    return torch.cat(parts), scores, tail


def ways_of(kind, layer):
    model = network(kind)
    with borrowed(model):
        return Tail(model, model.get_submodule(layer), 3 if kind_is_volume(model) else 2).ways(
            channels=kind is not Transformer or layer == "patches"
        )


@pytest.mark.parametrize(("kind", "layer"), PLACES)
def test_every_way_gives_the_numbers_of_the_whole_network(kind, layer):
    model, x = network(kind), samples(kind, 3)
    expected = by_hand(model, layer, x, zero)
    ways = ways_of(kind, layer)
    assert {"graph", "modules", "whole"} <= set(ways)
    for way in ways:
        found, scores, tail = in_way(way, model, layer, x, every_channel)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, msg=way)
        assert tail.ways(channels=True)[0] == way, "another way was taken"
        rows = scores[0].passes
        replays = 3 * (expected.shape[1] + 1)
        assert (rows.forward, rows.tail) == ((3 + replays, 0) if way == "whole" else (3 + 1, replays)), way


def test_the_linear_way_is_found_where_it_exists():
    assert ways_of(DenseHead, "features")[0] == "linear"
    assert ways_of(DenseHead, "features.0")[0] == "linear"
    assert ways_of(Residual, "last")[0] == "graph"  # mean over positions is no step of the table
    assert ways_of(Transformer, "blocks.0")[0] == "graph"


def test_any_edit_can_be_replayed():
    """Not only channels set to zero: here the maps are turned round and scaled by the draw."""
    model, x = network(Residual), samples(Residual, 2)

    def edit(maps, sample, draw):
        return maps.flip(2) * (1 + draw).view(-1, 1, 1, 1)

    for way in ("graph", "modules", "whole"):
        found, *_ = in_way(way, model, "norm", x, lambda s: replayed(s, 3, edit, torch.ones(len(s), 3) > 0))
        for d in range(3):
            handle = model.norm.register_forward_hook(lambda m, i, o, d=d: o.flip(2) * (1 + d))
            with torch.no_grad():
                expected = model(x)[:, 1]
            handle.remove()
            torch.testing.assert_close(found[:, d], expected, rtol=0, atol=1e-9)


class Deciding(DenseHead):
    """Its code looks at values, so it cannot be traced."""

    def forward(self, x):
        self.seen = x.shape
        return self.head(self.features(x * 1.0 if float(x.abs().sum()) >= 0 else x))


class Leaving(DenseHead):
    """Leaves an intermediate result on itself."""

    def forward(self, x):
        self.kept = self.features(x)
        return self.head(self.kept)


class Pretending(DenseHead):
    """Computes something else when it is traced, as code that asks for sizes or types may."""

    def forward(self, x):
        return super().forward(x) * (2 if isinstance(x, fx.Proxy) else 1)


@pytest.mark.parametrize("kind", [Deciding, Leaving, Pretending])
def test_networks_that_a_trace_does_not_fit(kind):
    model, x = network(kind), samples(DenseHead, 3)
    expected = by_hand(model, "features", x, zero)
    before = set(vars(model))
    found = explain(model, x, ["ablation_cam"], layer="features", target=1)["ablation_cam"]
    with torch.no_grad():
        a, y = model.features(x), model(x)[:, 1]
    weights = (y[:, None] - expected) / y.abs()[:, None]
    torch.testing.assert_close(found.raw, torch.einsum("bk,bkhw->bhw", weights, a), rtol=0, atol=1e-9)
    assert not any(isinstance(value, fx.Proxy) for value in vars(model).values())
    assert set(vars(model)) == before
    assert found.passes["tail"] > 0


def test_a_hook_on_a_module_around_the_layer_still_runs():
    model, x = network(DenseHead), samples(DenseHead, 3)
    plain = explain(model, x, ["ablation_cam"], layer="features.1", target=1)["ablation_cam"]
    handle = model.features.register_forward_hook(lambda m, i, o: o * torch.linspace(-1, 1, 4, dtype=o.dtype).view(1, 4, 1, 1))
    hooked = explain(model, x, ["ablation_cam"], layer="features.1", target=1)["ablation_cam"]
    expected = by_hand(model, "features.1", x, zero)
    with torch.no_grad():
        a, y = model.features[:2](x), model(x)[:, 1]
    handle.remove()
    weights = (y[:, None] - expected) / y.abs()[:, None]
    torch.testing.assert_close(hooked.raw, torch.einsum("bk,bkhw->bhw", weights, a), rtol=0, atol=1e-9)
    assert not torch.allclose(plain.raw, hooked.raw)


def test_a_network_that_answers_differently_each_time_is_refused():
    class Drifting(DenseHead):
        def forward(self, x):
            drift.append(1)
            return super().forward(x) + len(drift)

    drift = []
    with pytest.raises(UnsupportedError, match="does not answer the same way twice"):
        explain(network(Drifting), samples(DenseHead), ["ablation_cam"], layer="features", target=1)


def test_in_float32_the_ways_agree_to_its_precision():
    model, x = network(DenseHead, dtype=torch.float32), samples(DenseHead, dtype=torch.float32)
    answers = [in_way(way, model, "features", x, every_channel)[0] for way in WAYS]
    for found in answers[1:]:
        torch.testing.assert_close(found, answers[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "linear"),
    [
        (lambda a: a.mean((2, 3)) @ torch.ones(6, 2).double(), True),
        (lambda a: a.flatten(1)[:, :5] * 3 - 1, True),
        (lambda a: torch.cat([a, 2 * a], 1).sum((2, 3)) + a.amax() * 0, False),
        (lambda a: a.relu().mean((2, 3)), False),
        (lambda a: a.mean((2, 3)) ** 2, False),
        (lambda a: a.mean((2, 3)) * a.mean((2, 3)), False),
        (lambda a: a.mean((2, 3)).softmax(1), False),
        (lambda a: nn.functional.max_pool2d(a, 2).mean((2, 3)), False),
        (lambda a: nn.functional.adaptive_avg_pool2d(a, 1).flatten(1) / 2, True),
        (lambda a: 1 / a.mean((2, 3)), False),
        (lambda a: nn.functional.layer_norm(a, a.shape[1:]).mean((2, 3)), False),
    ],
)
def test_linear_scores_are_recognised_and_no_others(step, linear):
    a = torch.rand(2, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    assert affine(step(a)[:, 0], a) is linear


def test_the_closed_form_is_the_ablation():
    model, x = network(GapLinear), samples(GapLinear)
    found = explain(model, x, ["ablation_cam"], layer="features", target=1)["ablation_cam"]
    assert (found.passes["forward"], found.passes["head"], found.passes["tail"]) == (1 + 1 / 3, 1, 0)
    with torch.no_grad():
        a, y = model.features(x), model(x)[:, 1]
    weights = (y[:, None] - by_hand(model, "features", x, zero)) / y.abs()[:, None]
    torch.testing.assert_close(found.raw, torch.einsum("bk,bkhw->bhw", weights, a), rtol=0, atol=1e-9)
    bounded = explain(model, x, ["ablation_cam"], layer="features", target=1, of="probability")["ablation_cam"]
    assert bounded.passes["tail"] > 0  # a softmax is not linear


def ablation_by_hand(model, layer, x):
    module, seen = model.get_submodule(layer), []
    handle = module.register_forward_hook(lambda m, i, o: seen.append(o.clone()))
    with torch.no_grad():
        y = model(x)[:, 1]
    handle.remove()
    weights = (y[:, None] - by_hand(model, layer, x, zero)) / y.abs()[:, None]
    return torch.einsum("bk,bk...->b...", weights, seen[0])


def mixing(*steps):
    return lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *steps)


class Gated(nn.Module):
    """How the layer's output acts does not show in the graph: by comparison, by a detached part, by sorting, by division."""

    how = "comparison"

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x):
        a = self.layer(x)
        if self.how == "comparison":
            return self.head((a * (a.mean(1, keepdim=True) > 0)).mean((2, 3)))
        if self.how == "detached":
            return self.head((a * torch.sigmoid(a.detach().mean((2, 3), keepdim=True))).mean((2, 3)))
        if self.how == "division":
            return self.head(1 / (a.mean((2, 3)) + 10))
        flat = a.flatten(1)
        return self.head(flat.gather(1, flat.argsort(1)[:, -6:]))


class Sorted(Gated):
    how = "sorting"


class Detached(Gated):
    how = "detached"


class Divided(Gated):
    how = "division"


class Hidden(nn.Module):
    """The layer's output changes its own input in place, and both are used: the data flow does not show it."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.stem, self.layer = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head, self.aux, self.scale = nn.Linear(4 * 64, 3), nn.Linear(4, 3), scale

    def forward(self, x):
        a = self.stem(x)
        y = self.layer(a)
        a.mul_(torch.sigmoid(y))
        return (self.head(a.flatten(1)) + self.aux(y.mean((2, 3)))) * self.scale


UNUSUAL = {
    "a maxout over channels": (
        mixing(nn.ReLU(), nn.MaxPool3d((2, 1, 1)), nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, 3)),
        "0",
    ),
    "a pool after flattening": (
        mixing(nn.ReLU(), nn.Flatten(), nn.MaxPool1d(3, 1, 1), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3)),
        "0",
    ),
    "a choice by comparison": (Gated, "layer"),
    "a sorted pool": (Sorted, "layer"),
    "a detached gate": (Detached, "layer"),
    "a division": (Divided, "layer"),
    "an input changed in place": (Hidden, "layer"),
    "tiny scores": (lambda: Hidden(1e-6), "layer"),
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_no_graph_shows_is_found_by_one_row(name, dtype):
    """No way of replaying and no closed form is believed before the whole network has scored one edited sample too."""
    kind, layer = UNUSUAL[name]
    model, x = network(kind, dtype=dtype), samples(GapLinear, 3, dtype=dtype)
    found = explain(model, x, ["ablation_cam"], layer=layer, target=1)["ablation_cam"].raw
    expected = ablation_by_hand(model, layer, x)
    allowed = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=allowed * float(expected.abs().max()))


def test_a_list_of_layers_keeps_the_closed_form():
    model, x = network(GapLinear), samples(GapLinear)
    several = explain(model, x, ["cam", "ablation_cam"], layer=["features.1", "features"], target=1)
    one = explain(model, x, ["cam", "ablation_cam"], layer="features", target=1)
    for name, found in several.items():
        torch.testing.assert_close(found.raw, one[name].raw, rtol=0, atol=1e-12)
    assert several["ablation_cam"].counts["linear"] == 1


def test_effects_that_do_not_fit_are_not_made(monkeypatch):
    monkeypatch.setattr("pellucid.core.devices.CPU_BUDGET", 100)
    model, x = network(DenseHead), samples(DenseHead)
    found, scores, tail = in_way("linear", model, "features", x, every_channel)
    assert "linear" in tail.ways(channels=True)
    assert scores[0].passes.tail == 0  # the other ways were given up by the test: the whole network ran
    torch.testing.assert_close(found, by_hand(model, "features", x, zero), rtol=0, atol=1e-9)
