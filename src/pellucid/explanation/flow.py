"""The computation of a network as it ran, step by step, and ways back through it by rules.

A ``Flow`` listens while the network's own code runs: every operation that depends on the input becomes a ``Step``, whatever
module or function called it. A plain ``+``, a functional ReLU, a module used twice and an operation in place are steps like
any other. What only moves values (a view, a concatenation) is left to torch. The way back asks a table of rules
(``Backward``) what each step returns; one pass forward serves any number of them.
"""

from __future__ import annotations

import functools
import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pellucid.core.errors import UnsupportedError

from .affine import affine_of
from .arguments import (
    asks_in_place,
    axis_left,
    axis_moved,
    changed,
    drops,
    function_of,
    in_order,
    named,
    operands_of,
    out_of_place,
    rectifies,
    tensors_in,
    with_places,
)
from .borrowing import Model, descendants, first_tensor, watched
from .inputs import Inputs
from .operations import GATES, KINDS, names, plain_name
from .steps import Backward, Rules, Step, Stepped, Tag, tagged

_OURS, _TORCH = f"{Path(__file__).parents[1]}{os.sep}", f"{Path(torch.__file__).parent}{os.sep}"
# What leaves whole numbers the samples' own.
_SAME = frozenset(names("to long int clone contiguous type detach view_as"))
# What leaves the computation as it is, although it is called on a tensor.
_ASIDE = frozenset(names("requires_grad retain_grad register_hook"))


class Flow(TorchFunctionMode):
    """A network's forward pass, followed: ``with flow: output = model(x)``, then ``flow.back(...)`` as often as wished."""

    def __init__(self, model: Model, tokens: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.names = {m: name for name, m in descendants(model).items()} if isinstance(model, nn.Module) else {}
        self.steps: list[Step] = []
        self.outputs: dict[nn.Module, list[Tensor]] = {}
        self.tokens, self.embedded = tokens, list[Tensor]()
        self._rules = Rules()
        self.rows = 1
        # What was changed in place -> what stands for it now. A table here: nothing is written on a model's own tensors.
        self._now: dict[int, tuple[Tensor, Tensor]] = {}
        self._stale = False  # whether somebody holds a part of a tensor that was changed, or the whole of a changed part
        self.hidden = False  # whether anything was changed in place that others may hold under another shape

    def leaf(self, x: Tensor) -> Tensor:
        """A tensor that steps are followed from."""
        self.rows = len(x)
        return tagged(x.detach().clone().requires_grad_(), Tag())

    def start(self, leaf: Tensor) -> Tensor:
        """What the model is called with: code that works in place does not reach the leaf itself."""
        return tagged(leaf.clone(), Tag())

    def start_tokens(self) -> Tensor:
        """What the model is called with where the samples are whole numbers."""
        assert self.tokens is not None
        given = self.tokens.clone()
        given._of_samples = True  # type: ignore[attr-defined]
        return given

    def watching(self) -> Any:
        """Keep the outputs of all modules, to find relevance there."""

        def keep(module: nn.Module, output: Any) -> None:
            tensor = first_tensor(output)
            tensor = None if tensor is None else self.current(tensor)  # the module may have worked in place
            if tensor is not None and tensor.requires_grad:
                self.outputs.setdefault(module, []).append(tensor)

        seen = [m for m in self.names if not isinstance(m, torch.jit.ScriptModule)]
        return watched({module: functools.partial(keep, module) for module in seen})

    def back(self, rules: Backward, value: Tensor, seed: Tensor, to: Sequence[Tensor]) -> list[Tensor]:
        """What arrives at these tensors when ``seed`` starts at ``value``; zeros where nothing does."""
        if not value.requires_grad:
            raise UnsupportedError(
                "the score does not depend on this input through steps that can be followed",
                cure="Use a method that only needs scores (occlusion).",
            )
        self._known(value, "the end of the network")
        self._rules.now = rules
        try:
            found = torch.autograd.grad(value, list(to), seed, retain_graph=True, allow_unused=True)
        finally:
            self._rules.now = None
            for step in self.steps:
                step.pair = None
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, to)]

    @property
    def affine_steps(self) -> list[Step]:
        """The linear layers and convolutions, in the order in which they ran."""
        return [step for step in self.steps if step.affine is not None]

    # Listening.

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch in the place of every one of its functions."""
        kwargs = kwargs or {}
        name, in_place = plain_name(func)
        if name == "_set_grad_enabled":
            return func(*args, **kwargs)
        args, kwargs = self._current(args, kwargs, name)
        if name in ("size", "dim"):
            return func(*args, **kwargs)
        if name in _ASIDE:
            return args[0] if name == "requires_grad" and args[0].requires_grad else func(*args, **kwargs)
        if name == "get" and not isinstance(found := func(*args, **kwargs), Tensor):
            return found
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        args, kwargs = in_order(name, args, kwargs)
        variables = [t for t in tensors_in(args, kwargs) if t.requires_grad]
        if not variables:
            return func(*args, **kwargs) if self.tokens is None else self._of_tokens(func, name, args, kwargs)
        if any(t.is_leaf and not hasattr(t, "_followed") for t in variables):  # a constant that somebody else differentiates by
            args, kwargs = changed(lambda t: t.detach() if t.is_leaf and not hasattr(t, "_followed") else t, args, kwargs)
            return self.__torch_function__(func, types, args, kwargs)
        for tensor in variables:
            self._known(tensor, name)
        kind = "route" if name == "get" else KINDS.get(name)
        if kind is None or kwargs.get("out") is not None:
            return self._unknown(func, name, args, kwargs)
        if in_place or asks_in_place(func, args, kwargs):
            return self._in_place(func, name, kind, args, kwargs, variables)
        return self._follow(func, name, kind, args, kwargs, variables)

    def _follow(self, func: Any, name: str, kind: str, args: Any, kwargs: Any, variables: list[Tensor]) -> Any:
        if kind == "unrolled":
            from .unrolled import UNROLLED

            with self:
                return UNROLLED[name](self, *args, **kwargs)
        if kind == "route":
            if kwargs.get("accumulate") or kwargs.get("reduce") is not None or (name == "index_put" and True in args[3:]):
                raise self._refused(f"{name} with a sum")
            return self._route(func, args, kwargs, variables)
        if name == "linear" and any(t.requires_grad for t in tensors_in(args[1:], kwargs)):
            with self:  # a weight or a bias that depends on the input too
                x, w, b = (*args, None)[:3]
                return torch.matmul(x, w.transpose(-1, -2)) if b is None else torch.matmul(x, w.transpose(-1, -2)) + b
        if kind == "dropout":
            if not drops(name, args, kwargs):
                return args[0]
            raise UnsupportedError("the network drops values at random in evaluation mode too", where=self.place())
        return self._step(func, name, kind, args, kwargs, variables)

    def _step(self, func: Any, name: str, kind: str, args: Any, kwargs: Any, variables: list[Tensor]) -> Any:
        if rectifies(name, args, kwargs):
            name, kind = "relu", "activation"
        tags = [t._followed for t in variables]  # type: ignore[attr-defined]
        affine, given, operands = None, dict[str, Any](), list[tuple[Any, float, bool]]()
        if kind in ("affine", "matrix"):
            affine = affine_of(name, args, kwargs)
            if affine is None and kind == "affine":
                raise UnsupportedError(f"the weights of {name} depend on the input", where=self.place())
            kind = "affine" if affine is not None else "matmul"
        elif kind in ("sum", "product"):
            operands = operands_of(name, args, kwargs)
        elif kind in ("batch_norm", "norm", "max_pool", "softmax"):
            given = self._given(func, name, kind, args, kwargs)
        if kind in ("activation", "softmax", "pool", "batch_norm", "norm", "max_pool") and len(variables) > 1:
            raise self._refused(name)
        values = [t.detach() for t in variables]
        call = function_of(func, args, kwargs)
        wants_places = kind == "max_pool" and bool(given.get("return_indices", "indices" in name))
        if kind == "max_pool":
            call = with_places(name, given)
        depth = max(tag.depth for tag in tags)
        step = Step(
            kind=kind,
            name=name,
            values=values,
            call=call,
            where=self.place(),
            depth=depth,
            number=len(self.steps),
            sources=[tag.step for tag in tags],
            gates=[tag.gate for tag in tags],
            operands=operands,
            affine=None if affine is None else replace(affine, axis=tags[0].axis),
            given=given,
            axis=axis_left(kind, name, args, kwargs, tags[0].axis, variables[0].ndim),
            axis_before=tags[0].axis,
        )
        for tag in tags:
            if tag.step is not None:
                tag.step.uses += 1
        if kind == "batch_norm" and (source := tags[0].step) is not None and source.affine is not None:
            source.folded = weakref.ref(step)
        self.steps.append(step)
        output = Stepped.apply(self._rules, step, *variables)  # type: ignore[no-untyped-call]
        if isinstance(output, tuple) and step.named is not None:
            output = step.named(output)
        gate = name in GATES or (kind in ("sum", "product") and all(step.gates))
        tag = Tag(step, gate, depth + (affine is not None), step.axis)
        tensor = first_tensor(output)
        assert tensor is not None
        tagged(tensor, tag)
        return output if wants_places or kind != "max_pool" else tensor

    def _given(self, func: Any, name: str, kind: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """The arguments by their names, of steps whose rules read them."""
        if kind == "softmax":
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            return {"dim": (0 if args[0].ndim in (0, 1, 3) else 1) if axis is None else axis}
        given = named(func, name, args, kwargs)
        if kind == "batch_norm" and (given["running_mean"] is None or given["training"]):
            raise UnsupportedError(
                "a batch norm without stored statistics mixes the samples of a batch",
                where=self.place(),
                cure="Train it with track_running_stats=True.",
            )
        return given

    def _route(self, func: Any, args: Any, kwargs: Any, variables: list[Tensor]) -> Any:
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) and any(output is t for t in variables):
            return output
        tags = [t._followed for t in variables]  # type: ignore[attr-defined]
        first = next((i for i, t in enumerate(variables) if args and t is args[0]), 0)
        shown = next((t for t in tensors_in((output,), {}) if t.requires_grad), None)
        axis = axis_moved(func, args, kwargs, tags[first].axis, variables[first], shown, self.rows)
        new = Tag(None, all(tag.gate for tag in tags), max(tag.depth for tag in tags), axis)
        reached = False
        for tensor in tensors_in((output,), {}):
            if tensor.requires_grad:
                reached = True
                tagged(tensor, new)
                if tensor._is_view() and tensor._base is not None:
                    tensor._base.__dict__.setdefault("_views", []).append(weakref.ref(tensor))
        if reached:
            for tag in tags:
                if tag.step is not None:
                    tag.step.uses += 1
        return output

    def _in_place(self, func: Any, name: str, kind: str, args: Any, kwargs: Any, variables: list[Tensor]) -> Any:
        """The operation with a result of its own, which from then on stands for the tensor that was to be changed."""
        target = args[0]
        if kind == "route":
            beside = getattr(torch.Tensor, name, None)
            changes = name in ("setitem", "copy", "fill", "zero") or beside is None
            if name == "setitem":
                mine = args[2] if isinstance(args[2], Tensor) else None
                view = getattr(mine, "_view_of", None)
                if view is not None and view() is target:
                    target.__dict__.pop("_lost", None)

            def run(x: Tensor, *rest: Any, **more: Any) -> Any:
                if not changes:
                    assert beside is not None
                    return beside(x, *rest, **more)
                new = x.clone()
                func(new, *rest, **more)
                return new

            output = self._route(run, args, kwargs, variables)
            if not changes:  # seen in another shape: nothing that others hold has changed
                self._now[id(target)] = target, output
                self.hidden = True
                return output
        else:
            func, args, kwargs = out_of_place(func, name, args, kwargs)
            output = self._follow(func, name, kind, args, kwargs, variables)
        self._replace(target, output)
        return None if name == "setitem" else output

    def _replace(self, old: Tensor, new: Tensor) -> None:
        """Whoever holds the tensor that was changed in place gets the result; whoever holds a part of it is told."""
        if new is old:
            return
        views = [seen for view in old.__dict__.get("_views", ()) if (seen := view()) is not None]
        if views or old._is_view():
            self.hidden = True
            place = self.place(line=True)
            for seen in views:
                seen._lost, self._stale = place, True
            if (base := old._base) is not None and hasattr(base, "_followed"):
                base._lost, self._stale = place, True  # type: ignore[attr-defined]
                new._view_of = weakref.ref(base)  # type: ignore[attr-defined]
        self._now[id(old)] = old, new

    def current(self, tensor: Tensor) -> Tensor:
        """The tensor, or what stands for it since it was changed in place."""
        while (after := self._now.get(id(tensor))) is not None:
            tensor = after[1]
        return tensor

    def _current(self, args: Any, kwargs: Any, name: str) -> tuple[Any, Any]:
        """The arguments, with results of operations in place where these stand for the tensor that was changed."""
        if not self._now or not any(id(t) in self._now or hasattr(t, "_lost") for t in tensors_in(args, kwargs)):
            return args, kwargs

        def now(tensor: Tensor) -> Tensor:
            tensor = self.current(tensor)
            if self._stale and hasattr(tensor, "_lost") and name != "setitem":
                raise UnsupportedError(
                    "a part of this tensor was changed in place and the whole is used again",
                    where=f"changed in {tensor._lost}, used in {self.place(line=True)}",
                    cure="Write the change out of place.",
                )
            return tensor

        return changed(now, args, kwargs)

    def _of_tokens(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Rows looked up by the samples' whole numbers are where the way back to these ends."""
        output = func(*args, **kwargs)
        index = args[0] if args else kwargs.get("input")
        if not hasattr(index, "_of_samples"):
            return output
        if name == "embedding":
            leaf = self.leaf(output)
            self.embedded.append(leaf)
            return self.start(leaf)
        if name in _SAME and isinstance(output, Tensor) and output.shape == index.shape:
            output._of_samples = True  # type: ignore[attr-defined]
        return output

    def _known(self, tensor: Tensor, name: str) -> None:
        if not hasattr(tensor, "_followed"):
            raise UnsupportedError(
                f"what reaches '{name}' was computed where it could not be followed",
                where=self.place(),
                cure="Compiled or scripted parts, autograd functions of one's own and backward hooks have no rules: take these "
                "away, or use integrated_gradients.",
            )

    def _unknown(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        if kwargs.get("out") is not None or plain_name(func)[1]:
            raise self._refused(name)
        output = func(*args, **kwargs)
        if any(t.requires_grad for t in tensors_in((output,), {})):
            raise self._refused(name)
        return output

    def _refused(self, name: str) -> UnsupportedError:
        return UnsupportedError(
            f"there is no rule for the operation '{name}'",
            where=self.place(line=True),
            cure="integrated_gradients and occlusion need no rules.",
        )

    def place(self, *, line: bool = False) -> str:
        """The innermost module that is running, and with ``line`` the line of the network's own code that asked."""
        frame: FrameType | None = sys._getframe(1)
        asked, module = "", ""
        while frame is not None and not (module and (asked or not line)):
            if frame.f_code is Inputs.call.__code__:
                break  # what called the network is no part of it
            file = frame.f_code.co_filename
            if not asked and not file.startswith((_OURS, _TORCH)) and not file.startswith("<frozen"):
                asked = f"{file}, line {frame.f_lineno}"
            if not module and frame.f_code.co_name in ("forward", "call"):  # only there: looking into a frame is not cheap
                owner = frame.f_locals.get("self")
                if isinstance(owner, nn.Module) and owner in self.names:
                    module = self.names[owner] or type(owner).__name__
            frame = frame.f_back
        return f"{module}, {asked}" if line and module else asked if line else module
