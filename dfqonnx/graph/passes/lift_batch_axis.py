"""Give an image that has no batch axis one, and take away the nodes that add it later on.

    Squeeze(x [1, H, W, 3]) - Cast - Transpose([2, 0, 1]) - Unsqueeze([0]) - Conv
    x [N, H, W, 3]          - Cast - Transpose([0, 3, 1, 2])              - Conv

Every node in between gets its axes one further on. `graph/interface` puts the Squeeze there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from dfqonnx.core.registry import Registry
from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit

_POINTWISE = Trait.ELEMENTWISE | Trait.CLAMP
_REWRITES: Registry[Callable[[ir.Node, int], int]] = Registry("operator without a batch axis")
_OPERANDS = Trait.AFFINE | Trait.EXTREMUM


def lift_batch_axis(model: ir.Model) -> None:
    """Rewrite what stands between the image's Squeeze and the nodes that add a batch axis.

    Raises:
        UnsupportedModel: a node in between does what has no counterpart with a batch axis.
    """
    image = model.graph.inputs[0]
    (squeeze,) = [node for node, _ in image.uses()]
    ranks: dict[ir.Value | None, int] = {squeeze.outputs[0]: len(edit.get_shape(image) or ()) - 1}
    early = _find_early_axes(model.graph)
    for node in list(model.graph):
        if not any(value in ranks for value in node.inputs):
            continue
        rank = ranks.get(node.inputs[0], 0)
        if _adds_batch_axis(node) and node not in early:
            _keep_batch_axis(node)
            continue
        if node.op_type in _REWRITES and rank:
            rank = _REWRITES[node.op_type](node, rank)
        elif not _is_pointwise(node, ranks):
            rank = 0
        if not rank:
            reason = "it works on an image without a batch axis, in a way that fits no batch"
            advice = "export it with a batch axis in front"
            offense = Offense(edit.get_node_name(node), node.op_type, reason, advice)
            raise UnsupportedModel("this model works on one fixed image:", [offense])
        ranks.update(dict.fromkeys(node.outputs, rank or max(ranks.values())))
    edit.bypass_node(squeeze)


def _find_early_axes(graph: ir.Graph) -> set[ir.Node]:
    """Return nodes that add an axis in front before another one does: that one is the batch."""
    early: set[ir.Node] = set()
    leading: set[ir.Node] = set()  # nodes that a later one of this kind stands behind
    for node in reversed(list(graph)):
        readers = [reader for value in node.outputs for reader in value.consumers()]
        if any(reader in leading or _adds_batch_axis(reader) for reader in readers):
            passes = has_trait(node.op_type, _POINTWISE | _OPERANDS) or node.op_type in _REWRITES
            if passes or node.op_type == "Cast":
                leading.add(node)
            if _adds_batch_axis(node):
                early.add(node)
    return early


def _adds_batch_axis(node: ir.Node) -> bool:
    listed = edit.get_constant_input(node, 1)
    if listed is None or not listed.size:
        return False
    if node.op_type == "Unsqueeze":
        return 0 in listed
    return node.op_type == "Reshape" and int(listed[0]) == 1


def _keep_batch_axis(node: ir.Node) -> None:
    """Let a node that adds the batch axis keep the one that is there."""
    listed = [int(number) for number in edit.get_constant_input(node, 1)]  # type: ignore[union-attr]
    if node.op_type == "Reshape":
        _set_integers(node, 1, [0, *listed[1:]])
    elif listed == [0]:
        edit.replace_node(node, edit.derive_node(node, "Identity", node.inputs[:1]))
    else:
        _set_integers(node, 1, [axis for axis in listed if axis])


def _set_integers(node: ir.Node, index: int, numbers: list[int]) -> None:
    array = np.array(numbers, np.int64)
    edit.set_new_constant(node, index, array, stem=f"{node.outputs[0].name}/input_{index}")


def _is_pointwise(node: ir.Node, ranks: Mapping[ir.Value | None, int]) -> bool:
    if node.op_type == "Cast" or has_trait(node.op_type, _POINTWISE):
        return True
    if not has_trait(node.op_type, _OPERANDS):
        return False
    rank = max(ranks.get(value, 0) for value in node.inputs)
    others = [edit.get_constant(value) for value in node.inputs if value not in ranks]
    return all(array is not None and array.ndim <= rank for array in others)


@_REWRITES.add("Transpose")
def _shift_transpose(node: ir.Node, rank: int) -> int:
    perm = node.attributes.get_ints("perm") or range(rank)[::-1]
    node.attributes["perm"] = ir.AttrInt64s("perm", [0, *(axis + 1 for axis in perm)])
    return rank


@_REWRITES.add("Unsqueeze")
@_REWRITES.add("Squeeze")
def _shift_axes(node: ir.Node, rank: int) -> int:
    """Shift the axes of an Unsqueeze or a Squeeze, which are input 1."""
    axes = edit.get_constant_input(node, 1)
    if axes is None:
        return 0
    change = len(axes) if node.op_type == "Unsqueeze" else -len(axes)
    total = max(rank, rank + change)
    _set_integers(node, 1, [int(axis) % total + 1 for axis in axes])
    return rank + change


@_REWRITES.add("Reshape")
def _shift_reshape(node: ir.Node, rank: int) -> int:
    target = edit.get_constant_input(node, 1)
    if target is None:
        return 0
    _set_integers(node, 1, [0, *map(int, target)])
    return len(target)


@_REWRITES.add("Slice")
def _shift_slice(node: ir.Node, rank: int) -> int:
    starts, axes = (edit.get_constant_input(node, index) for index in (1, 3))
    if starts is None or (axes is None and edit.get_input(node, 3) is not None):
        return 0
    listed = range(len(starts)) if axes is None else axes
    _set_integers(node, 3, [int(axis) % rank + 1 for axis in listed])
    return rank


@_REWRITES.add("Gather")
def _shift_gather(node: ir.Node, rank: int) -> int:
    indices = edit.get_constant_input(node, 1)
    axis = node.attributes.get_int("axis", 0) % rank
    node.attributes["axis"] = ir.AttrInt64("axis", axis + 1)
    return 0 if indices is None else rank - 1 + indices.ndim
