"""What an explanation costs, beside the passes that it cannot do without and beside the other packages that have it.

    python benchmarks/explanation.py                                        # both networks, batches of 1 and 8
    python benchmarks/explanation.py --network resnet --batch 1 --methods grad_cam,smoothgrad
    python benchmarks/explanation.py --quick                                # single images of 64 x 64, a minute or so

Ours, every installed peer (captum, pytorch-grad-cam, torchcam) and the bare passes in plain torch run in turn in one process,
so that a busy machine hits all of them. A ratio is the median over the rounds; absolute times are noise. The bare passes use
frozen parameters and as many rows per pass as ours. The peers get the network as a user has it, with trainable parameters,
as many rows per pass as ours where they let one choose, and no graph where their method needs none.

Memory is the resident peak of one call above what the process held before it (Linux; "n/a" elsewhere). A call that would
take longer than ``--limit`` seconds is made on a smaller image, or a peer is left out of a batch; the row says so. Passes are
rows per sample: F forward, B backward to the input, H backward through the part after the layer, T forward through it.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import functools
import gc
import importlib
import importlib.util
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["TQDM_DISABLE"] = "1"  # read when the peers are imported: their progress bars would go through the table
# Read when torch is imported: on a busy machine threads that wait awake cost a hundred times what they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pellucid
from pellucid.core import devices

CLASSES = 1000
CHANNELS = 512  # of the layer that is explained, in both networks
SAMPLES = STEPS = 16
BARE_GOAL = 1.15
LEVEL = 0.97  # a peer that takes this share of our time or more is not told from one that takes all of it
ABLATION_GOAL = 4
FORWARD_AND_BACKWARD = 3  # forwards that a forward and a backward to the input take, to foresee how long a call will be
PATIENCE = 3  # limits that a peer with a price of its own may take, and the first round of a row that gets more than one
FULL = 224
SMALLEST = 112  # the last features of a smaller image are a single cell
UNITS = {"forward": "F", "backward": "B", "head": "H", "tail": "T"}
CAMS = ("cam", "grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "eigen_cam", "layer_cam")
NOISY = ("smoothgrad", "smoothgrad_squared", "vargrad")
TOGETHER = "together: "


# The networks: the layers and names of the well-known ones, so that every package finds its way.


class Block(nn.Module):
    """Two convolutions and a shortcut, with one in-place ReLU used twice."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18: 11.7 million parameters, global average pooling and one linear layer."""

    layer = "layer4"

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, CLASSES)

    def trunk(self, x: Tensor) -> Tensor:
        """Up to and with the layer that is explained."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def head(self, a: Tensor) -> Tensor:
        """What follows that layer."""
        return self.fc(torch.flatten(self.avgpool(a), 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 1000)."""
        return self.head(self.trunk(x))


class Vgg11(nn.Module):
    """VGG-11: 132.9 million parameters, 123.6 million of them in the three linear layers of its head."""

    layer = "features"

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage in [(64,), (128,), (256, 256), (512, 512), (512, 512)]:
            for after in stage:
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
                before = after
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        hidden = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        hidden += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096, CLASSES))

    def trunk(self, x: Tensor) -> Tensor:
        """Up to and with the layer that is explained."""
        return self.features(x)

    def head(self, a: Tensor) -> Tensor:
        """What follows that layer."""
        return self.classifier(torch.flatten(self.avgpool(a), 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 1000)."""
        return self.head(self.trunk(x))


NETWORKS: dict[str, type[ResNet18] | type[Vgg11]] = {"resnet": ResNet18, "vgg": Vgg11}


def images(n: int, size: int) -> Tensor:
    """Seeded images with coarse and fine structure, roughly standardised."""
    generator = torch.Generator().manual_seed(1)
    coarse, fine = (torch.randn(n, 3, s, s, generator=generator) for s in (8, size))
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False) + 0.3 * fine


def network(name: str) -> ResNet18 | Vgg11:
    """A network in evaluation mode with seeded weights; its batch norms have the statistics of some images."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    if name == "resnet":
        with torch.no_grad():
            model.train()(images(8, 128))
    return model.eval()


@dataclass
class Case:
    """A network and a batch of images. ``frozen`` shares the weights with ``model``, which is the users' and the peers'."""

    model: ResNet18 | Vgg11
    frozen: ResNet18 | Vgg11
    x: Tensor
    forward_seconds: float = 0.0  # of one image, as its head's below
    head_seconds: float = 0.0
    target: list[int] = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.target = [37 * i % CLASSES for i in range(len(self.x))]
        self.rows = devices.rows_that_fit(self.x[0])

    @property
    def size(self) -> int:
        """Pixels along an edge."""
        return self.x.shape[-1]

    @property
    def place(self) -> nn.Module:
        """The layer that is explained, in the users' network."""
        return self.model.get_submodule(self.model.layer)

    @property
    def per_pass(self) -> int:
        """Altered copies of every image that fit into one pass, for peers that are told so."""
        return max(1, self.rows // len(self.x))

    @property
    def window(self) -> int:
        """Edge of an occluded square: sixteen cover the image."""
        return self.size // 4


def freeze(model: ResNet18 | Vgg11) -> ResNet18 | Vgg11:
    """The same weights with frozen parameters; a copy of VGG's own half gigabyte is not needed."""
    memo = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def prepared(model: ResNet18 | Vgg11, frozen: ResNet18 | Vgg11, batch: int, size: int) -> Case:
    """Images of this size, and how long one takes; the library's own preparations are made on the way."""
    made = Case(model, frozen, images(batch, size))
    bare_gradient(made)
    with torch.no_grad():
        a = frozen.trunk(made.x)
        made.forward_seconds = min(seconds(lambda: frozen(made.x)) for _ in range(2)) / batch
        made.head_seconds = min(seconds(lambda: frozen.head(a)) for _ in range(2)) / batch
    return made


# The bare passes.


def scored(case: Case, answer: Tensor, sample: Tensor | None = None) -> Tensor:
    """The targets' logits, summed."""
    target = torch.tensor(case.target)
    return answer.gather(1, (target if sample is None else target[sample])[:, None]).sum()


def pairs(samples: int, draws: int, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of a sample and a draw, so many at a time."""
    for k in torch.arange(samples * draws).split(rows):
        yield k // draws, k % draws


def bare_gradient(case: Case) -> Tensor:
    """One forward and backward to the input."""
    found = torch.empty_like(case.x)
    for sample in torch.arange(len(case.x)).split(case.rows):
        leaf = case.x[sample].requires_grad_()
        found[sample] = torch.autograd.grad(scored(case, case.frozen(leaf), sample), leaf)[0]
    return found


def bare_gradients(case: Case, alter: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
    """Eight forwards and backwards per image in full passes, at points of the caller's or at noisy copies."""
    total, draws = torch.zeros_like(case.x), SAMPLES
    for sample, draw in pairs(len(case.x), draws, case.rows):
        points = case.x[sample] + 0.1 * torch.randn(len(sample), *case.x.shape[1:]) if alter is None else alter(sample, draw)
        leaf = points.requires_grad_()
        total.index_add_(0, sample, torch.autograd.grad(scored(case, case.frozen(leaf), sample), leaf)[0])
    return total / draws


def bare_straight(case: Case) -> Tensor:
    """The same on the straight way from zero."""
    return bare_gradients(case, lambda sample, draw: case.x[sample] * ((draw + 0.5) / STEPS).view(-1, 1, 1, 1))


def bare_in_turn(case: Case) -> Tensor:
    """Eight forwards and backwards, each from where the one before led."""
    point = Case(case.model, case.frozen, torch.zeros_like(case.x))
    for _ in range(STEPS):
        point.x = point.x + 1e-3 * bare_gradient(point).sign()
    return point.x


def bare_cam(case: Case) -> Tensor:
    """One forward without a graph up to the layer, then the head forward and backward."""
    with torch.no_grad():
        a = case.frozen.trunk(case.x)
    a.requires_grad_()
    return torch.autograd.grad(scored(case, case.frozen.head(a)), a)[0]


@torch.no_grad()
def bare_forward(case: Case) -> Tensor:
    """One forward."""
    return case.frozen(case.x)


@torch.no_grad()
def bare_masked(case: Case) -> Tensor:
    """One forward per image and channel that is not constant, the image weighted by the enlarged channel, in full passes."""
    a = case.frozen.trunk(case.x)
    live = (a.amax((2, 3)) > a.amin((2, 3))).nonzero()
    found = torch.zeros(a.shape[:2])
    for sample, channel in (part.unbind(1) for part in live.split(case.rows)):
        mask = F.interpolate(a[sample, channel][:, None], case.x.shape[2:], mode="bilinear", align_corners=False)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        answer = case.frozen(case.x[sample] * ((mask - low) / (high - low)))
        found[sample, channel] = answer.gather(1, torch.tensor(case.target)[sample][:, None])[:, 0]
    return found


@torch.no_grad()
def bare_occluded(case: Case) -> Tensor:
    """One forward per image and window, in full passes."""
    across = case.size // case.window
    found = torch.zeros(len(case.x), across**2)
    for sample, draw in pairs(len(case.x), across**2, case.rows):
        hidden = case.x[sample]
        for image, k in zip(hidden, draw.tolist()):
            i, j = (k // across) * case.window, (k % across) * case.window
            image[:, i : i + case.window, j : j + case.window] = 0
        found[sample, draw] = case.frozen(hidden).gather(1, torch.tensor(case.target)[sample][:, None])[:, 0]
    return found


# The peers. Each call is what a user would write, extractor and all.

PACKAGES = {"captum": "captum.attr", "torchcam": "torchcam.methods", "pytorch_grad_cam": "pytorch_grad_cam"}


@functools.cache
def package(name: str) -> Any:
    """A peer's module, or in words why there is none."""
    try:
        if name != "captum":
            _declare_torchvision()
        return importlib.import_module(PACKAGES[name])
    except (ImportError, RuntimeError) as error:
        return "not installed" if isinstance(error, ModuleNotFoundError) else f"does not load: {first_line(error)}"


def peer_of(label: str) -> Any:
    """The package at the head of a peer's label, or in words why there is none."""
    return package(label.replace(",", " ").split()[0])


@functools.cache
def _declare_torchvision() -> ModuleType | None:
    """Both packages import torchvision, which beside torch's CPU build needs help that the tests have already written.

    The module is kept: what it declares goes with it.
    """
    path = Path(__file__).parents[1] / "tests" / "peers" / "torchvision_schemas.py"
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


# The rows of the table.

Cost = Callable[[Case], float]


@dataclass(frozen=True)
class Row:
    """A method or several, what it needs at the least, and who else has it.

    ``cost``: seconds per image that ours and the bare passes will roughly take; the peers too, where ``peer_cost`` says
    nothing else.
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
        made[name] = Row(lambda case: {name: options(case)}, bare, peers or {}, cost, **rest)

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
        "captum NoiseTunnel": captum_noise("IntegratedGradients", "smoothgrad", 2, n_steps=4, internal_batch_size=rows_of)
    }
    add("integrated_gradients_smoothgrad", bare_straight, many, tunnel, lambda case: {"samples": 2, "steps": 4})
    add("guided_ig", bare_in_turn, many, None, lambda case: {"steps": STEPS})
    add(
        "expected_gradients",
        bare_straight,
        many,
        {"captum GradientShap": captum("GradientShap", baselines=references, n_samples=SAMPLES)},
        lambda case: {"samples": SAMPLES, "references": references(case)},
    )
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


# Measuring.


def seconds(run: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _status() -> dict[str, float]:
    """MiB by their names in the process's status."""
    lines = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(value.split()[0]) / 1024 for name, value in lines if name in ("VmRSS", "VmHWM")}


def peak(run: Callable[[], Any]) -> tuple[float, float | None]:
    """Seconds of one call, and MiB of its resident peak above what was held before; None where the kernel does not say."""
    gc.collect()
    try:
        # Freed memory that the C library keeps would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status()["VmRSS"]
    except (OSError, AttributeError, KeyError, TypeError):
        return seconds(run), None
    taken = seconds(run)
    return taken, max(0.0, _status()["VmHWM"] - before)


@dataclass
class Result:
    """One line of the table; times in seconds per image."""

    network: str
    method: str
    batch: int
    goal: float | None = BARE_GOAL
    ours: float | None = None
    bare: float | None = None
    over_bare: float | None = None
    peer: str = "-"
    peers: float | None = None
    over_ours: float | None = None
    memory: tuple[float | None, float | None] = (None, None)
    passes: str = ""
    notes: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        """As text, in the order of ``COLUMNS``."""
        memory = "n/a"
        if self.memory[0] is not None:
            memory = f"{self.memory[0]:.0f} / {'-' if self.memory[1] is None else f'{self.memory[1]:.0f}'}"
        numbers = [shown(v, digits) for v, digits in [(self.ours, 4), (self.peers, 4), (self.over_ours, 2)]]
        against = [shown(self.bare, 4), shown(self.over_bare, 2)]
        head = [self.network, self.method, str(self.batch), *numbers, self.peer, *against]
        return [*head, memory if self.ours is not None else "-", self.passes or "-", "; ".join(self.notes)]

    def misses(self) -> list[str]:
        """The goals that this row does not reach."""
        found = []
        if self.over_bare is not None and self.goal is not None and self.over_bare > self.goal:
            found.append(f"{self.over_bare:.2f} x bare (goal {self.goal})")
        if self.over_ours is not None and self.over_ours < LEVEL:
            found.append(f"{self.peer} takes {self.over_ours:.2f} of our time")
        return found


COLUMNS = ["network", "method", "batch", "ours s", "peer s", "peer/ours", "fastest peer", "bare s", "ours/bare"]
COLUMNS += ["MiB ours / peer", "passes", "notes"]
WIDTHS = [7, 31, 5, 8, 8, 9, 33, 8, 9, 15, 10, 5]


def shown(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def line(cells: list[str]) -> str:
    """A line of a markdown table, in columns for the terminal too."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS)) + " |"


def heading() -> str:
    """The first two lines of the table."""
    return line(COLUMNS) + "\n|" + "|".join("-" * (width + 2) for width in WIDTHS) + "|"


def first_line(error: Exception) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:120]


class Benchmark:
    """One network and the cases made of it."""

    def __init__(self, name: str, size: int, repeats: int, limit: float) -> None:
        self.name, self.full, self.repeats, self.limit = name, size, repeats, limit
        self.model = network(name)
        self.frozen = freeze(self.model)
        self.cases: dict[tuple[int, int], Case] = {}

    def case(self, batch: int, size: int) -> Case:
        """A case, made once."""
        if (batch, size) not in self.cases:
            self.cases[batch, size] = prepared(self.model, self.frozen, batch, size)
        return self.cases[batch, size]

    def fitting(self, row: Row, batch: int) -> Case | None:
        """The largest image on which no call takes longer than the limit; a single image is measured at any rate."""

        def longest(found: Case) -> float:
            peers = [row.peer_cost.get(label, row.cost)(found) for label in self.present(row)]
            return batch * max([row.cost(found), *(peers if batch == 1 else [])])

        found = self.case(batch, self.full)
        while longest(found) > self.limit and found.size // 2 >= SMALLEST:
            found = self.case(batch, found.size // 2)
        return found if batch == 1 or longest(found) <= self.limit else None

    def present(self, row: Row) -> list[str]:
        """Labels of the row's peers that are installed."""
        return [label for label in row.peers if isinstance(peer_of(label), ModuleType)]

    def measure(self, name: str, row: Row, batch: int) -> Result:
        """One row."""
        result = Result(self.name, name, batch, row.goal)
        found = self.fitting(row, batch)
        if found is None:
            result.notes.append("too long: see batch 1")
            return result
        if found.size != self.full:
            result.notes.append(f"{found.size} x {found.size}")
        asked = row.asked(found)
        runs: dict[str, Callable[[], Any]] = {"ours": lambda: note(ours(found, asked))}

        def note(answer: dict[str, Any]) -> None:
            counts = {key: sum(e.passes.get(key, 0.0) for e in answer.values()) for key in UNITS}
            result.passes = " ".join(f"{round(value, 2):g}{UNITS[key]}" for key, value in counts.items() if value)

        for label, run in row.peers.items():
            expected = batch * row.peer_cost.get(label, row.cost)(found)
            if label not in self.present(row):
                result.notes.append(f"{label} {peer_of(label)}")
            elif batch > 1 and expected > PATIENCE * self.limit:
                result.notes.append(f"{label} left out: about {expected:.0f} s")
            else:
                runs[label] = functools.partial(run, found)
        runs["bare"] = lambda: row.bare(found)
        try:
            times, memory = self._rounds(runs, result.notes)
        except Exception as error:
            result.notes.append(f"failed: {first_line(error)}")
        else:
            self._fill(result, found, row, times, memory)
        return result

    def _rounds(
        self, runs: dict[str, Callable[[], Any]], notes: list[str]
    ) -> tuple[list[dict[str, float]], dict[str, float | None]]:
        """Seconds of every call, round by round, and the memory of the first ones, which do not count unless they are long."""
        first, memory = {}, {}
        for label, run in list(runs.items()):
            try:
                first[label], memory[label] = peak(run)
            except Exception as error:
                if label in ("ours", "bare"):
                    raise
                notes.append(f"{label} failed: {first_line(error)}")
                del runs[label]
            self.model.zero_grad()  # else a peer's gradients stay beside the parameters
        if sum(first.values()) > PATIENCE * self.limit:
            notes.append("1 round")
            return [first], memory
        times: list[dict[str, float]] = []
        begun = time.perf_counter()
        while len(times) < self.repeats and (not times or time.perf_counter() - begun < self.limit):
            times.append({})
            for label, run in runs.items():
                times[-1][label] = seconds(run)
                self.model.zero_grad()
        if len(times) < self.repeats:
            notes.append(f"{len(times)} round{'s' * (len(times) > 1)}")
        return times, memory

    @staticmethod
    def _fill(result: Result, found: Case, row: Row, times: list[dict[str, float]], memory: dict[str, float | None]) -> None:
        n = len(found.x)
        median = {label: statistics.median(t[label] for t in times) for label in times[0]}
        result.ours, result.bare = median["ours"] / n, median["bare"] / n
        result.over_bare = statistics.median(t["ours"] / t["bare"] for t in times)
        peers = [label for label in median if label in row.peers]
        if peers:
            result.peer = min(peers, key=median.__getitem__)
            result.peers = median[result.peer] / n
            result.over_ours = statistics.median(t[result.peer] / t["ours"] for t in times)
        result.memory = memory["ours"], memory.get(result.peer)

    def ablation(self) -> tuple[str, bool]:
        """Ablation-CAM of two images, in forwards of the same two, and whether the goal is reached at the full size."""
        found = self.case(2, self.full)
        runs = [lambda: ours(found, {"ablation_cam": {}}), lambda: bare_forward(found)]
        for run in runs:
            run()
        ratio = statistics.median(seconds(runs[0]) / seconds(runs[1]) for _ in range(max(3, self.repeats)))
        said = f"{ratio:.1f} forwards (goal {ABLATION_GOAL}{'' if self.full == FULL else f' at {FULL} x {FULL}'})"
        return f"{self.name}: Ablation-CAM, {CHANNELS} channels, 2 images: {said}", self.full < FULL or ratio <= ABLATION_GOAL


def suited(rows: dict[str, Row], name: str, wanted: list[str]) -> dict[str, Row]:
    """The rows of a network that were asked for and that ours has."""

    def there(label: str) -> bool:
        if label.startswith(TOGETHER):
            return any(part in known() for part in (CAMS if label.endswith("CAMs") else NOISY))
        return label in known()

    def asked(label: str) -> bool:
        return not wanted or any(label == w or label.startswith(f"{w}:") for w in wanted)

    return {label: row for label, row in rows.items() if asked(label) and there(label) and row.only in (None, name)}


def main() -> int:
    """0 when every row reaches its goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--batch", help="batch sizes, with commas between them (default 1,8; quick: 1)")
    parser.add_argument("--methods", default="", help="names, with commas between them; 'together' for the shared calls")
    parser.add_argument("--repeats", type=int, help="rounds of a row that is not slow (default 7; quick: 3)")
    parser.add_argument(
        "--limit", type=float, help="seconds that a call, and the rounds of a row, may take (default 8; quick: 2)"
    )
    parser.add_argument("--quick", action="store_true", help="single images of 64 x 64 and few rounds")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0 leaves them")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")  # what the peers say about themselves
    rows, wanted = table(), [name for name in given.methods.split(",") if name]
    unknown = [name for name in wanted if name not in rows and name != "together"]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(rows)}")
    size = 64 if given.quick else FULL
    batches = [int(n) for n in (given.batch or ("1" if given.quick else "1,8")).split(",")]
    repeats, limit = given.repeats or (3 if given.quick else 7), given.limit or (2.0 if given.quick else 8.0)
    print(
        f"images of 3 x {size} x {size}, {torch.get_num_threads()} thread(s), torch {torch.__version__}\n\n{heading()}",
        flush=True,
    )
    results: list[Result] = []
    lines: list[tuple[str, bool]] = []
    begun = time.perf_counter()
    try:
        for name in NETWORKS if given.network == "both" else [given.network]:
            benchmark = Benchmark(name, size, repeats, limit)
            mine = suited(rows, name, wanted)
            for label, row in mine.items():
                for batch in batches:
                    results.append(benchmark.measure(label, row, batch))
                    print(line(results[-1].cells()), flush=True)
            if "ablation_cam" in mine:
                lines.append(benchmark.ablation())
                print(lines[-1][0], flush=True)
    except KeyboardInterrupt:
        print("\nstopped")
    return report(results, lines, time.perf_counter() - begun)


def report(results: list[Result], lines: list[tuple[str, bool]], taken: float) -> int:
    """Print everything once more in one piece, and what misses a goal."""
    print(f"\n{heading()}")
    for result in results:
        print(line(result.cells()))
    print("", *(text for text, _ in lines), sep="\n")
    missed = [(result, found) for result in results if (found := result.misses())]
    failed = [result for result in results if any(note.startswith("failed") for note in result.notes)]
    print(
        f"\n{taken:.0f} s. Goals: at most {BARE_GOAL} x the bare passes, and no peer that takes less than {LEVEL} of our time."
    )
    print(f"{len(missed)} of {len(results)} rows miss one:" if missed else f"None of {len(results)} rows misses one.")
    for result, found in missed:
        print(f"- {result.network}, {result.method}, batch {result.batch}: {'; '.join(found)}")
    for result in failed:
        print(f"- {result.network}, {result.method}, batch {result.batch}: {'; '.join(result.notes)}")
    beyond = [text for text, good in lines if not good]
    for text in beyond:
        print(f"- {text}")
    return 1 if missed or failed or beyond else 0


if __name__ == "__main__":
    sys.exit(main())
