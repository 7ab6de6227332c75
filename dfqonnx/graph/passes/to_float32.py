"""One real type: float16, bfloat16 and double become float32; an integer image becomes a real one.

Training needs float32, and so do ONNX Runtime's integer kernels. Export puts the types that the
user's inputs and outputs had back with a Cast at the inputs and outputs (`export/io_contract`).

    uint8 x -- Transpose -- Cast(float) -- ...      becomes      float x -- Transpose -- ...
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.pass_result import PassResult, rewrite_nodes

_OTHER_REALS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def to_float32(model: ir.Model) -> PassResult:
    """Turn every real value into float32, and a uint8 input into a real one."""
    modified = False
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is not None and value.const_value.dtype in _OTHER_REALS:
            value.const_value = _convert(value.const_value, name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
            modified = True
    modified |= rewrite_nodes(model, _convert_attributes).modified
    for image in model.graph.inputs:
        if image.dtype == ir.DataType.UINT8:
            _check_readers(image)
        if image.dtype != ir.DataType.FLOAT:
            image.type = ir.TensorType(ir.DataType.FLOAT)
            modified = True
    for output in model.graph.outputs:
        output.type = None
    return PassResult(modified)


def _convert(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype("float32"), name=name)


def _convert_attributes(node: ir.Node) -> bool:
    """Rewrite the attributes that name a type or hold a tensor."""
    changed = False
    for name, attribute in list(node.attributes.items()):
        if name in {"to", "dtype"} and attribute.type == ir.AttributeType.INT:
            if attribute.as_int() in _OTHER_REALS:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
                changed = True
        elif attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in _OTHER_REALS:
                node.attributes[name] = ir.AttrTensor(name, _convert(tensor, tensor.name))
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
                message = "this model calculates with integer pixels:"
                reason = f"it calculates with the {image.dtype} input {image.name!r}"
                advice = "put a Cast to float right behind the input"
                offense = Offense(str(node.name), node.op_type, reason, advice)
                raise UnsupportedModel(message, [offense])
