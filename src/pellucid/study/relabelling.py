"""A run's network, trained anew on permuted labels: maps that stay as they were do not show what was learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pellucid.core import seeds
from pellucid.core.errors import UnsupportedError
from pellucid.quality.data_randomisation import permuted_labels
from pellucid.training.batches import InMemory
from pellucid.training.events import Listener
from pellucid.training.validation import predict

from .recall import device_of, facts_of, objective_of, part_of, study_of, untrained
from .run_directory import RunDirectory
from .stages import learn

# Rows of the training part that are learned by heart, for how long, and the share from which they count as learned.
ROWS, EPOCHS, FITTED = 1000, 150, 0.95


def relabelled(run: RunDirectory, listen: Listener | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The run's network trained anew on permuted labels of some training rows, and how well it fits them.

    As in the study, but for what keeps a network from learning by heart: no augmentation, no weight decay, more epochs.
    """
    if facts_of(run)["task"] != "classification":
        raise UnsupportedError(f"permuted labels of {facts_of(run)['task']}", cure="This check is for one class per row.")
    study, goal, part = study_of(run), objective_of(run), part_of(run, "train")
    order = torch.randperm(len(part), generator=seeds.generator(study.seed, "rows to relabel"))[:ROWS]
    x, y = part.batch(order)
    data = InMemory(x, permuted_labels(y, seed=study.seed))
    plain = study.training.model_copy(update={"epochs": EPOCHS, "augment": (), "weight_decay": 0.0, "patience": None})
    model = untrained(run)
    learn(study.model_copy(update={"training": plain}), model, data, goal, device=device_of(run), best="loss", on_event=listen)
    model = model.eval().to(device_of(run))
    answers, _ = predict(model, data, goal)
    fitted = float((answers.argmax(1).cpu() == data.y).double().mean())
    facts = {"rows": len(data), "epochs": EPOCHS, "fitted": fitted, "learned": fitted >= FITTED}
    return model, facts
