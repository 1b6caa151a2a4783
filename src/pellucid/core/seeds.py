"""Random numbers from a passed seed only: no global state is read, and none is left changed.

Each use derives its own seed from the study's seed and a path of names and numbers, e.g. ``(seed, "noise", 17)``
for the noise of sample 17. So a sample's result never depends on its batch, and a step's never on the steps before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *path: int | str) -> int:
    """A 63-bit seed that depends on ``seed`` and every element of ``path``."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in (int(seed), *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *path: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator seeded with ``derive(seed, *path)``."""
    return torch.Generator(device=device).manual_seed(derive(seed, *path))


def reseed(seed: int, device: torch.device) -> None:
    """Seed the CPU's and the device's generator; a hundredth of the cost of ``torch.manual_seed``, which seeds all."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextmanager
def scoped(seed: int, *path: int | str, device: str | torch.device = "cpu") -> Iterator[None]:
    """Give code that only knows torch's global generator (dropout, initialisation) a seed, and restore it after."""
    device = torch.device(device)
    devices = [device] if device.type != "cpu" else []
    with torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
        reseed(derive(seed, *path), device)
        yield
