"""Codes of 16 bits in a quantized file, as the kernels of another target would want them.

DQ(uint8) -- Conv -- Q(uint16)      no form where kernels want codes of one width
Sigmoid -- Q(uint16, other scale)   no form where the kernel writes a scale of its own
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS
from dfqonnx.errors import Offense
from dfqonnx.export.code_groups import CodeGroup
from dfqonnx.targets.profile import TargetProfile

_TRAIN = "train for it: dfqonnx run --target {}"


def find_wide_codes(
    groups: Mapping[ir.Node, CodeGroup], target: TargetProfile
) -> Iterator[Offense]:
    """Yield the nodes around which the target cannot have the codes of 16 bits that are there."""
    wide = target.wide_activations
    if wide is None:
        return
    train = _TRAIN.format(target.name)
    widths: dict[ir.Node, set[int]] = {}
    for group in groups.values():
        maker = _find_maker(group.node, target)
        readers = {n for each in group.dequantizers for n in each.outputs[0].consumers()}
        for node in readers - {group.node}:
            widths.setdefault(node, set()).add(group.container)
        if maker is None:
            continue
        widths.setdefault(maker, set()).add(group.container)
        fixed = wide.fixed.get(maker.op_type) if group.container > MAX_BITS else None
        if fixed and (group.scale, group.zero_point) != (fixed.scale, fixed.zero_point):
            reason = f"{target.runtime} writes its results with the scale {fixed.scale:g}"
            yield Offense(maker.name or "", maker.op_type, reason, train)
    for node, found in widths.items():
        if wide.one_width and len(found) > 1 and node.op_type in target.kernels:
            reason = f"{target.runtime} reads and makes codes of one width, and these have 8 and 16"
            yield Offense(node.name or "", node.op_type, reason, train)


def _find_maker(quantize: ir.Node, target: TargetProfile) -> ir.Node | None:
    """Return the node whose kernel makes what is quantized, behind an absorbed activation."""
    maker = None if quantize.inputs[0] is None else quantize.inputs[0].producer()
    if maker is not None and maker.op_type in target.absorbed and maker.inputs[0] is not None:
        maker = maker.inputs[0].producer() or maker
    return maker
