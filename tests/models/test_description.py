"""C1: the layer table of any torch module."""

import pytest
import torch
from torch import nn

from pellucid.core.errors import InputError
from pellucid.models.convolutional.lenet5 import LeNet5
from pellucid.models.description import describe, describe_text, totals


def test_ten_filters_of_5x5_on_32x32x3():
    """C1: stride 1, pad 2 -> 32 x 32 x 10 and (5 * 5 * 3) * 10 + 10 = 760 parameters."""
    (row,) = describe(nn.Sequential(nn.Conv2d(3, 10, 5, stride=1, padding=2)), (3, 32, 32))
    assert row.output_shape == (10, 32, 32)
    assert row.parameters == row.trainable == 760
    assert (row.name, row.kind, row.kernel, row.stride, row.padding) == ("0", "Conv2d", "5 x 5", "1 x 1", "2 x 2")


def test_lenet5_row_by_row():
    """C1, C4."""
    rows = describe(LeNet5(), (1, 28, 28))
    assert [(r.name, r.output_shape, r.parameters) for r in rows if r.parameters] == [
        ("features.c1", (6, 28, 28), 156),
        ("features.c3", (16, 10, 10), 2_416),
        ("head.c5", (120,), 48_120),
        ("head.f6", (84,), 10_164),
        ("head.output", (10,), 850),
    ]
    assert totals(rows) == (61_706, 61_706)


def test_the_text_is_a_table_with_the_totals():
    text = describe_text(describe(LeNet5(), (1, 28, 28))).split("\n")
    assert text[0].split() == ["layer", "kind", "kernel", "stride", "padding", "output", "parameters"]
    assert "6 x 28 x 28" in text[1]
    assert text[-1] == "61,706 parameters, 61,706 trainable"
    assert len({len(line) for line in text[:-1]}) == 1


def test_the_text_leaves_out_columns_without_an_entry():
    assert describe_text(describe(nn.Linear(2, 3), (2,))).split("\n")[0].split() == ["layer", "kind", "output", "parameters"]


class Odd(nn.Module):
    """A layer used twice, shared weights, a loose parameter, an unused layer, a frozen one, batch norm, dropout."""

    def __init__(self):
        super().__init__()
        self.twice, self.relu = nn.Linear(4, 4), nn.ReLU()
        self.tied, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.tied.weight = self.twice.weight
        self.token = nn.Parameter(torch.ones(4))
        self.unused = nn.Linear(2, 2, bias=False)
        self.frozen = nn.Linear(4, 1).requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.calls = self.calls + torch.rand(())
        x = self.relu(self.twice(self.relu(self.twice(x))) + self.token)
        return self.frozen(self.drop(self.norm(self.tied(x))))


def test_calls_are_rows_and_parameters_count_once():
    """C1: reused modules again with 0 new parameters; parameters of no layer call at the end."""
    model = Odd()
    rows = describe(model, (4,))
    assert [(r.name, r.parameters) for r in rows] == [
        ("twice", 20),
        ("relu", 0),
        ("twice", 0),
        ("relu", 0),
        ("tied", 4),
        ("norm", 8),
        ("drop", 0),
        ("frozen", 5),
        ("token", 4),
        ("unused.weight", 4),
    ]
    assert totals(rows) == (sum(p.numel() for p in model.parameters()), sum(p.numel() for p in model.parameters()) - 5)


def state(model):
    return {
        "weights": [(k, v.clone()) for k, v in model.state_dict().items()],
        "modes": [m.training for m in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "gradients": [p.grad for p in model.parameters()],
        "asks": [p.requires_grad for p in model.parameters()],
        "buffers": [id(b) for b in model.buffers()],
        "random": torch.get_rng_state().clone(),
    }


def same(a, b):
    return all(torch.equal(v, w) for (_, v), (_, w) in zip(a["weights"], b["weights"], strict=True)) and all(
        torch.equal(a[k], b[k]) if k == "random" else a[k] == b[k] for k in a if k != "weights"
    )


@pytest.mark.parametrize("shape", [(4,), (5,)], ids=["success", "error"])
def test_the_model_comes_back_as_it_was(shape):
    """C1: weights, buffers, modes, hooks, random state; also after an error."""
    model = Odd()
    model.drop.eval()
    model.norm.register_forward_hook(lambda *_: None)
    before = state(model)
    if shape == (4,):
        describe(model, shape)
    else:
        with pytest.raises(InputError, match=r"layer 'twice' \(Linear\)"):
            describe(model, shape)
    assert same(before, state(model))


@pytest.mark.parametrize(
    "change", [lambda m: m.eval(), lambda m: m.calls.add_(1), lambda m: torch.rand(()), lambda m: m(torch.ones(3, 4))]
)
def test_the_check_above_can_fail(change):
    model = Odd()
    before = state(model)
    change(model)
    assert not same(before, state(model))


def test_layers_that_return_tuples_and_models_that_are_one_layer():
    (row,) = describe(nn.LSTM(4, 6, batch_first=True), (5, 4))
    assert (row.name, row.kind, row.output_shape, row.parameters) == ("LSTM", "LSTM", (5, 6), 4 * 6 * (4 + 6 + 2))


def test_an_example_batch_for_models_that_do_not_take_floats():
    rows = describe(nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(15, 2)), torch.zeros(1, 5, dtype=torch.long))
    assert [r.output_shape for r in rows] == [(5, 3), (15,), (2,)]


def test_weight_norm_stays_one_layer():
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
    (row,) = describe(model, (3,))
    assert row.parameters == sum(p.numel() for p in model.parameters())


def test_attention_counts_the_parameters_that_it_uses_without_a_layer_call():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert totals(describe(model, (5, 8)))[0] == sum(p.numel() for p in model.parameters())


def test_lazy_layers_are_refused_and_stay_lazy():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(InputError, match="lazy layers.*Run it once"):
        describe(model, (4,))
    assert model[0].has_uninitialized_params()


def test_a_model_without_parameters_and_one_that_takes_more_than_an_input():
    assert totals(describe(nn.ReLU(), (3,))) == (0, 0)
    with pytest.raises(InputError, match="refuses an input of shape 3.*missing 1 required"):
        describe(nn.Bilinear(3, 3, 2), (3,))
