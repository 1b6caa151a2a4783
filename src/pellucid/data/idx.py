"""The IDX format of the MNIST family: a magic number, the sizes, then the values, big-endian; often compressed with gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from pellucid.core import checks
from pellucid.core.errors import InputError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_bytes(path: str | Path) -> bytes:
    """A file's content, unpacked when it is gzip. Raises ``InputError`` when it is missing, damaged or may not be read."""
    path = checks.existing(path, kind="file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}", cure="Check its permissions.") from error
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is a damaged gzip file: {error}", cure="Fetch the file again.") from error


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, compressed or not, in the machine's byte order.

    The header is two zero bytes, a type code, the number of dimensions D, and D sizes of four bytes.
    Raises ``InputError`` when the file is not IDX, is cut off, or is longer than its header says.
    Source: http://yann.lecun.com/exdb/mnist, "the IDX file format".
    """
    content = read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise InputError(
            f"'{path}' is not an IDX file", where=f"first bytes {content[:4].hex(' ')}", cure="Give an *-ubyte file."
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:start], ">u4", len(content[4:start]) // 4).tolist())
    dtype = np.dtype(TYPES[content[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(shape) != dimensions or len(content) != expected:
        raise InputError(
            f"'{path}' has {len(content)} bytes where its header {shape} needs {expected}", cure="Fetch the file again."
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def write_idx(path: str | Path, values: np.ndarray) -> None:
    """Write unsigned bytes as IDX; a name that ends in ``.gz`` is compressed as far as gzip goes, without a date."""
    values = np.ascontiguousarray(values, np.uint8)
    content = bytes([0, 0, 0x08, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    Path(path).write_bytes(gzip.compress(content, 9, mtime=0) if str(path).endswith(".gz") else content)
