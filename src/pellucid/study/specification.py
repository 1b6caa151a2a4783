"""The study as written by a person: every key, its type, its default and its meaning, each once.

The descriptions below are the comments of ``pellucid init`` and the words of the messages.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pellucid.core.errors import InputError, nearest
from pellucid.core.table import AUGMENTATIONS, BESIDE, DATA, METHODS, MODELS, OBJECTIVES, OPTIMIZERS, SCHEDULES, Table

from .yaml_source import YamlSource, dump

AUTO = "auto"


class Section(BaseModel):
    """A block of the study: unknown keys are refused, values are not converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Named(Section):
    """A part from a table with its options; which options there are is the part's own signature."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(description="which one; all names are shown by 'pellucid list'")

    @property
    def options(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.model_extra or {})


class SplitSection(Section):
    """How rows are shared out between training, validation and test."""

    by: Literal["auto", "stratified", "random", "grouped", "time"] = Field(
        default="auto", description="auto, stratified (equal shares of every class), random, grouped or time"
    )
    test: float = Field(
        default=0.2, ge=0, lt=1, description="share of rows kept for the test, never seen before it (unless the data fixes it)"
    )
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of rows that chooses the best epoch")


class TrainingSection(Section):
    """How the weights are found."""

    objective: str = Field(default=AUTO, description="auto (from the target), multiclass, binary, multilabel or regression")
    objective_options: dict[str, Any] = Field(
        default={}, description="options of the objective, e.g. {class_weights: balanced}"
    )
    optimizer: str = Field(default="AdamW", description="one of torch's optimisers by its name")
    lr: float = Field(default=0.003, gt=0, description="learning rate; with one_cycle its highest value")
    weight_decay: float = Field(default=0.01, ge=0, description="pull of the weights towards zero")
    optimizer_options: dict[str, Any] = Field(default={}, description="options of the optimiser, e.g. {momentum: 0.9}")
    schedule: str = Field(default="one_cycle", description="how the learning rate changes during training")
    schedule_options: dict[str, Any] = Field(default={}, description="options of the schedule, e.g. {warmup: 0.1}")
    epochs: int = Field(default=10, ge=1, description="passes over the training part")
    batch: int = Field(default=128, ge=1, description="rows per step")
    augment: tuple[str, ...] = Field(
        default=(), strict=False, description="random changes of training images, e.g. [flip, shift]"
    )
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient; null: no limit")
    patience: int | None = Field(default=None, ge=1, description="stop after so many epochs without improvement; null: never")
    best: str = Field(default=AUTO, description="validation metric that names the best epoch: auto, loss, accuracy, ...")
    precision: Literal["float32", "bfloat16", "float16", "float64"] = Field(
        default="float32", description="precision of the forward pass"
    )
    device: str = Field(default=AUTO, description="auto, cpu, cuda, ...")
    save_every: float = Field(
        default=60.0, gt=0, description="seconds between two checkpoints; a killed run resumes from the last one"
    )


def _names(value: Any) -> Any:
    """``auto`` -> None."""
    return None if value == AUTO else value


def _methods(value: Any) -> Any:
    """``auto`` -> None; a list of names -> names without options; null options -> none."""
    if value == AUTO:
        return None
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return {name: {} for name in value}
    if isinstance(value, dict):
        return {name: {} if options is None else options for name, options in value.items()}
    return value


class ExplanationSection(Section):
    """What is explained, and how."""

    methods: Annotated[dict[str, dict[str, Any]] | None, BeforeValidator(_methods)] = Field(
        default=None, description="auto, a list of names, or {name: {option: value}}; [] explains nothing"
    )
    samples: int = Field(default=8, ge=0, description="how many test rows the report explains")
    target: int | str | None = Field(
        default=None, description="output to explain: a class or its number; null: the predicted class"
    )
    layer: str | None = Field(
        default=None, description="layer of the class-activation maps; null: the last one with a spatial map"
    )


class QualitySection(Section):
    """How far the explanations can be trusted."""

    samples: int = Field(default=100, ge=0, description="test rows for the faithfulness measures; 0: skip them")
    calibrated: bool = Field(default=True, description="also score every map with its best threshold")
    randomisation_samples: int = Field(default=16, ge=0, description="test rows for the cascading randomisation; 0: skip it")


class Study(Section):
    """One study from data to report."""

    name: str = Field(
        default="",
        pattern=r"^[\w][\w .-]*$|^$",
        description="name of the study and of its run folder; empty: name of this file",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="every random number follows from it")
    data: Named = Field(description="the data set, or a reader with its path", examples=["data: {name: fashion_mnist}"])
    split: SplitSection = Field(default=SplitSection(), description="training, validation and test part")
    model: Named = Field(description="the network and its options", examples=["model: {name: mlp}"])
    beside: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        default=None,
        strict=False,
        description="models to compare the network with: auto (of a table decision_tree and sparse_linear), or a list of names",
    )
    training: TrainingSection = Field(default=TrainingSection(), description="how the weights are found")
    explanation: ExplanationSection = Field(default=ExplanationSection(), description="what is explained, and how")
    quality: QualitySection = Field(default=QualitySection(), description="how far the explanations can be trusted")


def load_study(path: str | Path) -> Study:
    """The study in a YAML file; its relative paths start at the file's folder.

    InputError with file and line for anything that is not understood, with the nearest key or name.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f"'{path}' is a folder, not a study", cure=f"Write a study for it: pellucid init {path}")
    return parse_study(YamlSource.read(path), folder=path.parent, name=path.stem)


def default_study() -> Study:
    """The bundled study: LeNet-5 on the bundled part of Fashion-MNIST."""
    text = resources.files("pellucid.study").joinpath("fashion_mnist.yaml").read_text("utf-8")
    return parse_study(YamlSource(text, "fashion_mnist.yaml"), folder=Path.cwd(), name="fashion_mnist")


def parse_study(source: YamlSource, *, folder: Path, name: str = "study") -> Study:
    """Check the text against the fields, the names against the tables, the options against the signatures."""
    try:
        study = Study.model_validate(source.value)
    except ValidationError as error:
        raise _explained(error, source) from None
    _check_names(study, source)
    update: dict[str, Any] = {"name": study.name or name}
    if isinstance(study.data.options.get("path"), str):
        place = (folder / Path(study.data.options["path"]).expanduser()).resolve()
        update["data"] = study.data.model_copy(update={"path": str(place)})
    return study.model_copy(update=update)


def resolved_text(study: Study, folder: Path) -> str:
    """The study with every default written out, as YAML; its data path is relative to ``folder``."""
    value = study.model_dump(mode="json")
    if value["explanation"]["methods"] is None:
        value["explanation"]["methods"] = AUTO
    if value["beside"] is None:
        value["beside"] = AUTO
    if isinstance(value["data"].get("path"), str):
        with contextlib.suppress(ValueError):  # another drive
            value["data"]["path"] = Path(os.path.relpath(value["data"]["path"], folder.resolve())).as_posix()
    return dump(value)


def _check_names(study: Study, source: YamlSource) -> None:
    """Every name is in its table and every option in the signature; the message has the line."""
    data, model = study.data, study.model
    takes_path = data.name in DATA and "path" in inspect.signature(DATA[data.name].value).parameters
    options = {key: value for key, value in data.options.items() if not (key == "path" and takes_path)}
    _check(DATA, data.name, options, source, ("data", "name"), ("data",))
    _check(MODELS, model.name, model.options, source, ("model", "name"), ("model",))
    training = study.training
    single = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES} | (
        {} if training.objective == AUTO else {"objective": OBJECTIVES}
    )
    for key, names in single.items():
        options = getattr(training, f"{key}_options")
        _check(names, getattr(training, key), options, source, ("training", key), ("training", f"{key}_options"))
    for index, name in enumerate(training.augment):
        _check(AUGMENTATIONS, name, {}, source, ("training", "augment", index), ())
    for index, name in enumerate(study.beside or ()):
        _check(BESIDE, name, {}, source, ("beside", index), ())
    for index, (name, options) in enumerate((study.explanation.methods or {}).items()):
        listed = isinstance(source.value["explanation"]["methods"], list)
        place = ("explanation", "methods", index if listed else name)
        _check(METHODS, name, options, source, place, place)


def _check(
    table: Table[Any],
    name: str,
    options: Mapping[str, Any],
    source: YamlSource,
    at: tuple[int | str, ...],
    inside: tuple[int | str, ...],
) -> None:
    if name not in table:
        raise InputError(f"no {table.kind} '{name}'", where=source.place(*at), cure=nearest(name, table.names()))
    for key in options:
        table[name].check_options({key: options[key]}, where=source.place(*inside, key))


def _explained(error: ValidationError, source: YamlSource) -> InputError:
    """The first complaint of pydantic in our words, with line and cure."""
    first = error.errors()[0]
    loc, kind, value = first["loc"], first["type"], first.get("input")
    more = f" ({error.error_count() - 1} more after it.)" if error.error_count() > 1 else ""
    if kind == "extra_forbidden":
        key, inside = str(loc[-1]), ".".join(map(str, loc[:-1]))
        what = f"unknown key '{key}'" + (f" in '{inside}'" if inside else "")
        return InputError(what, where=source.place(*loc), cure=_key_cure(key, loc[:-1]) + more)
    if kind == "missing":
        field = _fields(loc[:-1])[str(loc[-1])]
        example = f"Add e.g. '{field.examples[0]}'." if field.examples else f"Add it: {field.description}."
        return InputError(f"'{'.'.join(map(str, loc))}' is missing", where=source.place(*loc[:-1]), cure=example + more)
    known = [step for i, step in enumerate(loc) if _within(source.value, loc[: i + 1])]
    name = ".".join(map(str, known)) or "the study"
    shown = repr(value) if len(repr(value)) < 60 else type(value).__name__
    cure = _value_cure(kind, first.get("ctx", {}), value)
    return InputError(f"{name} is {shown}", where=source.place(*known), cure=cure + more)


def _within(value: Any, loc: tuple[int | str, ...]) -> bool:
    for step in loc:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _fields(loc: Iterable[int | str]) -> dict[str, Any]:
    """The fields of the section at ``loc``."""
    section: Any = Study
    for step in loc:
        field = getattr(section, "model_fields", {}).get(str(step))
        section = field.annotation if field else None
    return dict(getattr(section, "model_fields", {}))


def _key_cure(key: str, inside: tuple[int | str, ...]) -> str:
    """Where the key belongs, or the nearest one."""
    for name, field in Study.model_fields.items():
        if (name,) != inside and key in getattr(field.annotation, "model_fields", {}) and key != "name":
            return f"'{key}' belongs under '{name}'."
    return nearest(key, _fields(inside))


WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text (in quotes, if it looks like something else)",
    "bool": "true or false",
    "tuple": "a list, e.g. [a, b]",
    "list": "a list, e.g. [a, b]",
    "dict": "a block of 'key: value' lines",
    "model": "a block of 'key: value' lines",
    "finite": "a finite number",
}
BOUNDS = {
    "greater_than_equal": ("ge", "of at least"),
    "greater_than": ("gt", "above"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "of at most"),
}


def _value_cure(kind: str, context: Mapping[str, Any], value: Any) -> str:
    if kind == "literal_error":
        return nearest(value, str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", "))
    if kind in BOUNDS:
        limit, words = BOUNDS[kind]
        return f"Give a number {words} {context[limit]}."
    if kind == "string_pattern_mismatch":
        return "Use letters, digits, spaces, '.', '-' and '_'."
    return f"Give {WANTED.get(kind.split('_')[0], 'a plain value of another kind')}."
