"""The peers. Each call is what a user would write, extractor and all."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .networks import CLASSES, SAMPLES, Block, Case

PACKAGES = {
    "captum": "captum.attr",
    "torchcam": "torchcam.methods",
    "pytorch_grad_cam": "pytorch_grad_cam",
    "zennit": "zennit.composites",
}


@functools.cache
def package(name: str) -> Any:
    """A peer's module, or in words why there is none."""
    try:
        if name != "captum":
            declare_torchvision()
        return importlib.import_module(PACKAGES[name])
    except (ImportError, RuntimeError) as error:
        return "not installed" if isinstance(error, ModuleNotFoundError) else f"does not load: {first_line(error)}"


def peer_of(label: str) -> Any:
    """The package at the head of a peer's label, or in words why there is none."""
    return package(label.replace(",", " ").split()[0])


@functools.cache
def declare_torchvision() -> ModuleType | None:
    """All but captum import torchvision, which beside torch's CPU build needs help that the tests have already written.

    The module is kept: what it declares goes with it.
    """
    path = Path(__file__).parents[2] / "tests" / "peers" / "torchvision_schemas.py"
    spec = importlib.util.spec_from_file_location("torchvision_schemas", path)
    if not path.exists() or spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.declare()
    return module


def captum(name: str, **options: Any) -> Callable[[Case], Any]:
    """A method of captum's on the input."""

    def run(case: Case) -> Any:
        given = {key: value(case) if callable(value) else value for key, value in options.items()}
        leaf = case.x.clone().requires_grad_()
        return getattr(package("captum"), name)(case.model).attribute(leaf, target=case.target, **given)

    return run


def captum_noise(inner: str, kind: str, samples: int, **options: Any) -> Callable[[Case], Any]:
    """A method of captum's under its noise tunnel."""

    def run(case: Case) -> Any:
        attr = package("captum")
        given = {key: value(case) if callable(value) else value for key, value in options.items()}
        tunnel, batch = attr.NoiseTunnel(getattr(attr, inner)(case.model)), min(samples, case.per_pass)
        noise = {"nt_type": kind, "nt_samples": samples, "nt_samples_batch_size": batch, "stdevs": 0.1}
        return tunnel.attribute(case.x.clone().requires_grad_(), target=case.target, **noise, **given)

    return run


def captum_in_turn(case: Case) -> Any:
    """Its three noisy methods, one after another."""
    return [captum_noise("Saliency", kind, SAMPLES)(case) for kind in ("smoothgrad", "smoothgrad_sq", "vargrad")]


def captum_grad_cam(case: Case) -> Any:
    """captum's Grad-CAM, enlarged by captum."""
    attr = package("captum")
    found = attr.LayerGradCam(case.model, case.place).attribute(case.x, target=case.target)
    return attr.LayerAttribution.interpolate(found, case.x.shape[2:], "bilinear")


@torch.no_grad()
def captum_ablation(case: Case) -> Any:
    """captum's ablation of whole channels; with a class for each image it does not take several channels at a time."""
    shape = case.frozen.trunk(case.x[:1]).shape[1:]
    mask = torch.arange(shape[0]).view(1, -1, 1, 1).expand(1, *shape)
    ablation = package("captum").LayerFeatureAblation(case.model, case.place)
    single = len(case.x) == 1
    target, each = (case.target[0], case.per_pass) if single else (case.target, 1)
    return ablation.attribute(case.x, target=target, layer_mask=mask, perturbations_per_eval=each)


def captum_guided_grad_cam(case: Case) -> Any:
    """captum's guided Grad-CAM."""
    leaf = case.x.clone().requires_grad_()
    guided = package("captum").GuidedGradCam(case.model, case.place)
    return guided.attribute(leaf, target=case.target, interpolate_mode="bilinear")


def zennit(name: str, *, shares: bool = True, **options: Any) -> Callable[[Case], Any]:
    """A composite of zennit's; where it shares out relevance, with the canonizers that it needs on these networks."""

    def run(case: Case) -> Any:
        composites = package("zennit")
        attribution, canonizers = (importlib.import_module(f"zennit.{part}") for part in ("attribution", "canonizers"))
        given = {key: value(case) if callable(value) else value for key, value in options.items()}
        needed = [canonizers.SequentialMergeBatchNorm(), canonizers.AttributeCanonizer(_sum_as_a_module)]
        composite = getattr(composites, name)(canonizers=needed if shares else [], **given)
        chosen = nn.functional.one_hot(torch.tensor(case.target), CLASSES).to(case.x)
        with attribution.Gradient(case.model, composite) as attributor:
            return attributor(case.x, (lambda answer: chosen * answer) if shares else chosen)[1]

    return run


def _sum_as_a_module(name: str, module: nn.Module) -> dict[str, Any] | None:
    """What zennit's users replace in a block: without it the ``+`` hands everything to both of its terms."""
    if not isinstance(module, Block):
        return None

    def forward(x: Tensor) -> Tensor:
        shortcut = x if module.downsample is None else module.downsample(x)
        out = module.bn2(module.conv2(module.relu(module.bn1(module.conv1(x)))))
        return module.relu(module.summed(torch.stack([shortcut, out], -1)))

    return {"summed": importlib.import_module("zennit.layer").Sum(), "forward": forward}


def grad_cam_package(name: str) -> Callable[[Case], Any]:
    """A method of pytorch-grad-cam's."""

    def run(case: Case) -> Any:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        targets = [ClassifierOutputTarget(c) for c in case.target]
        with getattr(package("pytorch_grad_cam"), name)(case.model, [case.place]) as cam:
            cam.batch_size = case.rows
            with torch.set_grad_enabled(cam.uses_gradients):
                return cam(case.x, targets)

    return run


def torchcam_package(name: str, *, graph: bool = True, **options: Any) -> Callable[[Case], Any]:
    """A method of torchcam's."""

    def run(case: Case) -> Any:
        given = {key: value(case) if callable(value) else value for key, value in options.items()}
        with (
            torch.set_grad_enabled(graph),
            getattr(package("torchcam"), name)(case.model, case.model.layer, **given) as extractor,
        ):
            return extractor(case.target, case.model(case.x))

    return run


def first_line(error: Exception) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:120]
