"""Bad input is named, never answered with another library's traceback, and nothing is left changed (METHODS G8)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from networks import Dense, DenseHead, GapLinear, Sequence, network, samples
from pellucid import Attribution, Explanation, InputError, UnsupportedError, explain


def photo(**change):
    return {"x": samples(GapLinear), "methods": ["grad_cam"], **change}


CASES = [
    (photo(x=torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), "x.float"),
    (photo(x=torch.zeros(2, 3, 8, 8)), "the model cannot run on an input of shape"),
    (photo(x=torch.zeros(1, 8)), "the model cannot run on an input of shape|no layer keeps"),
    (photo(methods=5), "methods is 5"),
    (photo(methods={"gradient": 5}), "options of a method are no dictionary"),
    (photo(methods={"smoothgrad": {"samples": [1]}}), r"samples is \[1\]"),
    (photo(methods={"smoothgrad": {"noise": [1]}}), r"noise is \[1\]"),
    (photo(methods={"vargrad": {"tolerance": [1]}}), r"tolerance is \[1\]"),
    (photo(methods={"guided_ig": {"fraction": 2}}), "fraction is 2"),
    (photo(methods={"integrated_gradients": {"steps": 0}}), "steps is 0"),
    (photo(methods={"libra_cam": {"library": 3}}), "libra_cam needs references"),
    (photo(layer=3), "layer is 3"),
    (photo(layer=[]), "no layer in the list"),
    (photo(layer=["features", None]), "layer is None"),
    (photo(layer=["features", "haed"]), "no layer 'haed'"),
    (photo(seed="a"), "seed is 'a'"),
    (photo(seed=True), "seed is True"),
]


@pytest.mark.parametrize(("change", "message"), CASES, ids=[message for _, message in CASES])
def test_what_is_wrong_is_said(change, message):
    asked = dict(change)
    with pytest.raises(InputError, match=message):
        explain(network(GapLinear), asked.pop("x"), asked.pop("methods"), **asked)


def test_a_model_that_asserts_is_quoted():
    class Asserting(GapLinear):
        def forward(self, x):
            assert x.shape[1] == 3, "three channels, please"
            return super().forward(x)

    for name in ("gradient", "grad_cam"):
        with pytest.raises(InputError, match="three channels, please"):
            explain(Asserting(), samples(GapLinear, dtype=torch.float32), [name])


@pytest.mark.parametrize(
    "name", ["gradient", "smoothgrad", "vargrad", "integrated_gradients", "integrated_gradients_smoothgrad", "guided_ig"]
)
def test_whole_numbers_have_no_gradient(name):
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    ids = torch.randint(9, (3, 5), generator=torch.Generator().manual_seed(0))
    with pytest.raises(UnsupportedError, match=r"torch\.int64, which has no gradient"):
        explain(model, ids, [name])
    assert explain(model, ids, ["occlusion"])["occlusion"].relevance.shape == (3, 5)


def test_a_target_outside_of_the_answer_is_named():
    with pytest.raises(InputError, match=r"target \(99,\) does not exist"):
        Attribution("gradient", network(GapLinear)).attribute(samples(GapLinear), target=(99,))


def test_models_that_cannot_be_lent_are_left_alone():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(InputError, match="parameters without values"):
        explain(lazy, samples(GapLinear), ["gradient"])
    with torch.inference_mode():
        made = GapLinear()
    with pytest.raises(InputError, match="made in inference mode"):
        explain(made, samples(GapLinear, dtype=torch.float32), ["gradient"])


class Counting(nn.Module):
    """Replaces a buffer in every pass, and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.inner = network(Dense)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        return nn.functional.dropout(self.inner(x), 0.5)


def test_replaced_buffers_and_random_numbers_come_back():
    model, before = Counting(), torch.get_rng_state()
    buffer = model.mean
    explain(model, samples(Dense), ["gradient"], target=1)
    assert model.mean is buffer
    assert buffer == 0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_samples_of_an_explanation_are_its_own():
    x = samples(GapLinear)
    found = explain(network(GapLinear), x, ["gradient"])["gradient"]
    x.zero_()
    assert found.x.abs().max() > 0


def test_statistics_of_the_batch_are_said():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(108, 2))
    found = explain(model, samples(GapLinear, dtype=torch.float32), ["gradient"])["gradient"]
    assert "depends on the other samples" in found.notes[0]


def test_lists_are_sets_of_references_as_tensors_are():
    model, x, references = network(Dense), samples(Dense), samples(Dense, 4, seed=5)
    asked = [{"integrated_gradients": {"baseline": b, "steps": 4}} for b in (references, references.tolist())]
    first, second = (explain(model, x, one, target=1)["integrated_gradients"] for one in asked)
    assert torch.equal(first.relevance, second.relevance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """Everything runs; errors are not lost below the range of the numbers."""
    model, x = network(DenseHead).to(dtype), samples(DenseHead).to(dtype)
    asked = {"eigen_cam": {}, "grad_cam_plus_plus": {}, "smoothgrad": {"samples": 9}, "vargrad": {"samples": 9}}
    found = explain(model, x, asked, target=1, layer="features")
    exact = explain(network(DenseHead), samples(DenseHead), asked, target=1, layer="features")
    for name in ("eigen_cam", "grad_cam_plus_plus"):
        value, true = found[name].relevance.double(), exact[name].relevance
        torch.testing.assert_close(value, true, rtol=0, atol=0.1 * float(true.abs().max()))
    assert (found["smoothgrad"].details["standard_error"] > 0).any()
    assert np.isfinite(found["eigen_cam"].to_numpy()).all()
    assert np.asarray(found["eigen_cam"]).dtype in (np.float32, np.float16)


def test_small_scores_keep_their_explanations():
    """Powers of gradients that single precision has no room for."""
    model, x = network(DenseHead, dtype=torch.float32), samples(DenseHead, dtype=torch.float32)

    def small(answer):
        return answer[:, 1] * 1e-22

    large = explain(model, x, ["grad_cam_plus_plus"], target=lambda answer: answer[:, 1] * 1e-3, layer="features")
    found = explain(model, x, ["grad_cam_plus_plus"], target=small, layer="features")
    shares = [e["grad_cam_plus_plus"].evidence() for e in (found, large)]
    assert shares[0].max() == 1
    torch.testing.assert_close(*shares, rtol=0, atol=1e-3)
    noisy = explain(model, x, {"vargrad": {"samples": 9}}, target=lambda answer: answer[:, 1] * 1e-8)["vargrad"]
    assert (noisy.details["standard_error"] > 0).any()
    one = explain(model, x, {"vargrad": {"samples": 1}, "smoothgrad_squared": {"samples": 1}}, target=1)
    assert all(e.details["standard_error"].isinf().all() for e in one.values())


def test_a_file_with_another_header_is_refused(tmp_path):
    import json

    from safetensors.torch import save_file

    for header in ({"format": 1}, {"format": 1, "method": "gradient", "of": "logit", "colour": 3}, {}):
        path = tmp_path / "e.safetensors"
        save_file({"relevance": torch.zeros(1, 2)}, path, metadata={"pellucid.explanation": json.dumps(header)})
        with pytest.raises(InputError, match="not a saved explanation"):
            Explanation.load(path)


def test_several_inputs_and_sequences_survive_saving(tmp_path):
    found = explain(network(Sequence), samples(Sequence), ["smoothgrad"])["smoothgrad"]
    again = Explanation.load(found.save(tmp_path / "s.safetensors"))
    assert torch.equal(again.details["standard_error"], found.details["standard_error"])
    assert again.counts == found.counts
