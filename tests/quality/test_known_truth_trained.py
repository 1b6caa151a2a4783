"""Q7 with networks that were trained on it: they get the labels right, and methods find what the labels were made from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid
from pellucid.core import seeds
from pellucid.data.augmentation import augmenter
from pellucid.data.known_truth import known_truth
from pellucid.evaluation.intervals import bootstrap
from pellucid.quality.known_truth import mass_on_truth, rank_agreement
from pellucid.quality.localisation import pointing_game

pytestmark = pytest.mark.slow
SHOWN = 100  # test samples that are explained


def trained(model: nn.Module, x: Tensor, y: Tensor, *, epochs: int, augment: tuple[str, ...] = ()) -> nn.Module:
    """As `pellucid run` trains by default, on the CPU."""
    t = pellucid.default_study().training
    how = {"optimizer": t.optimizer, "lr": t.lr, "weight_decay": t.weight_decay, "schedule": t.schedule, "batch": t.batch}
    data, augment = pellucid.InMemory(x, y), augmenter(augment)
    pellucid.train(model, data, "multiclass", epochs=epochs, augment=augment, seed=0, device="cpu", **how)
    return model.eval()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


class Case:
    """A set of the table of data, prepared on its training part: x, y of that part, and test_x, test_y, truth of the other."""

    def __init__(self, name: str) -> None:
        data = pellucid.read(name)
        train, test = data.parts["train"], data.parts["test"]
        self.x, self.y = data.fit(train).tensors(train)
        self.test_x, self.test_y = data.tensors(test)
        self.shown, self.truth = self.test_x[:SHOWN], data.truth[test[:SHOWN]]
        self.shape, self.classes = data.input_shape, len(data.classes)

    def build(self, name: str, **options: object) -> nn.Module:
        return pellucid.build(name, input_shape=self.shape, outputs=self.classes, **options)


def ahead(a, b) -> float:
    """The lower end of the 95 % interval of the mean difference, sample by sample."""
    gap = a.values - b.values
    return bootstrap(gap[~np.isnan(gap)], lambda means: means).lower


@pytest.fixture(scope="module")
def pictures():
    case = Case("known_truth_images")
    return case, trained(case.build("lenet5"), case.x, case.y, epochs=12, augment=("shift",))


def test_methods_find_the_shape_that_edges_and_noise_do_not(pictures):
    """Edges find both shapes, noise neither; a network that is right because of the shape has most of its relevance there."""
    case, model = pictures
    assert accuracy(model, case.test_x, case.test_y) > 0.97
    library = pellucid.reference_library(model, case.x, case.y)
    asked = {"gradient": {}, "integrated_gradients": {}, "occlusion": {}, "grad_cam": {}, "lrp": {}}
    maps = pellucid.explain(model, case.shown, {**asked, "libra_cam": {"library": library}, "edge_detector": {}})
    edges = rank_agreement(case.truth, maps.pop("edge_detector"))
    noise = rank_agreement(case.truth, np.random.default_rng(0).normal(size=case.truth.shape))
    assert float(noise) == pytest.approx(0.5, abs=0.02)
    assert 0.65 < float(edges) < 0.8
    for name, made in maps.items():
        found = rank_agreement(case.truth, made)
        assert not found.notes, name
        assert ahead(found, edges) > 0.03, name
        assert ahead(found, noise) > 0.25, name
        assert float(mass_on_truth(case.truth, made)) > 2 * case.truth.mean(), name
    assert float(pointing_game(case.truth, maps["lrp"])) > 0.9
    assert float(pointing_game(case.truth, maps["integrated_gradients"])) > 0.9


def test_a_network_that_has_learned_nothing_has_a_lower_score(pictures):
    """The score judges the model too: the same methods lose what they owe to training, and keep what bright edges give."""
    case, model = pictures
    methods = ["gradient", "occlusion"]
    after, before = (pellucid.explain(m, case.shown, methods) for m in (model, case.build("lenet5", seed=5)))
    for name in methods:
        without = rank_agreement(case.truth, before[name])
        assert ahead(rank_agreement(case.truth, after[name]), without) > 0.1, name
        assert float(without) < 0.85, name


def test_columns_that_act_only_together_are_found_in_a_network_and_not_in_a_linear_model():
    case = Case("known_truth_table")
    about, names = known_truth("table", samples=1).about, known_truth("table", samples=1).names
    together, nothing = ([names.index(name) for name in about[role]] for role in ("interaction", "distractors"))
    linear = trained(case.build("mlp", hidden=()), case.x, case.y, epochs=30)
    network = trained(case.build("mlp", hidden=(32,)), case.x, case.y, epochs=40)
    assert accuracy(linear, case.test_x, case.test_y) < 0.8
    assert accuracy(network, case.test_x, case.test_y) > 0.97
    background, shown, truth = case.x[:20], case.shown[:40], case.truth[:40]
    methods = {"kernel_shap": {"baseline": background}, "shapley": {"baseline": background}, "gradient_times_input": {}}
    maps = pellucid.explain(network, shown, methods)
    maps["linear_shap"] = pellucid.linear_shap(linear, shown, baseline=background)
    size = {name: np.abs(made.to_numpy()).mean(0) for name, made in maps.items()}
    for name, made in maps.items():
        found = rank_agreement(truth, made)
        chance = rank_agreement(truth, np.random.default_rng(1).normal(size=truth.shape))
        assert ahead(found, chance) > 0.25, name
        if name != "linear_shap":
            assert float(found) > 0.97, name
            assert float(mass_on_truth(truth, made)) > 0.95, name
            assert size[name][together].min() > 5 * size[name][nothing].max(), name
    assert size["linear_shap"][together].min() < size["linear_shap"][nothing].max()


@pytest.mark.parametrize("kind", ["dna", "series"])
def test_motifs_and_bursts(kind):
    if kind == "dna":
        case = Case("known_truth_dna")
        x, y, test_x, test_y, truth = case.x, case.y, case.test_x, case.test_y, case.truth
    else:
        made = known_truth("series")
        (x, test_x), (y, test_y) = (torch.from_numpy(a).split([2000, 500]) for a in (made.x, made.y))
        truth = made.truth[2000 : 2000 + SHOWN]
    with seeds.scoped(0, "weights"):
        model = nn.Sequential(
            nn.Conv1d(x.shape[1], 16, 9, padding=4), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 9, padding=4), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 3),
        )  # fmt: skip
    assert accuracy(trained(model, x, y, epochs=12), test_x, test_y) > 0.95
    maps = pellucid.explain(model, test_x[:SHOWN], ["gradient", "integrated_gradients", "occlusion"])
    for name, made in maps.items():
        assert float(rank_agreement(truth, made)) > 0.8, name
        assert float(mass_on_truth(truth, made)) > 2 * truth.mean(), name
