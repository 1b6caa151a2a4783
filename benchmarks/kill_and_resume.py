"""Kill -9 a training at random moments, resume it, and compare the weights with those of an undisturbed run.

    python benchmarks/kill_and_resume.py            # ten kills, a table; exit code 1 when any weight differs

The training has everything that could remember something: dropout, batch normalisation, augmentation, momentum, a schedule,
clipping, validation with best weights, and a checkpoint as often as it can. Each kill hits a fresh run at a random moment
between its first step and the end of an undisturbed one; then the same command runs again until it is through.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EPOCHS = 6
ROWS = 1500
STARTED = "started"


def child(folder: Path) -> None:
    """Train from the folder's checkpoint, or from the start, and write the result."""
    import torch
    from torch import nn

    from pellucid.core import seeds
    from pellucid.training.batches import InMemory
    from pellucid.training.events import Event
    from pellucid.training.loop import train
    from pellucid.training.objectives import objective
    from pellucid.training.validation import validation

    torch.set_num_threads(1)
    numbers = seeds.generator(0, "data")
    x = torch.randn(ROWS, 1, 12, 12, generator=numbers)
    y = (x[:, 0, :6].mean((1, 2)) > x[:, 0, 6:].mean((1, 2))).long() + 2 * (x[:, 0, :, :6].mean((1, 2)) > 0).long()
    with seeds.scoped(0, "weights"):
        convolution = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        model = nn.Sequential(*convolution, nn.Linear(200, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))

    def noisy(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return batch + 0.1 * torch.randn(batch.shape, generator=generator)

    def listen(event: Event) -> None:
        if event.kind == "start":
            print(STARTED, flush=True)
        time.sleep(0.004)

    aim = objective("multiclass", y, classes=4)
    history = train(
        model,
        InMemory(x[:1200], y[:1200]),
        aim,
        epochs=EPOCHS,
        batch=32,
        optimizer="SGD",
        lr=0.1,
        optimizer_options={"momentum": 0.9, "nesterov": True},
        schedule="one_cycle",
        clip=1.0,
        augment=noisy,
        validate=validation(InMemory(x[1200:], y[1200:]), aim),
        best="accuracy",
        device="cpu",
        checkpoint=folder / "checkpoint.safetensors",
        resume=True,
        save_every=0.02,
        on_event=listen,
        show_every=0.0,
    )
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history.rows]
    seconds = sum(row["seconds"] for row in history.rows)
    (folder / "result.json").write_text(json.dumps({"weights": digest.hexdigest(), "rows": rows, "seconds": seconds}))


def start(folder: Path) -> subprocess.Popen[str]:
    """The child process, once it is about to make its first step."""
    process = subprocess.Popen([sys.executable, __file__, "--child", str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != STARTED:
        raise RuntimeError(f"the training did not start: exit code {process.wait()}")
    return process


def finish(folder: Path) -> dict[str, Any]:
    """Run to the end; the digest of the weights, the history, and the seconds that the epochs took."""
    process = start(folder)
    if process.wait():
        raise RuntimeError(f"the training failed: exit code {process.returncode}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def killed(folder: Path, after: float) -> bool:
    """Kill -9 a training ``after`` so many seconds; false when it was through before."""
    process = start(folder)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def place(folder: Path) -> str:
    """Where the checkpoint that the kill left stands."""
    from pellucid.training.checkpoint import Checkpoint

    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return "none yet"
    at = Checkpoint.load(path).facts["place"]
    return "the end" if at["epoch"] == EPOCHS else f"epoch {at['epoch'] + 1}, step {at['step']}"


def main() -> int:
    """0 when every resumed run ends in the undisturbed run's weights and history."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return 0
    moments, same, hits = random.Random(given.seed), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        (whole := Path(temporary) / "undisturbed").mkdir()
        expected = finish(whole)
        print(f"undisturbed: {expected['seconds']:.1f} s, weights {expected['weights'][:16]}\n")
        print("| kill | after s | checkpoint at | weights | history |\n|---|---|---|---|---|")
        while hits < given.kills:
            after = moments.uniform(0, expected["seconds"])
            (folder := Path(temporary) / f"run-{hits}-{after}").mkdir()
            if not killed(folder, after):
                continue
            hits += 1
            where, found = place(folder), finish(folder)
            verdicts = ["same" if found[key] == expected[key] else "DIFFERENT" for key in ("weights", "rows")]
            same += "DIFFERENT" not in verdicts
            print(f"| {hits} | {after:.2f} | {where} | {' | '.join(verdicts)} |", flush=True)
    print(f"\n{same} of {given.kills} resumed trainings are bit-identical")
    return 0 if same == given.kills else 1


if __name__ == "__main__":
    sys.exit(main())
