"""Kill -9 in the middle of `pellucid train`, then `pellucid resume`: the same bits as an undisturbed run (acceptance 3)."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = """
data: {name: digits}
model: {name: mlp, hidden: [64], dropout: 0.2}
training: {epochs: 30, batch: 16, optimizer: AdamW, lr: 0.003, device: cpu}
explanation: {methods: [gradient], samples: 2}
quality: {samples: 4, randomisation_samples: 2}
"""
KILLS = 3
# One thread: two would only wait for each other on so small a network where the machine is busy.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def pellucid(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "pellucid.cli.main", *map(str, words)]


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_killed_anywhere_and_resumed_is_the_same(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(STUDY, encoding="utf-8")
    subprocess.run(
        pellucid("train", study, "--out", tmp_path / "undisturbed"), check=True, capture_output=True, env=ENVIRONMENT
    )
    wanted = digest(tmp_path / "undisturbed")
    draw, amid = random.Random(0), 0
    for i in range(KILLS):
        run = tmp_path / f"run-{i}"
        process = subprocess.Popen(
            pellucid("train", study, "--out", run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        state = run / "state" / "checkpoint.safetensors"
        while not state.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 1.0))
        amid += process.poll() is None
        process.kill()
        process.wait()
        subprocess.run(pellucid("resume", run), check=True, capture_output=True, env=ENVIRONMENT)
        assert digest(run) == wanted, f"kill {i}"
    assert amid >= KILLS // 2, "too few kills came before the end to tell anything"
