"""A program as a torch module that gradients flow through, with places for other modules.

The module is a `torch.fx.GraphModule`: straight-line Python that calls the operators and drops each
value after its last use. Weights are buffers, so nothing of the teacher is ever trained. Only what
leads to the asked outputs and taps is computed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx, nn

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.convert.tensors import numbers
from dfqonnx.errors import InternalError

Reading = Mapping[tuple[str, str], nn.Module]


class ProgramModule(nn.Module):
    """A differentiable network.

    Args:
        program: the model.
        replace: modules that stand for nodes, called with the node's inputs that are not constants.
        after: modules that a value passes where it is computed: all readers and taps get it.
        reading: modules that a value passes on its way into one node, by (node, value); called once
            per module and value, however many nodes share it.
        taps: names of values that are returned beside the logits.
        outputs: names of values to return as a tuple in place of the logits.
        channels_last: keep images and weights in channels-last memory order, which CPU convolutions
            and half-precision GPU ones prefer.
    """

    def __init__(
        self,
        program: Program,
        *,
        replace: Mapping[str, nn.Module] | None = None,
        after: Mapping[str, nn.Module] | None = None,
        reading: Reading | None = None,
        taps: Iterable[str] = (),
        outputs: Iterable[str] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.program = program
        builder = _Builder(
            program=program,
            replace=replace or {},
            after=after or {},
            reading=reading or {},
            channels_last=channels_last,
        )
        self.body = builder.build(tuple(taps), None if outputs is None else tuple(outputs))
        self.channels_last = channels_last
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Return the logits (or the tuple of outputs) and the tapped values by name.

        Logits (N k, K) of N images, k rows each, are returned as (N, k, K): rows are no classes.
        """
        if self.channels_last:
            inputs = tuple(
                x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
                for x in inputs
            )
        found, taps = self.body(*inputs)
        images = len(inputs[0]) if inputs and inputs[0].dim() else 0
        return _separate_images(found, images), taps


def _separate_images(logits: Any, images: int) -> Any:
    """Return logits whose rows are several to an image, image by image; others as they are."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or not images:
        return logits
    is_row = len(logits) == images or len(logits) % images
    return logits if is_row else logits.view(images, -1, logits.shape[1])


class _HostConstant(nn.Module):
    """Returns a tensor that stays on the CPU when the network moves."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self) -> Tensor:
        return self.value


class _Bound(nn.Module):
    """An operator with tensor attributes, which generated code cannot spell."""

    def __init__(self, function: Callable[..., Any], attributes: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.attributes = dict(attributes)

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs, **self.attributes)


def _move_to_device(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device)


@dataclass(kw_only=True)
class _Builder:
    """Emits the fx graph, value by value."""

    program: Program
    replace: Mapping[str, nn.Module]
    after: Mapping[str, nn.Module]
    reading: Reading
    channels_last: bool
    graph: fx.Graph = field(default_factory=fx.Graph)
    tensors: nn.Module = field(default_factory=nn.Module)
    modules: nn.ModuleList = field(default_factory=nn.ModuleList)
    values: dict[str, fx.Node] = field(default_factory=dict)
    constants: dict[tuple[str, bool], fx.Node] = field(default_factory=dict)
    slots: dict[int, str] = field(default_factory=dict)
    read: dict[tuple[int, str], fx.Node] = field(default_factory=dict)

    def build(self, taps: tuple[str, ...], outputs: tuple[str, ...] | None) -> fx.GraphModule:
        wanted = (self.program.logits,) if outputs is None else outputs
        self._check((*taps, *wanted))
        for name in self.program.inputs:
            self._bind(name, self.graph.placeholder(_make_identifier(name)))
        for step in self._collect_needed({*taps, *wanted}):
            self._emit(step)
        found = tuple(self._get_value(name) for name in wanted)
        result = found if outputs is not None else found[0]
        self.graph.output((result, {name: self._get_value(name) for name in taps}))
        root = nn.ModuleDict({"tensors": self.tensors, "called": self.modules})
        return fx.GraphModule(root, self.graph, class_name="Body")

    def _check(self, wanted: tuple[str, ...]) -> None:
        program = self.program
        nodes = {step.node: set(step.reads()) for step in program.steps}
        values = {*program.inputs, *program.tensors}
        values.update(name for step in program.steps for name in step.writes())
        wrong = [f"replace: no node {node!r}" for node in self.replace if node not in nodes]
        wrong += [f"after: no value {name!r}" for name in self.after if name not in values]
        wrong += [
            f"reading: node {node!r} does not read {name!r}"
            for node, name in self.reading
            if name not in nodes.get(node, ())
        ]
        wrong += [f"taps or outputs: no value {name!r}" for name in wanted if name not in values]
        if wrong:
            raise InternalError(f"the network cannot be built: {'; '.join(wrong)}")

    def _collect_needed(self, wanted: set[str]) -> list[OpCall]:
        """Return the steps that lead to `wanted`, in order."""
        kept = []
        for step in reversed(self.program.steps):
            if not wanted.isdisjoint(step.writes()):
                kept.append(step)
                wanted.update(step.reads())
        return kept[::-1]

    def _emit(self, step: OpCall) -> None:
        if step.node in self.replace:
            arguments: list[Any] = [
                self._get_read_value(step, name)
                for name in step.reads()
                if name not in self.program.tensors
            ]
            result = self._call(self.replace[step.node], *arguments)
        else:
            arguments = [
                None if name is None else self._get_argument(step, position, name)
                for position, name in enumerate(step.inputs)
            ]
            if any(isinstance(value, Tensor) for value in step.attributes.values()):
                result = self._call(_Bound(step.function, step.attributes), *arguments)
            else:
                result = self.graph.call_function(
                    step.function, tuple(arguments), dict(step.attributes)
                )
        if len(step.outputs) == 1:
            self._bind(str(step.outputs[0]), result)
            return
        for index, name in enumerate(step.outputs):
            if name is not None:
                self._bind(name, self.graph.call_function(getitem, (result, index)))

    def _get_argument(self, step: OpCall, position: int, name: str) -> Any:
        constant = self.program.tensors.get(name)
        if position in step.host:
            if constant is not None and name not in self.after:
                return numbers(constant)
            return self.graph.call_function(numbers, (self._get_read_value(step, name),))
        on_host = self.program.runs_on_host(step)
        if constant is not None and on_host:
            return self._get_constant(name, host=True)
        value = self._get_read_value(step, name)
        if name in self.program.host and not on_host:
            like = next(n for n in step.reads() if not self.program.is_host(n))
            return self.graph.call_function(_move_to_device, (value, self._get_value(like)))
        return value

    def _get_read_value(self, step: OpCall, name: str) -> fx.Node:
        module = self.reading.get((step.node, name))
        if module is None:
            return self._get_value(name)
        key = (id(module), name)
        if key not in self.read:
            self.read[key] = self._call(module, self._get_value(name))
        return self.read[key]

    def _get_value(self, name: str) -> fx.Node:
        if name not in self.values:
            self._bind(name, self._get_constant(name, host=False))
        return self.values[name]

    def _bind(self, name: str, node: fx.Node) -> None:
        module = self.after.get(name)
        self.values[name] = node if module is None else self._call(module, node)

    def _get_constant(self, name: str, *, host: bool) -> fx.Node:
        if (name, host) not in self.constants:
            tensor = self.program.tensors[name]
            if host:
                node = self._call(_HostConstant(tensor))
            else:
                slot = f"t{len(self.tensors._buffers)}_{_make_identifier(name)}"
                if self.channels_last and tensor.dim() == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                self.tensors.register_buffer(slot, tensor)
                node = self.graph.get_attr(f"tensors.{slot}")
            self.constants[name, host] = node
        return self.constants[name, host]

    def _call(self, module: nn.Module, *arguments: Any) -> fx.Node:
        if id(module) not in self.slots:
            self.slots[id(module)] = f"called.{len(self.modules)}"
            self.modules.append(module)
        return self.graph.call_module(self.slots[id(module)], arguments)


def _make_identifier(name: str) -> str:
    return re.sub(r"\W", "_", name) or "_"
