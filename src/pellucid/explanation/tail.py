"""The part of a network behind a layer, run on edited outputs of that layer without what comes before it.

Ways of leaving out the part before. *graph*: the network is traced, and only the operations that follow from the layer
are executed. *linear*: the same from the first linear layer on, if only a channel is set to zero and all between keeps
channels apart. *modules*: the network's own code runs, but modules that ended before the layer did answer with what they
answered for the unedited samples. Where none reproduces the score of an unedited sample, the *whole* network runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from .borrowing import children, is_keras, mapped, replaced, watched, with_first
from .first_linear import channel_effects, steps_to_linear

Arguments = Callable[[], tuple[Any, ...]]
WAYS = ("linear", "graph", "modules", "whole")


class Tail:
    """How to run what follows a layer of a model, for inputs with so many spatial axes; made once, used for every batch."""

    def __init__(self, model: nn.Module, layer: nn.Module, axes: int) -> None:
        self.model, self.layer = model, layer
        self.trusted: set[str] = set()  # the ways that have been compared with the whole network
        self.around = _around(model, layer)
        kept = {id(m) for m in self.around}
        inside = [child for m in self.around for child in children(m).values() if id(child) not in kept]
        inside = [part for part in inside if not isinstance(part, torch.jit.ScriptModule)]  # nothing can be put into these
        self.parts = list({id(child): child for child in inside}.values()) or [layer]  # not around it, not inside a part
        self.traced = self._trace()
        steps = None if self.traced is None else steps_to_linear(model, self.traced.start, axes)
        self.to_linear = steps
        self.from_linear = None
        if self.traced is not None and steps is not None:
            self.from_linear = Traced(model, self.traced.graph, steps[-1])
        self._left = [way for way in WAYS if not (way == "graph" and self.traced is None)]

    def ways(self, *, channels: bool) -> list[str]:
        """The ways that have not failed yet, the cheapest first; ``channels``: whether whole channels are set to zero."""
        return [way for way in self._left if way != "linear" or (channels and self.from_linear is not None)]

    def give_up(self, way: str) -> None:
        """This way does not reproduce the model."""
        if way in self._left[:-1]:
            self._left.remove(way)

    def _trace(self) -> Traced | None:
        """The graph of the model with every part as one step, or None where it cannot be traced.

        Tracing runs the model's code, so what it leaves behind in the modules around the layer is taken away.
        """
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in self.around)
        if hooked or is_keras(self.model) or self.model is self.layer:
            return None
        before = [(m, dict(vars(m))) for m in self.around]
        try:
            for inside in (True, False):
                graph = _Tracer(self.around, self.layer, inside=inside).trace(self.model)
                node = next((n for n in reversed(graph.nodes) if self._calls(n) is self.layer), None)
                traced = None if node is None else Traced(self.model, graph, node)
                if traced is None or traced.needed <= set(self.parts):
                    return traced
            return None
        except Exception:  # whatever a model's code raises when it is given symbols: it cannot be traced
            return None
        finally:
            for module, attributes in before:
                vars(module).clear()
                vars(module).update(attributes)

    def effect_bytes(self, maps: Tensor) -> int:
        """What ``effects`` would hold."""
        assert self.to_linear is not None
        linear = self.model.get_submodule(str(self.to_linear[-1].target))
        return maps.shape[0] * maps.shape[1] * int(linear.out_features) * maps.element_size()  # type: ignore[arg-type]

    def effects(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """(B, O) what the first linear layer answers for the layer's output, (B, K, O) what each channel adds to it."""
        assert self.traced is not None
        assert self.to_linear is not None
        value: Any = output.clone()  # steps may work in place
        for before, node in zip([self.traced.start, *self.to_linear], self.to_linear[:-1]):
            value = self.traced.execute(node, {before: value})
        linear = self.model.get_submodule(str(self.to_linear[-1].target))
        assert isinstance(linear, nn.Linear)
        return channel_effects(linear, value, output.shape[1])

    def _calls(self, node: fx.Node) -> nn.Module | None:
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def replay(self, way: str, record: Record, output: Tensor, arguments: Arguments, sample: Tensor) -> Any:
        """The model's answer where ``output`` takes the place of the layer's last output (*linear*: of that layer's).

        arguments: gives the model's inputs for these rows; not called where the tail does not use them.
        """
        if way == "linear":
            assert self.from_linear is not None
            return self.from_linear.run(record, output, arguments, sample)
        if way == "graph":
            assert self.traced is not None
            return self.traced.run(record, with_first(record.taken(self.layer, -1, sample), output), arguments, sample)
        times = 0

        def put(own: Any) -> Any:
            nonlocal times
            times += 1
            return with_first(own, output) if times == record.uses(self.layer) else None

        left_out = {part: record.stub(part, sample) for part in self.parts} if way == "modules" else {}
        with replaced(left_out), watched({self.layer: put}):
            return self.model(*arguments())


def _around(module: nn.Module, layer: nn.Module) -> list[nn.Module]:
    """The modules that contain the layer, from the outermost."""
    if module is layer:
        return []
    inner = {id(m): m for child in children(module).values() for m in _around(child, layer)}
    contains = bool(inner) or any(child is layer for child in children(module).values())
    return [module, *inner.values()] if contains else []


class _Tracer(fx.Tracer):
    """Goes into the modules around the layer, and into plain chains behind it; takes every other one as a single step."""

    def __init__(self, around: list[nn.Module], layer: nn.Module, *, inside: bool) -> None:
        super().__init__()
        self.entered = {id(module) for module in around}
        self.layer, self.inside, self.passed = layer, inside, False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        behind, self.passed = self.passed, self.passed or m is self.layer
        chain = type(m) is nn.Sequential and not (m._forward_hooks or m._forward_pre_hooks)
        return id(m) not in self.entered and not (self.inside and behind and chain and m is not self.layer)


class Record:
    """What the parts of a network answered in one pass over the samples, in the order in which they finished."""

    def __init__(self, tail: Tail, rows: int) -> None:
        self.tail, self.rows = tail, rows
        self.answers: dict[nn.Module, list[Any]] = {part: [] for part in tail.parts}
        self.before: dict[nn.Module, int] = dict.fromkeys(tail.parts, 0)  # calls that ended when the layer last did
        wanted = tail.traced.needed if tail.traced is not None and "graph" in tail.ways(channels=False) else None
        self._wanted = set(tail.parts) if wanted is None else wanted

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep the answers of the parts while the model runs."""

        def listen(part: nn.Module, own: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                answer = own(*args, **kwargs)
                # what follows may change an answer in place
                kept = mapped(answer, lambda t: t.detach().clone()) if part in self._wanted else None
                self.answers[part].append(kept)
                if part is self.tail.layer:
                    self.before = {other: len(calls) for other, calls in self.answers.items()}
                return answer

            return call

        with replaced({part: functools.partial(listen, part) for part in self.answers}):
            yield

    def uses(self, part: nn.Module) -> int:
        """How often a part had answered when the layer last did."""
        return self.before[part]

    def complete(self) -> bool:
        """Whether every part's answers were kept, as the way by modules needs them."""
        return self._wanted == set(self.answers)

    def stub(self, part: nn.Module, sample: Tensor) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A function for the place of the part's own that repeats its answers up to the layer, then computes."""
        answers = iter(self.answers[part][: self.before[part]])

        def make(own: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                kept = next(answers, None)
                return own(*args, **kwargs) if kept is None else self._taken(kept, sample)

            return call

        return make

    def taken(self, part: nn.Module, number: int, sample: Tensor) -> Any:
        """What a part answered in its call of this number (-1: when the layer last ran), for these rows."""
        return self._taken(self.answers[part][self.before[part] - 1 if number < 0 else number], sample)

    def _taken(self, answer: Any, sample: Tensor) -> Any:
        """Tensors without one row per sample (a table of positions) stay as they are."""
        return mapped(answer, lambda t: t[sample] if t.ndim > 0 and len(t) == self.rows else t)


class Traced:
    """The steps of a traced network that follow from one of them."""

    def __init__(self, model: nn.Module, graph: fx.Graph, start: fx.Node) -> None:
        self.model, self.graph, self.start = model, graph, start
        self.tail: dict[fx.Node, None] = {}
        self.varies: set[fx.Node] = set()
        for node in graph.nodes:
            if any(before is start or before in self.tail for before in node.all_input_nodes):
                self.tail[node] = None
            if node.op == "placeholder" or any(before in self.varies for before in node.all_input_nodes):
                self.varies.add(node)
        edge = {before for node in self.tail for before in node.all_input_nodes if before not in self.tail}
        self.edge = edge - {start}
        self.needed = {model.get_submodule(str(start.target))}
        waiting, seen = list(self.edge), set()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.op == "call_module":
                self.needed.add(model.get_submodule(str(node.target)))
            else:
                waiting += node.all_input_nodes
        calls = [node for node in graph.nodes if node.op == "call_module"]
        self.number = {n: sum(m.target == n.target for m in calls[:i]) for i, n in enumerate(calls)}

    def run(self, record: Record, output: Tensor, arguments: Arguments, sample: Tensor) -> Any:
        """The network's answer with ``output`` at the start."""
        env: dict[fx.Node, Any] = {self.start: output}
        given: dict[fx.Node, Any] = {}

        def value(node: fx.Node) -> Any:
            """A step before the start: repeated per row, or worked out again where it is no tensor (a size)."""
            if node not in env:
                if node.op == "placeholder":
                    if not given:
                        given.update(zip((n for n in self.graph.nodes if n.op == "placeholder"), arguments()))
                    env[node] = given[node] if node in given else node.args[0]
                elif node.op == "call_module":
                    part = self.model.get_submodule(str(node.target))
                    rows = sample if node in self.varies else torch.arange(record.rows, device=sample.device)
                    env[node] = record.taken(part, self.number[node], rows)
                else:
                    for before in node.all_input_nodes:
                        value(before)
                    env[node] = self.execute(node, env)
            return env[node]

        for node in self.edge:
            value(node)
        left = {node: sum(user in self.tail for user in node.users) for node in self.tail}
        for node in self.tail:
            env[node] = self.execute(node, env)
            for before in node.all_input_nodes:  # let go of what no later step needs
                if before in left:
                    left[before] -= 1
                    if left[before] == 0:
                        del env[before]
        return env[node]

    def execute(self, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
        """What a step gives, its inputs being known."""
        args = fx.node.map_arg(node.args, env.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, env.__getitem__)
        if node.op == "output":
            return args[0]
        if node.op == "get_attr":
            return functools.reduce(getattr, str(node.target).split("."), self.model)
        if node.op == "call_module":
            return self.model.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)
