"""One real type: float16, bfloat16 and double become float32; an integer image becomes a real one.

Training needs float32, and so do ONNX Runtime's integer kernels. Export puts the types that the
user's inputs and outputs had back with a Cast at the border (`export/io_contract`).

    uint8 x -- Transpose -- Cast(float) -- ...      becomes      float x -- Transpose -- ...
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait

REAL = frozenset({
    ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE, ir.DataType.FLOAT,
})  # fmt: skip
PIXELS = frozenset({ir.DataType.UINT8})


def to_float32(model: ir.Model) -> bool:
    """Turn every real value into float32, and a uint8 input into a real one.

    Raises:
        UnsupportedModel: an integer input is calculated with before it becomes real.
    """
    changed = False
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.dtype in REAL and tensor.dtype != ir.DataType.FLOAT:
            value.const_value = ir.tensor(tensor.numpy().astype("float32"), name=name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
            changed = True
    for node in model.graph:
        changed |= _attributes(node)
    for image in model.graph.inputs:
        if image.dtype in PIXELS:
            _check_readers(image)
        if image.dtype != ir.DataType.FLOAT:
            image.type = ir.TensorType(ir.DataType.FLOAT)
            changed = True
    for output in model.graph.outputs:
        output.type = None
    return changed


def _attributes(node: ir.Node) -> bool:
    """Rewrite the attributes that name a type."""
    changed = False
    for name, attribute in list(node.attributes.items()):
        if name in {"to", "dtype"} and attribute.type == ir.AttributeType.INT:
            kind = ir.DataType(attribute.as_int())
            if kind in REAL and kind != ir.DataType.FLOAT:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
                changed = True
        elif attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in REAL and tensor.dtype != ir.DataType.FLOAT:
                real = ir.tensor(tensor.numpy().astype("float32"), name=tensor.name)
                node.attributes[name] = ir.AttrTensor(name, real)
                changed = True
    return changed


def _check_readers(image: ir.Value) -> None:
    """Refuse integer arithmetic on the input: it would round differently as real numbers."""
    waiting = [image]
    while waiting:
        for node, _ in waiting.pop().uses():
            if has_trait(node.op_type, Trait.MOVES):
                waiting += node.outputs
            elif node.op_type != "Cast":
                reason = f"it calculates with the {image.dtype} input {image.name!r}"
                advice = "put a Cast to float right behind the input"
                raise UnsupportedModel(
                    "this model calculates with integer pixels:",
                    [Offense(str(node.name), node.op_type, reason, advice)],
                )
