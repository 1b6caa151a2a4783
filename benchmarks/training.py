"""What the loop costs, and what it reaches.

    python benchmarks/training.py           # time per step beside a bare loop, LeNet-5 at batch 128
    python benchmarks/training.py --full    # also: LeNet-5 (ReLU form) on the complete Fashion-MNIST, 10 epochs

The bare loop is the least that trains the same model: one permutation, ``x[rows]``, forward, backward, step. Both train the
same weights with the same optimiser, in turn; the ratio is the median over the rounds, so that a busy machine hits both.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from pellucid.training.batches import InMemory, Part
from pellucid.training.events import progress
from pellucid.training.loop import train
from pellucid.training.objectives import objective
from pellucid.training.validation import outputs

BATCH = 128
LIMIT = 1.05
GOAL = 0.895


def lenet5() -> nn.Module:
    """The ReLU form of LeNet-5 with padding for 28 x 28, 61,706 parameters."""
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, *head)


def bare(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """One epoch without Pellucid."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for rows in torch.randperm(len(x)).split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def step_times(rounds: int, steps: int) -> list[tuple[float, float]]:
    """Milliseconds per step of the bare loop and of ``train``, a whole call each, per round."""
    x, y = torch.randn(steps * BATCH, 1, 28, 28), torch.randint(0, 10, (steps * BATCH,))
    start, data, aim = lenet5(), InMemory(x, y), objective("multiclass", y, classes=10)

    def ours(model: nn.Module) -> None:
        train(model, data, aim, epochs=1, batch=BATCH, lr=1e-3, device="cpu", on_event=lambda event: None)

    def timed(run: object, *args: object) -> float:
        model, begun = copy.deepcopy(start), time.perf_counter()
        run(model, *args)  # type: ignore[operator]
        return (time.perf_counter() - begun) / steps * 1000

    timed(bare, x, y), timed(ours)
    pairs = []
    for i in range(rounds):
        if i % 2:
            mine = timed(ours)
            pairs.append((timed(bare, x, y), mine))
        else:
            other = timed(bare, x, y)
            pairs.append((other, timed(ours)))
    return pairs


def compare(rounds: int, steps: int) -> bool:
    """Print the table; whether the limit holds."""
    pairs = step_times(rounds, steps)
    ratio = statistics.median(mine / other for other, mine in pairs)
    print(f"LeNet-5, batch {BATCH}, {torch.get_num_threads()} thread(s), {rounds} rounds of {steps} steps, median\n")
    print("| loop | ms per step | ratio |\n|---|---|---|")
    print(f"| bare | {statistics.median(p[0] for p in pairs):.3f} | 1 |")
    print(f"| pellucid.training.train | {statistics.median(p[1] for p in pairs):.3f} | {ratio:.3f} (limit {LIMIT}) |")
    return ratio <= LIMIT


def fashion(path: Path | None, epochs: int) -> bool:
    """LeNet-5 through Pellucid's own data and models; whether the test accuracy is reached."""
    from pellucid.data.augmentation import augmenter
    from pellucid.data.reading import read
    from pellucid.models.building import build

    data = read("fashion_mnist_full", path)
    data.fit(data.parts["train"])
    rows, held_out = data.parts["train"], data.parts["test"]
    learning = InMemory(*data.tensors(rows)) if data.fits_in_memory() else Part(data, rows)
    testing = InMemory(*data.tensors(held_out)) if data.fits_in_memory() else Part(data, held_out)
    model = build("lenet5", input_shape=data.input_shape, outputs=len(data.classes), seed=0, form="relu")
    aim = objective("multiclass", data.y[rows], classes=len(data.classes))
    begun = time.perf_counter()
    train(
        model,
        learning,
        aim,
        epochs=epochs,
        batch=BATCH,
        lr=3e-3,
        weight_decay=0.01,
        schedule="one_cycle",
        augment=augmenter(["flip"]),
        device="cpu",
        on_event=progress(),
    )
    seconds = time.perf_counter() - begun
    accuracy = aim.metrics(*outputs(model, testing))["accuracy"]
    print("\n| data | epochs | seconds | test accuracy | goal |\n|---|---|---|---|---|")
    print(f"| Fashion-MNIST, {len(learning):,} rows | {epochs} | {seconds:.0f} | {accuracy:.4f} | {GOAL} |")
    return accuracy >= GOAL


def main() -> int:
    """0 when every limit holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; 0 leaves them")
    parser.add_argument("--full", action="store_true", help="also train on the complete Fashion-MNIST")
    parser.add_argument("--path", type=Path, help="folder of the complete Fashion-MNIST (default: Debian's)")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    good = compare(given.rounds, given.steps)
    if given.full:
        good = fashion(given.path, given.epochs) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
