"""Rebuild src/pellucid/data/bundled from two Debian packages.

apt-get download dataset-fashion-mnist r-cran-mlbench
python -m pip install rdata            # reads R's format; needed here only
python scripts/make_bundled_data.py FOLDER_WITH_THE_TWO_DEB_FILES
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np

from pellucid.data.bundled_sets import BUNDLED
from pellucid.data.idx import read_idx, write_idx

SEED = 0
PER_CLASS = {"train": 1000, "t10k": 200}


def chosen(labels: np.ndarray, part: str, per_class: int) -> np.ndarray:
    """The same rows on every machine and with every library version: the smallest digests of each class."""

    def digest(row: int) -> bytes:
        return hashlib.blake2b(f"{SEED}:{part}:{row}".encode(), digest_size=16).digest()

    rows = [sorted(np.flatnonzero(labels == label).tolist(), key=digest)[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(rows))


def fashion_mnist(root: Path) -> None:
    """A class-balanced part of Fashion-MNIST."""
    folder = root / "usr/share/datasets/fashion-mnist"
    for part, per_class in PER_CLASS.items():
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        rows = chosen(labels, part, per_class)
        write_idx(BUNDLED / f"fashion-mnist-{part}-labels-idx1-ubyte.gz", labels[rows])
        write_idx(
            BUNDLED / f"fashion-mnist-{part}-images-idx3-ubyte.gz", read_idx(folder / f"{part}-images-idx3-ubyte.gz")[rows]
        )


def splice_junctions(root: Path) -> None:
    """The StatLog coding (A 100, C 010, G 001, T 000) turned back into letters."""
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file does not name its encoding; it is ASCII
        frame = rdata.read_rda(root / "usr/lib/R/site-library/mlbench/data/DNA.rda")["DNA"]
    bits = frame.iloc[:, :180].astype(str).astype(int).to_numpy().reshape(-1, 60, 3)
    letters = np.array(list("TGC?A"))[bits @ np.array([4, 2, 1])]
    lines = ["class,sequence"] + [f"{label},{''.join(row)}" for label, row in zip(frame["Class"].astype(str), letters)]
    content = ("\n".join(lines) + "\n").encode()
    (BUNDLED / "splice-junctions.csv.gz").write_bytes(gzip.compress(content, 9, mtime=0))


def main() -> None:
    """Unpack both packages into a temporary folder and write the bundled files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder that holds the two .deb files")
    packages = parser.parse_args().packages
    with tempfile.TemporaryDirectory() as root:
        for name in ("dataset-fashion-mnist", "r-cran-mlbench"):
            subprocess.run(["dpkg-deb", "-x", str(next(packages.glob(f"{name}_*.deb"))), root], check=True)
        fashion_mnist(Path(root))
        splice_junctions(Path(root))
    for path in sorted(BUNDLED.iterdir()):
        print(f"{path.stat().st_size:>9,}  {path.name}")


if __name__ == "__main__":
    main()
