"""``pellucid init DATA``: a study for that data, with a comment at every line that a person may want to change."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from pellucid.core.errors import InputError, nearest
from pellucid.core.table import DATA, MODELS
from pellucid.data.dataset import Data
from pellucid.data.reading import guess, read
from pellucid.training.checkpoint import write_atomically

from .explaining import suited
from .specification import AUTO, Named, Study, default_study, load_study, parse_study
from .yaml_source import Dumper, YamlSource

# After about so many steps LeNet-5 and small perceptrons have seen enough; few rows need more epochs to get there.
STEPS = 600
# Square images from the first to the second of these sides stay as they are; others are read at SIZE.
SIZES, SIZE = (28, 64), 32


def initialise(source: str | Path, out: str | Path | None = None) -> tuple[Path, list[str]]:
    """Write a commented study for an image folder, a CSV or Parquet file, or a bundled data set's name.

    Returns the file (by default ``<data>.yaml`` here) and what was guessed, in words. Never overwrites a file.
    """
    name, options, notes = _source(source)
    data = _readable(name, options, notes)
    path = Path(out).expanduser() if out is not None else Path(_stem(source, name, options))
    if path.exists():
        raise InputError(f"'{path}' exists already", cure="Give another file with --out, or remove it.")
    if not path.parent.is_dir():
        raise InputError(f"no folder '{path.parent}'", cure="Make it first, or give another file with --out.")
    text = _text(_study(data, path), [*notes, *_facts(data)])
    parse_study(YamlSource(text, path), folder=path.parent, name=path.stem)
    write_atomically(path, text.encode())
    return path, notes


def study_for(source: str | Path, model: str | None = None) -> Study:
    """A study of a bundled data set, a folder of images or a table, as ``initialise`` would write it; or one in YAML."""
    if str(source) == default_study().data.name:
        made = default_study()
    elif Path(source).suffix.lower() in (".yaml", ".yml"):
        made = load_study(source)
    else:
        name, options, notes = _source(source)
        path = Path(_stem(source, name, options)).resolve()
        text = _text(_study(_readable(name, options, notes), path), [])
        made = parse_study(YamlSource(text, path), folder=path.parent, name=path.stem)
    return made if model is None else made.model_copy(update={"model": Named(name=MODELS[model].name)})


def _stem(source: str | Path, name: str, options: Mapping[str, Any]) -> str:
    """The file of a study of these data."""
    return f"{Path(source).resolve().stem if 'path' in options else name}.yaml"


def _source(source: str | Path) -> tuple[str, dict[str, Any], list[str]]:
    """(reader, options with the path, notes) of what the person pointed at."""
    path = Path(source).expanduser()
    if path.exists():
        name, options, notes = guess(path)
        return name, {"path": str(path.resolve()), **options}, list(notes)
    bundled = [e.name for e in DATA if not _needs_path(e.value)]
    if str(source) in bundled:
        return str(source), {}, []
    cure = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
    raise InputError(f"no file or folder '{source}'", cure=f"{cure} Bundled data sets: {', '.join(bundled)}.")


def _readable(name: str, options: dict[str, Any], notes: list[str]) -> Data:
    """The data as read; images that LeNet-5 would not take as they are, or only slowly, get a size, and ``notes`` say so."""
    data = read(name, **options)
    if data.kind == "image" and "size" in DATA[name].options():
        height, width = data.input_shape[1:]
        if height != width or not SIZES[0] <= height <= SIZES[1]:
            notes.append(f"images are {height} x {width}; the study reads them as {SIZE} x {SIZE} for LeNet-5")
            options["size"] = SIZE
            data = read(name, **options)
    return data


def _needs_path(reader: Any) -> bool:
    path = inspect.signature(reader).parameters.get("path")
    return path is not None and path.default is path.empty


def _study(data: Data, path: Path) -> dict[str, Any]:
    """Values that suit the data; what is left out keeps its default."""
    rows = len(data) * 0.7
    batch = 128 if rows > 5000 else 32 if rows > 300 else 16
    plain = {k: p.default for k, p in DATA[data.reader].options().items()}
    options = {k: v for k, v in data.options.items() if k not in plain or _listed(plain[k]) != _listed(v) or k == "drop"}
    if "path" in options:
        options["path"] = Path(os.path.relpath(options["path"], path.parent.resolve())).as_posix()
    image = data.kind == "image"
    return {
        "name": path.stem,
        "data": {"name": data.reader, **options},
        "split": {"validation": 0.1 if len(data) > 2000 else 0.2},
        "model": {"name": "lenet5", "form": "relu"} if image else {"name": "mlp", "hidden": [64, 64], "activation": "relu"},
        "training": {
            "epochs": min(100, max(10, math.ceil(STEPS * batch / rows))),
            "batch": batch,
            "augment": ["shift"] if image and rows < 5000 else [],
        },
        "explanation": {"methods": suited(spatial=image, flat=data.kind == "table", task=data.task)},
    }


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _facts(data: Data) -> list[str]:
    return [f"{name}: {value}" for name, value in data.summary() if not (name == "source" and "path" in data.options)]


def _text(values: dict[str, Any], facts: list[str]) -> str:
    """The study with every key, and the fields' own descriptions as comments."""
    lines = [
        f"# A study for Pellucid. Run it:  pellucid run {values['name']}.yaml",
        "# Other models, methods, optimisers ...:  pellucid list",
        "#",
        *(f"# {line}" for fact in facts for line in str(fact).splitlines()),
        "",
    ]
    for key, field in Study.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            lines += ["", f"{key}:  # {field.description}", *_section(section, values.get(key, {}))]
        else:
            lines.append(_line(key, values.get(key, field.default), field.description, 0))
    return "\n".join(lines) + "\n"


def _section(section: type[BaseModel], values: dict[str, Any]) -> list[str]:
    given = {k: (values.get(k, f.default), f.description) for k, f in section.model_fields.items()}
    if issubclass(section, Named):
        given |= {k: (v, None) for k, v in values.items() if k != "name"}
    lines = []
    for key, (value, description) in given.items():
        if key == "methods":
            lines.append(f"  methods:  # {description}")
            lines += [f"    - {name}" for name in value or [AUTO]]
        else:
            lines.append(_line(key, value, description, 2))
    return lines


def _line(key: str, value: Any, description: str | None, indent: int) -> str:
    written = yaml.dump([_listed(value)], Dumper=Dumper, default_flow_style=True, width=10_000, allow_unicode=True).strip()[
        1:-1
    ]
    text = f"{' ' * indent}{key}: {written}"
    return f"{text:<34}  # {description}" if description else text
