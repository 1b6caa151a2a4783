"""Weights and checkpoints on disk: safetensors with a digest, written whole or not at all. No pickle is written or read.

A file is ordinary safetensors, with one entry in its metadata: ``pellucid``, a JSON object that holds the format version, a
digest and whatever the caller wants kept. The digest is the SHA-256 of the complete file with the digest's own 64
characters blanked, so that no tensor, name, shape or fact can change unnoticed. It guards against damage and mistakes; it is
not a signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from pellucid.core.checks import existing
from pellucid.core.errors import InputError, PellucidError

FORMAT = 1
KEY = "pellucid"
BLANK = "0" * 64
ANOTHER_COPY = "Take an earlier copy, or train again."

Tensors = dict[str, torch.Tensor]


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``: a reader, or a kill at any moment, meets the old file or the new one, never a part.

    The bytes go to ``<name>.tmp`` beside it, reach the disk, and then take the name. Raises ``InputError`` as
    ``writable`` does, ``PellucidError`` when the disk is full; the file that was there stays.
    """
    path = writable(path)
    waiting = path.with_name(path.name + ".tmp")
    try:
        with waiting.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(path)
        if sys.platform != "win32":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        with suppress(OSError):
            waiting.unlink(missing_ok=True)
        cure = "Make room on the disk; the file that was there is as it was."
        raise PellucidError(f"cannot write '{path}': {error.strerror or error}", cure=cure) from error


def writable(path: str | Path) -> Path:
    """``path``, whose folder exists now and may be written; ``InputError`` when that cannot be."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder '{path.parent}': {error.strerror}", cure="Give another path.") from error
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder '{path.parent}' cannot be written", cure="Change its rights, or give another path.")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder", cure="Give the name of a file.")
    return path


def pack(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> bytes:
    """The bytes of a file with these tensors and JSON-able facts, digest included."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            what = f"'{name}' in the model's state is a {type(tensor).__name__}, not a tensor"
            raise InputError(what, cure="Only tensors can be stored without pickle: leave get_extra_state out.")
    # A clone each: safetensors refuses tensors that share memory (tied weights).
    separate = {k: t.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for k, t in tensors.items()}
    mark = "digest-" + "-" * 57
    text = json.dumps({"version": FORMAT, "digest": mark, **facts})
    raw = bytearray(safetensors.torch.save(separate, metadata={KEY: text}))
    at = raw.index(mark.encode())
    raw[at : at + 64] = BLANK.encode()
    raw[at : at + 64] = hashlib.sha256(raw).hexdigest().encode()
    return bytes(raw)


def unpack(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and facts of a file that ``pack`` made.

    Raises ``InputError`` for anything else: a pickle, another kind of file, a truncated or changed one, one of a newer
    format. Nothing in the file is executed.
    """
    path = existing(path, kind="file")
    raw = path.read_bytes()
    header = _header(path, raw)
    try:
        facts = json.loads(header["__metadata__"][KEY])
        version, digest = int(facts.pop("version")), str(facts.pop("digest"))
    except (KeyError, TypeError, ValueError) as error:
        cure = "Only files that Pellucid wrote can be checked; read others with safetensors.torch.load_file."
        raise InputError(f"'{path}' has no Pellucid record in its metadata", cure=cure) from error
    if version > FORMAT:
        what = f"'{path}' has format version {version}, this Pellucid reads up to {FORMAT}"
        raise InputError(what, cure="Use the newer Pellucid that wrote it.")
    if hashlib.sha256(raw.replace(digest.encode(), BLANK.encode(), 1)).hexdigest() != digest:
        raise InputError(f"'{path}' was changed after it was written: its digest does not match", cure=ANOTHER_COPY)
    return safetensors.torch.load(raw), facts


def _header(path: Path, raw: bytes) -> dict[str, Any]:
    """The JSON header, after the checks that tell a damaged file from a foreign one."""
    size = int.from_bytes(raw[:8], "little")
    if raw[8:9] != b"{":
        if not raw:
            raise InputError(f"'{path}' is empty", cure=ANOTHER_COPY)
        pickled = raw[:2] == b"PK" or (raw[0] == 0x80 and raw[1:2] in (b"\2", b"\3", b"\4", b"\5"))
        what = "a pickle (torch.save or alike)" if pickled else "not a safetensors file"
        cure = "Pickles are never loaded, as they can run code. Convert it with safetensors.torch.save_file where it was made."
        raise InputError(f"'{path}' is {what}", cure=cure)
    try:
        if len(raw) < 8 + size:
            raise EOFError
        header = json.loads(raw[8 : 8 + size])
        needed = 8 + size + max((int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"), default=0)
        if len(raw) < needed:
            raise EOFError
    except EOFError:
        raise InputError(f"'{path}' is truncated: it ends after {len(raw)} bytes", cure=ANOTHER_COPY) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"'{path}' is damaged: its header cannot be read", cure=ANOTHER_COPY) from error
    return dict(header)


def save_weights(path: str | Path, model: nn.Module, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the model's parameters and buffers, under their own names, with JSON-able ``metadata``."""
    write_atomically(path, pack(model.state_dict(), {"kind": "weights", "metadata": dict(metadata or {})}))


def load_weights(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Read a file of ``save_weights`` into ``model`` and return its metadata.

    A file in another floating precision turns the model to that precision, so that no bit is lost. Raises ``InputError``
    as ``unpack`` does, and when a tensor is absent, unknown or of another shape (the first one is named); the model is
    then as it was.
    """
    tensors, facts = unpack(path)
    if facts.get("kind") != "weights":
        raise InputError(f"'{path}' holds a {facts.get('kind')}, not plain weights", cure="Give the model's own file.")
    put_weights(model, tensors, path)
    return dict(facts["metadata"])


def put_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Copy ``tensors`` into the model after checking that every one fits; ``path`` is for the message."""
    expected = model.state_dict()
    cure = "Build the model with the options it was trained with."
    for name, tensor in expected.items():
        if name not in tensors:
            raise InputError(f"'{path}' has no tensor '{name}' that the model has", cure=cure)
        if tensors[name].shape != tensor.shape:
            shapes = f"{tuple(tensors[name].shape)} in the file and {tuple(tensor.shape)} in the model"
            raise InputError(f"tensor '{name}' is {shapes}", where=path, cure=cure)
    for name in sorted(tensors):  # safetensors has no order of its own
        if name not in expected:
            raise InputError(f"'{path}' has a tensor '{name}' that the model lacks", cure=cure)
    stored = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if len(stored) == 1:
        model.to(dtype=stored.pop())
    model.load_state_dict(dict(tensors))


@dataclass
class Checkpoint:
    """A training between two steps: weights, best weights so far (or none), each optimiser's state, and JSON-able facts.

    The file holds the tensors as ``weights/<name>``, ``best/<name>`` and ``optimizer/<index>/<parameter>/<name>``; what an
    optimiser keeps that is no tensor goes with the facts.
    """

    weights: Tensors
    best: Tensors | None
    optimizers: list[dict[int, dict[str, Any]]]
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write it, atomically."""
        tensors = {f"weights/{k}": v for k, v in self.weights.items()}
        tensors |= {f"best/{k}": v for k, v in (self.best or {}).items()}
        plain: list[list[Any]] = []
        for index, states in enumerate(self.optimizers):
            for parameter, state in states.items():
                for name, value in state.items():
                    if isinstance(value, torch.Tensor):
                        tensors[f"optimizer/{index}/{parameter}/{name}"] = value
                    else:
                        plain.append([index, parameter, name, value])
        facts = {"kind": "checkpoint", "optimizers": len(self.optimizers), "plain": plain, "facts": self.facts}
        write_atomically(path, pack(tensors, facts))

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read it; ``InputError`` as in ``unpack``, or when the file holds plain weights."""
        tensors, found = unpack(path)
        if found.get("kind") != "checkpoint":
            raise InputError(
                f"'{path}' holds {found.get('kind')}, not a checkpoint", cure="Give the file in the run's state folder."
            )
        parts: dict[str, Tensors] = {"weights": {}, "best": {}}
        optimizers: list[dict[int, dict[str, Any]]] = [{} for _ in range(found["optimizers"])]
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            # A clone each: its own aligned memory, as a fresh tensor has.
            if part == "optimizer":
                index, parameter, name = name.split("/", 2)
                optimizers[int(index)].setdefault(int(parameter), {})[name] = tensor.clone()
            else:
                parts[part][name] = tensor.clone()
        for index, parameter, name, value in found["plain"]:
            optimizers[index].setdefault(parameter, {})[name] = value
        return cls(parts["weights"], parts["best"] or None, optimizers, found["facts"])
