"""A quantized file written anew for another target, where it computes exactly the same.

    weights      in another container, codes the same
    codes        with another zero point, or of the other 8-bit type
    biases       as the floats that their codes stand for
    first Conv   without zero channels
    opset        the oldest that the target takes

What would change a number is refused by name: that is training for the target. The new file is held
against the old one in ONNX Runtime, without optimizations, on inputs that reach all of the input's
codes: every output is equal, bit for bit, or nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from dfqonnx.errors import Offense, UnsupportedModel, UsageError
from dfqonnx.export.code_constants import (
    choose_packing,
    drop_channel_padding,
    explain_constant,
    find_constant_codes,
    rewrite_constant,
)
from dfqonnx.export.code_groups import (
    explain_group,
    explain_others,
    find_code_groups,
    find_unquantized,
    rewrite_group,
)
from dfqonnx.export.export import check, tidy
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.metadata import recorded_image_size
from dfqonnx.export.opset import choose_opset
from dfqonnx.export.signed_comparisons import compare_codes, compare_reals
from dfqonnx.export.wide_codes import find_wide_codes
from dfqonnx.graph.passes.edit import get_only_consumer
from dfqonnx.graph.passes.opset_upgrade import OPSET
from dfqonnx.graph.size_checks import check_graph_size
from dfqonnx.graph.tensor_checks import check_tensor
from dfqonnx.runtime.session import Session
from dfqonnx.targets.profile import TARGET_KEY, OpsetVersion, TargetProfile

INPUTS = 3
USUAL_SIZE = 64  # of an open axis
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


@dataclass(frozen=True)
class Retargeted:
    """A file for another target, in memory."""

    model: ir.Model
    notes: tuple[str, ...]  # what is exact, but not as if it were trained for the target


def retarget(path: Path, target: TargetProfile) -> Retargeted:
    """Return the quantized file at `path` in the form of `target`, seen to compute the same.

    Raises:
        UsageError: the file cannot be read, or is not quantized.
        UnsupportedModel: it has no equal form there; every reason is given.
    """
    proto = _read(path)
    model = ir.from_proto(proto)
    graph, metadata = model.graph, model.metadata_props
    if not any(node.op_type == "QuantizeLinear" for node in graph):
        raise UsageError(
            f"{path}: it is not quantized; make a file for a target with dfqonnx run {path}"
            f" --target {target.name}"
        )
    editor = GraphEditor(graph, target)
    least = _rewrite(editor, path)
    notes = tuple(_note(graph, target))
    kept, own = dict(metadata), model.opset_imports.get("", OPSET)
    if TARGET_KEY in kept:  # it was made at this opset, and packed at a newer one
        model.opset_imports[""] = min(own, OPSET)
    versions = [choose_opset(model, target, least=least)]
    if least <= own <= target.opsets[-1].opset:  # an operator may mean something else when older
        versions.append(OpsetVersion(own, model.ir_version))
    tidy(model)
    model.metadata_props.update({**kept, TARGET_KEY: target.name})
    for version in versions:
        model.ir_version, model.opset_imports[""] = version.ir_version, version.opset
        if _computes_the_same(path, check(model).SerializeToString(), metadata=kept):
            return Retargeted(model, notes)
    reason = "what it computes in ONNX Runtime changes with the opset or the types of codes"
    train = f"train for it: dfqonnx run --target {target.name}"
    raise UnsupportedModel(
        f"{path}: it has no form for {target.name} that computes the same:",
        [Offense("graph", "", reason, train)],
    )


def _read(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto, full_check=True)
    except (DecodeError, OSError, ValueError) as error:
        raise UsageError(f"{path} is not a readable ONNX file ({error})") from None
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UsageError(f"{path} is not valid ONNX: {error}") from None
    if too_large := check_graph_size(proto):
        raise UnsupportedModel(f"{path}: this file cannot be converted:", too_large)
    for tensor in proto.graph.initializer:
        check_tensor(tensor, path)
    return proto


def _rewrite(editor: GraphEditor, path: Path) -> int:
    """Rewrite the graph, and return the opset that its packed weights need; 0 without any."""
    graph, target = editor.graph, editor.target
    offenses: list[Offense] = []
    if target.first_conv_padding is None:
        offenses += drop_channel_padding(editor)
    compare_codes(editor)
    groups, constants = find_code_groups(graph), find_constant_codes(graph)
    offenses += explain_others(graph, groups, target)
    offenses += filter(None, (explain_group(group, target) for group in groups.values()))
    offenses += filter(None, (explain_constant(each, target) for each in constants))
    offenses += _find_rounded_sums(graph, target)
    offenses += find_wide_codes(groups, target)
    if offenses:
        raise UnsupportedModel(
            f"{path}: it has no form for {target.name} that computes the same:", offenses
        )
    for group in groups.values():
        rewrite_group(editor, group)
    compare_reals(editor)
    packing = choose_packing(constants, target)
    packings = [rewrite_constant(editor, constant, packing) for constant in constants]
    return max((each.opset for each in packings if each is not None), default=0)


def _find_rounded_sums(graph: ir.Graph, target: TargetProfile) -> list[Offense]:
    """Return the sums whose operands the target would add before it rounds them."""
    found = []
    for node in graph:
        makers = [value.producer() for value in node.inputs if value is not None]
        kernels = [target.kernels.get(m.op_type) for m in makers if m is not None]
        if any(kernel is not None and node.op_type in kernel.fused for kernel in kernels):
            continue
        for maker in makers:
            layer = _layer_before(maker)
            kernel = None if layer is None else target.kernels.get(layer.op_type)
            if kernel is not None and node.op_type in kernel.fused:
                reason = f"{target.runtime} adds before it rounds, and the file rounds before"
                advice = f"train for it: dfqonnx run --target {target.name}"
                found.append(Offense(node.name or "", node.op_type, reason, advice))
                break
    return found


def _layer_before(dequantize: ir.Node | None) -> ir.Node | None:
    """Return the node whose output alone is quantized and dequantized by `dequantize`."""
    codes = _maker_of(dequantize, "DequantizeLinear")
    if codes is not None and codes.op_type == "Clip":
        codes = _maker_of(codes, "Clip")
    layer = _maker_of(codes, "QuantizeLinear")
    alone = layer is not None and get_only_consumer(layer.outputs[0]) is not None
    return layer if alone else None


def _maker_of(node: ir.Node | None, op: str) -> ir.Node | None:
    """Return what makes the first input of a node of that operator that has one reader."""
    if node is None or node.op_type != op or get_only_consumer(node.outputs[0]) is None:
        return None
    return None if node.inputs[0] is None else node.inputs[0].producer()


def _note(graph: ir.Graph, target: TargetProfile) -> list[str]:
    names = [node.name or node.outputs[0].name or "" for node in find_unquantized(graph, target)]
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [
        f"{shown}: {target.runtime} wants the output quantized, which would change numbers, so it"
        f" runs in float; dfqonnx run --target {target.name} trains with it."
    ]


def _computes_the_same(path: Path, made: bytes, *, metadata: dict[str, str]) -> bool:
    """Run both files, and tell whether all outputs are equal."""
    old, new = Session(path, optimization="off"), Session(made, optimization="off")
    for feeds in _draw_inputs(old, metadata):
        pairs = zip(old.run(feeds), new.run(feeds), strict=True)
        if not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs):
            return False
    return True


def _draw_inputs(
    session: Session, metadata: dict[str, str]
) -> list[dict[str, NDArray[np.generic]]]:
    """Return feeds from narrow to far beyond the range of any quantizer."""
    rng, size = np.random.default_rng(0), recorded_image_size(metadata)
    drawn = []
    for spread in (0.3, 1.0, 20.0)[:INPUTS]:
        feeds: dict[str, NDArray[np.generic]] = {}
        for port in session.inputs:
            open_axes = iter(size or ())
            shape = [
                d if d is not None else (2 if axis == 0 else next(open_axes, USUAL_SIZE))
                for axis, d in enumerate(port.shape)
            ]
            kind = _TYPES.get(port.dtype)
            if kind is None:
                array = rng.integers(1, 200, shape)
                feeds[port.name] = session.typed(port.name, array)
            else:
                feeds[port.name] = rng.normal(0, spread, shape).astype(kind)
        drawn.append(feeds)
    return drawn
