"""The outputs of all weighted layers, for the losses that compare them.

A student's come from the modules that stand for its nodes, a teacher's from taps of the same names.
Both include the bias and the BatchNormalization that was folded in, and come before any activation
or quantizer.

A residual body ends in the layer whose output a sum adds to the identity. Where both parts of a sum
are layers (a projection on the identity's side) it is the one that more layers lead to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.convert.program import Program
from dfqonnx.fakequant.capture import Inputs, capture
from dfqonnx.fakequant.student import Student

READERS = ("layers", "attention")  # losses that compare outputs of layers


def needs_layers(config: DistillationConfig) -> bool:
    """Return whether some loss of a recipe compares outputs of layers."""
    return any(term.name in READERS and term.weight for term in config.losses)


def layer_names(student: Student) -> tuple[str, ...]:
    """Return the names of the layers' outputs, in the order of the plan."""
    return tuple(_outputs(student).values())


def find_bodies(student: Student) -> tuple[str, ...]:
    """Return the outputs of layers that close a residual body, in the network's order."""
    program, own = student.net.program, set(layer_names(student))
    depth = _depths(program, own)
    found: dict[str, None] = {}
    for step in program.steps:
        parts = [name for name in step.inputs if name in own] if step.op == "Add" else []
        is_sum = step.op == "Add" and not any(name in program.tensors for name in step.inputs)
        if parts and is_sum:
            found[max(parts, key=lambda name: depth[str(name)]) or ""] = None
    return tuple(found)


@contextmanager
def captured_layers(student: Student, *, active: bool) -> Iterator[dict[str, Tensor]]:
    """Yield a mapping that every forward pass within the block fills, if `active`, by name."""
    found: dict[str, Tensor] = {}
    names = _outputs(student) if active else {}
    by_module: dict[nn.Module, str] = {
        layer: names[layer.spec.node] for layer in student.layers() if layer.spec.node in names
    }

    def keep(layer: nn.Module, _: Inputs, output: Tensor) -> None:
        found[by_module[layer]] = output

    with capture(by_module, after=keep):
        yield found


def _outputs(student: Student) -> dict[str, str]:
    """Return the name of its output for the node of every layer."""
    nodes = [layer.spec.node for layer in student.layers()]
    by_node = {step.node: str(step.outputs[0]) for step in student.net.program.steps}
    return {node: by_node[node] for node in nodes}


def _depths(program: Program, layers: set[str]) -> dict[str, int]:
    """Return the most layers on a way from the network's input to a value, itself counted."""
    depth: dict[str, int] = {}
    for step in program.steps:
        before = max((depth.get(name, 0) for name in step.inputs if name), default=0)
        for output in step.outputs:
            depth[str(output)] = before + (str(output) in layers)
    return depth
