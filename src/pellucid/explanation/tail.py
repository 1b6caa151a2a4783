"""The part of a network behind a layer, run on edited outputs of that layer without what comes before it.

Two ways of leaving out the part before. *graph*: the network is traced, and only the operations that follow from the layer
are executed. *modules*: the network's own code runs, but modules that ended before the layer did answer with what they
answered for the unedited samples. Where neither reproduces the score of an unedited sample, the *whole* network runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from .borrowing import is_keras, mapped, replaced, watched, with_first

WAYS = ("graph", "modules", "whole")


class Tail:
    """How to run what follows a layer of a model; made once, used for every batch."""

    def __init__(self, model: nn.Module, layer: nn.Module) -> None:
        self.model, self.layer = model, layer
        inside = {id(part) for part in layer.modules()}
        self.around = [m for m in model.modules() if id(m) not in inside and any(part is layer for part in m.modules())]
        kept = {id(m) for m in self.around}
        children = [child for m in self.around for child in m.children() if id(child) not in kept]
        self.parts = list({id(child): child for child in children}.values()) or [layer]  # not around it, not inside a part
        self._left = list(WAYS)
        self.traced = self._trace()
        if self.traced is None:
            self._left.remove("graph")

    def ways(self) -> list[str]:
        """The ways that have not failed yet, the cheapest first."""
        return list(self._left)

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
            graph = _Tracer(self.around).trace(self.model)
            node = next((n for n in reversed(graph.nodes) if self._calls(n) is self.layer), None)
            return None if node is None else Traced(self.model, graph, node)
        except Exception:  # whatever a model's code raises when it is given symbols: it cannot be traced
            return None
        finally:
            for module, attributes in before:
                vars(module).clear()
                vars(module).update(attributes)

    def _calls(self, node: fx.Node) -> nn.Module | None:
        return self.model.get_submodule(str(node.target)) if node.op == "call_module" else None

    def replay(self, way: str, record: Record, output: Tensor, arguments: tuple[Any, ...], sample: Tensor) -> Any:
        """The model's answer where ``output`` takes the place of the layer's last output for these samples."""
        if way == "graph":
            assert self.traced is not None
            return self.traced.run(record, output, arguments, sample)
        times = 0

        def put(own: Any) -> Any:
            nonlocal times
            times += 1
            return with_first(own, output) if times == record.uses(self.layer) else None

        left_out = {part: record.stub(part, sample) for part in self.parts} if way == "modules" else {}
        with replaced(left_out), watched({self.layer: put}):
            return self.model(*arguments)


class _Tracer(fx.Tracer):
    """Goes into the modules around the layer and takes every other one as a single step."""

    def __init__(self, around: list[nn.Module]) -> None:
        super().__init__()
        self.entered = {id(module) for module in around}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) not in self.entered


class Record:
    """What the parts of a network answered in one pass over the samples, in the order in which they finished."""

    def __init__(self, tail: Tail, rows: int) -> None:
        self.tail, self.rows = tail, rows
        self.answers: dict[nn.Module, list[Any]] = {part: [] for part in tail.parts}
        self.before: dict[nn.Module, int] = dict.fromkeys(tail.parts, 0)  # calls that ended when the layer last did
        wanted = tail.traced.needed if tail.traced is not None and tail.ways()[0] == "graph" else None
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

    def run(self, record: Record, output: Tensor, arguments: tuple[Any, ...], sample: Tensor) -> Any:
        """The network's answer with ``output`` as the first tensor at the start."""
        own = record.taken(self.model.get_submodule(str(self.start.target)), -1, sample)
        env: dict[fx.Node, Any] = {self.start: with_first(own, output)}
        given = dict(zip((n for n in self.graph.nodes if n.op == "placeholder"), arguments))

        def value(node: fx.Node) -> Any:
            """A step before the start: repeated per row, or worked out again where it is no tensor (a size)."""
            if node not in env:
                if node.op == "placeholder":
                    env[node] = given[node] if node in given else node.args[0]
                elif node.op == "call_module":
                    part = self.model.get_submodule(str(node.target))
                    rows = sample if node in self.varies else torch.arange(record.rows, device=sample.device)
                    env[node] = record.taken(part, self.number[node], rows)
                else:
                    for before in node.all_input_nodes:
                        value(before)
                    env[node] = self._execute(node, env)
            return env[node]

        for node in self.edge:
            value(node)
        left = {node: sum(user in self.tail for user in node.users) for node in self.tail}
        for node in self.tail:
            env[node] = self._execute(node, env)
            for before in node.all_input_nodes:  # let go of what no later step needs
                if before in left:
                    left[before] -= 1
                    if left[before] == 0:
                        del env[before]
        return env[node]

    def _execute(self, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
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
