"""Relevance is neither made nor lost: per rule, per step and per network, and what is lost is written down (X15, N4).

PEERS 4 rows 1, 2 and 24 are the other packages' failures on these networks.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from networks import network
from pellucid import InputError, explain, gradient_times_input, lrp
from pellucid.explanation.rules import RULES, AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox

LOW, HIGH = -4.0, 4.0


class Plain(nn.Sequential):
    """Convolutions, pools, a dense head."""

    def __init__(self):
        features = [nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AvgPool2d(2)]
        super().__init__(*features, nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


class Shortcut(nn.Module):
    """Residual sums in three spellings, a module used twice, ReLU as a function, in place and as a module."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.block, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = self.act(x + self.second(self.block(x)))
        y = self.block(x)
        y += x
        x = F.relu(y, inplace=True)
        x = torch.add(self.second(self.block(x)), x).relu_()
        return self.head(x.mean((2, 3)))


class Growing(nn.Module):
    """Concatenation, batch norm before the convolution and behind it, a pool as a function."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.grow, self.joined = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(8, 6, 3, bias=False)
        self.last, self.head = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = torch.cat([x, F.relu(self.grow(self.norm(x)))], 1)
        x = F.relu(self.last(self.joined(F.max_pool2d(x, 2))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


NETWORKS = [Plain, Shortcut, Growing]


def free_of_bias(model):
    """Biases, shifts and means of nothing; batch norms that still scale, some channels with the other sign."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight.data[::3] *= -1
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.zeros_(module.running_mean)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    return model


def made(kind, *, biases=False, trained=False):
    """A network in float64 with seeded weights, random or after some steps of learning."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = kind().double()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.normal_(module.bias)
        if not biases:
            free_of_bias(model)
        if trained:
            x, y = torch.randn(16, 2, 10, 10, dtype=torch.float64), torch.arange(16) % 4
            learned = [p for name, p in model.named_parameters() if biases or not name.endswith("bias")]
            optimizer = torch.optim.Adam(learned, lr=0.02)
            for _ in range(30):
                optimizer.zero_grad()
                F.cross_entropy(model.eval()(x), y).backward()
                optimizer.step()
    return model.eval()


def images(n=3):
    return torch.randn(n, 2, 10, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def of_every_rule():
    """Rules as objects; those for inputs only where the input enters, as their papers have it."""
    for name, rule in RULES.items():
        if name in ("w_square", "flat", "z_box"):
            first = {"w_square": WSquare(), "flat": Flat(), "z_box": ZBox(low=LOW, high=HIGH)}[name]
            yield name, {"first": first, "convolution": Gamma(), "dense": Epsilon(0.0)}
        else:
            yield name, {"epsilon": Epsilon(0.0), "gamma": Gamma(0.4), "alpha_beta": AlphaBeta(2.0)}.get(name) or rule()


@pytest.mark.parametrize("trained", [False, True], ids=["random", "trained"])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("composite", [c for _, c in of_every_rule()], ids=[n for n, _ in of_every_rule()])
def test_conservation_per_rule_and_per_step_without_biases(composite, kind, trained):
    x = images()
    found = lrp(made(kind, trained=trained), x, target=[0, 1, 2], composite=composite)
    size = found.score.abs()
    alpha = composite if isinstance(composite, AlphaBeta) else None
    arrived, to_bias, rest = found.ledger.unbind(2)
    assert len(found.steps) > 4
    assert (to_bias.abs() <= 1e-12 * size[:, None].clamp(min=1)).all()
    if alpha is not None:
        # a unit without any contribution of one sign cannot hand on that sign's share: that, and only that, is lost
        lost = rest.sum(1)
        torch.testing.assert_close(found.relevance.sum((1, 2, 3)), found.score - lost, rtol=0, atol=1e-9)
        return
    tolerance = 1e-9 * max(1.0, float(arrived.abs().max()))
    assert (rest.abs() < tolerance).all(), dict(zip(found.steps, rest.abs().amax(0).tolist()))
    torch.testing.assert_close(found.relevance.sum((1, 2, 3)), found.score, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_lost_is_what_is_missing(kind):
    """With biases: score = arrived + what biases took + what else was lost, to rounding, for every composite."""
    for composite in ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_gamma_box", "vgg", "zero"):
        found = lrp(made(kind, biases=True), images(), target=1, composite=composite, most_lost=1e9)
        lost = found.ledger[:, :, 1:].sum((1, 2))
        total = found.relevance.sum((1, 2, 3)) + lost
        scale = float(found.ledger.abs().max())
        torch.testing.assert_close(total, found.score, rtol=0, atol=1e-9 * max(1.0, scale))
        torch.testing.assert_close(found.gap, lost, rtol=0, atol=1e-9 * max(1.0, scale))
        if composite == "zero":  # no stabiliser: nothing but biases takes anything
            assert found.ledger[:, :, 2].abs().max() < 1e-9 * max(1.0, scale)
    rows = found.conservation()
    assert rows[0]["step"] == ("9 (linear)" if kind is Plain else "head (linear)")
    assert rows[0]["arrived"] == pytest.approx(float(found.score.mean()))


@pytest.mark.parametrize("kind", NETWORKS)
def test_relevance_at_layers_adds_up_too(kind):
    """Everything passes through the stem, so its output holds the whole of the relevance."""
    model = made(kind)
    stem = "0" if kind is Plain else "stem"
    found = lrp(model, images(), target=1, composite="z_plus", layers=[stem])
    inside = found.details[f"relevance at {stem}"]
    assert inside.shape[:2] == (3, model.get_submodule(stem).out_channels)
    torch.testing.assert_close(inside.sum((1, 2, 3)), found.score, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="no layer 'sten'"):
        lrp(model, images(), layers="sten")


@pytest.mark.parametrize("biases", [False, True], ids=["without", "with biases"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_zero_is_gradient_times_input(kind, biases):
    """METHODS 0.1: on networks of ReLU and max pools LRP-0 with biases in the denominators is gradient x input."""
    model = made(kind, biases=biases)
    ours = lrp(model, images(), target=2, composite="zero", most_lost=1e9).relevance
    expected = gradient_times_input(model, images(), target=2).relevance
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def merged(model):
    """The same network with the batch norm behind each convolution merged into it by hand."""
    copied = copy.deepcopy(model)
    conv, norm = copied.stem, copied.norm
    scale = norm.weight.data * torch.rsqrt(norm.running_var + norm.eps)
    conv.bias.data = (conv.bias.data - norm.running_mean) * scale + norm.bias.data
    conv.weight.data = conv.weight.data * scale.view(-1, 1, 1, 1)
    copied.norm = nn.Identity()
    return copied


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1", "zero", "w_square"])
def test_a_folded_batch_norm_is_a_merged_one(composite):
    """METHODS G6, by data flow: nothing was said about which module follows which."""
    model = made(Shortcut, biases=True)
    asked = {"lrp": {"composite": composite, "most_lost": 1e9}, "deep_lift": {}, "gradient_times_input": {}}
    mine, theirs = (explain(m, images(), asked, target=1) for m in (model, merged(model)))
    for name, found in mine.items():
        scale = float(theirs[name].relevance.abs().max())
        torch.testing.assert_close(found.relevance, theirs[name].relevance, rtol=0, atol=1e-9 * scale)


def test_much_that_is_lost_is_said():
    model = made(Plain, biases=True)
    model[7].bias.data += 3
    found = lrp(model, images(), target=1, composite="zero")
    assert "of the relevance of sample" in found.notes[0]
    assert "to biases" in found.notes[0]
    assert not lrp(model, images(), target=1, composite="zero", most_lost=1e9).notes
    assert not lrp(made(Plain), images(), target=1, composite="zero").notes


def test_ledger_and_layers_survive_saving(tmp_path):
    found = lrp(made(Shortcut), images(), target=1, layers=["head"])
    again = type(found).load(found.save(tmp_path / "lrp.safetensors"))
    assert again.conservation() == found.conservation()
    assert torch.equal(again.details["relevance at head"], found.details["relevance at head"])


def test_composites_are_checked():
    model, x = made(Plain), images()
    for composite, message in [
        ("epsilon_pluss", "no composite 'epsilon_pluss'. Did you mean 'epsilon_plus'"),
        ({"dense": "zerro"}, "no rule 'zerro'. Did you mean 'zero'"),
        ({"dense": "zero"}, "no rule for the convolution operation in '3'"),
        (
            {"dense": "zero", "convolutoin": "flat"},
            "no linear layer or convolution in 'convolutoin'. Did you mean 'convolution'",
        ),
        ({"dense": 3}, "3 is no rule"),
        (7, "composite is 7"),
    ]:
        with pytest.raises(InputError, match=message):
            lrp(model, x, composite=composite)
    for options, message in [
        ({"epsilon": -1.0}, "epsilon is -1.0"),
        ({"composite": AlphaBeta, "gamma": 1}, "alpha"),
        ({"composite": "z_box", "low": 2.0, "high": 1.0}, "low is above high"),
        ({"composite": "z_box", "low": torch.zeros(7)}, "low does not fit an input of shape"),
    ]:
        if options.get("composite") is AlphaBeta:
            with pytest.raises(InputError, match=message):
                AlphaBeta(alpha=0.5)
            continue
        with pytest.raises(InputError, match=message):
            lrp(model, x, **options)


def test_one_sample_decides_nothing_for_another():
    """Acceptance 4: softmax, norms, relative epsilon, recurrent layers: sample 0 alone equals sample 0 in a batch."""
    from networks import Transformer, samples

    model, x = network(Transformer), samples(Transformer, 4)
    asked = {"lrp": {"composite": "epsilon", "epsilon": 0.3, "relative": True}, "deep_lift": {}, "rap": {}}
    whole, alone = (explain(model, part, asked, target=1) for part in (x, x[:1]))
    for name in asked:
        torch.testing.assert_close(whole[name].relevance[:1], alone[name].relevance, rtol=0, atol=1e-9)
