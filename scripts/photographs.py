"""Photographs of animals and things with a stated licence each, out of a package of Debian that carries them.

GCompris, a collection of games for children, ships photographs that are in the public domain or under a Creative Commons
licence, and says of each who took it and where it comes from. The package is downloaded with apt-get on first use, never
installed, and kept in ``$XDG_CACHE_HOME/pellucid``; no byte of it is in this repository.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mobilenet_v2 import cache, checked, keep

PACKAGE, VERSION = "gcompris-qt-data", "3.1-2"
FILE = f"{PACKAGE}_{VERSION}_all.deb"
DIGEST = "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f"
# Resource file: its folders of photographs. Left out are drawings, paintings, and monuments, which occur in several folders.
FOLDERS = {
    "explore_world_animals": ("animals",),
    "explore_farm_animals": ("animals",),
    "erase": ("",),
    "categorization": ("images/fishes", "images/others", "images/tools"),
}
SMALLEST = 150  # pixels of the shorter side; what is smaller is an icon
FIELD = re.compile(r"(Copyright|License|Source|Files|Comments?):\s*(.*)")


@dataclass(frozen=True)
class Photograph:
    """A picture (H, W, 3) uint8; ``name`` is its resource file and path, the rest what the package says of it."""

    name: str
    image: np.ndarray
    author: str
    licence: str
    source: str


def photographs() -> list[Photograph]:
    """All photographs of ``FOLDERS`` that the package states a licence of, in the order of their names.

    Raises RuntimeError where the package is not to be had.
    """
    found = []
    for resource, content in _resources(_package()):
        files = unpacked(content)
        root = f"gcompris/src/activities/{resource}/resource/"
        for folder in FOLDERS[resource]:
            start = f"{root}{folder}/" if folder else root
            said = credits(files[f"{start}README"].decode("utf-8"))
            for path in sorted(p for p in files if p.startswith(start) and p.endswith(".webp")):
                picture, credit = Image.open(io.BytesIO(files[path])), said.get(path.removeprefix(start))
                if credit and min(picture.size) >= SMALLEST:
                    name = f"{resource}/{path.removeprefix(root).removesuffix('.webp')}"
                    found.append(Photograph(name, np.asarray(picture.convert("RGB")), *credit))
    return sorted(found, key=lambda one: one.name)


def credits(text: str) -> dict[str, tuple[str, str, str]]:
    """File -> author, licence and source, from paragraphs of ``Copyright:``, ``License:``, ``Source:`` and ``Files:``."""
    found = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, list[str]] = {}
        key = ""
        for line in paragraph.splitlines():
            match = FIELD.match(line)
            key = match[1] if match else key
            fields.setdefault(key, []).append(match[2] if match else line.strip())
        author, licence, source = (" ".join(fields.get(name, [])).strip() for name in ("Copyright", "License", "Source"))
        for file in filter(None, fields.get("Files", [])):
            found[file] = (author, re.sub(r"(?<=[A-Z]) (?=\d)", "-", licence).replace("Public domain", "Public Domain"), source)
    return found


def unpacked(content: bytes) -> dict[str, bytes]:
    """Path -> bytes of a binary resource file of Qt: a tree of names, each leaf with its data, some of it deflated.

    ValueError for another kind of file and for the one kind of compression that Python cannot undo by itself.
    """
    if content[:4] != b"qres":
        raise ValueError("not a resource file of Qt")
    version, tree, data, names = struct.unpack_from(">4I", content, 4)
    step = 14 if version == 1 else 22  # from the second version on a node ends with the time of its last change
    files = {}

    def walk(node: int, above: str) -> None:
        at = tree + step * node
        offset, flags = struct.unpack_from(">IH", content, at)
        path = above + (_name(content, names + offset) if node else "")
        if flags & 2:  # a folder: how many nodes it holds, and which is the first
            count, first = struct.unpack_from(">II", content, at + 6)
            for child in range(first, first + count):
                walk(child, f"{path}/" if node else "")
            return
        if flags & 4:
            raise ValueError(f"'{path}' is compressed with zstd")
        start = data + int(struct.unpack_from(">I", content, at + 10)[0])
        (length,) = struct.unpack_from(">I", content, start)
        body = content[start + 4 : start + 4 + length]
        files[path] = zlib.decompress(body[4:]) if flags & 1 else body

    walk(0, "")
    return files


def _name(content: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", content, at)
    return content[at + 6 : at + 6 + 2 * length].decode("utf-16-be")  # after the length stands a hash of the name


def _resources(package: bytes) -> Iterator[tuple[str, bytes]]:
    """The resource files of ``FOLDERS``, from the archive of archives that a package of Debian is."""
    at = 8  # after "!<arch>\n"
    while at < len(package):
        name, size = package[at : at + 16].decode().strip(" /"), int(package[at + 48 : at + 58])
        if name == "data.tar.xz":
            with tarfile.open(fileobj=io.BytesIO(lzma.decompress(package[at + 60 : at + 60 + size]))) as archive:
                for resource in FOLDERS:
                    file = archive.extractfile(f"./usr/share/gcompris-qt/rcc/{resource}.rcc")
                    assert file is not None
                    yield resource, file.read()
            return
        at += 60 + size + size % 2
    raise RuntimeError(f"{FILE} holds no data.tar.xz")


def _package() -> bytes:
    kept = cache() / FILE
    if not kept.is_file():
        keep(kept, checked(_downloaded(kept.parent), DIGEST, FILE))
    return checked(kept.read_bytes(), DIGEST, str(kept))


def _downloaded(where: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = ["apt-get", "download", f"{PACKAGE}={VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
            reason = (done.stderr.strip().splitlines() or ["apt-get said nothing"])[-1]
        except OSError as error:
            reason = str(error)
        if not (Path(folder) / FILE).is_file():
            raise RuntimeError(
                f"The photographs are in {FILE}, a package of Debian, which could not be downloaded with apt-get: {reason} "
                f"Put that file into {where} by hand."
            )
        return (Path(folder) / FILE).read_bytes()
