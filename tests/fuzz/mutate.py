"""One broken file per seed: what bit rot, bad exporters and malice do to an ONNX file.

A mutation takes a random generator and a model, changes the model in place (or returns bytes) and
says in its name what it does. `mutant(seed)` picks a base, one to three mutations, and writes the
file with its companions into a folder; all randomness comes from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.fuzz.bases import bases, data_file

Draw = np.random.Generator
Mutation = Callable[[Draw, onnx.ModelProto], None]
HUGE = (2**31 - 1, 2**31, 2**40, 2**62, -1, -(2**62), 0, 1, 65_536, 10**6)
OPERATORS = sorted({s.name for s in onnx.defs.get_all_schemas() if not s.domain})
OUTSIDE = "outside"  # folder beside the model's, which nothing may read


def _pick(draw: Draw, things: Any) -> Any:
    return things[int(draw.integers(len(things)))] if len(things) else None


def _number(draw: Draw) -> int:
    return int(_pick(draw, HUGE)) if draw.random() < 0.7 else int(draw.integers(-4, 20))


# Nodes and edges


def dangle_an_edge(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is not None and node.input:
        node.input[int(draw.integers(len(node.input)))] = _pick(draw, ("nowhere", "", "y", "x/é"))


def close_a_cycle(draw: Draw, proto: onnx.ModelProto) -> None:
    node, later = _pick(draw, proto.graph.node), _pick(draw, proto.graph.node)
    if node is not None and node.input and later.output:
        node.input[0] = later.output[0]


def double_a_name(draw: Draw, proto: onnx.ModelProto) -> None:
    node, other = _pick(draw, proto.graph.node), _pick(draw, proto.graph.node)
    if node is not None and node.output and other.output:
        node.output[0], node.name = other.output[0], other.name


def double_an_initializer(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is not None:
        proto.graph.initializer.add().CopyFrom(tensor)
        proto.graph.initializer[-1].dims[:] = [1]


def remove_a_node(draw: Draw, proto: onnx.ModelProto) -> None:
    if proto.graph.node:
        del proto.graph.node[int(draw.integers(len(proto.graph.node)))]


def remove_an_initializer(draw: Draw, proto: onnx.ModelProto) -> None:
    if proto.graph.initializer:
        del proto.graph.initializer[int(draw.integers(len(proto.graph.initializer)))]


def shuffle_nodes(draw: Draw, proto: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[i] for i in draw.permutation(len(nodes)))


def copy_a_node(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is not None:
        proto.graph.node.add().CopyFrom(node)


def another_operator(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is not None:
        node.op_type = _pick(draw, (*OPERATORS, "", "Nonsense"))


def another_domain(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is not None:
        node.domain = _pick(draw, ("ai.onnx", "ai.onnx.ml", "com.microsoft", "local", "é"))


def change_the_inputs(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is None:
        return
    names = [t.name for t in proto.graph.initializer] + ["x", "", *(n for n in node.input)]
    count = int(draw.integers(0, 7))
    node.input[:] = [_pick(draw, names) for _ in range(count)]


def change_the_outputs(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is not None:
        node.output[:] = _pick(draw, ([], [""], ["x"], ["y", "y"], [*node.output, "more", "most"]))


def long_chain(draw: Draw, proto: onnx.ModelProto) -> None:
    last = proto.graph.node[-1].output[0] if proto.graph.node else "x"
    op = _pick(draw, ("Identity", "Relu", "Neg", "Sigmoid"))
    for index in range(int(draw.integers(200, 1500))):
        proto.graph.node.append(helper.make_node(op, [last], [f"chain{index}"]))
        last = f"chain{index}"
    if proto.graph.output:
        proto.graph.output[0].name = last


def deep_nesting(draw: Draw, proto: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["deep"])], "g", [], [])
    for index in range(int(draw.integers(2, 30))):
        node = helper.make_node("If", ["x"], [f"deep{index}"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
        if inner.ByteSize() > 1 << 20:
            break
    proto.graph.node.extend(inner.node)


def recursive_function(draw: Draw, proto: onnx.ModelProto) -> None:
    body = [helper.make_node(_pick(draw, ("self", "Relu", "gone")), ["a"], ["b"], domain="loop")]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("loop", 1)]
    proto.functions.append(helper.make_function("loop", "self", ["a"], ["b"], body, imports))
    node = _pick(draw, proto.graph.node)
    if node is not None:
        node.op_type, node.domain = "self", "loop"
    proto.opset_import.append(helper.make_opsetid("loop", 1))


def grow_without_end(draw: Draw, proto: onnx.ModelProto) -> None:
    """Constants that a reader would compute: terabytes from a few bytes."""
    shape = [int(draw.integers(1, 2**21)) for _ in range(int(draw.integers(1, 4)))]
    sizes = helper.make_tensor("sizes", onnx.TensorProto.INT64, [len(shape)], shape)
    far = helper.make_tensor("far", onnx.TensorProto.INT64, [], [int(draw.integers(2**40))])
    proto.graph.initializer.extend([sizes, far])
    made = {
        "ConstantOfShape": ["sizes"],
        "Expand": ["far", "sizes"],
        "Tile": ["sizes", "far"],
        "Range": ["far", "far", "far"],
        "EyeLike": ["sizes"],
        "OneHot": ["sizes", "far", "sizes"],
        "RandomNormal": [],
        "Pad": ["sizes", "sizes"],
        "Resize": ["x", "", "", "sizes"],
        "Reshape": ["x", "sizes"],
        "Split": ["x", "sizes"],
        "BlackmanWindow": ["far"],
        "NonZero": ["sizes"],
    }
    op = _pick(draw, list(made))
    given = {"shape": shape} if op == "RandomNormal" else {}
    if op == "Split" and draw.random() < 0.5:
        given = {"num_outputs": 2**31}
    proto.graph.node.insert(0, helper.make_node(op, made[op], ["grown"], **given))
    node = _pick(draw, proto.graph.node[1:])
    if node is not None and node.input:
        node.input[-1] = "grown"


# Attributes


def change_an_attribute(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, [n for n in proto.graph.node if n.attribute])
    if node is None:
        return
    attribute = _pick(draw, node.attribute)
    match int(draw.integers(6)):
        case 0:
            attribute.ints[:] = [_number(draw) for _ in range(int(draw.integers(0, 9)))]
        case 1:
            attribute.i, attribute.f = _number(draw), float("nan")
        case 2:
            attribute.type = int(draw.integers(0, 15))
        case 3:
            attribute.name = _pick(draw, ("", "auto_pad", "pads", "axis", "é", "group"))
        case 4:
            node.attribute.add().CopyFrom(attribute)
        case _:
            attribute.s = _pick(draw, (b"", b"SAME_UPPER", b"\xff\xfe", b"cubic"))


def add_an_attribute(draw: Draw, proto: onnx.ModelProto) -> None:
    node = _pick(draw, proto.graph.node)
    if node is None:
        return
    name = _pick(draw, ("group", "pads", "strides", "dilations", "kernel_shape", "axis", "axes",
                        "training_mode", "keepdims", "transA", "alpha", "ceil_mode", "to",
                        "output_shape", "storage_order", "value"))  # fmt: skip
    value = [_number(draw) for _ in range(int(draw.integers(1, 6)))]
    single = name in {"group", "axis", "keepdims", "transA", "ceil_mode", "to", "training_mode"}
    node.attribute.append(helper.make_attribute(name, value[0] if single else value))


# Tensors


def another_shape(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is not None and tensor.dims:
        tensor.dims[int(draw.integers(len(tensor.dims)))] = _number(draw)


def consistent_shape(draw: Draw, proto: onnx.ModelProto) -> None:
    """Another shape with data that fill it: zero-sized dimensions too."""
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is not None:
        shape = [int(draw.integers(0, 5)) for _ in range(int(draw.integers(0, 6)))]
        array = draw.normal(size=shape).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(array), tensor.name))


def another_type(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is not None:
        tensor.data_type = int(draw.integers(0, 28))


def claim_terabytes(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is None:
        return
    tensor.dims[:] = [2**20, 2**20, 4][: int(draw.integers(1, 4))]
    if draw.random() < 0.5:
        tensor.ClearField("raw_data")
    if draw.random() < 0.3:
        tensor.float_data.extend([1.0, 2.0])


def not_a_number(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, [t for t in proto.graph.initializer if t.data_type == 1 and t.raw_data])
    if tensor is None:
        return
    array = onnx.numpy_helper.to_array(tensor).copy()
    value = _pick(draw, (np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.0))
    if draw.random() < 0.5 and array.size:
        array.reshape(-1)[int(draw.integers(array.size))] = value
    else:
        array[...] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def sparse_weights(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is None:
        return
    values = helper.make_tensor(tensor.name, 1, [2], [1.0, 2.0])
    indices = helper.make_tensor("where", 7, [2], [0, _number(draw)])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))
    tensor.name = "instead"


def external_data_elsewhere(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is None:
        return
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = _pick(draw, (f"../{OUTSIDE}/secret.data", "link.data", "linked/secret.data", "net.data",
                         "/etc/passwd", "/dev/zero", "/dev/stdin", "", ".", "net\0.data", "a/../..",
                         "~/secret", "x" * 5000, "net.onnx", "/proc/self/environ"))  # fmt: skip
    tensor.external_data.add(key="location", value=place)
    for key in ("offset", "length"):
        if draw.random() < 0.5:
            value = _pick(draw, ("0", "-1", str(2**40), str(2**80), "x", "", "1e3", "4"))
            tensor.external_data.add(key=key, value=value)


def weights_in_a_constant(draw: Draw, proto: onnx.ModelProto) -> None:
    tensor = _pick(draw, proto.graph.initializer)
    if tensor is not None:
        node = proto.graph.node.add(op_type="Constant", output=[tensor.name])
        attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
        attribute.t.CopyFrom(tensor)
        external_data_elsewhere(
            draw, onnx.ModelProto(graph=onnx.GraphProto(initializer=[attribute.t]))
        )
        proto.graph.initializer.remove(tensor)


# Inputs, outputs, versions


def another_input(draw: Draw, proto: onnx.ModelProto) -> None:
    value = _pick(draw, [*proto.graph.input, *proto.graph.output, *proto.graph.value_info])
    if value is None:
        return
    shape = value.type.tensor_type.shape
    match int(draw.integers(8)):
        case 0:
            value.type.tensor_type.elem_type = int(draw.integers(0, 30))
        case 1:
            value.type.tensor_type.ClearField("shape")
        case 2:
            value.ClearField("type")
        case 3:
            value.name = _pick(draw, ("", "y", "x", "w", "nobody"))
        case 4:
            shape.dim.add().dim_value = _number(draw)
        case 5:
            value.type.sequence_type.elem_type.tensor_type.elem_type = 1
        case _:
            if shape.dim:
                dim = shape.dim[int(draw.integers(len(shape.dim)))]
                dim.Clear() if draw.random() < 0.2 else setattr(dim, "dim_value", _number(draw))


def huge_image(draw: Draw, proto: onnx.ModelProto) -> None:
    for value in proto.graph.input[:1]:
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = int(_pick(draw, (2**10, 2**14, 2**20, 2**31 - 1, 2**50)))


def copy_a_port(draw: Draw, proto: onnx.ModelProto) -> None:
    ports = proto.graph.input if draw.random() < 0.5 else proto.graph.output
    value = _pick(draw, ports)
    if value is not None:
        ports.add().CopyFrom(value)
        ports[-1].name = _pick(draw, (value.name, "another", ""))


def lose_the_ports(draw: Draw, proto: onnx.ModelProto) -> None:
    del (proto.graph.input if draw.random() < 0.5 else proto.graph.output)[:]


def empty_graph(draw: Draw, proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]
    if draw.random() < 0.5:
        proto.graph.Clear()


def another_version(draw: Draw, proto: onnx.ModelProto) -> None:
    match int(draw.integers(5)):
        case 0:
            del proto.opset_import[:]
        case 1:
            proto.opset_import.append(helper.make_opsetid("", int(draw.integers(1, 30))))
        case 2:
            proto.ir_version = int(_pick(draw, (0, 1, 3, 99, 2**60, -1)))
        case 3:
            proto.opset_import.append(helper.make_opsetid(_pick(draw, ("ai.onnx", "gone")), 1))
        case _:
            for entry in proto.opset_import:
                entry.version = int(_pick(draw, (-1, 0, 1, 6, 7, 11, 13, 21, 26, 99, 2**60)))


MUTATIONS: tuple[Mutation, ...] = (
    *(dangle_an_edge, close_a_cycle, double_a_name, double_an_initializer, remove_a_node),
    *(remove_an_initializer, shuffle_nodes, copy_a_node, another_operator, another_domain),
    *(change_the_inputs, change_the_outputs, long_chain, deep_nesting, recursive_function),
    *(grow_without_end, change_an_attribute, change_an_attribute, add_an_attribute),
    *(another_shape, consistent_shape, another_type, claim_terabytes, not_a_number),
    *(sparse_weights, external_data_elsewhere, external_data_elsewhere, weights_in_a_constant),
    *(another_input, another_input, huge_image, copy_a_port, lose_the_ports, empty_graph),
    another_version,
)


def damaged(draw: Draw, data: bytes) -> tuple[bytes, str]:
    """Bytes flipped, cut, repeated or put in."""
    at, size = int(draw.integers(len(data))), int(draw.integers(1, 64))
    match int(draw.integers(5)):
        case 0:
            changed = bytearray(data)
            for place in draw.integers(len(data), size=size % 8 + 1):
                changed[place] ^= 1 << int(draw.integers(8))
            return bytes(changed), "bits flipped"
        case 1:
            return data[:at], "truncated"
        case 2:
            return data[:at] + draw.bytes(size) + data[at:], "bytes put in"
        case 3:
            return data[:at] + data[at + size :], "bytes taken out"
        case _:
            return data[:at] + data[at : at + size] * 40 + data[at:], "bytes repeated"


def mutant(seed: int, folder: Path) -> tuple[Path, str]:
    """Write the file of `seed` into `folder`; return its path and what was done to it."""
    draw = np.random.default_rng(seed)
    base = int(draw.integers(len(bases())))
    data, done = bases()[base], [f"base {base}"]
    if draw.random() < 0.8:
        proto = onnx.ModelProto.FromString(data)
        for _ in range(int(draw.choice([1, 1, 1, 2, 3]))):
            change = _pick(draw, MUTATIONS)
            change(draw, proto)
            done.append(change.__name__)
        data = proto.SerializeToString()
    if len(done) == 1 or draw.random() < 0.05:
        data, what = damaged(draw, data)
        done.append(what)
    path = folder / "net.onnx"
    path.write_bytes(data)
    return path, ", ".join(done)


def furnish(folder: Path) -> Path:
    """Lay out a model's folder, and beside it one that must not be read; return the former."""
    inner, outer = folder / "model", folder / OUTSIDE
    inner.mkdir()
    outer.mkdir()
    (outer / "secret.data").write_bytes(b"\0" * 4096)
    (inner / "link.data").symlink_to(outer / "secret.data")
    (inner / "linked").symlink_to(outer, target_is_directory=True)
    (inner / "net.data").write_bytes(data_file())
    return inner
