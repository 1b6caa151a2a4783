"""The rows of the table: what is asked, what it needs at the least, and who else has it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

import pellucid

from .bare import (
    bare_cam,
    bare_difference,
    bare_forward,
    bare_gradient,
    bare_gradients,
    bare_in_turn,
    bare_masked,
    bare_occluded,
    bare_straight,
    bare_twice_back,
)
from .networks import CHANNELS, NETWORKS, SAMPLES, STEPS, Case, images
from .peers import (
    captum,
    captum_ablation,
    captum_grad_cam,
    captum_guided_grad_cam,
    captum_in_turn,
    captum_noise,
    grad_cam_package,
    torchcam_package,
    zennit,
)

BARE_GOAL = 1.15
ABLATION_GOAL = 4
PLUS_GOAL, COMPOSITE_GOAL = 3.5, 5.0  # forwards that LRP may take
FORWARD_AND_BACKWARD = 3  # forwards that a forward and a backward to the input take, to foresee how long a call will be
CAMS = ("cam", "grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "eigen_cam", "layer_cam")
NOISY = ("smoothgrad", "smoothgrad_squared", "vargrad")
TOGETHER = "together: "
Cost = Callable[[Case], float]


@dataclass(frozen=True)
class Row:
    """A method or several, what it needs at the least, and who else has it.

    ``cost``: seconds per image that ours and the bare passes will roughly take; the peers too, where ``peer_cost`` says
    nothing else. ``goal``: bare passes that ours may take at the most.
    """

    asked: Callable[[Case], dict[str, dict[str, Any]]]
    bare: Callable[[Case], Any]
    peers: dict[str, Callable[[Case], Any]]
    cost: Cost
    peer_cost: dict[str, Cost] = field(default_factory=dict)
    goal: float | None = BARE_GOAL
    only: str | None = None


def forwards(count: float) -> Cost:
    """As long as so many forwards."""
    return lambda case: count * case.forward_seconds


def each_channel(case: Case) -> float:
    """As long as a forward for every channel."""
    return CHANNELS * case.forward_seconds


def each_channel_behind(case: Case) -> float:
    """As long as a head for every channel, or a forward where the package cannot skip what comes before the layer."""
    whole = case.model.layer == "layer4"
    return CHANNELS * (case.forward_seconds if whole else case.head_seconds)


def rows_of(case: Case) -> int:
    """As a peer's option."""
    return case.rows


def references(case: Case) -> Tensor:
    """Four images that stand for the data."""
    return _references(case.size)


@functools.cache
def _references(size: int) -> Tensor:
    return images(12, size)[8:]


def method_of(name: str) -> str:
    """A row is called by its method; where that has several rows, by the method, a colon and what is special about the row."""
    return name.partition(":")[0]


def least(case: Case) -> float:
    """As z^B's lower bound."""
    return float(case.x.min())


def greatest(case: Case) -> float:
    """As its upper bound."""
    return float(case.x.max())


def by_rules(add: Callable[..., None]) -> None:
    """The rows of the methods that go back through the network step by step by rules of their own."""
    once, several = forwards(FORWARD_AND_BACKWARD), forwards(COMPOSITE_GOAL)
    for name, first, second in [
        ("deconvnet", "Deconvolution", "DeconvNet"),
        ("guided_backpropagation", "GuidedBackprop", "GuidedBackprop"),
    ]:
        peers = {f"captum {first}": captum(first), f"zennit {second}": zennit(second, shares=False)}
        add(name, bare_gradient, once, peers)
    add("deep_lift", bare_difference, forwards(FORWARD_AND_BACKWARD + 1), {"captum DeepLift": captum("DeepLift")})
    box = {"low": least, "high": greatest}
    composites: dict[str, tuple[dict[str, Callable[[Case], Any]], dict[str, Callable[[Case], Any]]]] = {
        "epsilon_plus": ({"zennit EpsilonPlus": zennit("EpsilonPlus")}, {}),
        "epsilon_plus_flat": ({"zennit EpsilonPlusFlat": zennit("EpsilonPlusFlat")}, {}),
        "epsilon_alpha2_beta1": ({"zennit EpsilonAlpha2Beta1": zennit("EpsilonAlpha2Beta1")}, {}),
        "epsilon_gamma_box": ({"zennit EpsilonGammaBox": zennit("EpsilonGammaBox", **box)}, box),
        "vgg": ({}, box),
        "epsilon": ({"captum LRP": captum("LRP")}, {}),
    }
    for name, (peers, bounds) in composites.items():

        def options(case: Case, name: str = name, bounds: dict[str, Any] = bounds) -> dict[str, Any]:
            return {"composite": name, **{key: bound(case) for key, bound in bounds.items()}}

        goal = PLUS_GOAL if name == "epsilon_plus" else COMPOSITE_GOAL
        costs = {label: forwards(12) for label in peers}
        add(f"lrp: {name}", bare_forward, several, peers, options, peer_cost=costs, goal=goal)
    for name in ("deep_taylor", "contrastive_lrp", "softmax_gradient_lrp", "rap"):
        add(name, bare_forward, several, goal=None)


def table() -> dict[str, Row]:
    """Every row by its name, in the order of the table."""
    many = forwards(SAMPLES * FORWARD_AND_BACKWARD)
    few = forwards(2)
    made: dict[str, Row] = {}

    def add(
        name: str,
        bare: Callable[[Case], Any],
        cost: Cost,
        peers: dict[str, Callable[[Case], Any]] | None = None,
        options: Callable[[Case], dict[str, Any]] = lambda case: {},
        **rest: Any,
    ) -> None:
        made[name] = Row(lambda case: {method_of(name): options(case)}, bare, peers or {}, cost, **rest)

    once = forwards(FORWARD_AND_BACKWARD)
    add("gradient", bare_gradient, once, {"captum Saliency": captum("Saliency")})
    add("gradient_times_input", bare_gradient, once, {"captum InputXGradient": captum("InputXGradient")})
    for name, kind in zip(NOISY, ("smoothgrad", "smoothgrad_sq", "vargrad")):
        tunnel = {"captum NoiseTunnel": captum_noise("Saliency", kind, SAMPLES)}
        add(name, bare_gradients, many, tunnel, lambda case: {"samples": SAMPLES})
    add(
        "integrated_gradients",
        bare_straight,
        many,
        {"captum IntegratedGradients": captum("IntegratedGradients", n_steps=STEPS, internal_batch_size=rows_of)},
        lambda case: {"steps": STEPS},
    )
    tunnel = {
        "captum NoiseTunnel": captum_noise(
            "IntegratedGradients", "smoothgrad", 2, n_steps=STEPS // 2, internal_batch_size=rows_of
        )
    }
    add("integrated_gradients_smoothgrad", bare_straight, many, tunnel, lambda case: {"samples": 2, "steps": STEPS // 2})
    add("guided_ig", bare_in_turn, many, None, lambda case: {"steps": STEPS})
    add(
        "expected_gradients",
        bare_straight,
        many,
        {"captum GradientShap": captum("GradientShap", baselines=references, n_samples=SAMPLES)},
        lambda case: {"samples": SAMPLES, "references": references(case)},
    )
    by_rules(add)
    add("cam", bare_forward, few, {"torchcam CAM": torchcam_package("CAM", graph=False, fc_layer="fc")}, only="resnet")
    names = {
        "grad_cam": ("GradCAM", "GradCAM"),
        "grad_cam_plus_plus": ("GradCAMPlusPlus", "GradCAMpp"),
        "xgrad_cam": ("XGradCAM", "XGradCAM"),
        "hires_cam": ("HiResCAM", None),
        "layer_cam": ("LayerCAM", "LayerCAM"),
    }
    for name, (first, second) in names.items():
        peers = {f"pytorch_grad_cam {first}": grad_cam_package(first)}
        if second is not None:
            peers[f"torchcam {second}"] = torchcam_package(second)
        if name == "grad_cam":
            peers["captum LayerGradCam"] = captum_grad_cam
        add(name, bare_cam, few, peers)
    add("guided_grad_cam", bare_twice_back, forwards(4), {"captum GuidedGradCam": captum_guided_grad_cam})
    add("relevance_cam", bare_forward, few, goal=None)
    add("eigen_cam", bare_forward, few, {"pytorch_grad_cam EigenCAM": grad_cam_package("EigenCAM")})
    masking = {"pytorch_grad_cam ScoreCAM": grad_cam_package("ScoreCAM")}
    masking["torchcam ScoreCAM"] = torchcam_package("ScoreCAM", graph=False, batch_size=rows_of)
    add("score_cam", bare_masked, each_channel, masking)
    ablating = {"pytorch_grad_cam AblationCAM": grad_cam_package("AblationCAM"), "captum LayerFeatureAblation": captum_ablation}
    costs = dict(zip(ablating, (each_channel_behind, each_channel)))
    add("ablation_cam", bare_forward, forwards(ABLATION_GOAL), ablating, peer_cost=costs, goal=None)
    covered = captum(
        "Occlusion",
        sliding_window_shapes=lambda case: (3, case.window, case.window),
        strides=lambda case: (3, case.window, case.window),
        perturbations_per_eval=lambda case: case.per_pass,
    )
    window: Callable[[Case], dict[str, Any]] = lambda case: {"window": case.window, "stride": case.window}  # noqa: E731
    add("occlusion", bare_occluded, forwards(16), {"captum Occlusion": covered}, window)

    def cams(case: Case) -> dict[str, dict[str, Any]]:
        suited = [name for name in CAMS if made[name].only is None or isinstance(case.model, NETWORKS[made[name].only or ""])]
        return {name: {} for name in suited if name in known()}

    def noisy(case: Case) -> dict[str, dict[str, Any]]:
        return {name: {"samples": SAMPLES} for name in NOISY if name in known()}

    made[f"{TOGETHER}CAMs"] = Row(cams, bare_cam, {}, few)
    three: dict[str, Callable[[Case], Any]] = {"captum, three calls": captum_in_turn}
    longer: dict[str, Cost] = {name: forwards(3 * SAMPLES * FORWARD_AND_BACKWARD) for name in three}
    made[f"{TOGETHER}noisy gradients"] = Row(noisy, bare_gradients, three, many, longer)
    return made


def known() -> list[str]:
    """The methods that this version of ours has."""
    return list(pellucid.METHODS.names())


def ours(case: Case, asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One call for everything asked."""
    return pellucid.explain(case.model, case.x, asked, target=case.target, layer=case.model.layer)
