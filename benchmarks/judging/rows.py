"""What is compared: the same measure of the same maps, ours and the peers', each as a user writes it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explaining.peers import declare_torchvision
from pellucid import explain
from pellucid.quality.infidelity import faithfulness_correlation, infidelity
from pellucid.quality.insertion_deletion import STEPS, deletion
from pellucid.quality.measuring import assess
from pellucid.quality.randomisation import cascading_randomisation
from pellucid.quality.road import road, road_combined
from pellucid.quality.robustness import max_sensitivity

from .cases import Case

GOAL = 5.0  # times a peer's time over ours
OF_GOAL = ("Quantus", "pytorch-grad-cam")
SWEEPS, DRAWS, LARGE = 10, 100, 100
PERCENTILES = [10 * i for i in range(1, 10)]
Run = Callable[[], Any]


@dataclass
class Row:
    """One measure: ours, the rows per image that it cannot do without, and the peers' calls by their labels.

    goal: whether ours is to be ``GOAL`` times as fast; not where a peer runs no row more than the answer needs, which leaves it
    what its calls cost beside the passes.
    """

    ours: Run
    minimum: float
    peers: dict[str, Run] = field(default_factory=dict)
    goal: bool = True


@functools.cache
def package(name: str) -> Any:
    """A module of a peer; None where it is not installed."""
    try:
        declare_torchvision()
        return importlib.import_module(name)
    except ImportError:
        return None


def rows(case: Case) -> dict[str, Callable[[], Row]]:
    """Name of the measure -> how its row is made."""
    made: dict[str, Callable[[Case], Row]] = {
        "infidelity, distinct draws": infidelity_row,
        "infidelity, as many forwards": infidelity_as_many,
        "deletion": deletion_row,
        "deletion, as it comes": deletion_as_it_comes,
        "insertion and deletion": both_row,
        "ROAD, both orders": road_row,
        "ROAD, accuracy": accuracy_row,
        "faithfulness correlation": correlation_row,
        "max-sensitivity": sensitivity_row,
        "parameter randomisation": randomisation_row,
    }
    if case.x.shape[2] > LARGE:
        made = {name: make for name, make in made.items() if name.startswith(("deletion", "insertion", "ROAD, both"))}
    return {name: functools.partial(make, case) for name, make in made.items()}


def quantus(case: Case, name: str, *, call: dict[str, Any] | None = None, **options: Any) -> dict[str, Run]:
    """A metric of Quantus's, made anew for every call because some keep what they found."""
    module = package("quantus")
    if module is None:
        return {}
    x, target, maps = case.x.numpy(), case.target.numpy(), case.maps[:, None].numpy()
    call = {"a_batch": maps, "device": "cpu", **(call or {})}

    def run() -> Any:
        metric = getattr(module, name)(disable_warnings=True, **options)
        return metric(model=case.model, x_batch=x, y_batch=target, **call)

    return {f"Quantus {name}": run}


def infidelity_row(case: Case) -> Row:
    """Quantus repeats a sweep over all patches ten times, every time the same: so many distinct draws as the sweep has."""
    draws, peers = _sweeps(case)
    return Row(lambda: infidelity(case.model, case.x, case.maps, target=case.target, draws=draws), 1 + draws, peers)


def infidelity_as_many(case: Case) -> Row:
    """As many altered rows as Quantus runs; captum with the same number, some hundred noisy rows at a time."""
    draws, peers = _sweeps(case)
    draws *= SWEEPS
    captum = package("captum.metrics")
    if captum is not None:
        maps = case.maps[:, None].expand_as(case.x)

        def noisy(x: Tensor) -> tuple[Tensor, Tensor]:
            change = 0.2 * torch.randn_like(x)
            return change, x - change

        given = {"target": case.target, "n_perturb_samples": draws, "normalize": True, "max_examples_per_batch": 256}
        peers["captum infidelity"] = lambda: captum.infidelity(case.model, noisy, case.x, maps, **given)
    ours = functools.partial(infidelity, case.model, case.x, case.maps, target=case.target, draws=draws)
    return Row(ours, 1 + draws, peers, goal=False)


def _sweeps(case: Case) -> tuple[int, dict[str, Run]]:
    """Patches of a sweep, seven or eight along each side, and Quantus's call."""
    side = case.x.shape[2]
    along = 7 if side % 7 == 0 else 8
    options = {"n_perturb_samples": SWEEPS, "perturb_patch_sizes": [side // along], "perturb_baseline": 0.0}
    return along**2, quantus(case, "Infidelity", **options)


def deletion_row(case: Case) -> Row:
    """The same number of steps; Quantus flips values, three of each pixel."""
    features = case.x[0].numel() // case.steps
    peers = quantus(case, "PixelFlipping", features_in_step=features, normalise=False, perturb_baseline=0.0)
    ours = functools.partial(deletion, case.model, case.x, case.maps, target=case.target, steps=case.steps)
    return Row(ours, 1 + case.steps, peers, goal=False)


def deletion_as_it_comes(case: Case) -> Row:
    """Both with their defaults: one value per step there, 28 equal steps here."""
    peers = quantus(case, "PixelFlipping", normalise=False) if case.positions < 1000 else {}
    return Row(lambda: deletion(case.model, case.x, case.maps, target=case.target), 1 + STEPS, peers)


class Given:
    """Maps in the place of an extractor of torchcam's."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *args: Any, **options: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """The only map."""
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()


def both_row(case: Case) -> Row:
    """Insertion into zeros and deletion to zeros."""
    asked = {"deletion": {"steps": case.steps}, "insertion": {"steps": case.steps, "baseline": 0.0}}
    peers: dict[str, Run] = {}
    torchcam = package("torchcam.metrics")
    if torchcam is not None:

        def run() -> Any:
            metric = torchcam.DeletionInsertionMetric(
                Given(case.model, case.maps), functools.partial(torch.softmax, dim=-1), steps=case.steps, batch_size=256
            )
            metric.update(case.x, case.target.tolist())
            return metric.summary()

        peers["torchcam DeletionInsertionMetric"] = run
    minimum = 2 + 2 * (case.steps - 1)
    return Row(lambda: assess(case.model, case.x, {"map": case.maps}, asked, target=case.target), minimum, peers)


def road_row(case: Case) -> Row:
    """Nine shares in both orders."""
    peers: dict[str, Run] = {}
    road_of, targets = package("pytorch_grad_cam.metrics.road"), package("pytorch_grad_cam.utils.model_targets")
    if road_of is not None:
        wanted = [targets.ClassifierOutputSoftmaxTarget(c) for c in case.target.tolist()]
        maps = case.maps.numpy()
        peers["pytorch-grad-cam ROADCombined"] = lambda: road_of.ROADCombined(PERCENTILES)(case.x, maps, wanted, case.model)
    minimum = 1 + 2 * len(PERCENTILES)
    return Row(lambda: road_combined(case.model, case.x, case.maps, target=case.target), minimum, peers)


def accuracy_row(case: Case) -> Row:
    """Nine shares, the most relevant first, is the class still the first; Quantus takes grey images only."""
    peers = quantus(case, "ROAD", percentages=PERCENTILES) if case.x.shape[1] == 1 else {}
    ours = functools.partial(road, case.model, case.x, case.maps, target=case.target, of="accuracy")
    return Row(ours, 1 + len(PERCENTILES), peers)


def correlation_row(case: Case) -> Row:
    """A hundred subsets of a quarter of the values."""
    options = {"nr_runs": DRAWS, "subset_size": case.x[0].numel() // 4, "normalise": False, "perturb_baseline": 0.0}
    ours = functools.partial(faithfulness_correlation, case.model, case.x, case.maps, target=case.target, draws=DRAWS)
    return Row(ours, 1 + DRAWS, quantus(case, "FaithfulnessCorrelation", **options), goal=False)


def gradients(model: nn.Module, inputs: Any, targets: Any, **options: Any) -> np.ndarray:
    """A user's own method in Quantus's form: the gradient, one forward and one backward."""
    x = torch.as_tensor(inputs).requires_grad_()
    (found,) = torch.autograd.grad(model(x)[torch.arange(len(x)), torch.as_tensor(targets).long()].sum(), x)
    return found.numpy()


def sensitivity_row(case: Case) -> Row:
    """Ten moved inputs, the gradient, whose explanation of the samples themselves is known."""
    own = explain(case.model, case.x, "gradient", target=case.target)["gradient"]
    call = {"explain_func": gradients, "a_batch": own.relevance.numpy()}
    peers = quantus(case, "MaxSensitivity", call=call, nr_samples=10, normalise=False)
    captum, attr = package("captum.metrics"), package("captum.attr")
    if captum is not None:
        method = attr.Saliency(case.model).attribute
        given = {"n_perturb_samples": 10, "target": case.target, "abs": False}
        peers["captum sensitivity_max"] = lambda: captum.sensitivity_max(method, case.x, **given)
    ours = functools.partial(max_sensitivity, case.model, case.x, "gradient", explanation=own, target=case.target)
    return Row(ours, 10, peers, goal=False)


def randomisation_row(case: Case) -> Row:
    """The gradient of cascadingly randomised layers, from the same function in both; ours has three similarities."""

    def maps(model: nn.Module) -> dict[str, Tensor]:
        return {"gradient": torch.from_numpy(gradients(model, case.x.numpy(), case.target.numpy())).sum(1)}

    own = gradients(case.model, case.x.numpy(), case.target.numpy())
    call = {"explain_func": gradients, "a_batch": own}
    peers = quantus(case, "MPRT", call=call)
    original = {"gradient": torch.from_numpy(own).sum(1)}
    return Row(lambda: cascading_randomisation(case.model, maps, original=original), 0, peers)
