"""Q2: cascading and independent randomisation pass what follows the model and fail what does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks import Dense, DenseHead, GapLinear, Residual, Transformer, network, samples
from pellucid import explain
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.quality.maps import Maps
from pellucid.quality.randomisation import (
    OWN,
    Randomisation,
    cascading_randomisation,
    fully_randomised,
    independent_randomisation,
    randomisable_layers,
    randomise,
)
from pellucid.quality.similarity import SIMILARITIES


def maps(methods, x, target):
    return lambda model: {n: e.map() for n, e in explain(model, x, methods, target=target).items()}


def smooth(n, seed=0):
    """Inputs with structure, so that the edge detector has something to find."""
    coarse = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear")


def test_edge_detector_fails_and_gradient_passes():
    """X25: the edge detector never looks at the model, so randomising the model cannot change it."""
    x = smooth(12)
    model = network(DenseHead)
    found = cascading_randomisation(model, maps(["edge_detector", "gradient"], x, 1), seed=0)
    edges, gradient = found["edge_detector"], found["gradient"]
    assert np.allclose(edges.similarity["ssim"], 1)
    assert np.allclose(edges.similarity["rank"], 1)
    assert edges.kept == pytest.approx(1)
    assert not edges.passed
    assert "does not depend" in edges.verdict
    assert gradient.passed
    assert gradient.kept < edges.kept
    assert gradient.layers[0] == "head.4"  # from the output down
    assert gradient.layers[-1] == "features.0"


def test_model_untouched_and_seeded():
    model, x = network(Residual), samples(Residual, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    generator = torch.get_rng_state()
    runs = [cascading_randomisation(model, maps(["gradient"], x, 0), seed=s)["gradient"].similarity["rank"] for s in (0, 0, 1)]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_every_layer_gets_its_own_draw():
    """Quantus re-seeds identically per layer (METHODS F): two equal layers must not become equal."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    for name in randomisable_layers(model):
        randomise(model.get_submodule(name), 0, name)
    assert not torch.equal(model[0].weight, model[1].weight)


def test_a_module_without_its_own_initialisation_is_randomised_too():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.s = nn.Parameter(torch.linspace(1, 2, 6))

    scale = Scale()
    before = scale.s.clone()
    randomise(scale, 0, "scale")
    assert not torch.equal(before, scale.s)


def test_refusals():
    with pytest.raises(UnsupportedError, match="no parameters"):
        cascading_randomisation(nn.ReLU(), lambda m: {"m": torch.rand(2, 3, 3)})
    with pytest.raises(UnsupportedError, match="too few"):
        cascading_randomisation(network(GapLinear), maps(["gradient"], samples(GapLinear, 1), 0))


@pytest.mark.parametrize(
    ("end", "passed", "words"),
    [
        (0.1, True, "passes: "),
        (0.4, True, "passes narrowly"),
        (0.7, False, "depends more on the input"),
        (1.0, False, "does not depend"),
    ],
)
def test_verdicts_say_what_was_measured(end, passed, words):
    """Chance 0.1: from there to 1 is the whole way."""
    found = Randomisation(
        ("a",), {k: np.array([end]) for k in ("ssim", "rank_absolute")}, dict.fromkeys(("ssim", "rank_absolute"), 0.1)
    )
    assert found.passed is passed
    assert words in found.verdict
    assert f"{100 * max(0, (end - 0.1) / 0.9):.0f} %" in found.verdict


class Heads(nn.Module):
    """A linear score of two pixels; what it "explains" is written down: the weights of its layers side by side."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)


def weights(model):
    return {"m": torch.stack([model.first.weight.detach(), model.second.weight.detach()])}


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of the parameters and buffers that differ."""
    other = after.state_dict()
    return {name for name, value in before.state_dict().items() if not torch.equal(value, other[name])}


def watched(model, check, **options):
    """What has changed at each step."""
    seen = []

    def look(state):
        seen.append(changed(model, state))
        return {"m": torch.arange(8.0).view(2, 4)}

    found = check(model, look, **options)["m"]
    return found, seen[1:] if "original" not in options else seen


def test_a_cascade_goes_on_and_independent_steps_start_anew():
    model = Heads()
    both = {"first.weight", "second.weight"}
    down, steps = watched(model, cascading_randomisation)
    assert (down.layers, down.order, steps) == (("second", "first"), "top_down", [{"second.weight"}, both])
    up, steps = watched(model, cascading_randomisation, order="bottom_up")
    assert (up.layers, up.order, steps) == (("first", "second"), "bottom_up", [{"first.weight"}, both])
    alone, steps = watched(model, independent_randomisation)
    assert (alone.layers, alone.order, steps) == (("second", "first"), "independent", [{"second.weight"}, {"first.weight"}])


def test_both_orders_end_with_the_same_model_and_independent_layers_are_drawn_as_in_the_cascade():
    """Each layer's numbers depend on the seed and its name, so what is random is the same model whichever way it came about."""
    model = Heads()
    down, up = (cascading_randomisation(model, weights, order=order)["m"] for order in ("top_down", "bottom_up"))
    alone = independent_randomisation(model, weights)["m"]
    for kind in down.similarity:
        assert down.similarity[kind][-1] == up.similarity[kind][-1]
    np.testing.assert_array_equal(down.final["rank"], up.final["rank"])
    shuffled = fully_randomised(model)
    expected = SIMILARITIES["rank"](weights(model)["m"], weights(shuffled)["m"])
    np.testing.assert_allclose(down.final["rank"], expected, rtol=0, atol=1e-12)
    # "second" alone leaves the map of "first" as it is, and the other way round
    np.testing.assert_allclose(alone.similarity["rank"], [(1 + expected[1]) / 2, (1 + expected[0]) / 2], atol=1e-12)


def test_the_values_of_the_images_are_behind_the_number():
    model, x = network(GapLinear), smooth(6)
    found = cascading_randomisation(model, maps(["gradient"], x, 1))["gradient"]
    assert found.kept_values.shape == (6,)
    assert found.kept_values.mean() == pytest.approx(found.kept, abs=1e-12)
    for kind, values in found.final.items():
        assert values.mean() == pytest.approx(found.similarity[kind][-1], abs=1e-12)
    assert set(found.similarity) == {"ssim", "rank", "rank_absolute", "hog"}
    facts = found.to_json()
    assert facts["order"] == "top_down"
    assert facts["kept_values"] == pytest.approx(found.kept_values)


def test_the_original_maps_are_made_once_or_not_at_all():
    model, calls = network(GapLinear), []
    x = smooth(3)
    made = Maps(model, x, ["gradient"])

    def counted(state):
        calls.append(state is model)
        return made(state)

    layers = len(randomisable_layers(model))
    first = cascading_randomisation(model, counted)["gradient"]
    assert calls == [True] + layers * [False]
    calls.clear()
    second = independent_randomisation(model, counted, original=made.original)["gradient"]
    assert calls == layers * [False]
    assert second.chance == first.chance


def test_maps_keep_the_classes_that_the_model_named():
    """Another state of the model would be explained for other classes."""
    model, x = network(GapLinear), samples(GapLinear, 6)
    made = Maps(model, x, {"gradient": {}})
    target = made.explanations["gradient"].target
    assert torch.equal(target, model(x).argmax(1))
    other = fully_randomised(model)
    assert not torch.equal(other(x).argmax(1), target)
    assert torch.equal(made(other)["gradient"], explain(other, x, "gradient", target=target)["gradient"].map())
    assert torch.equal(made(model, 2 * x)["gradient"], explain(model, 2 * x, "gradient", target=target)["gradient"].map())


def test_layers_by_name_and_whole_blocks():
    model = network(DenseHead)
    found, steps = watched(model, cascading_randomisation, layers=["head", "features.0"])
    assert found.layers == ("head", "features.0")
    assert steps[0] == {"head.1.weight", "head.1.bias", "head.4.weight", "head.4.bias"}
    assert found.whole
    part, steps = watched(model, independent_randomisation, layers=["head.1"])
    assert steps == [{"head.1.weight", "head.1.bias"}]
    assert not part.whole
    assert cascading_randomisation(model, maps(["gradient"], smooth(3), 1), layers=["head.4"])["gradient"].verdict.count(
        "with 1 layer random"
    )
    everything, steps = watched(model, cascading_randomisation, layers=[""])
    assert (everything.layers, everything.whole) == ((OWN,), True)
    assert changed(model, fully_randomised(model)) == steps[0] == set(model.state_dict())


@pytest.mark.parametrize("check", [cascading_randomisation, independent_randomisation])
def test_unknown_layers_are_named(check):
    made = maps(["gradient"], smooth(2), 1)
    with pytest.raises(InputError, match="no layer 'head.5' that has parameters.*Did you mean 'head.[14]'"):
        check(network(DenseHead), made, layers=["head.5"])
    with pytest.raises(InputError, match="no layer 'head.2'"):  # a ReLU
        check(network(DenseHead), made, layers=["head.4", "head.2"])
    for empty in ([], "head"):
        with pytest.raises(InputError, match="list of names"):
            check(network(DenseHead), made, layers=empty)
    with pytest.raises(InputError, match="order is 'up'"):
        cascading_randomisation(network(DenseHead), made, order="up")


class Tied(nn.Module):
    """One weight under two names, of layers with different initialisations, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.embed, self.middle, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)
        self.again = self.middle
        self.head.weight = self.embed.weight


def test_shared_weights_are_drawn_once():
    model = Tied()
    values = []

    def look(state):
        assert state.head.weight is state.embed.weight
        values.append(state.embed.weight.detach().clone())
        return {"m": torch.arange(8.0).view(2, 4)}

    down = cascading_randomisation(model, look)["m"]
    assert down.layers == ("head", "middle")  # of the embedding nothing is left to draw
    assert not torch.equal(values[1], values[0])
    assert torch.equal(values[2], values[1])
    assert values[1].abs().max() <= 0.5  # as the linear layer draws, uniform within 1 / sqrt(4)
    values.clear()
    up = cascading_randomisation(model, look, order="bottom_up")["m"]
    assert up.layers == ("embed", "middle", "head")  # the head still has its bias
    assert values[1].abs().max() > 0.5  # as the embedding draws, normal
    assert all(torch.equal(v, values[1]) for v in values[2:])
    _, steps = watched(model, independent_randomisation)
    assert steps[0] == {"embed.weight", "head.weight", "head.bias"}
    assert steps[1] == {"middle.weight", "middle.bias", "again.weight", "again.bias"}


def test_what_becomes_of_a_batch_norm():
    """Its own parameters and its running statistics go back to where training starts; without parameters they stay."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    with torch.no_grad():
        for norm in model[1:]:
            norm.running_mean.uniform_(1, 2), norm.running_var.uniform_(2, 3)
        model[1].weight.uniform_(2, 3)
    shuffled = fully_randomised(model)
    assert (shuffled[1].running_mean == 0).all()
    assert (shuffled[1].running_var == 1).all()
    assert (shuffled[1].weight == 1).all()
    assert torch.equal(shuffled[2].running_mean, model[2].running_mean)
    assert (model[1].running_mean >= 1).all()


class Fixed(nn.Module):
    """Its own initialisation is the same every time, and leaves one parameter out."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Parameter(torch.ones(5)), nn.Parameter(torch.linspace(0, 1, 5))

    def reset_parameters(self):
        self.one.data.fill_(1)
        nn.init.ones_(self.one)


def test_parameters_that_the_own_initialisation_does_not_reach_are_drawn_too():
    shuffled = fully_randomised(Fixed())
    assert (shuffled.one == 1).all()
    assert not torch.equal(shuffled.other, Fixed().other)
    weighted = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
    assert (fully_randomised(weighted)(torch.ones(1, 5)) != weighted(torch.ones(1, 5))).all()


def test_parameters_of_the_outermost_module_itself():
    model, x = network(Transformer), samples(Transformer, 2)
    found = cascading_randomisation(model, maps(["gradient"], x, 1))["gradient"]
    assert found.layers[-1] == OWN
    assert {"token", "position"} <= changed(model, fully_randomised(model))


class Same(nn.Module):
    """A linear score: its gradient is the same for every sample, and it is nothing but the model."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x.flatten(1))


@pytest.mark.parametrize("check", [cascading_randomisation, independent_randomisation])
def test_trivial_maps_fail_with_the_reason(check):
    """Nothing about the model is in any of them; two are even perfect at being like themselves or like nothing."""
    model, x = network(DenseHead), smooth(8)
    found = check(model, maps(["edge_detector", "constant_map", "random_map", "gradient"], x, 1))
    assert {name for name, r in found.items() if r.passed} == {"gradient"}
    assert (
        found["constant_map"].verdict == "fails: 100 % of the maps are constant, so nothing in them can change with the model"
    )
    for name in ("edge_detector", "random_map"):
        assert "does not depend on what the model has learned (100 %" in found[name].verdict
        assert found[name].kept_values == pytest.approx(1)
    assert all(np.isfinite(v).all() for r in found.values() for v in r.similarity.values())
    if check is independent_randomisation:
        assert found["edge_detector"].unmoved == found["edge_detector"].layers
        assert "alone, 3 of 3 layers change nothing" in found["edge_detector"].verdict


def test_a_map_that_is_the_same_for_all_samples_but_comes_from_the_model_passes():
    x = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    found = cascading_randomisation(network(Same), maps(["gradient"], x.double(), 1))["gradient"]
    assert min(found.chance.values()) > 0.999999
    assert found.passed
    assert "the map is the same for every sample" in found.verdict
    stays = cascading_randomisation(Same(), lambda model: {"m": torch.arange(36.0).view(1, 6, 6).expand(4, 6, 6)})["m"]
    assert not stays.passed
    assert "does not depend" in stays.verdict


def test_noise_that_is_new_every_time_passes_which_the_rule_admits():
    """The known limit: nothing that only compares maps can tell it from a map that changed with the model."""
    generator = torch.Generator().manual_seed(0)
    found = cascading_randomisation(network(Dense), lambda model: {"m": torch.rand(8, 9, 9, generator=generator)})["m"]
    assert found.passed
    assert "Noise that is drawn anew" in Randomisation.__doc__


def test_constant_maps_are_left_out_and_blank_ones_are_told():
    """Of four maps one is constant; every map of the random model is."""
    original = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    original[2] = 0.5
    model = Heads()
    found = cascading_randomisation(model, lambda state: {"m": 0 * original}, original={"m": original})["m"]
    assert found.constant == 0.25
    assert np.isnan(found.final["rank"]).tolist() == [False, False, True, False]
    assert found.to_json()["kept_values"][2] is None
    assert np.isnan(found.kept_values[2])
    assert found.passed
    assert "100 % of the maps are then constant" in found.verdict
    assert "25 % of the original maps are constant and left out" in found.verdict
    only = {"m": original[[0, 2, 2, 2]]}
    assert cascading_randomisation(model, lambda state: only, original=only)["m"].verdict.startswith("fails: 75 %")


def test_maps_that_change_their_shape_or_go_missing_are_refused():
    original = {"m": torch.rand(4, 8, 8)}
    with pytest.raises(InputError, match="shape"):
        cascading_randomisation(Heads(), lambda state: {"m": torch.rand(4, 8, 7)}, original=original)
    with pytest.raises(InputError, match="no maps of 'm'"):
        cascading_randomisation(Heads(), lambda state: {"n": torch.rand(4, 8, 8)}, original=original)
    with pytest.raises(InputError, match="maps of m holds nan"):
        cascading_randomisation(Heads(), lambda state: {"m": torch.full((4, 8, 8), torch.nan)}, original=original)
    with pytest.raises(UnsupportedError, match="no layers"):
        independent_randomisation(lambda x: x, lambda state: original)


def test_rows_of_a_table_have_no_gradients_of_their_own():
    found = cascading_randomisation(network(Dense), maps(["gradient"], samples(Dense, 4), 1))["gradient"]
    assert "hog" not in found.similarity
    assert "two axes" in found.left_out["hog"]
    assert "two axes" in found.to_json()["left_out"]["hog"]


def test_likeness_starts_at_zero_where_all_samples_have_the_same_map():
    """0.6 is more than half of the way, though below what two samples have in common."""
    kinds = ("ssim", "rank_absolute")
    found = Randomisation(("a",), {k: np.array([0.6]) for k in kinds}, dict.fromkeys(kinds, 1.0))
    assert found.kept == pytest.approx(0.6)
    assert not found.passed
    assert Randomisation(("a",), {k: np.array([0.6]) for k in kinds}, dict.fromkeys(kinds, 0.9)).passed


def test_constant_maps_that_change_fail_all_the_same():
    noise = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = cascading_randomisation(Heads(), lambda state: {"m": noise}, original={"m": 0 * noise})["m"]
    assert found.kept < 0.5
    assert not found.passed
    assert found.verdict.startswith("fails: 100 % of the maps are constant")
