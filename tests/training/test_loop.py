import copy
import os
import signal
import threading
from functools import partial

import pytest
import torch
from small_training import ROWS, learn, network, noisy, same, samples, timeless
from torch import nn
from torch.nn import functional as F

from pellucid.core import seeds
from pellucid.core.errors import InputError, PellucidError
from pellucid.core.table import OPTIMIZERS
from pellucid.training.batches import InMemory, cut
from pellucid.training.checkpoint import Checkpoint
from pellucid.training.events import Event
from pellucid.training.loop import DivergedError, train
from pellucid.training.objectives import objective
from pellucid.training.schedules import schedule


class OnDemand:
    """Rows without an attribute y, fetched by the second thread."""

    def __init__(self, x, y):
        self.x, self.hidden = x, y

    def __len__(self):
        return len(self.x)

    def batch(self, rows):
        return self.x[rows], self.hidden[rows]


def plain(seed=0):
    with seeds.scoped(seed, "weights"):
        return nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))


def bare(model, optimizer, x, y, *, batch, steps, factor=None):
    """The loop as anyone writes it, over the permutation that Pellucid draws."""
    lr = optimizer.param_groups[0]["lr"]
    order = torch.randperm(len(x), generator=seeds.generator(0, "permutation", 0))
    for step, rows in enumerate(order.split(batch)[:steps]):
        if factor is not None:
            optimizer.param_groups[0]["lr"] = lr * factor(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def test_comparison_can_fail():
    assert same(network(0), network(0))
    assert not same(network(0), network(1))


@pytest.mark.parametrize(
    ("name", "options", "decay"),
    [
        ("SGD", {}, 0.0),
        ("SGD", {"momentum": 0.9, "nesterov": True}, 0.01),
        ("Adam", {"betas": [0.8, 0.99]}, 0.0),
        ("AdamW", {}, 0.1),
        ("RMSprop", {}, 0.0),
        ("Adagrad", {}, 0.0),
        ("Adadelta", {}, 0.0),
        ("NAdam", {}, 0.0),
        ("RAdam", {}, 0.0),
    ],
)
def test_five_steps_equal_a_bare_loop(name, options, decay):
    """F12: same bits as torch's optimiser in a hand-written loop."""
    x, y = samples()
    x, y = x[:160], y[:160]
    mine, theirs = plain(), plain()
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    bare(theirs, getattr(torch.optim, name)(theirs.parameters(), lr=0.01, weight_decay=decay, **given), x, y, batch=32, steps=5)
    history = train(
        mine,
        InMemory(x, y),
        epochs=1,
        batch=32,
        optimizer=name,
        lr=0.01,
        weight_decay=decay,
        optimizer_options=options,
        device="cpu",
    )
    assert history.rows[0]["step"] == 5
    assert same(mine, theirs)
    assert not same(mine, plain())


def test_schedule_sets_the_rate_of_each_step():
    x, y = samples()
    x, y = x[:160], y[:160]
    mine, theirs = plain(), plain()
    factor = schedule("cosine", 5)
    bare(theirs, torch.optim.SGD(theirs.parameters(), lr=0.5), x, y, batch=32, steps=5, factor=factor)
    history = train(mine, InMemory(x, y), epochs=1, batch=32, optimizer="SGD", lr=0.5, schedule="cosine", device="cpu")
    assert same(mine, theirs)
    assert history.rows[0]["lr"] == 0.5 * factor(4)


def test_same_seed_same_bits_other_seed_other_bits():
    runs = [network() for _ in range(3)]
    histories = [learn(model, seed=seed) for model, seed in zip(runs, (0, 0, 1))]
    assert same(runs[0], runs[1])
    assert timeless(histories[0]) == timeless(histories[1])
    assert not same(runs[0], runs[2])


def test_batches_made_by_a_thread_give_the_same_bits():
    x, y = samples()
    first, second = network(), network()
    learn(first)
    learn(second, data=OnDemand(x[:ROWS], y[:ROWS]))
    assert same(first, second)
    assert not [t for t in threading.enumerate() if t.name.startswith("pellucid")]


@pytest.mark.parametrize("fails", [False, True])
def test_global_state_is_as_it_was(fails):
    """Generators, gradient mode, deterministic mode, module modes, signal handler: after success and after an error."""

    class StopError(Exception):
        pass

    def stop(event):
        torch.rand(3)
        if fails and event.kind == "step":
            raise StopError

    model = network()
    model.eval()
    model[0].train()
    modes = [m.training for m in model.modules()]
    state, handler = torch.get_rng_state(), signal.getsignal(signal.SIGINT)
    with torch.no_grad():
        if fails:
            with pytest.raises(StopError):
                learn(model, on_event=stop, show_every=0.0)
        else:
            learn(model, on_event=stop, show_every=0.0)
        assert not torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_deterministic_debug_mode() == 0
    assert torch.utils.deterministic.fill_uninitialized_memory is True
    assert [m.training for m in model.modules()] == modes
    assert signal.getsignal(signal.SIGINT) is handler
    assert all(p.grad is None for p in model.parameters())


def test_global_generator_does_not_matter():
    first, second = network(), network()
    learn(first)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        learn(second)
    assert same(first, second)


def test_separable_problem_in_float64():
    """F10: four points, a line between them: the loss goes to zero, in float64 throughout."""
    x = torch.tensor([[2.0, 1.0], [1.0, 2.0], [-2.0, -1.0], [-1.0, -2.0]])
    y = torch.tensor([1, 1, 0, 0])
    with seeds.scoped(0, "weights"):
        model = nn.Linear(2, 1)
    history = train(
        model,
        InMemory(x, y),
        objective("binary", y),
        epochs=300,
        batch=4,
        optimizer="SGD",
        optimizer_options={"momentum": 0.9},
        lr=5.0,
        precision="float64",
        device="cpu",
    )
    assert model.weight.dtype == torch.float64
    assert history.rows[-1]["train_loss"] < 1e-6
    assert history.rows[0]["train_loss"] > 1e-2


def test_regression_learns_targets_far_from_zero():
    """F1: values around 25 to 346 with the default rate; standardising happens in the objective."""
    x = torch.randn(300, 4, generator=seeds.generator(0, "x"))
    y = 150 + 60 * (x @ torch.tensor([1.0, -0.5, 0.25, 0.0]))
    with seeds.scoped(0, "weights"):
        model = nn.Linear(4, 1)
    aim = objective("regression", y)
    train(model, InMemory(x, y), aim, epochs=40, batch=30, lr=0.02, device="cpu")
    with torch.no_grad():
        found = aim.metrics(model(x), y)
    assert found["r2"] > 0.999
    assert found["rmse"] < 2.0


def test_clipping_limits_each_step():
    """Plain SGD at rate 1 moves by the gradient, so no step is longer than clip; without it some are."""
    x, y = samples()

    def longest(clip):
        model, steps = plain(), []
        last = [nn.utils.parameters_to_vector(model.parameters()).detach().clone()]

        def listen(event):
            if event.kind == "step":
                now = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
                steps.append(float((now - last[0]).norm()))
                last[0] = now

        train(
            model,
            InMemory(x, y),
            epochs=1,
            batch=64,
            optimizer="SGD",
            lr=1.0,
            clip=clip,
            on_event=listen,
            show_every=0.0,
            device="cpu",
        )
        assert len(steps) == 5
        return max(steps)

    assert longest(0.05) <= 0.05 * (1 + 1e-4)  # float32 rounding of the difference
    assert longest(None) > 0.1


def test_weight_decay_shrinks():
    def size(decay):
        model = network()
        learn(model, optimizer="AdamW", optimizer_options={}, lr=0.01, weight_decay=decay, epochs=2)
        return float(model[0].weight.detach().norm())

    assert size(3.0) < 0.9 * size(0.0)


def scripted(values, metric="accuracy"):
    left = iter(values)
    return lambda model: {metric: next(left)}


def test_early_stopping_keeps_the_best_epoch():
    """F16: best at epoch 2, patience 2: stops after epoch 4 with the weights of epoch 2; a tie is not better."""
    at = {}
    model = network()

    def listen(event):
        if event.kind == "epoch":
            at[event.epoch] = copy.deepcopy(model)

    history = learn(model, epochs=9, patience=2, validate=scripted([0.5, 0.8, 0.7, 0.8, 0.9]), on_event=listen)
    assert (history.stopped, history.best_epoch, history.best_value, history.best_metric) == ("early", 2, 0.8, "accuracy")
    assert len(history.rows) == 4
    assert same(model, at[2])
    assert not same(model, at[4])


def test_best_follows_the_direction_of_its_metric():
    history = learn(network(), validate=scripted([0.5, 0.3, 0.4, 0.6], "loss"), best="loss")
    assert (history.best_epoch, history.best_value, history.stopped) == (2, 0.3, "finished")


def test_without_validation_the_last_weights_stay():
    model, seen = network(), {}

    def listen(event):
        if event.kind == "epoch":
            seen[event.epoch] = copy.deepcopy(model)

    history = learn(model, validate=None, best="loss", on_event=listen)
    assert (history.best_epoch, history.best_metric) == (None, None)
    assert same(model, seen[4])


def test_metric_that_is_always_nan_keeps_the_last_weights():
    model = network()
    history = learn(model, validate=scripted([float("nan")] * 4, "r2"), best="r2")
    assert history.best_epoch is None
    assert not same(model, network())


def test_frozen_parameters_stay():
    model = network()
    model[0].requires_grad_(False)
    before = copy.deepcopy(model[0])
    learn(model)
    assert same(model[0], before)
    assert not same(model[4], network()[4])


def test_single_row_left_over_joins_the_last_step():
    """Batch normalisation cannot train on one row."""
    assert [len(piece) for piece in cut(torch.arange(65), 32)] == [32, 33]
    assert [len(piece) for piece in cut(torch.arange(66), 32)] == [32, 32, 2]
    assert [len(piece) for piece in cut(torch.arange(1), 32)] == [1]
    x, y = samples()
    history = learn(network(), data=InMemory(x[:65], y[:65]), epochs=1)
    assert history.rows[0]["step"] == 2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_resumes(precision, tmp_path):
    """Weights stay float32, the forward pass does not."""
    kinds = set()

    def network_watched():
        model = network()
        model[0].register_forward_hook(lambda module, inputs, output: kinds.add((module.training, output.dtype)))
        return model

    whole, parts = network_watched(), network_watched()
    history = learn(whole, precision=precision)
    assert (True, getattr(torch, precision)) in kinds
    assert whole[0].weight.dtype == torch.float32
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]
    path = tmp_path / "c.safetensors"
    stopped_at(parts, 10, path, precision=precision)
    again = network()
    learn(again, precision=precision, checkpoint=path, resume=True)
    assert same(whole, again)


def test_scale_of_float16_is_taken_up(tmp_path, monkeypatch):
    """It doubles after every four good steps here, so a resumed run that began anew would end elsewhere."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, growth_interval=4, init_scale=8.0))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    learn(network(), precision="float16", checkpoint=whole)
    stopped_at(network(), 10, parts, precision="float16")
    learn(network(), precision="float16", checkpoint=parts, resume=True)
    scalers = [Checkpoint.load(path).facts["scaler"] for path in (whole, parts)]
    assert scalers[0] == scalers[1]
    assert scalers[0]["scale"] == 8.0 * 2**7


# ------------------------------------------------------------------------------------------------ resume


class CutError(Exception):
    """A kill, in process."""


def stopped_at(model, step, path, kind="step", **options):
    """Save after every step, and die when ``step`` steps are done but the last is not saved yet."""

    def listen(event):
        if event.kind == kind and event.step == step:
            raise CutError

    with pytest.raises(CutError):
        learn(model, checkpoint=path, save_every=0.0, on_event=listen, show_every=0.0, **options)


@pytest.mark.parametrize("step", [2, 7, 8, 10, 15, 28])
def test_resume_is_bit_identical(step, tmp_path):
    """Dropout, augmentation, momentum, schedule, batch norm, best weights: cut at any step, mid-epoch or at an epoch's end."""
    whole = network()
    expected = learn(whole)
    path = tmp_path / "state" / "checkpoint.safetensors"
    stopped_at(network(), step, path)
    place = Checkpoint.load(path).facts["place"]
    assert place["epoch"] * 7 + place["step"] == step - 1
    again = network(5)
    history = learn(again, checkpoint=path, resume=True)
    assert same(again, whole)
    assert timeless(history) == timeless(expected)
    assert (history.best_epoch, history.best_value) == (expected.best_epoch, expected.best_value)
    assert all(row["seconds"] > 0 for row in history.rows)


def test_resume_between_the_last_step_and_the_validation(tmp_path):
    whole, again, path = network(), network(), tmp_path / "c.safetensors"
    expected = learn(whole)
    stopped_at(network(), 14, path, kind="epoch")
    assert Checkpoint.load(path).facts["place"]["step"] == 7
    assert timeless(learn(again, checkpoint=path, resume=True)) == timeless(expected)
    assert same(again, whole)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_resumes(name, tmp_path):
    """What each optimiser remembers is stored: in float64, where some keep float32 factors beside the weights."""
    options = {
        "optimizer": name,
        "optimizer_options": {},
        "precision": "float64",
        "lr": 0.01,
        "schedule": "cosine",
        "epochs": 2,
    }
    whole, again, path = network(), network(), tmp_path / "c.safetensors"
    learn(whole, **options)
    stopped_at(network(), 5, path, **options)
    learn(again, checkpoint=path, resume=True, **options)
    assert same(whole, again)


def test_resume_with_early_stopping(tmp_path):
    values = [0.5, 0.8, 0.7, 0.6, 0.9]
    whole, again, path = network(), network(), tmp_path / "c.safetensors"
    expected = learn(whole, epochs=6, patience=2, validate=scripted(values))
    stopped_at(network(), 24, path, epochs=6, patience=2, validate=scripted(values))
    history = learn(again, epochs=6, patience=2, validate=scripted(values[3:]), checkpoint=path, resume=True)
    assert history.stopped == expected.stopped == "early"
    assert timeless(history) == timeless(expected)
    assert same(whole, again)


def test_resume_of_a_finished_training_gives_its_result(tmp_path):
    whole, again, path = network(), network(3), tmp_path / "c.safetensors"
    expected = learn(whole, checkpoint=path)
    written = path.read_bytes()
    assert learn(again, checkpoint=path, resume=True) == expected
    assert same(whole, again)
    assert path.read_bytes() == written


def test_resume_without_a_checkpoint_begins(tmp_path):
    whole, again = network(), network()
    learn(whole)
    learn(again, checkpoint=tmp_path / "new" / "c.safetensors", resume=True)
    assert same(whole, again)


def test_more_epochs_after_the_end_with_a_constant_schedule(tmp_path):
    whole, again, path = network(), network(), tmp_path / "c.safetensors"
    expected = learn(whole, epochs=4, schedule="constant")
    learn(network(), epochs=2, schedule="constant", checkpoint=path)
    assert timeless(learn(again, epochs=4, schedule="constant", checkpoint=path, resume=True)) == timeless(expected)
    assert same(whole, again)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 16}, "batch 32, not 16"),
        ({"seed": 3}, "seed 0, not 3"),
        ({"epochs": 5}, "epochs 4, not 5"),
        ({"optimizer": "Adam", "optimizer_options": {}}, "optimizer SGD, not Adam"),
    ],
)
def test_resume_refuses_other_settings(change, words, tmp_path):
    path = tmp_path / "c.safetensors"
    stopped_at(network(), 5, path)
    written, model = path.read_bytes(), network(5)
    with pytest.raises(InputError, match=words) as caught:
        learn(model, checkpoint=path, resume=True, **change)
    assert str(path) in str(caught.value)
    assert "resume=False" in caught.value.cure
    assert same(model, network(5))
    assert path.read_bytes() == written


# ------------------------------------------------------------------------------------------------ Ctrl-C


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    """X: SIGINT in step 10: it is finished and saved, and the resumed run ends in the undisturbed run's bits."""
    whole, parts, again, path, ends = network(), network(), network(), tmp_path / "c.safetensors", []
    expected = learn(whole)

    def listen(event: Event):
        if event.kind == "step" and event.step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        if event.kind == "end":
            ends.append(event.message)

    handler = signal.getsignal(signal.SIGINT)
    history = learn(parts, checkpoint=path, on_event=listen, show_every=0.0)
    assert history.stopped == "interrupted"
    assert Checkpoint.load(path).facts["place"]["step"] == 3
    assert len(ends) == 1
    assert "after step 10 of 28" in ends[0]
    assert "resume=True" in ends[0]
    assert signal.getsignal(signal.SIGINT) is handler
    assert timeless(learn(again, checkpoint=path, resume=True)) == timeless(expected)
    assert same(whole, again)


def test_second_ctrl_c_raises_at_once():
    def listen(event: Event):
        if event.kind == "step":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        learn(network(), on_event=listen, show_every=0.0)
    assert signal.getsignal(signal.SIGINT) is handler


def test_training_outside_the_main_thread_leaves_signals_alone():
    model, seen = network(), []
    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(
        target=lambda: learn(model, epochs=1, on_event=lambda e: seen.append(signal.getsignal(signal.SIGINT)))
    )
    thread.start()
    thread.join()
    assert seen
    assert all(found is handler for found in seen)


# ------------------------------------------------------------------------------------------------ bad input


def test_diverging_loss_names_the_place_and_gives_the_weights_back():
    x, _ = samples()
    model = nn.Sequential(plain(), nn.Linear(3, 1))
    before = copy.deepcopy(model)
    with pytest.raises(DivergedError) as caught:
        train(model, InMemory(x, x[:, 0]), epochs=3, batch=64, optimizer="SGD", lr=1e30, device="cpu")
    assert isinstance(caught.value, PellucidError)
    assert "loss became" in caught.value.what
    assert "epoch 1, step " in str(caught.value)
    assert "lr 1e+30" in str(caught.value)
    assert "Lower lr" in caught.value.cure
    assert "clip" in caught.value.cure
    assert "weights of the start" in caught.value.cure
    assert same(model, before)


def test_divergence_in_a_later_epoch_restores_the_best_weights():
    model, kept = network(), {}

    def listen(event):
        if event.kind == "epoch":
            kept[event.epoch] = copy.deepcopy(model)

    def explode(step):
        return 1.0 if step < 14 else 1e30

    with pytest.raises(DivergedError, match=r"epoch 3, step \d of 7") as caught:
        learn(model, schedule=explode, clip=None, validate=scripted([0.9, 0.8, 0.7]), on_event=listen, augment=None)
    assert "weights of epoch 1 back" in caught.value.cure
    assert same(model, kept[1])


def test_nan_inputs_are_named_as_the_cause():
    x, y = samples()
    x = x.clone()
    x[5, 3] = float("nan")
    with pytest.raises(DivergedError, match="inputs of this step hold NaN"):
        train(plain(), InMemory(x, y), epochs=1, device="cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"clip": 0}, "clip is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"precision": "float8"}, "Did you mean 'float"),
        ({"optimizer": "adamw"}, "Did you mean 'AdamW'"),
        ({"optimizer_options": {"momentun": 0.9}}, "Did you mean 'momentum'"),
        ({"schedule": "one_cicle"}, "Did you mean 'one_cycle'"),
        ({"schedule_options": {"warmpu": 0.1}}, "Did you mean 'warmup'"),
        ({"best": "acuracy"}, "Did you mean 'accuracy'"),
        ({"best": "auc"}, "which validate does not return"),
        ({"validate": None}, "need validation, and there is none"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not available"),
    ],
)
def test_wrong_options_are_refused(options, words, tmp_path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"what was there")
    with pytest.raises(InputError, match=words) as caught:
        learn(network(), checkpoint=path, **options)
    assert caught.value.cure
    assert path.read_bytes() == b"what was there"


def test_metric_with_a_taken_name_is_refused():
    with pytest.raises(InputError, match="metric called 'lr'"):
        learn(network(), validate=lambda model: {"accuracy": 1.0, "lr": 2.0})


def test_nothing_to_learn_from_or_to_learn():
    x, y = samples()
    with pytest.raises(InputError, match="rows in data is 0"):
        train(plain(), InMemory(x[:0], y[:0]), objective("multiclass", classes=3))
    with pytest.raises(InputError, match="no parameter to train") as caught:
        learn(network().requires_grad_(False))
    assert "requires_grad_" in caught.value.cure


def test_model_that_does_not_fit_the_data():
    x, y = samples()
    with pytest.raises(InputError, match=r"cannot take inputs of shape \(2, 9\)"):
        train(plain(), InMemory(x[:, :9], y), device="cpu")
    with pytest.raises(InputError, match=r"returns shape \(2, 3\) for 2 rows, 'multiclass' needs \(2, 5\)") as caught:
        train(plain(), InMemory(x, y + 2), device="cpu")
    assert "5 outputs" in caught.value.cure


def test_wrong_target_in_batches_made_on_demand():
    """Without an attribute y each batch is checked."""
    x, y = samples()
    y = y.clone()
    y[7] = 9
    with pytest.raises(InputError, match="class number 9"):
        train(plain(), OnDemand(x, y), objective("multiclass", classes=3), device="cpu")
    with pytest.raises(InputError, match="no attribute y"):
        train(plain(), OnDemand(x, y), "multiclass", device="cpu")


def test_checkpoint_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    with pytest.raises(InputError, match="cannot make the folder"):
        learn(network(), checkpoint=blocked / "state" / "c.safetensors")
    assert blocked.read_text() == "mine"


def test_augmentation_is_seeded_by_the_step():
    """Same seed, same noise; and it is really applied."""
    with_noise, again, without = network(), network(), network()
    learn(with_noise, augment=noisy)
    learn(again, augment=noisy)
    learn(without, augment=None)
    assert same(with_noise, again)
    assert not same(with_noise, without)
