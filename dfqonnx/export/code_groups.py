"""The codes of activations in a quantized file, and how they are written for another target.

    x -- QuantizeLinear -- [Clip] -- DequantizeLinear         a group: all that holds its codes

Codes q with zero point z stand for (q - z) s, and so do q - d with z - d. Between uint8 and int8 d
is 128, between those of 16 bits 32768; it is 0 for codes from 0 to 127 with zero point 0, which
both types hold. Where the target has no Clip on codes, the same Clip stands on the reals in front:
rounding is monotone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS
from dfqonnx.errors import Offense
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant, get_constant_input, get_only_consumer
from dfqonnx.targets.profile import TargetProfile

STANDARD = ("", "ai.onnx")
_TRAIN = "train for it: dfqonnx run --target {}"


@dataclass(frozen=True, kw_only=True)
class CodeGroup:
    """One quantizer, and the nodes that pass its codes on to where they are dequantized."""

    node: ir.Node  # QuantizeLinear
    scale: float
    zero_point: int
    signed: bool
    container: int  # bits of the type of its codes: 8 or 16
    lo: int
    hi: int
    clip: ir.Node | None  # the Clip on all of its codes
    dequantizers: tuple[ir.Node, ...]
    odd: tuple[ir.Node, ...]  # other readers of the codes

    @property
    def bits(self) -> int:
        """The width of a range of so many codes."""
        return max(1, (self.hi - self.lo).bit_length())


def find_code_groups(graph: ir.Graph) -> dict[ir.Node, CodeGroup]:
    """Return the groups by their QuantizeLinear, in the order of the graph."""
    found: dict[ir.Node, CodeGroup] = {}
    for node in graph:
        if node.op_type == "QuantizeLinear" and node.domain in STANDARD:
            group = _read_group(node)
            if group is not None:
                found[node] = _inherit_bounds(group, found)
    return found


def _read_group(node: ir.Node) -> CodeGroup | None:
    """Return a group; None where scale or zero point are no single numbers, of 8 or 16 bits."""
    scale, zero = (get_constant_input(node, index) for index in (1, 2))
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    positive = bool(np.isfinite(scale).all() and np.all(scale > 0))
    if not positive or zero.dtype not in (np.int8, np.uint8, np.int16, np.uint16):
        return None
    limits = np.iinfo(zero.dtype)
    lo, hi, codes = int(limits.min), int(limits.max), node.outputs[0]
    clip = get_only_consumer(codes)
    if clip is not None and clip.op_type == "Clip":
        ends = [get_constant(value) for value in clip.inputs[1:]]
        lo, hi = (
            default if end is None else int(end)
            for default, end in zip((lo, hi), [*ends, None, None], strict=False)
        )
        codes = clip.outputs[0]
    else:
        clip = None
    readers = dict.fromkeys(codes.consumers())
    return CodeGroup(
        node=node,
        scale=float(scale.reshape(())),
        zero_point=int(zero.reshape(())),
        signed=zero.dtype.kind == "i",
        container=8 * zero.dtype.itemsize,
        lo=lo,
        hi=hi,
        clip=clip,
        dequantizers=tuple(r for r in readers if r.op_type == "DequantizeLinear"),
        odd=tuple(r for r in readers if r.op_type != "DequantizeLinear"),
    )


def _inherit_bounds(group: CodeGroup, known: dict[ir.Node, CodeGroup]) -> CodeGroup:
    """Return the group with the bounds of the one whose codes it only passes on."""
    value = group.node.inputs[0]
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type == "DequantizeLinear":
            before = next((g for g in known.values() if maker in g.dequantizers), None)
            same = before is not None and (
                (before.scale, before.zero_point) == (group.scale, group.zero_point)
            )
            return replace(group, lo=before.lo, hi=before.hi) if same and before else group
        if not has_trait(maker.op_type, Trait.VALUE_PRESERVING) or maker.op_type == "Pad":
            return group
        value = maker.inputs[0]
    return group


def explain_others(
    graph: ir.Graph, known: dict[ir.Node, CodeGroup], target: TargetProfile
) -> Iterator[Offense]:
    """Yield the quantizers that are no groups, with the reason why they have no other form."""
    reason = "its scale and zero point are not one positive number and one of 8 or 16 bits"
    for node in graph:
        if node.op_type == "QuantizeLinear" and node not in known:
            train = _TRAIN.format(target.name)
            yield Offense(node.name or "", node.op_type, reason, train)


def explain_group(group: CodeGroup, target: TargetProfile) -> Offense | None:
    """Return why a group has no equal form for the target; None where it has one."""
    name, train = group.node.name or "", _TRAIN.format(target.name)
    least = target.least_activations
    if group.odd:
        if target.integer_clip and group.signed == target.activations.signed:
            return None
        op = group.odd[0].op_type
        return Offense(name, "QuantizeLinear", f"its codes are read by a {op} as well", train)
    if least is not None and group.bits < least.bits:
        reason = f"its codes have {group.bits} bits, and {least.reason}"
        return Offense(name, "QuantizeLinear", reason, f"train for it: --bits {least.instead}")
    if group.container > MAX_BITS and target.wide_activations is None:
        reason = f"its codes have {group.container} bits: {target.no_wide_activations}"
        return Offense(name, "QuantizeLinear", reason, "train for it: --bits w8a8")
    if target.power_of_two and np.log2(group.scale) % 1:
        reason = f"its scale {group.scale:.6g} is no power of two"
        return Offense(name, "QuantizeLinear", reason, train)
    if shift_of(group, target) is None:
        reason = f"codes {group.lo} to {group.hi} with zero point {group.zero_point} are none of"
        reason += f" {target.activations.dtype_for(group.container)} with zero point 0"
        return Offense(name, "QuantizeLinear", reason, train)
    return None


def shift_of(group: CodeGroup, target: TargetProfile) -> int | None:
    """Return d, by which codes and zero point become less; None without one."""
    signed = target.activations.signed
    low, high = target.activations.limits_for(group.container)
    half = 2 ** (group.container - 1)
    usual = 0 if group.signed == signed else (half if signed else -half)
    for shift in (usual, 0):
        fits = low <= group.lo - shift and group.hi - shift <= high
        if fits and (target.activations.zero_points or group.zero_point == shift):
            return shift
    return None


def rewrite_group(editor: GraphEditor, group: CodeGroup) -> None:
    """Write a group, which `explain_group` has nothing against, in the form of the target."""
    target = editor.target
    shift = shift_of(group, target)
    if shift is None or group.odd:
        return
    code = target.activations.dtype_for(group.container).type
    limits = target.activations.limits_for(group.container)
    zero = editor.constant(code(group.zero_point - shift))
    for node in (group.node, *group.dequantizers):
        node.resize_inputs(3)
        node.replace_input_with(2, zero)
    if group.clip is None:  # the codes are within the type, or come from a group of this range
        return
    if target.integer_clip and group.container <= MAX_BITS:
        ends = (code(group.lo - shift), code(group.hi - shift))
        group.clip.resize_inputs(3)
        for index, end in enumerate(ends, start=1):
            group.clip.replace_input_with(index, editor.constant(end))
    else:
        _clip_reals(editor, group, top=limits[1] + shift)


def _clip_reals(editor: GraphEditor, group: CodeGroup, *, top: int) -> None:
    """Move the Clip of a group in front of it; one that the type makes needless goes."""
    source, clip = group.node.inputs[0], group.clip
    assert source is not None
    assert clip is not None
    clip.outputs[0].replace_all_uses_with(group.node.outputs[0])
    editor.graph.remove(clip, safe=True)
    maker = source.producer()
    rectified = maker is not None and maker.op_type == "Relu" and group.lo == group.zero_point
    if rectified and group.hi == top:
        return
    scale = np.float32(group.scale)
    bounds = [scale * np.float32(end - group.zero_point) for end in (group.lo, group.hi)]
    before = editor.node("Clip", [source, *map(editor.constant, bounds)])
    editor.graph.insert_before(group.node, before)
    group.node.replace_input_with(0, before.outputs[0])


def find_unquantized(graph: ir.Graph, target: TargetProfile) -> Iterator[ir.Node]:
    """Yield layers whose output the target wants quantized and the file does not quantize."""
    for node in graph:
        kernel = target.kernels.get(node.op_type)
        if kernel is None or kernel.output != "always":
            continue
        value = node.outputs[0]
        reader = get_only_consumer(value)
        if reader is not None and reader.op_type in target.absorbed:
            value = reader.outputs[0]
        readers = value.consumers()
        merged = any(reader.op_type in kernel.fused for reader in readers)
        if not merged and not any(r.op_type == "QuantizeLinear" for r in readers):
            yield node
