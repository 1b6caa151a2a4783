"""The engine that follows a computation: whatever module or function asked for it, in whatever spelling (N4, L7)."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from networks import Residual, Transformer, network, samples
from pellucid import UnsupportedError, deep_lift, explain, guided_backpropagation, lrp
from pellucid.explanation.flow import Flow
from pellucid.explanation.steps import Backward

RELUS = {
    "module": lambda: nn.ReLU(),
    "module in place": lambda: nn.ReLU(inplace=True),
    "function": lambda: F.relu,
    "function in place": lambda: lambda x: F.relu(x, True),
    "torch": lambda: torch.relu,
    "torch in place": lambda: torch.relu_,
    "method": lambda: lambda x: x.relu(),
    "method in place": lambda: lambda x: x.relu_(),
    "clamp": lambda: lambda x: x.clamp(min=0),
    "maximum": lambda: lambda x: torch.maximum(x, torch.zeros_like(x)),
}
SUMS = {
    "+": lambda a, b: a + b,
    "+=": lambda a, b: a.__iadd__(b),
    "add": torch.add,
    "add_": lambda a, b: a.add_(b),
    "method": lambda a, b: a.add(other=b),
    "sum of a stack": lambda a, b: torch.stack([a, b]).sum(0),
    "minus": lambda a, b: a - (-b),
    "rsub": lambda a, b: torch.rsub(-a, b),
}


class Spelled(nn.Module):
    """The same network, however it is written."""

    def __init__(self, relu, add, reused=False):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.add, self.again = relu, add, reused

    def forward(self, x):
        h = self.relu(self.one(x))
        y = self.add(self.two(h), h)
        y = self.relu(y)
        return self.head(self.relu(self.two(y)) if self.again else y)


def spelled(relu="module", add="+", **more):
    torch.manual_seed(0)
    return Spelled(RELUS[relu](), SUMS[add], **more).double().eval()


def rows(n=3, width=5, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ASKED = {"lrp": {"composite": "z_plus"}, "deep_lift": {"variant": "reveal_cancel"}, "rap": {}, "deep_taylor": {}}


@pytest.mark.parametrize(("relu", "add"), [*[(relu, "+=") for relu in RELUS], *[("module in place", add) for add in SUMS]])
def test_every_spelling_is_the_same_network(relu, add):
    """PEERS 4 rows 1, 7 to 9 and 24: functional, in place, re-used or an operator, it makes no difference."""
    with torch.random.fork_rng(devices=[]):
        for reused in (False, True):
            expected = explain(spelled(reused=reused), rows(), ASKED, target=1)
            found = explain(spelled(relu, add, reused=reused), rows(), ASKED, target=1)
            for name in ASKED:
                mine, theirs = found[name].relevance, expected[name].relevance
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12, msg=f"{name}, {relu}, {add}")
            guided = [guided_backpropagation(m, rows(), target=1).relevance for m in (spelled(relu, add), spelled())]
            torch.testing.assert_close(*guided, rtol=0, atol=1e-12)


class Recurrent(nn.Module):
    def __init__(self, kind, **more):
        super().__init__()
        self.layer = getattr(nn, kind)(5, 6, **more)
        self.head = nn.Linear(6 * (2 if more.get("bidirectional") else 1), 3)
        self.first = more.get("batch_first", False)

    def forward(self, x):
        y = self.layer(x if self.first else x.transpose(0, 1))[0]
        return self.head(y[:, -1] if self.first else y[-1])


class Cells(nn.Module):
    """Cells called one step at a time, a state of zeros made on the way."""

    def __init__(self):
        super().__init__()
        self.l, self.g, self.r, self.head = nn.LSTMCell(5, 6), nn.GRUCell(6, 6), nn.RNNCell(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = c = g = r = x.new_zeros(len(x), 6)
        for t in range(x.shape[1]):
            h, c = self.l(x[:, t], (h, c))
            g = self.g(h, g)
            r = self.r(g, r)
        return self.head(r)


class Attending(nn.Module):
    """torch's own encoder layer; with ``first`` False the samples lie on the second axis inside."""

    def __init__(self, first=True):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=first)
        self.enter, self.head, self.first = nn.Linear(5, 6), nn.Linear(6, 3), first

    def forward(self, x):
        x = self.enter(x)
        x = self.layer(x) if self.first else self.layer(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x.mean(1))


class Tokens(nn.Module):
    """Whole numbers looked up, positions added, torch's attention with a mask."""

    def __init__(self):
        super().__init__()
        self.look, self.place = nn.Embedding(11, 6), nn.Parameter(torch.randn(1, 4, 6))
        self.attend, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        h = self.look(x) + self.place
        mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
        return self.head(self.attend(h, h, h, attn_mask=mask)[0][:, -1])


class Gated(nn.Module):
    """Squeeze and excitation, a gated unit, einsum, addmm, normalisation by hand, group norm, a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.up = nn.Conv2d(2, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.ConvTranspose2d(4, 4, 2, 2)
        self.squeeze, self.glu, self.head = nn.Linear(4, 4), nn.GLU(), nn.Linear(2, 3)

    def forward(self, x):
        h = F.silu(self.norm(self.conv(x)))
        h = h * torch.sigmoid(self.squeeze(h.mean((2, 3))))[:, :, None, None]
        h = F.interpolate(F.gelu(self.up(h)), scale_factor=2, mode="bilinear").amax((2, 3))
        h = torch.einsum("bi,ij->bj", h, self.squeeze.weight) * torch.rsqrt(h.pow(2).mean(1, keepdim=True) + 1)
        return torch.addmm(self.head.bias, self.glu(h), self.head.weight.t()).log_softmax(1)


EXOTIC = {
    "LSTM": (lambda: Recurrent("LSTM", batch_first=True), (7, 5)),
    "GRU": (lambda: Recurrent("GRU"), (7, 5)),
    "RNN": (lambda: Recurrent("RNN", nonlinearity="relu"), (7, 5)),
    "two layers, both ways": (lambda: Recurrent("LSTM", num_layers=2, bidirectional=True), (3, 5)),
    "cells": (Cells, (4, 5)),
    "attention": (Attending, (4, 5)),
    "attention, time first": (lambda: Attending(False), (3, 5)),
    "gates": (Gated, (2, 6, 6)),
}


@pytest.mark.parametrize("name", EXOTIC)
def test_recurrent_layers_attention_and_gates(name):
    """The answer is the network's own; differences add up exactly; no sample depends on another; relevance is accounted for."""
    kind, shape = EXOTIC[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = kind().double().eval()
        x = torch.randn(3, *shape, dtype=torch.float64)  # as many samples as time steps, in some: axes are not guessed
    asked = {"lrp": {"composite": "epsilon", "most_lost": 1e9}, "deep_lift": {"baseline": 0.1}, "rap": {}, "deconvnet": {}}
    found = explain(model, x, asked, target=1)
    with torch.no_grad():
        torch.testing.assert_close(found["lrp"].score, model(x)[:, 1], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["deep_lift"].base, model(torch.full_like(x, 0.1))[:, 1], rtol=0, atol=1e-12)
    assert found["deep_lift"].gap.abs().max() < 1e-10
    alone = explain(model, x[1:2], asked, target=1)
    for method, one in alone.items():
        torch.testing.assert_close(found[method].relevance[1:2], one.relevance, rtol=1e-9, atol=1e-9, msg=f"{method}, {name}")
    ledger = found["lrp"].ledger
    torch.testing.assert_close(found["lrp"].gap, ledger[:, :, 1:].sum((1, 2)), rtol=0, atol=1e-9 * float(ledger.abs().max()))
    if name != "gates":  # log-softmax and interpolation are no part of it
        assert found["lrp"].relevance.abs().max() > 1e-4


def test_signal_takes_all():
    """Arras et al. 2017: what a gate lets through is the signal's; relevance of the gate's own inputs is nothing."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.signal, self.gate = nn.Linear(2, 3, bias=False), nn.Linear(2, 3)

        def forward(self, x):
            return torch.tanh(self.signal(x[:, :2])) * (1 - torch.sigmoid(self.gate(x[:, 2:])))

    torch.manual_seed(0)
    found = lrp(Product().double(), rows(width=4), target=0, composite="zero")
    assert (found.relevance[:, 2:] == 0).all()
    torch.testing.assert_close(found.relevance[:, :2].sum(1), found.score, rtol=0, atol=1e-12)


def test_two_signals_get_half_each():
    found = lrp(lambda_module(lambda x: (x[:, :1] * x[:, 1:2]).expand(-1, 2)), rows(width=2), target=0)
    torch.testing.assert_close(found.relevance, found.score[:, None].expand(-1, 2) / 2, rtol=0, atol=1e-12)


def lambda_module(function):
    class Made(nn.Module):
        def forward(self, x):
            return function(x)

    return Made()


def test_whole_numbers_are_explained_at_their_embedding():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tokens().double().eval()
        x = torch.randint(11, (3, 4))
    found = explain(model, x, {"lrp": {"composite": "epsilon", "most_lost": 1e9}, "deep_lift": {"baseline": 0}}, target=2)
    assert found["lrp"].relevance.shape == (3, 4)
    assert found["deep_lift"].gap.abs().max() < 1e-12
    one = explain(model, x[1:2], {"lrp": {"composite": "epsilon", "most_lost": 1e9}}, target=2)["lrp"]
    torch.testing.assert_close(found["lrp"].relevance[1:2], one.relevance, rtol=0, atol=1e-12)
    with pytest.raises(UnsupportedError, match="not looked up by an embedding"):
        lrp(lambda_module(lambda x: x.double().mean(1, keepdim=True).expand(-1, 2)), x)


def test_what_has_no_rule_is_refused_by_name_and_line():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.compare = nn.Linear(5, 5), nn.CosineSimilarity()

        def forward(self, x):
            y = self.enter(x)
            return torch.stack([torch.linalg.norm(y, dim=1), self.compare(x, y)], 1)

    line = Strange.forward.__code__.co_firstlineno + 2
    with pytest.raises(
        UnsupportedError, match=rf"no rule for the operation 'linalg_norm' \(Strange, .*test_flow.py, line {line}\)"
    ):
        lrp(Strange().double(), rows())
    with pytest.raises(UnsupportedError, match="'var' or 'std'"):
        deep_lift(lambda_module(lambda x: x.var(1, keepdim=True).expand(-1, 2)), rows())
    with pytest.raises(UnsupportedError, match="no rule for einsum 'bi,bi,bi->b'"):
        lrp(lambda_module(lambda x: torch.einsum("bi,bi,bi->b", x, x, x)), rows())


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_what_cannot_be_followed_is_refused():
    """Never the plain gradient in its place: scripted parts and autograd functions of one's own are named."""
    with pytest.raises(UnsupportedError, match="could not be followed"):
        lrp(lambda_module(lambda x: torch.relu(Doubled.apply(x))), rows())
    with pytest.raises(UnsupportedError, match="could not be followed"):
        lrp(lambda_module(Doubled.apply), rows())
    with pytest.warns(DeprecationWarning, match="deprecated"):
        scripted = torch.jit.trace(nn.Linear(5, 3).double(), rows())
    with pytest.raises(UnsupportedError, match="could not be followed"):
        guided_backpropagation(nn.Sequential(scripted, nn.ReLU()), rows())
    with pytest.raises(UnsupportedError, match="drops values at random"):
        lrp(lambda_module(lambda x: F.dropout(x, 0.5)), rows())
    batch = nn.BatchNorm1d(5, track_running_stats=False).double()
    with pytest.raises(UnsupportedError, match="mixes the samples of a batch"):
        lrp(nn.Sequential(batch, nn.Linear(5, 3).double()), rows())


def test_a_baseline_that_goes_another_way_is_refused():
    def two_ways(x):
        return torch.tanh(x)[:, :2] if float(x.detach().abs().max()) > 0 else torch.relu(x)[:, :2]

    with pytest.raises(UnsupportedError, match="another path for the baseline"):
        deep_lift(lambda_module(two_ways), rows())


def test_changes_in_place_reach_everybody_or_are_refused():
    def rows_written(x):
        out = torch.zeros(len(x), 3, dtype=x.dtype)
        for i in range(3):
            out[:, i] = x[:, i] * (i + 1)
        out[:, 0] += 1
        kept = out
        out.mul_(2)
        return kept  # the same tensor under another name

    found = lrp(lambda_module(rows_written), rows(), target=1)
    assert (found.relevance[:, [0, 2, 3, 4]] == 0).all()
    torch.testing.assert_close(found.relevance[:, 1], found.score, rtol=0, atol=1e-12)

    def half_changed(x):
        y = x * 2
        y[:, :2].relu_()
        return y + x

    def whole_changed(x):
        y = x * 2
        part = y[:, :2]
        y.relu_()
        return part

    for function in (half_changed, whole_changed):
        with pytest.raises(UnsupportedError, match="changed in place"):
            lrp(lambda_module(function), rows())


def test_nothing_is_kept():
    """No ring of references holds a pass, and no hook stays behind."""
    model, x = network(Residual), samples(Residual)
    gc.collect()
    gc.disable()
    try:
        made = []
        before = Flow.__init__

        def spying(self, *args, **kwargs):
            before(self, *args, **kwargs)
            made.append(weakref.ref(self))

        Flow.__init__ = spying
        explain(model, x, {"lrp": {}, "deep_lift": {}, "guided_grad_cam": {}}, layer="last")
        assert len(made) == 2
        assert [ref() for ref in made] == [None, None]
    finally:
        Flow.__init__ = before
        gc.enable()
    assert sum(len(m._forward_hooks) for m in model.modules()) == 0


def test_global_state_is_left_alone_after_an_error():
    class Broken(Backward):
        def affine(self, step, r):
            raise ArithmeticError("broken rule")

    model, x = network(Transformer), samples(Transformer)
    flow = Flow(model)
    leaf = flow.leaf(x)
    with flow:
        value = model(flow.start(leaf)).sum()
    with pytest.raises(ArithmeticError, match="broken rule"):
        flow.back(Broken(), value, torch.ones_like(value), [leaf])
    assert torch.overrides._get_current_function_mode() is None
    with pytest.raises(UnsupportedError):
        lrp(lambda_module(lambda x: torch.linalg.norm(x, dim=1, keepdim=True)), rows())
    assert torch.overrides._get_current_function_mode() is None
    assert torch.is_grad_enabled()
    (again,) = flow.back(Backward(), value, torch.ones_like(value), [leaf])
    expected = torch.autograd.functional.jacobian(lambda z: model(z).sum(), x)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-9)


def functional_softmax(v):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch chooses the axis, and says that one should not let it
        return F.softmax(v)


ODDITIES = {
    "dropout in place": nn.Dropout(0.5, inplace=True),
    "softmax without an axis": functional_softmax,
    "softmin": nn.Softmin(1),
    "log of a sigmoid": nn.LogSigmoid(),
    "threshold": nn.Threshold(0.1, 0.0),
    "asked for gradients": lambda v: v.requires_grad_(),
    "watched": lambda v: (v.requires_grad and v.retain_grad(), v)[1],
    "seen in another shape in place": lambda v: v.unsqueeze_(1).squeeze_(1),
    "normalised": lambda v: F.normalize(v, dim=1),
    "through a constant scale": lambda v: v.mul(2).div_(4).neg(),
    "mean over nothing but a new axis": lambda v: torch.stack([v, v]).mean(0),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_oddities(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), lambda_module(ODDITIES[name]), nn.Linear(4, 3)).double().eval()
    if isinstance(ODDITIES[name], nn.Module):
        model[1] = ODDITIES[name].eval()
    found = explain(model, rows(), {"lrp": {"composite": "epsilon", "most_lost": 1e9}, "deep_lift": {}, "rap": {}}, target=1)
    assert found["deep_lift"].gap.abs().max() < 1e-12
    ledger = found["lrp"].ledger
    torch.testing.assert_close(found["lrp"].gap, ledger[:, :, 1:].sum((1, 2)), rtol=0, atol=1e-9 * float(ledger.abs().max()))
    with torch.no_grad():
        torch.testing.assert_close(found["lrp"].score, model(rows())[:, 1], rtol=0, atol=1e-12)


def test_constants_beside_values_are_in_the_ledger():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.head = nn.Parameter(torch.randn(1, 3)), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(torch.cat([x, self.token.expand(len(x), -1)], 1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = lrp(Beside().double(), rows(), target=1, composite="zero", most_lost=1e9)
    torch.testing.assert_close(found.gap, found.ledger[:, :, 1:].sum((1, 2)), rtol=0, atol=1e-12)
    assert found.conservation()[-1]["step"] == "constants beside values"
    assert found.ledger[:, -1, 1].abs().min() > 1e-3


def test_without_biases_means_without_any_constant():
    """``bias=False``: shifts of norms and constant summands take nothing either, so that nothing at all is lost."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.two, self.layer = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 4), nn.LayerNorm(4)
            for values in (self.norm.bias, self.norm.running_mean, self.layer.bias):
                nn.init.normal_(values)

        def forward(self, x):
            h = torch.relu(self.norm(torch.relu(self.one(x)) + 0.5))
            return self.layer(self.two(h) - 1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Shifted().double().eval()
    found = lrp(model, rows(), target=1, composite="zero", bias=False, most_lost=1e9)
    torch.testing.assert_close(found.relevance.sum(1), found.score, rtol=0, atol=1e-9)
    assert found.ledger[:, :, 1].abs().max() < 1e-12 * float(found.ledger.abs().max()) + 1e-12


def test_deep_taylor_is_positive_and_complete_on_a_residual_network():
    """Sums, averages and norms share among positive terms only, so nothing negative is ever handed on."""
    model, x = network(Residual), samples(Residual)
    for target in range(5):
        found = explain(model, x, {"deep_taylor": {"low": -5, "high": 5}}, target=target)["deep_taylor"]
        assert found.raw.min() >= 0
        assert (found.relevance.sum((1, 2, 3)) <= found.score.clamp(min=0) + 1e-9).all()
