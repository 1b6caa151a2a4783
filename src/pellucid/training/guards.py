"""What a training borrows and gives back: torch's generators and modes, the modules' modes, the meaning of Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Any: the attribute behind torch's documented switch is made at run time, unknown to a type checker.
deterministic: Any = torch.utils.deterministic


@contextmanager
def own_state(device: torch.device) -> Iterator[None]:
    """Torch's global generators, deterministic mode and gradient mode are the loop's inside, and as they were after."""
    accelerator = [] if device.type == "cpu" else [device]
    mode, fill = torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory
    try:
        with (
            torch.random.fork_rng(accelerator, device_type=device.type if accelerator else "cuda"),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            if not accelerator and not mode:
                torch.set_deterministic_debug_mode("warn")
                deterministic.fill_uninitialized_memory = False
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        deterministic.fill_uninitialized_memory = fill


@contextmanager
def ctrl_c_waits() -> Iterator[Callable[[], bool]]:
    """In the main thread the first Ctrl-C only makes the yielded function true; the second raises ``KeyboardInterrupt``."""
    pressed: list[int] = []

    def press(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread() and before not in (None, signal.SIG_IGN)
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Every module is in training or evaluation mode afterwards as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
