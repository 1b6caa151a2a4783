"""One entry for every data set, and the guess behind ``pellucid init``."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import InputError
from pellucid.data.reading import guess, read


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_text("length,Species\n1,a\n5,b\n2,a\n")
    return path


@pytest.fixture
def pictures(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((4, 4), 9 * i, np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def test_reader_and_options_read_the_same_again(path, pictures):
    for data in (read("table", path, target="Species"), read("images", pictures, size=3), read("iris"), read("digits")):
        again = read(data.reader, **data.options)
        assert again.fingerprint() == data.fingerprint()
        assert again.options == data.options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fashion_mnst", {}, "no data set 'fashion_mnst'. Did you mean 'fashion_mnist'"),
        ("iris", {"size": 3}, "'iris' has no option 'size'"),
        ("images", {"path": "x", "sise": 3}, "'images' has no option 'sise'. Did you mean 'size'"),
        ("iris", {"path": "x.csv"}, r"data set 'iris' takes no path \(x\.csv\)"),
        ("images", {}, "data set 'images' needs a path"),
        ("table", {"path": "x.csv"}, r"data set 'table' needs the option 'target' \(x\.csv\)"),
    ],
)
def test_what_is_wrong_is_named(name, options, message):
    with pytest.raises(InputError, match=message):
        read(name, **options)


def test_a_lacking_target_lists_the_columns(path):
    with pytest.raises(InputError, match="needs the option 'target'.*The columns are: length, Species"):
        read("table", path)


def test_guesses(path, pictures, tmp_path):
    assert guess(path) == ("table", {"target": "Species"}, ["target: 'Species', by its name"])
    assert guess(pictures)[:2] == ("images", {})
    (tmp_path / "t.csv").write_text("a,y,b\n1,2,3\n")
    assert guess(tmp_path / "t.csv")[1] == {"target": "y"}
    (tmp_path / "u.csv").write_text("a,b,c\n1,2,3\n")
    assert guess(tmp_path / "u.csv") == ("table", {"target": "c"}, ["target: 'c', the last column"])
    (tmp_path / "i.csv").write_text("file,kind\npets/cat/0.png,cat\npets/dog/0.png,dog\n")
    reader, options, notes = guess(tmp_path / "i.csv")
    assert (reader, options) == ("images", {"image": "file", "label": "kind"})
    assert "names image files" in notes[0]
    assert len(read(reader, tmp_path / "i.csv", **options)) == 2


@pytest.mark.parametrize("make", ["empty", "tables", "image", "one column", "missing"])
def test_what_cannot_be_guessed(tmp_path, path, pictures, make):
    (tmp_path / "none").mkdir()
    (tmp_path / "one.csv").write_text("a\n1\n")
    (tmp_path / "tables").mkdir()
    path.rename(tmp_path / "tables" / "flowers.csv")
    where, message = {
        "empty": (tmp_path / "none", "no images in .*Give a CSV or images"),
        "tables": (tmp_path / "tables", r"no images in .*Give a table in it: flowers\.csv"),
        "image": (pictures / "cat" / "0.png", "is one image. Give the folder"),
        "one column": (tmp_path / "one.csv", "has 1 column. Give a table with inputs and a target"),
        "missing": (tmp_path / "pet", "no file or folder .*Did you mean 'pets'"),
    }[make]
    with pytest.raises(InputError, match=message):
        guess(where)
