"""Q2: the smoothed and the efficient variants of the randomisation check (Hedström et al. 2024)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from networks import DenseHead, GapLinear, TwoInputs, network, samples
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.quality.entropy import EntropyRise, efficient_randomisation, histogram_entropy
from pellucid.quality.maps import Maps
from pellucid.quality.randomisation import cascading_randomisation, fully_randomised, smoothed_randomisation


class Line(nn.Module):
    """Two layers, the second of which scales: enough for a map that depends on both."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(9, 9).double(), nn.Linear(9, 9).double()


def recorded(seen):
    """The inputs themselves as maps, and a note of what arrived."""

    def maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        seen.append(x)
        return {"m": x.square()}

    return maps


def test_one_input_is_the_plain_cascade_from_the_bottom():
    model, x = network(DenseHead), samples(DenseHead, 4)
    made = Maps(model, x, ["gradient"])
    one = smoothed_randomisation(model, made, x, samples=1)["gradient"]
    plain = cascading_randomisation(model, made, order="bottom_up")["gradient"]
    assert (one.layers, one.order) == (plain.layers, "bottom_up")
    for kind, values in plain.similarity.items():
        np.testing.assert_allclose(one.similarity[kind], values, rtol=0, atol=1e-12)


def test_the_noise_is_a_share_of_the_range_and_the_same_for_every_state():
    x = torch.cat([torch.linspace(0, 1, 400), torch.linspace(-50, 50, 400)]).view(2, 1, 20, 20).double()
    seen: list[Tensor] = []
    smoothed_randomisation(Line(), recorded(seen), x, samples=4, noise=0.1)
    assert len(seen) == 4 * 3
    assert torch.equal(seen[0], x)
    for draw in range(4):
        assert torch.equal(seen[draw], seen[draw + 4])
        assert torch.equal(seen[draw], seen[draw + 8])
    added = torch.stack(seen[1:4]) - x
    assert added[:, 0].std().item() == pytest.approx(0.1, rel=0.1)
    assert added[:, 1].std().item() == pytest.approx(10, rel=0.1)
    assert not torch.equal(seen[1], seen[2])
    alone: list[Tensor] = []
    smoothed_randomisation(Line(), recorded(alone), torch.cat([x, x])[:3], samples=4)
    assert torch.equal(alone[1][:2], seen[1])  # a sample's noise does not depend on the others
    other: list[Tensor] = []
    smoothed_randomisation(Line(), recorded(other), x, samples=4, seed=1)
    assert not torch.equal(other[1], seen[1])


def test_the_maps_are_averaged_with_their_sign_before_they_are_compared():
    """By hand: the mean of all maps of a state is what is compared; the tensors that ``maps`` gave stay as they are."""
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, seen = network(GapLinear), []

    def maps(state, inputs):
        seen.append(state(inputs)[:, :1, None].detach() * inputs[:, 0])
        return {"m": seen[-1]}

    found = smoothed_randomisation(model, maps, x, samples=5, layers=["head"])["m"]
    assert torch.equal(seen[0], model(x)[:, :1, None] * x[:, 0])
    before, after = torch.stack(seen[:5]).mean(0), torch.stack(seen[5:]).mean(0)
    plain = cascading_randomisation(model, lambda s: {"m": before if s is model else after}, layers=["head"])["m"]
    for kind, values in plain.final.items():
        np.testing.assert_allclose(found.final[kind], values, rtol=0, atol=1e-12)


def test_the_smoothed_check_refuses_what_cannot_be_made_noisy():
    model, x = network(GapLinear), samples(GapLinear, 3)
    made = Maps(model, x, ["gradient"])
    for wrong in ((x, x), x.numpy(), torch.ones(3, 5, dtype=torch.long)):
        with pytest.raises(InputError, match="no tensor of real numbers"):
            smoothed_randomisation(model, made, wrong)
    with pytest.raises(InputError, match="samples is 0"):
        smoothed_randomisation(model, made, x, samples=0)
    with pytest.raises(InputError, match="noise is -1"):
        smoothed_randomisation(model, made, x, noise=-1)
    with pytest.raises(InputError, match="order is 'independent'"):
        smoothed_randomisation(model, made, x, order="independent")


def test_entropy_of_a_histogram():
    assert histogram_entropy(np.linspace(0, 1, 300).reshape(1, 20, 15), bins=100) == pytest.approx([math.log(100)])
    two = np.array([[0.0] * 3 + [5.0], [1.0] * 4])  # three quarters in the first bin, a quarter in the last; one bin only
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    np.testing.assert_allclose(histogram_entropy(two), [expected, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(histogram_entropy(-3 * two[:, ::-1]), [expected, 0], rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="bins is 1"):
        histogram_entropy(two, bins=1)
    with pytest.raises(InputError, match="finite"):
        histogram_entropy(two[0])


def test_the_rise_is_relative_and_comes_from_two_explanations():
    model, calls = Line(), []
    before = torch.zeros(3, 10, 10).double()
    before[:, 0, 0] = 1
    before[2] = 7
    after = torch.linspace(0, 1, 100).double().view(1, 10, 10).expand(3, 10, 10)

    def maps(state):
        calls.append(state is model)
        return {"m": before if state is model else after}

    found = efficient_randomisation(model, maps)["m"]
    assert calls == [True, False]
    start = -(0.99 * math.log(0.99) + 0.01 * math.log(0.01))
    assert found.rise[:2] == pytest.approx((math.log(100) - start) / start)
    assert np.isnan(found.rise[2])
    assert float(found) == pytest.approx(found.rise[0])
    assert found.constant == pytest.approx(1 / 3)
    assert found.passed
    efficient_randomisation(model, maps, original={"m": before})
    assert calls == [True, False, False]


def test_trivial_maps_fail_the_efficient_check_too():
    """Also noise that is drawn anew for every state, which comparisons of maps let pass."""
    model, x = network(DenseHead), samples(DenseHead, 8)
    found = efficient_randomisation(model, Maps(model, x, ["edge_detector", "constant_map", "random_map"]))
    assert not any(r.passed for r in found.values())
    assert "100 % of the maps are constant" in found["constant_map"].verdict
    assert float(found["random_map"]) == 0
    assert "no more complex" in found["random_map"].verdict
    assert np.isnan(float(found["constant_map"]))
    assert found["constant_map"].to_json()["rise"] is None
    generator = torch.Generator().manual_seed(0)
    noise = efficient_randomisation(model, lambda state: {"m": torch.rand(12, 28, 28, generator=generator)})["m"]
    assert abs(float(noise)) < 0.01
    assert not noise.passed


def test_the_interval_decides():
    rising = EntropyRise(np.full(9, 2.0), np.linspace(2.1, 3, 9))
    assert rising.passed
    assert rising.interval().lower > 0
    assert "passes: the map is more complex when the model is random (entropy +28 %" in rising.verdict
    mixed = EntropyRise(np.full(9, 2.0), np.linspace(1.2, 3, 9))
    assert float(mixed) > 0
    assert not mixed.passed
    assert mixed.to_json()["passed"] is False


def test_the_fully_random_model_is_a_copy():
    model = network(GapLinear)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    shuffled = fully_randomised(model, seed=3)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert not any(torch.equal(state[k], v) for k, v in shuffled.state_dict().items())
    again = fully_randomised(model, seed=3).state_dict()
    assert all(torch.equal(again[k], v) for k, v in shuffled.state_dict().items())
    with pytest.raises(UnsupportedError, match="no parameters"):
        fully_randomised(nn.ReLU())


def test_efficient_refusals():
    original = {"m": torch.rand(3, 4, 4)}
    with pytest.raises(InputError, match="other maps of 'm'"):
        efficient_randomisation(Line(), lambda state: {"m": torch.rand(3, 4, 5)}, original=original)
    with pytest.raises(UnsupportedError, match="one sample"):
        efficient_randomisation(Line(), lambda state: {"m": torch.rand(1, 4, 4)})


def test_several_inputs_go_through_maps():
    model, image = network(TwoInputs), samples(GapLinear, 3)
    x = (image, image[:, 0, 0, :5], torch.tensor([[0], [2], [1]]))
    made = Maps(model, x, ["grad_cam", "gradient"], layer="features")
    found = cascading_randomisation(model, made, original=made.original)
    assert set(found) == {"grad_cam", "gradient"}
    assert len(efficient_randomisation(model, made)["grad_cam"].rise) == 3
