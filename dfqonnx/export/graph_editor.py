"""Adding nodes and shared constants to a graph under short, stable names.

New values are named by counting (`d0`, `d1`, ...), skipping names that the user's graph holds: a
long name costs its length several times in the file, and equal inputs must give equal bytes.
Constants with equal type, shape and bytes are stored once. Scales and zero points of activations
have rank 0: ONNX Runtime refuses QLinearAdd with shape [1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.passes.edit import make_unique
from dfqonnx.targets.profile import Packing, TargetProfile

Attributes = Mapping[str, int | Sequence[int]]
_PACKED = {  # by bits, and whether codes are signed
    (4, True): ml_dtypes.int4,
    (4, False): ml_dtypes.uint4,
    (2, True): ml_dtypes.int2,
    (2, False): ml_dtypes.uint2,
}


class GraphEditor:
    """A graph under edit, changed in place.

    `values` maps tensors of the float graph to the values that their consumers read now.
    """

    def __init__(self, graph: ir.Graph, target: TargetProfile) -> None:
        self.graph, self.target = graph, target
        self.values = {str(value.name): value for value in graph.inputs}
        self.values |= {str(value.name): value for node in graph for value in node.outputs}
        taken = self.values.keys() | graph.initializers
        self._fresh = (name for i in count() if (name := f"d{i}") not in taken)
        self._own: set[str] = set()
        self._nodes = {str(node.name) for node in graph}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        *,
        name: str = "",
        attributes: Attributes | None = None,
    ) -> ir.Node:
        """Make a node with one output, numbered where `name` is taken; the caller inserts it."""
        name = make_unique(name, self._nodes) if name else ""
        self._nodes.add(name)
        node = ir.node(op, inputs, attributes, name=name)
        node.outputs[0].name = next(self._fresh)
        return node

    def constant(
        self, array: NDArray[np.generic] | np.generic, *, name: str | None = None
    ) -> ir.Value:
        """Return the initializer that holds `array`, made once for equal content.

        `name` is a wish for a new one; the user's initializer of that name steps aside.
        """
        array = np.asarray(array)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._initializer(array, name)
        return self._constants[key]

    def codes(
        self,
        codes: NDArray[np.int8 | np.uint8],
        *,
        packing: Packing | None,
        name: str | None = None,
    ) -> tuple[ir.Value, list[ir.Node]]:
        """Return a value with the 8-bit `codes`, and the nodes (not yet inserted) it needs.

        A `packing`, whose bits hold them all, stores several in a byte and casts.
        """
        if packing is None:
            return self.own_codes(codes, name=name), []
        signed = codes.dtype == np.int8
        packed = self.own_codes(codes.astype(_PACKED[packing.bits, signed]), name=name)
        container = ir.DataType.INT8 if signed else ir.DataType.UINT8
        cast = self.node("Cast", [packed], attributes={"to": int(container)})
        return cast.outputs[0], [cast]

    def own_codes(self, codes: NDArray[np.generic], *, name: str | None = None) -> ir.Value:
        """Return an initializer with `codes`, which equal ones share unless the target forbids."""
        if self.target.own_codes:
            return self._initializer(codes, name)
        return self.constant(codes, name=name)

    def _initializer(self, array: NDArray[np.generic], wish: str | None) -> ir.Value:
        initializers = self.graph.initializers
        name = wish if wish and wish not in self._own else next(self._fresh)
        if name in initializers:
            initializers[name].name = next(self._fresh)
        self._own.add(name)
        value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        self.graph.register_initializer(value)
        return value

    def after(self, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
        """Insert `nodes` right behind the birth of `value`."""
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, nodes)
        elif len(self.graph):
            self.graph.insert_before(self.graph[0], nodes)
        else:
            self.graph.extend(nodes)

    def redirect(self, old: ir.Value, new: ir.Value, *, only: frozenset[str] = frozenset()) -> None:
        """Let the readers of `old` (those named in `only`, or all) read `new` instead.

        Nodes that lead from `old` to `new` keep their input; graph outputs follow unless `only`
        is given, and then carry the old name.
        """
        between = _between(old, new)
        for node, index in tuple(old.uses()):
            if node not in between and (not only or node.name in only):
                node.replace_input_with(index, new)
        if old.is_graph_output() and not only:
            outputs = self.graph.outputs
            for index, output in enumerate(tuple(outputs)):
                if output is old:
                    outputs[index] = new
            old.name, new.name = new.name, old.name


def _between(old: ir.Value, new: ir.Value) -> set[ir.Node]:
    found: set[ir.Node] = set()
    value = new
    while value is not old:
        node = value.producer()
        if node is None or node.inputs[0] is None:
            break
        found.add(node)
        value = node.inputs[0]
    return found
