"""Tensors that share their codes, and codes of one container around every kernel.

`join_containers` is for runtimes whose kernels read and make codes of one container, 8 or 16 bits.
A node works on 16 bits where any reader asks as much of what it makes, or where it reads as much:

    Conv A (reads 8) -- Q16 -- Conv B (reads 16) -- Conv C (reads 8)           what is asked
    Q8 -- Q16 -- Conv A -- Q16 -- Conv B -- Q16 -- Q8 -- Conv C                what is placed

So a layer that was given 16 bits reads what really has them, and the layer before that is computed
with as many; nothing further on changes. Conversions are the quantizers `tensor@16` and `tensor@8`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS, WIDE_BITS
from dfqonnx.placement.roles import Roles


@dataclass(kw_only=True)
class SharedScaleGroup:
    """A root, the tensors that share its codes, and who reads which of them at what width."""

    root: ir.Value
    shared: list[tuple[ir.Value, ir.Node]] = field(default_factory=list)
    consumers: list[tuple[ir.Value, ir.Node, int]] = field(default_factory=list)
    output_bits: int | None = None  # width that the producer asks for where nobody reads
    root_bits: int | None = None  # width of the root where it is not the widest of all demands

    @property
    def bits(self) -> int | None:
        """The width at the root; None without any demand."""
        if self.root_bits is not None:
            return self.root_bits
        return max((bits for _, _, bits in self.consumers), default=self.output_bits)


def find_maker(root: ir.Value, roles: Roles) -> ir.Node | None:
    """Return the node whose integer kernel makes a root, behind which an activation may be."""
    node = root.producer()
    if node is not None and roles.of[node] == "absorbed":
        source = node.inputs[0]
        node = source.producer() if source is not None else None
    return None if node is None or roles.of[node] == "float" else node


def join_containers(groups: Iterable[SharedScaleGroup], roles: Roles) -> None:
    """Give every kernel codes of one container, by converting in front of it; see above."""
    asked = [group for group in groups if group.bits is not None]
    makers = {id(group): find_maker(group.root, roles) for group in asked}
    wide = {node for group in asked for _, node, bits in group.consumers if bits > MAX_BITS}
    wide |= {
        maker
        for group in asked
        if (maker := makers[id(group)]) is not None and (group.bits or 0) > MAX_BITS
    }
    for group in asked:
        maker = makers[id(group)]
        if maker is not None:
            group.root_bits = WIDE_BITS if maker in wide else group.bits
        group.consumers = [
            (value, node, WIDE_BITS if node in wide else bits)
            for value, node, bits in group.consumers
        ]
