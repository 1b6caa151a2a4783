"""What a training aims at: the loss, the step, and how outputs become predictions.

An objective is made once from the training targets and checks them. ``state()`` is JSON-able and ``from_state`` gives the
same objective back without the targets, for prediction from a stored run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from pellucid.core.checks import count, finite, fraction, one_of
from pellucid.core.errors import InputError
from pellucid.core.table import OBJECTIVES

Updating = Callable[[int, torch.Tensor], None]


class Objective:
    """Base of all: one loss, one optimiser. Adversarial and other schemes override ``step`` and ``groups``."""

    name: ClassVar[str] = ""

    def accept(self, y: torch.Tensor) -> torch.Tensor:
        """``y`` if this objective can learn from it, else ``InputError`` that names the first wrong target."""
        raise NotImplementedError

    def outputs(self, y_or_classes: Any = None) -> int:
        """How many numbers the model must return per sample; for the objective's own targets when nothing is given."""
        raise NotImplementedError

    def loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean loss over the batch."""
        raise NotImplementedError

    def predict(self, output: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, K), or values in the target's unit."""
        raise NotImplementedError

    def error(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
        """1 where the decision is wrong, 0 where it is right; None where nothing is decided."""
        return None

    def metrics(self, output: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        """The loss and the share of right decisions on outputs of a whole part."""
        found = {"loss": float(self.loss(output.detach(), y))}
        wrong = self.error(output, y)
        return found if wrong is None else {**found, "accuracy": 1.0 - float(wrong.double().mean())}

    def groups(self, model: nn.Module) -> list[list[nn.Parameter]]:
        """The parameters of each optimiser; here one, for all that are not frozen."""
        return [[p for p in model.parameters() if p.requires_grad]]

    def step(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, update: Updating) -> torch.Tensor:
        """One training step: loss of the batch, one update. Returns the loss without its graph."""
        output = model(x)
        loss = self.loss(output.float() if output.dtype in (torch.bfloat16, torch.float16) else output, y)
        update(0, loss)
        return loss.detach()

    def check(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
        """Run two rows through the model before anything is learnt; ``InputError`` when the shapes do not fit."""
        x, needed = x[:2], self.outputs()
        model.eval()
        try:
            with torch.no_grad():
                output = model(x)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            what = f"the model cannot take inputs of shape {tuple(x.shape)}: {error}"
            raise InputError(what, cure="Build the model for this data.") from error
        if not isinstance(output, torch.Tensor):
            raise InputError(f"the model returns a {type(output).__name__}, not a tensor", cure="Return the output alone.")
        found = output.shape[1] if output.dim() == 2 else 1 if output.shape == x.shape[:1] else 0
        if not self.fits(found):
            what = f"the model returns shape {tuple(output.shape)} for {len(x)} rows, '{self.name}' needs ({len(x)}, {needed})"
            raise InputError(what, cure=f"Build the model with {needed} output{'s' if needed > 1 else ''}.")

    def fits(self, found: int) -> bool:
        """Whether a model with so many outputs can be trained."""
        return found == self.outputs()

    def state(self) -> dict[str, Any]:
        """The name and whatever was fitted or chosen, JSON-able."""
        return {"name": self.name}


def _whole(y: torch.Tensor, name: str) -> torch.Tensor:
    """Class numbers (N,) of an integer type, none negative."""
    if y.is_floating_point() or y.dtype == torch.bool or y.is_complex():
        cure = "Give class numbers 0, 1, ... as int64, or take the objective 'regression' or 'multilabel'."
        raise InputError(f"targets are {str(y.dtype).removeprefix('torch.')}, '{name}' needs class numbers", cure=cure)
    if y.dim() != 1:
        raise InputError(
            f"targets have shape {tuple(y.shape)}, '{name}' needs one class number per row", cure="Give shape (N,)."
        )
    return y


def _within(y: torch.Tensor, classes: int, name: str) -> torch.Tensor:
    """All class numbers are below ``classes``; one comparison for a clean batch."""
    wrong = (y < 0) | (y >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        what = f"class number {int(y[row])} in the targets of '{name}', which knows 0 to {classes - 1}"
        raise InputError(what, where=f"row {row}", cure="Number the classes from 0 without gaps, or give classes=.")
    return y


def _classes(given: Any) -> int:
    """How many classes: a number, the names, or targets."""
    if isinstance(given, torch.Tensor):
        return int(given.max()) + 1
    return count("classes", given if isinstance(given, int) else len(given))


@OBJECTIVES.add("classification")
class Multiclass(Objective):
    """One of K classes: softmax and cross-entropy, -log p_y.

    Args: ``classes`` their number (else the largest target + 1); ``class_weights`` a weight per class, or "balanced" for
    N/(K n_k), the mean being over the weights; ``label_smoothing`` the share of each target that is spread over all classes.
    """

    name = "multiclass"

    def __init__(
        self,
        y: torch.Tensor | None = None,
        *,
        classes: int | None = None,
        class_weights: Sequence[float] | str | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        if y is None and classes is None:
            raise InputError("'multiclass' does not know its classes", cure="Give y= the training targets, or classes=.")
        y = None if y is None else _whole(y, self.name)
        self.counted = classes is None
        self.classes = count("classes", classes if classes is not None else max(2, _classes(y)), least=2)
        self.label_smoothing = fraction("label_smoothing", label_smoothing)
        if y is not None:
            self.accept(y)
        if class_weights == "balanced":
            if y is None:
                raise InputError("class_weights is 'balanced' without targets to count", cure="Give y= the training targets.")
            class_weights = (len(y) / (self.classes * y.bincount(minlength=self.classes).clamp(min=1).double())).tolist()
        elif isinstance(class_weights, str) or (class_weights is not None and len(class_weights) != self.classes):
            raise InputError(f"class_weights is {class_weights!r}", cure=f"Give {self.classes} numbers, or 'balanced'.")
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64)

    def accept(self, y: torch.Tensor) -> torch.Tensor:
        """Class numbers 0 to K-1, (N,)."""
        return _within(_whole(y, self.name), self.classes, self.name)

    def outputs(self, y_or_classes: Any = None) -> int:
        """K."""
        return self.classes if y_or_classes is None else _classes(y_or_classes)

    def loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of logits (N, K)."""
        weights = None if self.class_weights is None else self.class_weights.to(output)
        return F.cross_entropy(output, y, weight=weights, label_smoothing=self.label_smoothing)

    def predict(self, output: torch.Tensor) -> torch.Tensor:
        """Softmax, (N, K)."""
        return output.softmax(1)

    def error(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Whether the arg-max is another class, (N,)."""
        return (output.argmax(1) != y).long()

    def fits(self, found: int) -> bool:
        """K outputs; more are fine when K was counted, as the rows may lack the last classes."""
        return found == self.classes or (self.counted and found > self.classes and self.class_weights is None)

    def state(self) -> dict[str, Any]:
        """Number of classes, weights and smoothing."""
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return {"name": self.name, "classes": self.classes, "class_weights": weights, "label_smoothing": self.label_smoothing}


@OBJECTIVES.add("classification")
class Binary(Objective):
    """One of two classes from one logit z: -log sigmoid(z) for class 1, -log sigmoid(-z) for class 0."""

    name = "binary"

    def __init__(self, y: torch.Tensor | None = None) -> None:
        if y is not None:
            self.accept(y)

    def accept(self, y: torch.Tensor) -> torch.Tensor:
        """Class numbers 0 and 1, (N,)."""
        return _within(_whole(y, self.name), 2, self.name)

    def outputs(self, y_or_classes: Any = None) -> int:
        """1."""
        if y_or_classes is not None and _classes(y_or_classes) > 2:
            raise InputError(f"'binary' cannot tell {_classes(y_or_classes)} classes apart", cure="Take 'multiclass'.")
        return 1

    def loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean binary cross-entropy of logits (N, 1) or (N,)."""
        return F.binary_cross_entropy_with_logits(output.view(len(y)), y.to(output.dtype))

    def predict(self, output: torch.Tensor) -> torch.Tensor:
        """Probabilities of class 0 and class 1, (N, 2)."""
        z = output.reshape(-1)
        return torch.stack([torch.sigmoid(-z), torch.sigmoid(z)], 1)

    def error(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Whether the logit's sign names the other class, (N,)."""
        return ((output.reshape(-1) > 0).long() != y).long()


@OBJECTIVES.add("classification")
class Multilabel(Objective):
    """Any of K labels, each by itself: the mean binary cross-entropy over samples and labels."""

    name = "multilabel"

    def __init__(self, y: torch.Tensor | None = None, *, labels: int | None = None) -> None:
        if y is None and labels is None:
            raise InputError("'multilabel' does not know its labels", cure="Give y= the training targets, or labels=.")
        given = y.shape[-1] if y is not None and y.dim() == 2 else 1
        self.labels = count("labels", labels if labels is not None else given)
        if y is not None:
            self.accept(y)

    def accept(self, y: torch.Tensor) -> torch.Tensor:
        """Zeros and ones, (N, K)."""
        if y.dim() != 2 or y.shape[1] != self.labels:
            raise InputError(
                f"targets have shape {tuple(y.shape)}, 'multilabel' needs (N, {self.labels})", cure="Give a column per label."
            )
        wrong = (y != 0) & (y != 1)
        if bool(wrong.any()):
            row, label = wrong.nonzero()[0].tolist()
            raise InputError(
                f"target {float(y[row, label])} is neither 0 nor 1", where=f"row {row}, label {label}", cure="Give 0 and 1."
            )
        return y

    def outputs(self, y_or_classes: Any = None) -> int:
        """K."""
        if isinstance(y_or_classes, torch.Tensor):
            return int(y_or_classes.shape[1])
        return self.labels if y_or_classes is None else _classes(y_or_classes)

    def loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean binary cross-entropy of logits (N, K)."""
        return F.binary_cross_entropy_with_logits(output, y.to(output.dtype))

    def predict(self, output: torch.Tensor) -> torch.Tensor:
        """The probability of each label, (N, K); rows do not sum to 1."""
        return output.sigmoid()

    def error(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Whether the logit's sign is wrong, (N, K): one decision per label."""
        return ((output > 0) != (y > 0)).long()

    def state(self) -> dict[str, Any]:
        """Number of labels."""
        return {"name": self.name, "labels": self.labels}


@OBJECTIVES.add("regression")
class Regression(Objective):
    """Values. The model learns z = (y - mean)/scale, so that targets of any unit train alike; ``predict`` gives y back.

    ``mean`` and ``scale`` (standard deviation, 1 for a constant target) are fitted per column on the training targets in
    ``y`` and kept in ``state()``. ``penalty`` of the standardised residual r: "squared" r^2, "absolute" |r|, or "huber"
    (r^2/2 up to 1, |r| - 1/2 beyond). So the loss has no unit: 1 is what predicting the mean costs ("squared").
    """

    name = "regression"
    penalties: ClassVar[dict[str, Callable[..., torch.Tensor]]] = {
        "squared": F.mse_loss,
        "absolute": F.l1_loss,
        "huber": F.huber_loss,
    }

    def __init__(
        self,
        y: torch.Tensor | None = None,
        *,
        mean: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        penalty: str = "squared",
    ) -> None:
        self.penalty = one_of("penalty", penalty, self.penalties)
        if y is not None:
            columns = self.accept(y).double().reshape(len(y), -1)
            spread = columns.std(0, correction=0)
            mean = mean if mean is not None else columns.mean(0).tolist()
            scale = scale if scale is not None else torch.where(spread > 0, spread, 1.0).tolist()
        if mean is None or scale is None:
            raise InputError(
                "'regression' does not know its targets", cure="Give y= the training targets, or mean= and scale=."
            )
        self.mean, self.scale = torch.tensor(mean, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64)

    def accept(self, y: torch.Tensor) -> torch.Tensor:
        """Finite numbers, (N,) or (N, D)."""
        if y.dim() not in (1, 2) or y.is_complex() or y.dtype == torch.bool:
            raise InputError(
                f"targets are {y.dtype} of shape {tuple(y.shape)}", cure="'regression' needs numbers, (N,) or (N, D)."
            )
        return finite("the target", y)

    def outputs(self, y_or_classes: Any = None) -> int:
        """The number of columns."""
        if isinstance(y_or_classes, torch.Tensor):
            return int(y_or_classes.shape[1]) if y_or_classes.dim() == 2 else 1
        return len(self.mean) if not y_or_classes else _classes(y_or_classes)

    def loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean penalty of the standardised residuals."""
        target = (y.to(output.dtype).view(len(y), -1) - self.mean.to(output)) / self.scale.to(output)
        return self.penalties[self.penalty](output.view(len(y), -1), target)

    def predict(self, output: torch.Tensor) -> torch.Tensor:
        """mean + scale * output, in the target's unit: (N,) for one column, else (N, D)."""
        values = output.view(len(output), -1) * self.scale.to(output) + self.mean.to(output)
        return values.squeeze(1)

    def metrics(self, output: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        """The loss, the root mean squared error in the target's unit, and R^2 = 1 - residual/total sum of squares."""
        output, target = output.detach(), y.double().view(len(y), -1)
        residual = self.predict(output.double()).view(len(y), -1) - target
        total = (target - target.mean(0)).square().sum()
        r2 = 1.0 - float(residual.square().sum() / total) if total > 0 else float("nan")
        return {"loss": float(self.loss(output, y)), "rmse": float(residual.square().mean().sqrt()), "r2": r2}

    def state(self) -> dict[str, Any]:
        """Mean and scale per column, and the penalty."""
        return {"name": self.name, "mean": self.mean.tolist(), "scale": self.scale.tolist(), "penalty": self.penalty}


def suited(y: torch.Tensor) -> str:
    """The objective that targets of this type and shape ask for: whole numbers, zeros and ones in columns, or values."""
    if not y.is_floating_point():
        return "multiclass"
    return "multilabel" if y.dim() == 2 and bool(((y == 0) | (y == 1)).all()) else "regression"


def objective(name: str = "auto", y: Any = None, **options: Any) -> Objective:
    """The objective ``name`` for training targets ``y``; "auto" takes the one that suits them."""
    if y is not None:
        y = torch.as_tensor(y)
        if not len(y):
            raise InputError("there are no training targets", cure="Give at least one row.")
    if name == "auto":
        if y is None:
            raise InputError("objective 'auto' needs targets to look at", cure="Give y=, or name the objective.")
        name = suited(y)
    entry = OBJECTIVES[name]
    entry.check_options(options, where="objective")
    made: Objective = entry.value(y, **options)
    return made


def from_state(state: dict[str, Any]) -> Objective:
    """The objective whose ``state()`` this is."""
    return objective(state["name"], None, **{key: value for key, value in state.items() if key != "name"})


def made_for(data: Any, given: Objective | str = "auto") -> Objective:
    """The objective itself, or by name from ``data.y``; in both cases it accepts all of ``data.y``, where there is one."""
    y = getattr(data, "y", None)
    if isinstance(given, str):
        if y is None:
            cure = "Pass objective(name, y=targets) from pellucid.training.objectives."
            raise InputError(f"objective '{given}' cannot be made: the data have no attribute y", cure=cure)
        return objective(given, y)
    if y is not None:
        given.accept(torch.as_tensor(y))
    return given
