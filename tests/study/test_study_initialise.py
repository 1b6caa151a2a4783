from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.core.errors import InputError
from pellucid.study.initialise import initialise
from pellucid.study.pipeline import run_study
from pellucid.study.specification import Study, load_study
from study.tiny_studies import everything_in, write_images, write_table

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("source", ["shapes", "streams.csv"])
def test_the_examples_give_a_study_that_runs_without_editing(source, tmp_path, monkeypatch):
    """Issue 2, acceptance 2; only the numbers of epochs and rows are cut, to be quick."""
    monkeypatch.chdir(tmp_path)
    path, _ = initialise(EXAMPLES / source)
    assert path.as_posix() == Path(source).stem + ".yaml"
    study = load_study(path)
    short = {"training": study.training.model_copy(update={"epochs": 2})}
    short["explanation"] = study.explanation.model_copy(update={"samples": 2})
    short["quality"] = study.quality.model_copy(update={"samples": 2, "randomisation_samples": 2})
    run = run_study(study.model_copy(update=short))
    assert run.path.as_posix() == f"runs/{path.stem}-1"
    assert len(run.read_json("quality.json")["methods"]) == (8 if source == "shapes" else 5)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "least"), [("shapes", 0.7), ("streams.csv", 0.75)])
def test_the_examples_are_learnt(source, least, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_study(load_study(initialise(EXAMPLES / source)[0]), until="evaluate")
    found = run.read_json("evaluation.json")["test"]
    assert found["accuracy"] >= least > found["baseline"]["scores"]["accuracy"]


def test_every_key_is_there_with_its_comment(tmp_path):
    path, notes = initialise(write_table(tmp_path / "pets.csv"), tmp_path / "pets.yaml")
    text = path.read_text()
    assert notes == ["target: 'species', by its name"]
    assert "# target: 'species', by its name" in text
    assert "# missing values: weight 7" in text
    for key, field in Study.model_fields.items():
        assert f"\n{key}:" in text
        assert field.description in text
        for inner, about in getattr(field.annotation, "model_fields", {}).items():
            assert f"  {inner}:" in text
            assert about.description in text
    assert "target: species" in text
    assert "path: pets.csv\n" in text
    assert str(tmp_path) not in text


def test_images_that_lenet_would_not_take_get_a_size(tmp_path):
    for kind in ("a", "b"):
        (tmp_path / "wide" / kind).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((40, 70, 3), 20 * i, np.uint8)).save(tmp_path / "wide" / kind / f"{i}.png")
    path, notes = initialise(tmp_path / "wide", tmp_path / "s.yaml")
    assert "images are 40 x 70; the study reads them as 32 x 32 for LeNet-5" in notes
    assert load_study(path).data.options["size"] == 32
    write_images(tmp_path / "square")
    path, _ = initialise(tmp_path / "square", tmp_path / "t.yaml")
    assert "size" not in load_study(path).data.options


def test_a_bundled_set_by_its_name(tmp_path):
    path, _ = initialise("iris", tmp_path / "flowers.yaml")
    study = load_study(path)
    assert (study.data.name, study.model.name, study.name) == ("iris", "mlp", "flowers")


def test_an_existing_file_stays(tmp_path):
    table = write_table(tmp_path / "pets.csv")
    (tmp_path / "pets.yaml").write_text("mine")
    before = everything_in(tmp_path)
    with pytest.raises(InputError, match="exists already.*Give another file with --out"):
        initialise(table, tmp_path / "pets.yaml")
    with pytest.raises(InputError, match="no folder '.*nix'"):
        initialise(table, tmp_path / "nix" / "pets.yaml")
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: folder / "pets.csf",
            r"no file or folder '.*pets.csf'.*Did you mean 'pets.csv'\? Bundled data sets: .*iris",
        ),
        (lambda folder: folder / "empty", "no images in"),
        (lambda folder: folder / "one.png", "is one image.*a sub-folder per class"),
    ],
)
def test_what_is_no_data(make, message, tmp_path):
    write_table(tmp_path / "pets.csv")
    (tmp_path / "empty").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    before = everything_in(tmp_path)
    with pytest.raises(InputError, match=message):
        initialise(make(tmp_path), tmp_path / "s.yaml")
    assert everything_in(tmp_path) == before
