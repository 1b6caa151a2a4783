from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.core.errors import InputError
from pellucid.study.specification import Study, default_study, load_study, parse_study, resolved_text
from pellucid.study.yaml_source import YamlSource

GOOD = "data: {name: iris}\nmodel: {name: mlp}\n"


def parsed(text: str) -> Study:
    return parse_study(YamlSource(text, "study.yaml"), folder=Path("/base"))


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as error:
        parsed(text)
    return error.value


def test_little_is_enough_and_defaults_are_filled_in():
    """L1"""
    study = parsed(GOOD)
    assert (study.seed, study.training.optimizer, study.quality.samples, study.name) == (0, "AdamW", 100, "study")
    assert study.explanation.methods is None


@pytest.mark.parametrize(
    ("text", "what", "line", "cure"),
    [
        (GOOD + "training:\n  epoch: 3", "unknown key 'epoch' in 'training'", 4, "Did you mean 'epochs'?"),
        (GOOD + "modle: {name: mlp}", "unknown key 'modle'", 3, "Did you mean 'model'?"),
        (GOOD + "epochs: 3", "unknown key 'epochs'", 3, "'epochs' belongs under 'training'."),
        (GOOD + "training:\n  lr: fast", "training.lr is 'fast'", 4, "Give a number."),
        (GOOD + "training:\n\n  epochs: 2.5", "training.epochs is 2.5", 5, "Give a whole number."),
        (GOOD + "training:\n  epochs: 0", "training.epochs is 0", 4, "Give a number of at least 1."),
        (GOOD + "training:\n  epochs: yes", "training.epochs is True", 4, "Give a whole number."),
        (GOOD + "training:\n  lr: .nan", "training.lr is nan", 4, "Give a finite number."),
        (GOOD + "quality:\n  calibrated: 1", "quality.calibrated is 1", 4, "Give true or false."),
        (GOOD + "split:\n  by: stratifyed", "split.by is 'stratifyed'", 4, "Did you mean 'stratified'?"),
        (GOOD + "split:\n  test: 1.0", "split.test is 1.0", 4, "Give a number below 1.0."),
        (GOOD + "training: fast", "training is 'fast'", 3, "Give a block of 'key: value' lines."),
        (GOOD + "training:\n  augment: flip", "training.augment is 'flip'", 4, "Give a list"),
        (GOOD + "explanation:\n  methods: gradient", "explanation.methods is 'gradient'", 4, "Give a block"),
        ("model: {name: mlp}", "'data' is missing", 1, "Add e.g. 'data: {name: fashion_mnist}'."),
        ("data: {name: iris}\nmodel:\n  hidden: [3]", "'model.name' is missing", 2, "Add it"),
        ("data: {name: iriss}\nmodel: {name: mlp}", "no data set 'iriss'", 1, "Did you mean 'iris'?"),
        ("data: {name: iris}\nmodel:\n  name: lenet", "no model 'lenet'", 3, "Did you mean 'lenet5'?"),
        ("data: {name: iris}\nmodel:\n  name: mlp\n  hiden: [3]", "'mlp' has no option 'hiden'", 4, "Did you mean 'hidden'?"),
        ("data:\n  name: iris\n  path: x\nmodel: {name: mlp}", "'iris' has no option 'path'", 3, ""),
        ("data:\n  name: table\n  path: x\n  traget: y\nmodel: {name: mlp}", "no option 'traget'", 4, "Did you mean 'target'?"),
        (GOOD + "training:\n  optimizer: Adan", "no optimiser 'Adan'", 4, "Did you mean 'Adam'?"),
        (GOOD + "training:\n  schedule: cosin", "no schedule 'cosin'", 4, "Did you mean 'cosine'?"),
        (GOOD + "training:\n  objective: multiclas", "no objective 'multiclas'", 4, "Did you mean 'multiclass'?"),
        (GOOD + "training:\n  augment: [flip,\n    shft]", "no augmentation 'shft'", 5, "Did you mean 'shift'?"),
        (GOOD + "training:\n  schedule_options: {warm: 1}", "'one_cycle' has no option 'warm'", 4, "Did you mean 'warmup'?"),
        (
            GOOD + "explanation:\n  methods:\n    - gradient\n    - gradcam",
            "no method 'gradcam'",
            6,
            "Did you mean 'grad_cam'?",
        ),
        (
            GOOD + "explanation:\n  methods:\n    smoothgrad:\n      sample: 3",
            "'smoothgrad' has no option 'sample'",
            6,
            "Did you mean 'samples'?",
        ),
        (GOOD + "name: ../../etc", "name is '../../etc'", 3, "Use letters"),
        (GOOD + "seed: -1", "seed is -1", 3, "at least 0"),
    ],
)
def test_what_is_not_understood_is_named_with_line_and_cure(text, what, line, cure):
    """L1: unknown key, wrong type, unknown name or option."""
    error = refused(text)
    assert what in error.what
    assert error.where == f"study.yaml, line {line}"
    assert cure in error.cure


def test_further_errors_are_counted():
    assert "1 more after it" in refused(GOOD + "traning: {}\nqualty: {}").cure


def test_a_path_starts_at_the_file(tmp_path):
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "s.yaml"
    file.write_text("data: {name: images, path: ../pictures}\nmodel: {name: lenet5}")
    study = load_study(file)
    assert study.data.options == {"path": str(tmp_path / "pictures")}
    assert study.name == "s"


def test_the_resolved_study_is_a_study_and_moves_with_its_data(tmp_path):
    study = parsed(
        "data: {name: images, path: a/b}\nmodel: {name: lenet5}\nexplanation: {methods: [grad_cam]}\ntraining: {lr: 1e-5}"
    )
    text = resolved_text(study, Path("/base/runs/x-1"))
    again = parse_study(YamlSource(text), folder=Path("/base/runs/x-1"))
    assert again == study
    assert YamlSource(text).value["data"]["path"] == "../../a/b"
    assert YamlSource(text).value["training"]["epochs"] == 10


def test_every_field_is_described():
    """The descriptions are the comments of `pellucid init`."""
    for field in Study.model_fields.values():
        assert field.description
        for inner in getattr(field.annotation, "model_fields", {}).values():
            assert inner.description


def test_a_study_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parsed(GOOD).seed = 3  # type: ignore[misc]


def test_the_bundled_study():
    study = default_study()
    assert (study.data.name, study.model.name, study.model.options) == ("fashion_mnist", "lenet5", {"form": "relu"})
    assert len(study.explanation.methods) == 8
    assert (study.quality.samples, study.quality.randomisation_samples, study.quality.calibrated) == (100, 16, True)


def test_a_folder_is_no_study(tmp_path):
    with pytest.raises(InputError, match="is a folder, not a study.*pellucid init"):
        load_study(tmp_path)
