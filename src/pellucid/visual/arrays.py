"""What a figure accepts: anything numpy can read, of the shape it needs, with one wording when it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.core.errors import InputError, nearest


def array(name: str, value: Any, shape: Sequence[int | str]) -> np.ndarray:
    """``value`` as a float64 array of this shape; a letter stands for any size. Tensors of any device are accepted."""
    detached = value.detach().cpu().double() if hasattr(value, "detach") else value
    try:
        made = np.asarray(detached, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not an array of numbers", cure=f"Give numbers of shape {_words(shape)}.") from error
    fits = made.ndim == len(shape) and all(isinstance(s, str) or s == have for s, have in zip(shape, made.shape))
    if not fits:
        raise InputError(f"{name} has shape {_words(made.shape)}", cure=f"Give an array of shape {_words(shape)}.")
    return made


def pictures(images: Any) -> np.ndarray:
    """Images as float64 in 0..1, (n, H, W) or (n, H, W, 3), from uint8, booleans or floats in 0..1."""
    made = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
    if made.size == 0:
        return np.zeros((0, 1, 1))
    if made.ndim == 4 and made.shape[-1] == 1:
        made = made[..., 0]
    if made.ndim != 3 and not (made.ndim == 4 and made.shape[-1] == 3):
        turn = " Move the channels to the last axis." if made.ndim == 4 and made.shape[1] in (1, 3) else ""
        raise InputError(f"images have shape {_words(made.shape)}", cure=f"Give (n, H, W) or (n, H, W, 3).{turn}")
    if made.dtype == np.uint8:
        return np.asarray(made / 255.0)
    made = made.astype(np.float64)
    if not (made.min() >= -1e-6 and made.max() <= 1 + 1e-6):  # false for NaN too
        raise InputError(
            f"images run from {made.min():.4g} to {made.max():.4g}",
            cure="Give values from 0 to 1, or uint8 from 0 to 255: the raw images, not the standardised ones.",
        )
    return np.asarray(np.clip(made, 0, 1))


def labels(name: str, given: Sequence[str] | None, size: int) -> list[str]:
    """One text for each of ``size`` things, empty texts when none are given."""
    if given is None:
        return [""] * size
    if len(given) != size:
        raise InputError(f"{len(given)} {name} for {size}", cure=f"Give {size} {name}, or none.")
    return [str(text) for text in given]


def known_keys(name: str, given: Iterable[str], known: Mapping[str, Any]) -> None:
    """Every key of ``given`` is one of ``known``."""
    for key in given:
        if key not in known:
            raise InputError(f"{name} names '{key}', which is not among the maps", cure=nearest(key, known))


def state(values: np.ndarray) -> str:
    """What a map shows: ``"NaN"`` (nothing else, or only one value beside it), ``"no evidence"`` (constant), else ``""``."""
    finite = values[np.isfinite(values)]
    if finite.size and np.ptp(finite) > 1e-6 * np.abs(finite).max():
        return ""
    return "NaN" if finite.size < values.size else "no evidence"


def _words(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
