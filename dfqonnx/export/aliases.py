"""Tensors behind value-preserving nodes carry the codes of the tensor they come from.

    DQ -- MaxPool -- Q -- DQ          same scale and zero point on both sides

so ONNX Runtime drops the pairs and runs the node on uint8. No Clip: the codes are already within
the grid. A chain of Slices and Pads that only strides over space and adds channels (the
parameter-free shortcut of the CIFAR ResNets) becomes one identity Conv, see `shortcut.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dfqonnx.export.activations import quantizer
from dfqonnx.export.shortcut import find_chain, replace_chain
from dfqonnx.export.surgery import Surgery
from dfqonnx.spec.sites import ActivationParams, AliasSite


def insert_aliases(
    surgery: Surgery,
    aliases: tuple[AliasSite, ...],
    params: Mapping[str, ActivationParams],
    values: dict[str, ir.Value],
    *,
    pack: bool,
) -> None:
    """Put Q/DQ behind every alias; `values` then maps it to what its consumers read."""
    known = frozenset(alias.tensor for alias in aliases)
    done: set[str] = set()
    for alias in reversed(aliases):
        if alias.tensor in done:
            continue
        chain = find_chain(values[alias.tensor], known)
        if chain is not None:
            names = [node.outputs[0].name or "" for node in chain.nodes]
            values[alias.tensor] = replace_chain(surgery, chain, pack=pack)
            done.update(name for name in names if name != alias.tensor)
        source = values[alias.tensor]
        nodes = quantizer(surgery, source, params[alias.of], clip=False)
        if nodes[1].op_type == "Clip":
            nodes[2].replace_input_with(0, nodes[0].outputs[0])
            del nodes[1]
        surgery.after(source, nodes)
        surgery.redirect(source, nodes[-1].outputs[0])
        values[alias.tensor] = nodes[-1].outputs[0]
