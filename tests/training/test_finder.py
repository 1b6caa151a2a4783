import copy
import os
import signal

import numpy as np
import pytest
import torch
from small_training import ROWS, network, same, samples
from torch import nn

from pellucid.core.errors import InputError, PellucidError
from pellucid.training.batches import InMemory
from pellucid.training.finder import find_lr
from pellucid.training.loop import train


def data():
    x, y = samples()
    return InMemory(x[:ROWS], y[:ROWS])


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_everything_stays_as_it_was(precision):
    """F12: weights, buffers, gradients, modes and generators, bit for bit, though the model really trained."""
    model = network()
    model.eval()
    model[0].weight.grad = mine = torch.full_like(model[0].weight, 2.0)
    before, state = copy.deepcopy(model), torch.get_rng_state()
    search = find_lr(model, data(), steps=40, batch=32, precision=precision)
    assert same(model, before)
    assert torch.equal(state, torch.get_rng_state())
    assert model[0].weight.grad is mine
    assert bool((mine == 2.0).all())
    assert not any(module.training for module in model.modules())
    assert search.losses[0] != search.losses[-1]


def test_rates_grow_by_one_factor_and_the_suggestion_trains():
    search = find_lr(network(), data(), lowest=1e-5, highest=0.5, steps=60, batch=32)
    assert len(search.lrs) == len(search.losses) == len(search.smoothed()) <= 60
    ratios = np.divide(search.lrs[1:], search.lrs[:-1])
    assert ratios == pytest.approx([(0.5 / 1e-5) ** (1 / 59)] * len(ratios))
    assert search.suggestion in search.lrs
    history = train(network(), data(), epochs=8, batch=32, lr=search.suggestion, device="cpu")
    assert history.rows[-1]["train_loss"] < 0.8 * history.rows[0]["train_loss"]


def test_it_stops_when_the_loss_explodes():
    search = find_lr(network(), data(), optimizer="SGD", lowest=1e-3, highest=1e12, steps=100, batch=32)
    assert len(search.lrs) < 100
    assert search.suggestion < search.lrs[-1]


def test_no_fall_no_suggestion():
    """Targets that are pure noise for a model that cannot learn them at any of these rates."""
    x, y = samples()
    with pytest.raises(PellucidError, match="does not fall"):
        find_lr(nn.Linear(10, 3), InMemory(x, y), optimizer="SGD", lowest=1e25, highest=1e30, steps=10)


def test_same_seed_same_search():
    assert find_lr(network(), data(), steps=20, seed=1) == find_lr(network(), data(), steps=20, seed=1)


def test_ctrl_c_is_not_swallowed():
    model, handler = network(), signal.getsignal(signal.SIGINT)

    def press(x, generator):
        os.kill(os.getpid(), signal.SIGINT)
        return x

    with pytest.raises(KeyboardInterrupt):
        find_lr(model, data(), augment=press)
    assert signal.getsignal(signal.SIGINT) is handler
    assert same(model, network())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"steps": 3}, "steps is 3"), ({"lowest": 1.0, "highest": 0.1}, "not above lowest"), ({"lowest": 0.0}, "lowest is 0.0")],
)
def test_wrong_ranges(options, words):
    with pytest.raises(InputError, match=words):
        find_lr(network(), data(), **options)
