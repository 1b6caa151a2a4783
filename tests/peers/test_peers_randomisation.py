"""Randomisation checks beside Quantus: the same numbers from the same maps, and where it goes another way or wrong.

What Quantus explains is recorded and handed to our check, so that both compare the very same maps.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid
from pellucid.quality.entropy import efficient_randomisation
from pellucid.quality.maps import Maps
from pellucid.quality.randomisation import (
    cascading_randomisation,
    fully_randomised,
    independent_randomisation,
    smoothed_randomisation,
)

QUIET = {"disable_warnings": True}
LABELS = np.array([0, 2, 1, 2])


class Network(nn.Module):
    """One channel, so that relevance and map are the same; the two middle layers are of the same kind and size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.one, self.two = nn.Linear(27, 27), nn.Linear(27, 27)
        self.head = nn.Linear(27, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.conv.weight)  # Quantus predicts in single precision
        a = nn.functional.avg_pool2d(torch.tanh(self.conv(x)), 4).flatten(1)
        return self.head(torch.tanh(self.two(torch.tanh(self.one(a)))))


def network() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network().double().eval()


def images() -> Tensor:
    return torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Recorder:
    """An ``explain_func`` that keeps what it is asked and what it answers; ``replay`` gives the answers again, in order."""

    def __init__(self, explain=pellucid.explain_func, **options) -> None:
        self.explain, self.options = explain, options or {"method": "gradient"}
        self.inputs: list[np.ndarray] = []
        self.maps: list[np.ndarray] = []
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, model, inputs, targets, **given):
        inputs = torch.as_tensor(inputs).double()
        self.inputs.append(inputs.numpy())
        self.maps.append(np.asarray(self.explain(model, inputs, targets, **self.options)))
        self.states.append({name: value.clone() for name, value in model.state_dict().items()})
        return self.maps[-1].copy()

    def replay(self, first: int, original: int = 0):
        """Our callable of maps: the first ``original`` answers, then those from number ``first`` on."""
        answers = iter(self.maps[:original] + self.maps[first:])
        return lambda *state: {"m": torch.from_numpy(next(answers))[:, 0]}


def measured(metric, recorder, **given):
    """Quantus' scores for the network and the images."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what Quantus draws from
    known = {"model": network(), "x_batch": images().numpy(), "y_batch": LABELS, "a_batch": None, "device": "cpu"}
    return metric(**known | {"explain_func": recorder} | given)


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_parameter_randomisation(order):
    """Layers, their order and the rank correlation of sizes after each."""
    quantus = pytest.importorskip("quantus")
    recorder = Recorder()
    scores = measured(quantus.MPRT(layer_order=order, **QUIET), recorder)
    replay = recorder.replay(1)  # the first is made a second time
    if order == "independent":
        found = independent_randomisation(network(), replay)["m"]
        assert found.layers[::-1] == tuple(scores)[1:]  # from the bottom in Quantus
    else:
        found = cascading_randomisation(network(), replay, order=order)["m"]
        assert found.layers == tuple(scores)[1:]
    theirs = np.array(list(scores.values()))[1:]
    np.testing.assert_allclose(found.similarity["rank_absolute"], theirs.mean(1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.final["rank_absolute"], theirs[found.decisive], rtol=0, atol=1e-9)
    assert theirs[-1].max() < 0.99


def test_signed_rank_correlation():
    quantus = pytest.importorskip("quantus")
    recorder = Recorder()
    scores = measured(quantus.MPRT(layer_order="top_down", abs=False, **QUIET), recorder)
    found = cascading_randomisation(network(), recorder.replay(1))["m"]
    theirs = np.array(list(scores.values()))[1:]
    np.testing.assert_allclose(found.similarity["rank"], theirs.mean(1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.final["rank"], theirs[-1], rtol=0, atol=1e-9)
    assert (theirs < 0).any()


def smoothed(quantus, monkeypatch, recorder, **options):
    """Scores of its smoothed variant, and a look at each explanation: it calls its own function, never ``explain_func``."""
    monkeypatch.setattr(quantus, "explain", recorder)
    return measured(quantus.SmoothMPRT(**options, **QUIET), recorder)


def test_smoothed_randomisation(monkeypatch):
    """50 inputs, of which the last is the sample itself, noise of a tenth of its range, from the bottom."""
    quantus = pytest.importorskip("quantus")
    recorder, draws = Recorder(), 12
    scores = smoothed(quantus, monkeypatch, recorder, nr_samples=draws)
    states = [recorder.inputs[i : i + draws] for i in range(draws, len(recorder.inputs), draws)]
    x = images()
    assert all(np.array_equal(state[-1], x.numpy()) for state in states)
    noise = np.concatenate([np.stack(state[:-1]) - x.numpy() for state in states])
    spread = (x.flatten(1).amax(1) - x.flatten(1).amin(1)).numpy()
    np.testing.assert_allclose(noise.std((0, 2, 3, 4)), 0.1 * spread, rtol=0.05)
    found = smoothed_randomisation(network(), recorder.replay(2 * draws, draws), x, samples=draws)["m"]
    theirs = np.array(list(scores.values()))[1:]
    assert (found.layers, found.order) == (tuple(scores)[1:], quantus.SmoothMPRT(**QUIET).layer_order)
    np.testing.assert_allclose(found.similarity["rank_absolute"], theirs.mean(1), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.final["rank_absolute"], theirs[-1], rtol=0, atol=1e-9)
    assert quantus.SmoothMPRT(**QUIET).nr_samples == 50


def test_efficient_randomisation():
    """Relative rise of the entropy of a histogram of 100 bins, signed and unscaled."""
    quantus = pytest.importorskip("quantus")
    recorder = Recorder()
    scores = measured(quantus.EfficientMPRT(**QUIET), recorder, softmax=True)
    original = recorder.replay(0)()
    found = efficient_randomisation(network(), recorder.replay(len(recorder.maps) - 1), original=original)["m"]
    np.testing.assert_allclose(found.rise, scores, rtol=0, atol=1e-12)
    assert np.abs(scores).max() > 0.01


# --- faults -----------------------------------------------------------------------------------------------------------


def test_quantus_draws_every_layer_from_one_seed():
    """Two layers of a kind become the same layer. Ours differ, and none depends on which came before."""
    quantus = pytest.importorskip("quantus")
    recorder = Recorder()
    measured(quantus.MPRT(layer_order="top_down", **QUIET), recorder)
    last = recorder.states[-1]
    assert torch.equal(last["one.weight"], last["two.weight"])
    ours = fully_randomised(network())
    assert not torch.equal(ours.one.weight, ours.two.weight)


def test_quantus_seeds_the_generator_of_torch():
    """Whatever draws after its metric draws the same numbers again."""
    quantus = pytest.importorskip("quantus")
    known = {"model": network(), "x_batch": images().numpy(), "y_batch": LABELS, "a_batch": None, "device": "cpu"}
    after = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        quantus.MPRT(**QUIET)(explain_func=Recorder(), **known)
        after.append(torch.rand(3))
    assert torch.equal(*after)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    cascading_randomisation(network(), Maps(network(), images(), "gradient"))
    assert torch.equal(torch.get_rng_state(), state)


def test_quantus_yields_the_same_module_every_time():
    """A list of its randomised models holds the fully random one as often as there are layers."""
    quantus = pytest.importorskip("quantus")
    wrapped = quantus.helpers.utils.get_wrapped_model(network(), channel_first=True, softmax=False, device="cpu")
    models = [model for _, model in wrapped.get_random_layer_generator(order="top_down", seed=0)]
    assert len(models) == 4
    assert all(model is models[0] for model in models)
    alone = [model for _, model in wrapped.get_random_layer_generator(order="independent", seed=0)]
    assert not torch.equal(alone[0].head.weight, network().head.weight)  # the last one's layer, and nothing of its own
    seen: list[nn.Module] = []

    def keep(state):
        seen.append(state)
        return {"m": torch.arange(8.0).view(2, 4)}

    independent_randomisation(network(), keep)
    changed = [{n for n, p in m.named_parameters() if not torch.equal(p, network().get_parameter(n))} for m in seen[1:]]
    assert changed == [{f"{layer}.weight", f"{layer}.bias"} for layer in ("head", "two", "one", "conv")]


class WithToken(Network):
    """A parameter of the outermost module, and attention, neither of which has ``reset_parameters``."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(27))
        self.attention = nn.MultiheadAttention(27, 3, batch_first=True)


def test_quantus_leaves_parameters_without_reset_parameters_as_they_are():
    """So its fully random model still has learned weights: class tokens, positions, attention."""
    quantus = pytest.importorskip("quantus")
    model, recorder = WithToken().double().eval(), Recorder()
    measured(quantus.MPRT(layer_order="top_down", **QUIET), recorder, model=model)
    last, ours = recorder.states[-1], fully_randomised(model).state_dict()
    for name in ("token", "attention.in_proj_weight"):
        assert torch.equal(last[name], model.state_dict()[name])
        assert not torch.equal(ours[name], model.state_dict()[name])


def test_quantus_explains_the_model_itself_again():
    """With maps given it makes them once more, without maps twice; the efficient variant explains two states three times."""
    quantus = pytest.importorskip("quantus")
    x, layers = images(), 4
    recorder = Recorder()
    measured(quantus.MPRT(**QUIET), recorder)
    assert len(recorder.maps) == 2 + layers
    given = np.array(recorder.maps[0])
    recorder = Recorder()
    measured(quantus.MPRT(**QUIET), recorder, a_batch=given)
    assert len(recorder.maps) == 1 + layers
    recorder = Recorder()
    measured(quantus.EfficientMPRT(**QUIET), recorder, softmax=True)
    assert len(recorder.maps) >= 3
    calls = []
    model = network()
    made = Maps(model, x, "gradient")

    def counted(state):
        calls.append(state)
        return made(state)

    cascading_randomisation(model, counted)
    assert len(calls) == 1 + layers
    calls.clear()
    cascading_randomisation(model, counted, original=made.original)
    assert len(calls) == layers
    calls.clear()
    efficient_randomisation(model, counted, original=made.original)
    assert len(calls) == 1


def test_quantus_smoothed_check_never_calls_the_method_that_it_is_given():
    """Whatever ``explain_func`` is, it judges captum's Saliency of the model, and says nothing."""
    quantus = pytest.importorskip("quantus")
    scores = []
    for method in ("gradient_times_input", "edge_detector"):
        recorder = Recorder(method=method)
        scores.append(measured(quantus.SmoothMPRT(nr_samples=3, **QUIET), recorder))
        assert not recorder.maps
    assert scores[0] == scores[1]
    assert np.array(list(scores[0].values())).max() < 0.999
    maps = Maps(network(), images(), ["gradient_times_input", "edge_detector"])
    ours = smoothed_randomisation(network(), maps, images(), samples=3)
    assert ours["edge_detector"].kept > ours["gradient_times_input"].kept + 0.3


def test_quantus_smooths_every_state_with_other_noise(monkeypatch):
    """A map that never looks at the model should be as it was. Its noise is new for each state, from numpy's generator."""
    quantus = pytest.importorskip("quantus")
    recorder = Recorder(lambda model, inputs, targets, **options: (inputs**3).numpy())
    scores = smoothed(quantus, monkeypatch, recorder, nr_samples=3, noise_magnitude=0.3)
    assert np.max(scores["original"]) < 0.99  # even of the model beside itself
    assert np.array(list(scores.values())).max() < 0.99
    made = smoothed_randomisation(network(), lambda state, x: {"m": x[:, 0] ** 3}, images(), samples=3, noise=0.3)["m"]
    np.testing.assert_allclose(made.similarity["rank_absolute"], 1, rtol=0, atol=1e-12)
    assert not made.passed


def test_quantus_fails_on_a_constant_map():
    """One of a batch (a CAM without evidence) and it raises, or its mean is not a number. Ours leaves it out and says so."""
    quantus = pytest.importorskip("quantus")

    def partly(model, inputs, targets, **options):
        found = pellucid.explain_func(model, inputs, targets, method="gradient").copy()
        found[1] = 0.5
        return found

    with pytest.raises(AttributeError, match="'float' object has no attribute 'shape'"):
        measured(quantus.MPRT(**QUIET), Recorder(partly))
    rise = measured(quantus.EfficientMPRT(**QUIET), Recorder(partly), softmax=True)
    assert np.isnan(rise).tolist() == [False, True, False, False]
    original = torch.from_numpy(partly(network(), images(), torch.from_numpy(LABELS)))[:, 0]
    maps = Maps(network(), images(), "gradient", target=torch.from_numpy(LABELS))
    found = cascading_randomisation(network(), lambda state: {"m": maps(state)["gradient"]}, original={"m": original})["m"]
    assert np.isfinite(found.kept)
    assert "25 % of the original maps are constant and left out" in found.verdict
    flat = Maps(network(), images(), "constant_map")
    for check in (cascading_randomisation, efficient_randomisation):
        assert "constant" in check(network(), flat)["constant_map"].verdict
