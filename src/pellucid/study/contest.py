"""All methods by all measures on the same test rows: streamed to the run, resumed where it stopped, ranked.

benchmark/results.jsonl   one line per method, measure and piece of the rows, as it is made; the page is made from these alone
benchmark/maps/           relevance of every method and piece
benchmark/benchmark.json  means, intervals, ranks
benchmark/index.html      the page
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError, UnsupportedError
from pellucid.core.table import MEASURES, METHODS
from pellucid.explanation.method import explain
from pellucid.explanation.result import Explanation
from pellucid.quality.measuring import Measured, assess
from pellucid.quality.robustness import sensitivities

from .auditing import UNFIT, maps_of
from .explaining import Methods, completed
from .recall import data_of, facts_of, model_of, split_of, study_of, target_index
from .run_directory import RunDirectory, plain
from .stages import Tell

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not of every system; there two benchmarks at once measure twice
    fcntl = None

FOLDER, RESULTS = "benchmark", "results.jsonl"
# Rows of one piece, which is what a kill loses of one method at most; rows that are explained again and again.
PIECE, CHECKED = 50, 16
EXPLAINED = "explain"
# Where the truth is known this is mass_on_truth once more.
TWICE = "energy_in_box"
Measures = Mapping[str, Mapping[str, Any]]


class Results:
    """Lines of JSON by their key, appended one by one; what a kill left half written is cut off and made again.

    The file is locked for as long as this lives: two benchmarks of one run at once would measure everything twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.close()
                raise InputError("another benchmark of this run is at work", where=path, cure="Wait for it.") from error
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        whole = self.path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            with self.path.open("r+b") as file:
                file.truncate(len(kept))
        for number, text in enumerate(kept.splitlines(), 1):
            try:
                line = json.loads(text)
                self.lines[line["key"]] = line
            except (ValueError, KeyError, TypeError) as error:
                where, cure = f"{self.path}:{number}", "Delete the line; what it held is measured again."
                raise InputError("not a line of results", where=where, cure=cure) from error

    def __contains__(self, key: str) -> bool:
        return key in self.lines

    def add(self, key: str, **line: Any) -> None:
        """Write a line so that it survives a kill."""
        self.lines[key] = line = json.loads(json.dumps(plain({"key": key, **line})))
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another benchmark begin."""
        self._file.close()


@dataclass
class Contest:
    """What is measured: rows in pieces, methods and measures with their options; ``origin`` is what all numbers depend on."""

    run: RunDirectory
    methods: Methods
    measures: Measures
    rows: np.ndarray
    checked: int
    origin: list[Any]
    results: Results
    tell: Tell = lambda text: None
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The study's."""
        return study_of(self.run).seed

    @property
    def target(self) -> int | None:
        """The output that the study explains."""
        return target_index(facts_of(self.run), study_of(self.run).explanation.target)

    @property
    def layer(self) -> str | None:
        """The layer that the study looks at."""
        return study_of(self.run).explanation.layer

    def pieces(self) -> Iterator[np.ndarray]:
        """The rows, ``PIECE`` at a time."""
        for start in range(0, len(self.rows), PIECE):
            yield self.rows[start : start + PIECE]

    def few(self) -> np.ndarray:
        """The rows that are explained again and again."""
        return self.rows[: self.checked]

    def key(self, method: str, what: str, rows: np.ndarray) -> str:
        """Says everything that the numbers of a line depend on."""
        options = [_said(self.methods[method]), _said(self.measures.get(what, {}))]
        text = json.dumps([*self.origin, method, what, *options, rows.tolist()])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def asked(self, asks: str) -> Measures:
        """The measures of one kind."""
        return {name: options for name, options in self.measures.items() if MEASURES[name].facts["asks"] == asks}

    def found(self, method: str, what: str, pieces: Sequence[np.ndarray]) -> list[dict[str, Any]] | None:
        """The lines of all pieces; None where one is missing or was refused."""
        lines = [self.results.lines.get(self.key(method, what, rows)) for rows in pieces]
        known = [line for line in lines if line is not None and "refused" not in line]
        return known if len(known) == len(pieces) else None


def _said(value: Any) -> Any:
    """An option as plain values that tell it from every other: of an array type, shape and a digest of its bytes."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _said(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_said(v) for v in value]
    if isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    raise InputError(f"an option is {type(value).__name__}", cure="Give plain values or arrays, which can be told apart.")


def suited_measures(run: RunDirectory) -> dict[str, dict[str, Any]]:
    """Every measure of explanations that these data and this model can be judged by, with its options."""
    has_truth, unfit = data_of(run).truth is not None, facts_of(run)["task"] in UNFIT
    found: dict[str, dict[str, Any]] = {}
    for entry in MEASURES:
        asks = entry.facts.get("asks")
        if asks is None or (asks == "truth" and not has_truth) or entry.name == TWICE:
            continue
        if unfit and entry.facts.get("of") == "probability":
            if "of" in entry.options():
                found[entry.name] = {"of": "logit"}
            continue
        found[entry.name] = {}
    return found


def contest(
    run: RunDirectory,
    *,
    methods: Methods | None = None,
    measures: Measures | None = None,
    samples: int = 200,
    checked: int = CHECKED,
    tell: Tell = lambda text: None,
) -> Contest:
    """The contest of these methods (all that there are) by these measures (all that suit) on test rows drawn at random."""
    chosen = {name: {} for name in METHODS.names()} if methods is None else _named(methods, "method")
    for name, options in chosen.items():
        METHODS[name].check_options(options)
    judged = suited_measures(run) if measures is None else _named(measures, "measure")
    for name, options in judged.items():
        if MEASURES[name].facts.get("asks") is None:
            known = ", ".join(suited_measures(run))
            raise InputError(f"{name} does not measure explanations", cure=f"Here are: {known}.")
        MEASURES[name].check_options(options)
    test, study = split_of(run)["test"], study_of(run)
    count = min(checks.count("samples", samples, least=2), len(test))
    order = torch.randperm(len(test), generator=seeds.generator(study.seed, "samples to benchmark"))
    weights = hashlib.sha256(run.model.read_bytes()).hexdigest() if run.model.is_file() else ""
    target = target_index(facts_of(run), study.explanation.target)
    rest = [version("pellucid"), study.model.model_dump(), hashlib.sha256((run.path / "split.json").read_bytes()).hexdigest()]
    origin = [weights, facts_of(run)["fingerprint"], study.seed, target, study.explanation.layer, *rest]
    few = min(checks.count("checked", checked, least=2), count)
    results = Results(run.path / FOLDER / RESULTS)
    return Contest(run, chosen, judged, test[order[:count].numpy()], few, origin, results, tell)


def _named(given: Any, kind: str) -> dict[str, dict[str, Any]]:
    """Names with their options; InputError for none."""
    if not isinstance(given, Mapping):
        given = dict.fromkeys([given] if isinstance(given, str) else given)
    if not given:
        raise InputError(f"no {kind} asked for", cure=f"Name one, or leave {kind}s= out for all.")
    return {str(name): dict(options or {}) for name, options in given.items()}


def compete(c: Contest) -> None:
    """Measure what is not yet in the results: piece by piece, so that every method has numbers soon, then the costly checks."""
    pieces = [*c.pieces(), c.few()]
    start, done, made, first = time.perf_counter(), 0, 0, 1
    for number, rows in enumerate(pieces, 1):
        x, _ = data_of(c.run).batch(rows)
        last = number == len(pieces)
        what = "explained anew" if last else f"rows {first} to {first + len(rows) - 1}"
        first += len(rows)
        for method in c.methods:
            before = len(c.results.lines)
            if method not in c.refused:
                (_check if last else _measure)(c, method, rows, x)
            done += 1
            if len(c.results.lines) > before:
                made += 1
                left = (time.perf_counter() - start) / made * (len(pieces) * len(c.methods) - done)
                some = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
                c.tell(f"  {done}/{len(pieces) * len(c.methods)}  {method}, {what}; about {some} left")


def _measure(c: Contest, method: str, rows: np.ndarray, x: Tensor) -> None:
    """One method on one piece: the explanation, then everything that is measured of it as it is."""
    missing = {name: o for name, o in c.asked("model").items() if c.key(method, name, rows) not in c.results}
    beside = {name: o for name, o in c.asked("truth").items() if c.key(method, name, rows) not in c.results}
    if not missing and not beside and c.key(method, EXPLAINED, rows) in c.results:
        return
    try:
        explanation = _explained(c, method, rows, x)
    except UnsupportedError as error:
        c.refused[method] = str(error)
        return
    start = time.perf_counter()
    found, refused = _assessed(c, explanation, x, missing, _seed(c, rows))
    truth = data_of(c.run).truth
    for name, options in beside.items():
        assert truth is not None
        found[name] = MEASURES[name].value(_mask(name, truth[rows]), explanation, **options)
    _write(c, method, rows, found, refused, time.perf_counter() - start)


def _mask(measure: str, truth: np.ndarray) -> np.ndarray:
    """The truth as the measure takes it: localisation knows no "either of two", which counts as right."""
    return truth if MEASURES[measure].family == "known truth" else np.isnan(truth) | (truth > 0)


def _assessed(
    c: Contest, explanation: Explanation, x: Tensor, measures: Measures, seed: int
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Measured together; where one of them cannot judge this model or these data, one by one."""
    if not measures:
        return {}, {}
    try:
        return assess(model_of(c.run), x, {explanation.method: explanation}, measures, seed=seed)[explanation.method], {}
    except UnsupportedError as error:
        if len(measures) == 1:
            return {}, dict.fromkeys(measures, str(error))
    found: dict[str, Measured] = {}
    refused: dict[str, str] = {}
    for name, options in measures.items():
        one, none = _assessed(c, explanation, x, {name: options}, seed)
        found, refused = found | one, refused | none
    return found, refused


def _check(c: Contest, method: str, rows: np.ndarray, x: Tensor) -> None:
    """One method on a few rows: explained again for changed inputs, and for a model with random layers."""
    wanted = {
        n: o for kind in ("method", "states") for n, o in c.asked(kind).items() if c.key(method, n, rows) not in c.results
    }
    if not wanted:
        return
    try:
        options = {method: completed(c.run, method, c.methods[method])}
        original = explain(model_of(c.run), x, options, target=c.target, layer=c.layer, seed=_seed(c, rows))
    except UnsupportedError as error:
        c.refused[method] = str(error)
        return
    target = original[method].target if original[method].target is not None else c.target
    for name, asked in wanted.items():
        start = time.perf_counter()
        found: dict[str, Measured] = {}
        refused: dict[str, str] = {}
        more: dict[str, Any] = {}
        try:
            if MEASURES[name].facts["asks"] == "method":
                common: dict[str, Any] = {"target": target, "layer": c.layer, "seed": _seed(c, rows), "original": original}
                found = {name: sensitivities(model_of(c.run), x, options, **common, **asked)[method]}
            else:
                maps = maps_of(c.run, x, options, target, seed=_seed(c, rows))
                before = {method: original[method].map()}
                judged = MEASURES[name].value(model_of(c.run), maps, seed=c.seed, original=before, **asked)[method]
                found = {name: Measured(name, judged.kept_values)}
                more = {"judged": judged.to_json()}
        except UnsupportedError as error:
            refused = {name: str(error)}
        _write(c, method, rows, found, refused, time.perf_counter() - start, **more)


def _write(
    c: Contest,
    method: str,
    rows: np.ndarray,
    found: Mapping[str, Measured],
    refused: Mapping[str, str],
    seconds: float,
    **more: Any,
) -> None:
    share = seconds / max(1, len(found))
    for name, measured in found.items():
        facts = measured.to_json() | {"seconds": round(share, 4), **more}
        c.results.add(c.key(method, name, rows), method=method, measure=name, rows=len(rows), **facts)
    for name, reason in refused.items():
        c.results.add(c.key(method, name, rows), method=method, measure=name, rows=len(rows), refused=reason)


def _seed(c: Contest, rows: np.ndarray) -> int:
    """Random numbers of a piece depend on the study's seed and its first row, so no two pieces share them."""
    return seeds.derive(c.seed, "benchmark", int(rows[0]))


def _explained(c: Contest, method: str, rows: np.ndarray, x: Tensor) -> Explanation:
    """The explanation of a piece: read from the run, else made and kept."""
    key = c.key(method, EXPLAINED, rows)
    path = c.run.path / FOLDER / "maps" / f"{method}-{key[:12]}.safetensors"
    if key in c.results and path.is_file():
        with suppress(InputError):  # damaged: it is made again
            return Explanation.load(path)
    options = completed(c.run, method, c.methods[method])
    start = time.perf_counter()
    made = explain(model_of(c.run), x, {method: options}, target=c.target, layer=c.layer, seed=_seed(c, rows))[method]
    seconds = time.perf_counter() - start
    made.save(path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
    facts = {"seconds": round(seconds, 4), "passes": made.passes, "notes": made.notes}
    c.results.add(key, method=method, measure=EXPLAINED, rows=len(rows), **facts)
    return made
