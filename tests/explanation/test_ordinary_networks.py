"""Ordinary ways to write a network that are easily got wrong: each is explained rightly, or refused by name (N4, L7)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pellucid import (
    PellucidError,
    UnsupportedError,
    contrastive_lrp,
    deep_lift,
    deep_taylor,
    explain,
    gradient_times_input,
    lrp,
    rap,
    relevance_cam,
)

D = torch.float64


class Made(nn.Module):
    """Two linear layers that a function puts together."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(6, 6), nn.Linear(6, 4), function

    def forward(self, x):
        return self.function(self, x)


def made(function):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Made(function).double().eval()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def zeros(x):
    return torch.zeros(len(x), 6, dtype=D)


def changed(x, change):
    change(x)
    return x


SHARED_MEMORY = {
    "copied into a view of a constant": lambda s, x: s.b(changed(zeros(x), lambda o: o[:, :3].copy_(s.a(x)[:, 3:]))),
    "added to a view of a constant": lambda s, x: s.b(changed(zeros(x), lambda o: o.view(-1, 2, 3)[:, 0].add_(s.a(x)[:, :3]))),
    "two views of one tensor": lambda s, x: (lambda h: (h.view(-1, 2, 3).relu_(), s.b(h.view(-1, 3, 2).flatten(1)))[1])(s.a(x)),
    "a sibling made before": lambda s, x: (
        lambda h: (lambda p, q: (p.relu_(), s.b(torch.cat([q, q, q], 1)))[1])(h[:, :4], h[:, :2])
    )(s.a(x)),
    "written by a chained index": lambda s, x: s.b(changed(zeros(x), lambda o: o[:, :4][:, :2].copy_(s.a(x)[:, :2]))),
}


@pytest.mark.parametrize("name", SHARED_MEMORY)
def test_shared_memory_is_right_or_refused(name):
    model, x = made(SHARED_MEMORY[name]), draw(4, 6)
    try:
        found = lrp(model, x, target=1, composite="zero", most_lost=1e9)
    except UnsupportedError:
        with pytest.raises(UnsupportedError, match="in place"):
            lrp(model, x, target=1, composite="zero", most_lost=1e9)
        return
    with torch.no_grad():
        torch.testing.assert_close(found.score, model(x)[:, 1], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.relevance, gradient_times_input(model, x, target=1).relevance, rtol=0, atol=1e-9)


def turned(s, x):
    h = s.a(x).view(-1, 2, 3)
    h.transpose_(1, 2)
    return s.b(h.reshape(-1, 6)) * h.size(1)


def windows(s, x):
    """As in Swin: positions in windows, the windows beside the samples in one axis, mixed there, and back."""
    h = s.a(x).relu().view(len(x), 1, 6)
    h = torch.cat([h, h * 2, h + 1, h * 3], 1).view(len(x), 2, 2, 6).roll(1, 1)
    w = h.view(len(x), 2, 1, 2, 1, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 1, 6)
    w = s.a(w).relu().view(len(x), 4, 1, 6).view(-1, 1, 6)
    return s.b(w.view(len(x), 4, 6).mean(1))


RECTIFIED = {
    "windows": windows,
    "size after a change of shape": turned,
    "add with names": lambda s, x: s.b(torch.add(other=x, input=s.a(x).relu())),
    "sub with names and a factor": lambda s, x: s.b(torch.sub(other=x, input=s.a(x).relu(), alpha=2)),
    "matmul with names": lambda s, x: torch.matmul(other=s.b.weight.t(), input=s.a(x).relu()),
    "linear with names": lambda s, x: F.linear(bias=s.b.bias, input=s.a(x).relu(), weight=s.b.weight),
    "addmm with names": lambda s, x: torch.addmm(s.b.bias, mat1=s.a(x).relu(), mat2=s.b.weight.t()),
    "cat with names": lambda s, x: s.b(torch.cat(tensors=[s.a(x).relu()[:, :3], x[:, 3:]], dim=1)),
    "max by its name": lambda s, x: s.b(s.a(x).view(-1, 2, 3).max(dim=1).values.repeat(1, 2)),
    "rows times a batch of matrices": lambda s, x: torch.stack(
        [torch.matmul(r, draw(4, 6, 3, seed=3)) for r in s.a(x).relu().unbind(0)]
    )[..., 0],
    "a constant vector from the left": lambda s, x: (
        torch.matmul(draw(2, seed=4), s.a(x).relu().view(-1, 2, 3)).repeat(1, 2) * 2
    ),
    "a constant beside prototypes": lambda s, x: F.linear(draw(1, 6, seed=5), s.a(x).relu()).t().expand(-1, 4),
    "properties that turn": lambda s, x: s.b((s.a.weight @ x.T).T.relu()),
    "time first by hand": lambda s, x: s.b(s.a(x.view(-1, 1, 6).moveaxis(0, 1).reshape(-1, 6)).relu()),
    "None and an ellipsis": lambda s, x: s.b(s.a(x)[:, None, ...].relu()[..., 0, :]),
}


@pytest.mark.parametrize("name", RECTIFIED)
def test_rectified_networks_are_gradient_times_input(name):
    """LRP-0 on linear and ReLU steps is gradient x input, DeepLIFT has no gap, no sample depends on another."""
    model, x = made(RECTIFIED[name]), draw(3, 6)
    found = explain(
        model, x, {"lrp": {"composite": "zero", "most_lost": 1e9}, "deep_lift": {}, "gradient_times_input": {}}, target=1
    )
    torch.testing.assert_close(found["lrp"].relevance, found["gradient_times_input"].relevance, rtol=0, atol=1e-9)
    assert found["deep_lift"].gap.abs().max() < 1e-12
    if name == "rows times a batch of matrices":
        return  # one sample at a time inside: what needs sums over a sample is refused, see below
    for method, options in {"rap": {}, "lrp": {"composite": "epsilon", "epsilon": 0.2, "relative": True}}.items():
        both, one = (explain(model, rows, {method: options}, target=1)[method].relevance for rows in (x, x[:1]))
        torch.testing.assert_close(both[:1], one, rtol=0, atol=1e-9, msg=f"{method}: {name}")


def test_samples_that_cannot_be_told_apart_are_refused_or_run_in_full():
    model, z = made(lambda s, x: s.b(s.a(x.transpose(0, 1).reshape(-1, 6)).relu()).view(5, -1, 4).mean(0)), draw(4, 5, 6)
    for method in (rap, lambda m, x, **k: lrp(m, x, composite="epsilon", relative=True, **k)):
        with pytest.raises(UnsupportedError, match="in an order that is not known"):
            method(model, z, target=0)
    assert deep_lift(model, z, target=0, baseline=draw(5, 6, seed=2)).gap.abs().max() < 1e-12
    found = lrp(model, z, target=0, composite="zero", most_lost=1e9)
    torch.testing.assert_close(found.relevance, gradient_times_input(model, z, target=0).relevance, rtol=0, atol=1e-9)


def test_bounds_of_the_box_are_those_of_a_sample():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(self.layer(x).mean(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Attending().double().eval()
    z = draw(4, 5, 6)
    both, one = (deep_taylor(model, rows, target=0).relevance for rows in (z, z[:1]))
    torch.testing.assert_close(both[:1], one, rtol=0, atol=1e-12)


def test_a_buffer_that_the_network_writes_to_is_as_it_was():
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kept", torch.zeros(4, 6, dtype=D))
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x):
            self.kept[: len(x)] = F.relu_(self.a(x))
            return self.b(self.kept)[: len(x)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Remembering().double().eval()
    x = draw(4, 6)
    with torch.no_grad():
        expected = model(x)[:, 0].clone()
    model.kept.zero_()
    for _ in range(2):
        torch.testing.assert_close(lrp(model, x, target=0, most_lost=1e9).score, expected, rtol=0, atol=1e-12)
        assert not model.kept.any()
        assert not vars(model.kept)


def test_the_last_layer_is_the_last_on_the_way_to_the_score():
    class Heads(nn.Module):
        def __init__(self, more):
            super().__init__()
            self.a, self.b, self.c, self.more = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(6, 3), more

        def forward(self, x):
            h = self.a(x).relu()
            y = self.b(h)
            return {"logits": y, "other": self.c(h) if self.more else None}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one = Heads(False).double().eval()
        two = Heads(True).double().eval()
    two.load_state_dict(one.state_dict())
    for method in (rap, lambda m, x, target: contrastive_lrp(m, x, target=target, dual="negated", clip=False)):
        mine, theirs = method(one, draw(3, 6), target=0).relevance, method(two, draw(3, 6), target=0).relevance
        assert mine.abs().max() > 1e-3
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_a_layer_that_works_in_place_is_seen_as_it_answers():
    class Layer(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.conv, self.in_place = nn.Conv2d(3, 4, 3), in_place

        def forward(self, x):
            x = self.conv(x)
            if not self.in_place:
                return F.relu(x)
            F.relu_(x)
            return x

    def net(in_place):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(Layer(in_place), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double().eval()

    x = draw(3, 3, 6, 6)
    mine, theirs = (relevance_cam(net(p), x, target=0, layer="0").raw for p in (True, False))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_sums_that_hide_in_an_index_are_refused():
    index = (torch.arange(4)[:, None], torch.tensor([[0, 0, 1, 1, 2, 2]]))
    with pytest.raises(UnsupportedError, match="index_put with a sum"):
        lrp(made(lambda s, x: s.b(zeros(x).index_put(index, s.a(x), accumulate=True))), draw(4, 6))


def test_smallest_values_add_up_too():
    x, b = torch.tensor([[1.0, 3.0]], dtype=D), torch.tensor([[1.0, 0.0]], dtype=D)
    assert deep_lift(lambda x: x.min(1, keepdim=True)[0], x, target=0, baseline=b).gap.abs().max() < 1e-12
    assert deep_lift(lambda x: x.amin(1, keepdim=True), draw(4, 6), target=0, baseline=0.1).gap.abs().max() < 1e-12


class Looked(nn.Module):
    """Tokens and places, each looked up in a table of its own; the tokens cut off in place."""

    def __init__(self):
        super().__init__()
        self.e, self.p, self.b = nn.Embedding(10, 6), nn.Embedding(10, 6), nn.Linear(6, 4)

    def forward(self, t):
        t.clamp_(max=8)
        places = torch.arange(t.shape[1])[None].expand_as(t)
        return self.b((self.e(t.long()) + self.p(places)).relu().mean(1))


def test_places_are_no_tokens_and_tokens_are_left_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Looked().double().eval()
    t = torch.tensor([[0, 1, 2, 3], [9, 1, 2, 3]])
    found = lrp(model, t, target=0, composite="zero", most_lost=1e9)
    one = lrp(model, t[:1], target=0, composite="zero", most_lost=1e9)
    torch.testing.assert_close(found.relevance[:1], one.relevance, rtol=0, atol=1e-12)
    assert t.tolist() == [[0, 1, 2, 3], [9, 1, 2, 3]]
    assert torch.equal(found.x, t)


def test_a_constant_per_sample_and_channel():
    class Conditioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.e, self.b = nn.Conv2d(3, 4, 3), nn.Embedding(10, 4), nn.Linear(4, 2)

        def forward(self, x, t):
            return self.b((self.c(x) + self.e(t[:, 0])[:, :, None, None]).relu().mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Conditioned().double().eval()
    found = lrp(model, (draw(3, 3, 6, 6), torch.tensor([[1], [2], [3]])), target=0, composite="zero", most_lost=1e9)
    torch.testing.assert_close(found.gap, found.ledger[:, :, 1:].sum((1, 2)), rtol=0, atol=1e-9)


def test_a_network_with_a_fixed_number_of_samples():
    model = made(lambda s, x: s.b(s.a(x.view(4, 6)).relu()))
    assert deep_lift(model, draw(4, 6), target=0).gap.abs().max() < 1e-12


def test_autocast_inside_the_network():
    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.b(self.c(x).relu().mean((2, 3))).float()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Cast().eval()
    x = draw(3, 3, 6, 6).float()
    found = lrp(model, x, target=0, composite="zero", most_lost=1e9)
    expected = gradient_times_input(model, x, target=0).relevance
    torch.testing.assert_close(found.relevance, expected, rtol=0, atol=0.05 * float(expected.abs().max()))  # bfloat16


def test_what_differentiates_itself_is_refused():
    def inner(s, x):
        h = s.a(x)
        return s.b(torch.autograd.grad(h.square().sum(), x, create_graph=True)[0])

    with pytest.raises(PellucidError, match="differentiates something of its own"):
        lrp(made(inner), draw(4, 6))
