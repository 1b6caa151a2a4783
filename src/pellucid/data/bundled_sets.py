"""Data sets that need no network: parts bundled with the package, those of scikit-learn, and Fashion-MNIST as Debian has it."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn import datasets

from pellucid.core.errors import InputError
from pellucid.core.table import DATA

from .cells import Cells
from .dataset import Data
from .dna import DnaPreparation, letters
from .idx import read_idx
from .image_preparation import ImagePreparation
from .rows import ArrayRows
from .table import from_cells

BUNDLED = Path(__file__).parent / "bundled"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
ZALANDO = "Fashion-MNIST, Zalando Research 2017 (arXiv:1708.07747)"
LICENCE = "MIT, copyright 2017 Zalando SE"
SKLEARN_LICENCE = "BSD-3-Clause, as part of scikit-learn"


@DATA.add("bundled", kind="image")
def fashion_mnist() -> Data:
    """A part of Fashion-MNIST: 10,000 + 2,000 grey pictures of ten kinds of clothes, 28 x 28, equal classes."""
    return _fashion(BUNDLED / "fashion-mnist-{}-{}-ubyte.gz", "fashion_mnist", {}, f"{ZALANDO}: 10,000 and 2,000 images of it")


@DATA.add("files", kind="image")
def fashion_mnist_full(path: str | Path | None = None) -> Data:
    """All of Fashion-MNIST, 60,000 + 10,000 images: from Debian's package, or a folder with its four IDX files."""
    folder = Path(path).expanduser() if path is not None else DEBIAN
    if not folder.is_dir():
        raise InputError(
            f"no folder '{folder}' with Fashion-MNIST",
            cure="Run 'apt-get install dataset-fashion-mnist', or give the path of a copy.",
        )
    options = {} if path is None else {"path": str(path)}
    return _fashion(folder / "{}-{}-ubyte.gz", "fashion_mnist_full", options, f"{ZALANDO}, from {folder}")


def _fashion(pattern: Path, reader: str, options: dict[str, Any], source: str) -> Data:
    arrays = {}
    for part in ("train", "t10k"):
        pixels, labels = (_idx(Path(str(pattern).format(part, what))) for what in ("images-idx3", "labels-idx1"))
        if (
            pixels.ndim != 3
            or labels.shape != pixels.shape[:1]
            or pixels.dtype != np.uint8
            or labels.max(initial=0) >= len(CLASSES)
        ):
            raise InputError(
                f"the {part} files are not Fashion-MNIST",
                where=f"{pattern.parent}: {pixels.shape}, {labels.shape}",
                cure="Fetch the files again.",
            )
        arrays[part] = pixels, labels
    (train, train_y), (test, test_y) = arrays["train"], arrays["t10k"]
    return Data(
        reader=reader,
        options=options,
        kind="image",
        task="classification",
        rows=ArrayRows(np.concatenate([train, test])),
        y=torch.from_numpy(np.concatenate([train_y, test_y]).astype(np.int64)),
        classes=CLASSES,
        preparation=ImagePreparation(train.shape[1], train.shape[2], 1),
        names=[f"train {i}" for i in range(len(train))] + [f"test {i}" for i in range(len(test))],
        parts={"train": np.arange(len(train)), "test": np.arange(len(train), len(train) + len(test))},
        licence=LICENCE,
        source=source,
    )


def _idx(path: Path) -> np.ndarray:
    return read_idx(path if path.exists() else path.with_suffix(""))


@DATA.add("bundled", kind="dna")
def splice_junctions() -> Data:
    """3,186 primate sequences of 60 bases: ``ei`` leaves an exon in the middle, ``ie`` enters one, ``n`` does neither."""
    with gzip.open(BUNDLED / "splice-junctions.csv.gz", "rt") as file:
        frame = pd.read_csv(file)
    classes = sorted(frame["class"].unique())
    codes = letters(frame["sequence"].tolist())
    return Data(
        reader="splice_junctions",
        options={},
        kind="dna",
        task="classification",
        rows=ArrayRows(codes),
        y=torch.from_numpy(pd.Index(classes).get_indexer(pd.Index(frame["class"])).astype(np.int64)),
        classes=tuple(classes),
        preparation=DnaPreparation(codes.shape[1]),
        names=[f"sequence {i + 1}" for i in range(len(frame))],
        licence="CC BY 4.0",
        source="Towell, Noordewier and Shavlik, Splice-junction Gene Sequences (UCI), StatLog version from R's mlbench",
    )


@DATA.add("scikit-learn", kind="table")
def iris() -> Data:
    """150 flowers of three species, four measures in centimetres (Fisher 1936)."""
    return _table("iris", datasets.load_iris, "species", "classification", "R. A. Fisher 1936")


@DATA.add("scikit-learn", kind="table")
def wine() -> Data:
    """178 wines of three growers, thirteen chemical measures."""
    return _table("wine", datasets.load_wine, "grower", "classification", "Forina et al., PARVUS; UCI")


@DATA.add("scikit-learn", kind="table")
def breast_cancer() -> Data:
    """569 tumours, malignant or benign, thirty measures of the cell nuclei (Wisconsin)."""
    return _table(
        "breast_cancer", datasets.load_breast_cancer, "diagnosis", "classification", "Wolberg, Street and Mangasarian 1995; UCI"
    )


@DATA.add("scikit-learn", kind="table")
def diabetes() -> Data:
    """442 patients, ten measures, and how far the disease has gone a year later: regression."""
    return _table("diabetes", partial(datasets.load_diabetes, scaled=False), "progression", "regression", "Efron et al. 2004")


def _table(name: str, load: Callable[[], Any], target: str, task: str, source: str) -> Data:
    loaded = load()
    frame = pd.DataFrame(loaded["data"], columns=pd.Index(list(loaded["feature_names"])))
    names = loaded.get("target_names")
    frame[target] = loaded["target"] if names is None else np.asarray(names, dtype=object)[loaded["target"]]
    return from_cells(
        Cells(frame),
        name,
        {"target": target, "task": task},
        source=f"{source} (scikit-learn's load_{name})",
        licence=SKLEARN_LICENCE,
    )


@DATA.add("scikit-learn", kind="image")
def digits() -> Data:
    """1,797 handwritten digits of 8 x 8 pixels; the 17 grey levels are spread over 0 to 255."""
    loaded = datasets.load_digits()
    pixels = np.rint(loaded["images"] * (255 / 16)).astype(np.uint8)
    return Data(
        reader="digits",
        options={},
        kind="image",
        task="classification",
        rows=ArrayRows(pixels),
        y=torch.from_numpy(loaded["target"].astype(np.int64)),
        classes=tuple(map(str, loaded["target_names"])),
        preparation=ImagePreparation(8, 8, 1),
        names=[f"digit {i + 1}" for i in range(len(pixels))],
        target="digit",
        licence=SKLEARN_LICENCE,
        source="Alpaydin and Kaynak 1998, Handwritten Digits, test part; UCI (scikit-learn's load_digits)",
    )
