"""A shortcut planted in a person's own data: train with it and without it, and ask which explanations reveal it (Q6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.core import checks, seeds
from pellucid.core.errors import InputError
from pellucid.core.table import METHODS
from pellucid.data.dataset import Data
from pellucid.data.table_preparation import TablePreparation
from pellucid.evaluation.intervals import bootstrap, clopper_pearson
from pellucid.explanation.result import Explanation
from pellucid.quality.shortcut import OnMask, compared, relevance_on
from pellucid.training.batches import Part
from pellucid.training.events import Listener
from pellucid.training.validation import predict

from . import stages
from .explaining import Methods, explain_all, methods_of
from .figures import pooled
from .planting import LEAK, Planter, planter_of
from .recall import facts_of, model_of, objective_of, preparation_of, target_index
from .run_directory import RunDirectory
from .shortcut_page import conclusion, write_page
from .specification import Study
from .stages import Interrupted, Tell

EVERYWHERE = "it lies on the whole picture, so that no map can show where it is; what shows it is how the answers follow it"
MEANS = (
    "By default LIME puts each segment's own mean in its place, which leaves a mark of one colour as it is, and its map shows "
    "little there. Another filling takes the mark away: --set lime.baseline=0."
)
NETWORKS = ("shortcut", "control")
SHOWN = 2  # samples of the marked class, and of the others, that the page shows
FILE = "shortcut.json"


def shortcut_study(
    study: Study,
    *,
    marked: str | int,
    kind: str | None = None,
    methods: Methods | None = None,
    samples: int = 40,
    rows: int = 4000,
    epochs: int | None = None,
    agreement: float = 0.95,
    out: str | Path | None = None,
    tell: Tell = lambda text: None,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """Plant a shortcut for one class of a study's data, train with and without it, and judge which methods reveal it.

    marked: the class that has it in training. kind: "mark", "snow" or "colour_cast" of images, "leak" of tables (a column that
    agrees with ``y == marked`` in a share ``agreement`` of the rows). methods: names with options, by default the study's.
    samples: how many test rows are explained, half of them of the marked class, all with the shortcut. rows: at most so many
    of each part, drawn at random. epochs: in place of the study's.

    Both networks see the same preparation and seeds. They are tested with the shortcut as in training, without it, and
    swapped (on all other classes, not on the marked one). It counts as learned if the accuracy falls more from the first to the
    last than the control's, by a paired 95 % bootstrap interval above 0; a method's verdict is that of ``compared``.

    Writes shortcut.json, shortcut.html, figures, and both networks as runs below ``out`` (by default a new folder in runs/);
    returns what shortcut.json says. Ctrl-C during the training leaves nothing; later it keeps the methods that are done.
    Raises InputError for data, class, kind or options that do not fit, ``Interrupted`` after Ctrl-C.
    """
    for name, options in (methods or {}).items():
        METHODS[name].check_options(options)
    checks.count("samples", samples, least=2)
    if epochs is not None:
        more = {"epochs": checks.count("epochs", epochs)}
        study = study.model_copy(update={"training": study.training.model_copy(update=more)})
    top = RunDirectory.create(f"shortcut-{study.name}", out)
    try:
        planter = planter_of(study, marked, kind, checks.count("rows", rows), checks.fraction("agreement", agreement))
        runs = _trained(top, study, planter, tell, listen)
        value = _facts(study, planter) | _tested(planter, runs, tell)
    except (KeyboardInterrupt, Interrupted):
        top.discard()
        raise Interrupted("stopped before the networks were trained; nothing is kept", cure=_shorter()) from None
    except BaseException:
        top.discard()
        raise
    stopped = _explained(planter, runs, methods, samples, value, tell)
    value["conclusion"] = conclusion(value)
    shown = value.pop("shown", None)
    top.write_json(FILE, value)
    write_page(top, runs, shown)
    if stopped:
        raise Interrupted(f"stopped while explaining; {top.path / FILE} has the methods that were done", cure=_shorter())
    result: dict[str, Any] = top.read_json(FILE)
    return result | {"run": str(top.path), "page": str(top.path / "shortcut.html")}


def _shorter() -> str:
    return "Begin it anew; fewer rows, epochs, samples or methods take less time."


def _trained(top: RunDirectory, study: Study, planter: Planter, tell: Tell, listen: Listener | None) -> dict[str, RunDirectory]:
    """Both networks as runs of their own; the preparation of both is fitted on the training part with the shortcut."""
    runs, prepared = {}, None
    for name, where in zip(NETWORKS, (planter.marked, None)):
        data = planter.dataset(planter.raw_with(where)[0])
        if prepared is None:
            prepared = data.fit(planter.parts["train"]).preparation
        data.preparation = prepared
        runs[name] = RunDirectory.create(name, top.path / name)
        with runs[name].stage("data"):
            stages.lay_out(runs[name], study, data, planter.parts, {"by": "drawn for a planted shortcut", "notes": []})
    target_index(facts_of(runs["shortcut"]), planter.data.classes[planter.label])  # refused before the training
    sizes = ", ".join(f"{len(rows):,} {part}" for part, rows in planter.parts.items())
    tell(f"Planted '{planter.kind}' in class '{planter.data.classes[planter.label]}'; rows: {sizes}.")
    for name, run in runs.items():
        tell(f"Training the {name} network: {study.model.name}, up to {study.training.epochs} epochs.")
        stages.fit(run, listen=listen)
    return runs


def _facts(study: Study, planter: Planter) -> dict[str, Any]:
    return {
        "study": study.name,
        "data": study.data.name,
        "model": study.model.name,
        "epochs": study.training.epochs,
        "seed": study.seed,
        "kind": planter.kind,
        "class": planter.data.classes[planter.label],
        "classes": list(planter.data.classes),
        "agreement": planter.agreement if planter.kind == LEAK else None,
        "rows": {part: len(rows) for part, rows in planter.parts.items()},
    }


def _tested(planter: Planter, runs: dict[str, RunDirectory], tell: Tell) -> dict[str, Any]:
    """Accuracy of both networks on the three test sets, and whether the first has learned the shortcut."""
    tell("Testing both with the shortcut as in training, without it, and swapped.")
    y = planter.data.y.numpy()[planter.parts["test"]]
    others = y != planter.label
    answers: dict[str, dict[str, np.ndarray]] = {name: {} for name in NETWORKS}
    for test, where in {"same": planter.marked, "clean": None, "swapped": ~planter.marked}.items():
        data = planter.dataset(planter.raw_with(where)[0])
        data.preparation = preparation_of(runs["shortcut"])
        for name, run in runs.items():
            p, _ = predict(model_of(run), Part(data, planter.parts["test"]), objective_of(run))
            answers[name][test] = p.argmax(1).numpy()
    right = {name: {test: found == y for test, found in sets.items()} for name, sets in answers.items()}
    accuracy: dict[str, Any] = {name: {} for name in NETWORKS}
    for name, sets in answers.items():
        for test, found in sets.items():
            hit = right[name][test]
            wrong = clopper_pearson(int((~hit).sum()), len(hit))
            accuracy[name][test] = {
                "rate": float(hit.mean()),
                "lower": 1 - wrong.upper,
                "upper": 1 - wrong.lower,
                "marked class": float(hit[~others].mean()),
                "other classes": float(hit[others].mean()),
                "others taken for it": float((found[others] == planter.label).mean()),
            }
    falls = {name: sets["same"].astype(float) - sets["swapped"] for name, sets in right.items()}
    more = falls["shortcut"] - falls["control"]
    ends = bootstrap(more, lambda means: means, seed=planter.seed)
    learned = {"fall": float(more.mean()), "lower": ends.lower, "upper": ends.upper, "learned": ends.lower > 0}
    return {"accuracy": accuracy, "learned": learned}


def _explained(
    planter: Planter,
    runs: dict[str, RunDirectory],
    methods: Methods | None,
    samples: int,
    value: dict[str, Any],
    tell: Tell,
) -> bool:
    """Explain test rows with the shortcut for the marked class, method by method, into ``value``; whether Ctrl-C ended it."""
    value |= {"methods": {}, "refused": {}, "unfinished": [], "notes": []}
    asked = methods_of(runs["shortcut"]) if methods is None else methods
    if planter.kind == "mark" and "lime" in asked and (asked["lime"] or {}).get("baseline") in (None, "segment_mean"):
        value["notes"].append(MEANS)
    rows = _drawn(planter, samples)
    raw, mask = planter.raw_with(np.ones(len(planter.data), bool), agreement=1.0)
    data = planter.dataset(raw)
    data.preparation = preparation_of(runs["shortcut"])
    x, y = data.batch(rows)
    half = int((y == planter.label).sum())
    value |= {"samples": {"marked class": half, "other classes": len(rows) - half}}
    few = np.r_[: min(SHOWN, half), half : min(half + SHOWN, len(rows))]
    shown: dict[str, Any] = {
        "raw": data.raw(rows[few]),
        "x": x[few],
        "y": y[few],
        "maps": {n: {} for n in NETWORKS},
        "mask": None,
    }
    value["shown"] = shown
    if planter.kind == "colour_cast":
        shown["before"] = planter.data.raw(rows[few])
        value |= {"chance": None, "not judged": EVERYWHERE}
        return False
    assert mask is not None
    on = mask if planter.kind == LEAK else mask[rows]
    shown["mask"] = None if planter.kind == LEAK else on[few]
    value["chance"] = float(on.mean())
    target = target_index(facts_of(runs["shortcut"]), planter.data.classes[planter.label])
    try:
        for name, options in asked.items():
            value["unfinished"].append(name)
            tell(f"  {name}: explaining {len(rows)} test rows, for both networks.")
            found = _one(runs, x, name, options, target, value["refused"])
            value["unfinished"].pop()
            if found:
                shares = {network: relevance_on(on, _by_column(made, data)) for network, made in found.items()}
                value["methods"][name] = _judged(shares, half, value["learned"]["learned"], planter.seed)
                for network, made in found.items():
                    shown["maps"][network][name] = made.map()[few]
                shown.setdefault("signed", {})[name] = any(made.signed for made in found.values())
    except KeyboardInterrupt:
        value["unfinished"] = [name for name in asked if name not in value["methods"] and name not in value["refused"]]
        return True
    return False


def _drawn(planter: Planter, samples: int) -> np.ndarray:
    """Places of the test rows to explain: half of the marked class, then half of the others, each drawn at random."""
    test = planter.parts["test"]
    order = test[torch.randperm(len(test), generator=seeds.generator(planter.seed, "samples to explain")).numpy()]
    own, others = (order[planter.marked[order] == is_marked] for is_marked in (True, False))
    return np.concatenate([own[: samples - samples // 2], others[: samples // 2]])


def _one(
    runs: dict[str, RunDirectory], x: torch.Tensor, name: str, options: Any, target: Any, refused: dict[str, str]
) -> dict[str, Explanation]:
    """One method's explanation for both networks; nothing, and its reason in ``refused``, where it cannot explain one."""
    found = {}
    for network, run in runs.items():
        try:
            made, reasons = explain_all(run, x, {name: options}, target)
        except InputError as error:  # of an option: the networks are trained, and the other methods go on
            made, reasons = {}, {name: str(error)}
        if reasons:
            refused[name] = reasons[name]
            return {}
        found[network] = made[name]
    return found


def _by_column(made: Explanation, data: Data) -> np.ndarray:
    """(n, *spatial) of pictures; (n, columns) of tables: encoded columns added up to the column they come from."""
    maps = made.map().double().cpu().numpy()
    return pooled(maps, data.preparation.sources) if isinstance(data.preparation, TablePreparation) else np.asarray(maps)


def _judged(shares: dict[str, OnMask], half: int, learned: bool, seed: int) -> dict[str, Any]:
    """Shares, peaks and verdict of one method; each measured number is [mean, lower, upper]."""
    both = compared(shares["shortcut"], shares["control"], learned=learned, seed=seed)
    facts: dict[str, Any] = {"verdict": both.verdict, "why": both.why, "pairs": both.pairs}
    facts["difference"] = [both.difference, both.interval.lower, both.interval.upper]
    for network, found in shares.items():
        known = found.share[~found.blank]
        ends = bootstrap(known, lambda means: means, seed=seed) if len(known) else None
        facts[network] = {
            "share": [float(found), ends.lower if ends else None, ends.upper if ends else None],
            "marked class": _mean(found.share[:half]),
            "other classes": _mean(found.share[half:]),
            "peak": _mean(found.peak),
            "blank": int(found.blank.sum()),
        }
    return facts


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
