"""The run on disk: the only argument of every later verb. Plain text, safetensors and parquet; nothing that can execute.

run.json             format version, Pellucid's version, finished stages with their seconds
study.yaml           the study as resolved; itself a study that can be run again
data.json            reader, fingerprint, preparation, classes
split.json           rows of the training, validation and test part
environment.json     versions and platform
metrics.csv          one line per epoch
model.safetensors    weights of the best epoch, with a checksum
state/               checkpoint of an unfinished training
predictions.parquet  one line per row of the data
beside/              interpretable models that the network is compared with
evaluation.json      metrics
explanations/        relevance of some test rows
quality.json         how far the explanations can be trusted
benchmark/           every method by every measure: results.jsonl, maps, benchmark.json, index.html
report.html          all of it, to be read
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pellucid.core.errors import InputError
from pellucid.training.checkpoint import write_atomically

FORMAT = 1
STAGES = ("data", "train", "evaluate", "explain", "quality", "report")


class RunDirectory:
    """A run at ``path``. Files are replaced as a whole: a reader, or a kill, sees the old file or the new one.

    ``found_empty``: the folder was there before the run. ``memory`` holds what this process has already read, so that
    stages that follow one another read it once. ``beside``: the model that stands in the network's place, in a view of the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found_empty = False
        self.memory: dict[str, Any] = {}
        self.beside = ""
        self.study = path / "study.yaml"
        self.model = path / "model.safetensors"
        self.checkpoint = path / "state" / "checkpoint.safetensors"
        self.metrics = path / "metrics.csv"
        self.predictions = path / "predictions.parquet"
        self.explanations = path / "explanations"
        self.report = path / "report.html"

    # ------------------------------------------------------------------ make, open

    @classmethod
    def create(cls, name: str, out: str | Path | None = None) -> RunDirectory:
        """A new, empty run: ``out``, or the next free ``runs/<name>-<n>``. An existing run is never overwritten."""
        try:
            run = cls(cls._claim(name) if out is None else Path(out).expanduser())
            if run.path.exists() and not run.path.is_dir():
                raise InputError(f"'{run.path}' is a file", cure="Give a new folder with --out.")
            if out is not None and run.path.exists():
                run.found_empty = True
                if any(run.path.iterdir()):
                    raise InputError(
                        f"'{run.path}' is not empty", cure="Give a new folder with --out; a run is never overwritten."
                    )
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            where = error.filename or out or "runs"
            raise InputError(
                f"cannot make the run folder: {reason}", where=where, cure="Choose a writable folder with --out."
            ) from error
        run.write_json("run.json", _header())
        return run

    @staticmethod
    def _claim(name: str) -> Path:
        """The next free number; making the folder is what claims it, also against another process."""
        parent = Path("runs")
        parent.mkdir(exist_ok=True)
        number = 1
        while True:
            path = parent / f"{name}-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
            return path

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run. InputError when it is none, or when a newer Pellucid wrote it; nothing is changed."""
        path = Path(path).expanduser()
        if not path.exists():
            raise InputError(f"no run '{path}'", cure=_runs_nearby(path))
        if not (path / "run.json").is_file():
            raise InputError(
                f"'{path}' is not a run: it has no run.json", cure="Make one with 'pellucid run' or 'pellucid train'."
            )
        run = cls(path)
        version = run.header().get("format")
        if not isinstance(version, int) or version < 1:
            raise InputError(
                f"format version {version!r}", where=path / "run.json", cure="Restore the file; it was changed by hand."
            )
        if version > FORMAT:
            raise InputError(
                f"written in format {version}; this Pellucid reads up to format {FORMAT}",
                where=path,
                cure="Update Pellucid: pip install --upgrade pellucid.",
            )
        return run

    def discard(self) -> None:
        """Remove a run that came to nothing before it began; a folder that was there before stays, empty."""
        shutil.rmtree(self.path)
        if self.found_empty:
            self.path.mkdir()
        elif self.path.parent.name == "runs" and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def header(self) -> dict[str, Any]:
        """What ``run.json`` says: format, version, stages."""
        value = self.read_json("run.json")
        if not isinstance(value, dict):
            raise InputError("run.json holds no block of facts", where=self.path / "run.json", cure="Restore the file.")
        return value

    # ------------------------------------------------------------------ stages

    def finished(self, stage: str) -> bool:
        """Whether the stage has been completed."""
        return stage in self.header().get("stages", {})

    def finish(self, stage: str, seconds: float) -> None:
        """Note that the stage is complete; a report from before it has to be written again."""
        header = self.header()
        done = {name: spent for name, spent in header.get("stages", {}).items() if name not in (stage, STAGES[-1])}
        self.write_json("run.json", header | {"stages": done | {stage: round(seconds, 3)}})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and note it as finished, unless it raises."""
        start = time.perf_counter()
        yield
        self.finish(name, time.perf_counter() - start)

    # ------------------------------------------------------------------ plain files

    def write_bytes(self, name: str | Path, data: bytes) -> Path:
        """Write the file of the run as a whole."""
        write_atomically(self.path / name, data)
        return self.path / name

    def write_text(self, name: str | Path, text: str) -> Path:
        """Write text (UTF-8) as a whole."""
        return self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file as a whole; NaN and infinity become null."""
        return self.write_text(name, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str, *, stage: str = "") -> Any:
        """The value of a JSON file of the run; ``stage`` is what makes the file and is named when it is missing."""
        path = self.path / name
        if not path.is_file():
            verb = {"evaluate": "evaluate", "quality": "audit"}.get(stage, "resume")
            cure = f"Do this first: pellucid {verb} {self.path}" if stage else "Restore the file, or make the run again."
            raise InputError(f"the run has no {name}", where=self.path, cure=cure)
        try:
            return json.loads(path.read_bytes())
        except (ValueError, OSError) as error:
            raise InputError(
                f"{name} cannot be read: {error}", where=path, cure="Restore the file, or make the run again."
            ) from error


def plain(value: Any) -> Any:
    """Only what JSON knows: arrays and tensors as lists, numpy numbers as numbers, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    convert: Callable[[], Any] | None = getattr(value, "tolist", None)
    if convert is not None:
        return plain(convert())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _header() -> dict[str, Any]:
    from pellucid import __version__

    return {"format": FORMAT, "pellucid": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds"), "stages": {}}


def _runs_nearby(path: Path) -> str:
    found = sorted(p.parent.as_posix() for folder in {path.parent, Path("runs")} for p in folder.glob("*/run.json"))
    return f"Runs here: {', '.join(found[:8])}." if found else "Make one with 'pellucid run'."
