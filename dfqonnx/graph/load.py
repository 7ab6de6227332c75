"""Read an ONNX file: any IR version, opset 7 and up, data inside the file or beside it.

A file that cannot be read is the user's mistake (`UsageError`); one that reads well but cannot be
quantized is an `UnsupportedModel` that names every offending node.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import external_data_helper

from dfqonnx.errors import Offense, UnsupportedModel, UsageError
from dfqonnx.graph.checks import find_offenses
from dfqonnx.graph.file_signature import check_signature
from dfqonnx.graph.interface import Interface, close_inputs, find_interface
from dfqonnx.graph.model import Source
from dfqonnx.graph.passes.deprecated_ops import replace_deprecated_ops
from dfqonnx.graph.passes.opset_upgrade import get_opset
from dfqonnx.graph.size_checks import check_graph_size
from dfqonnx.graph.tensor_checks import check_tensor, list_as_inputs, strip_initializers

_MAX_READ_BYTES = 2**30  # of a data file; the large tensors of a larger one are mapped, not read
_LARGE_TENSOR = 2**16  # numbers
_MAX_SHOWN = 200  # characters of a file name that a message repeats


@dataclass(frozen=True)
class Loaded:
    """A checked model as it stands in the file."""

    proto: onnx.ModelProto  # the model, external data read in
    source: Source  # where it comes from
    # initializers of a model too large for one protobuf message (2 GB), by name: their data are
    # mapped from their file when somebody asks for them
    external: Mapping[str, ir.ExternalTensor] = field(default_factory=dict)
    interface: Interface = field(default_factory=Interface)  # the user's inputs; `proto` is closed


def load(path: Path, *, given: Mapping[str, NDArray[Any]] | None = None) -> Loaded:
    """Read and check the model at `path`; `given` are values of inputs that are no image."""
    data = _read(path)
    proto = _parse(path, data)
    _check_text(proto, path)
    too_large = check_graph_size(proto)
    if too_large:
        raise UnsupportedModel(f"{path}: this model cannot be quantized:", too_large)
    external, mapped = _read_external(proto, path)
    for tensor in _list_tensors(proto):
        if tensor.name not in mapped:
            check_tensor(tensor, path)
    replace_deprecated_ops(proto)
    interface = find_interface(proto, given or {}, path)
    offenses = [interface] if isinstance(interface, Offense) else []
    if not isinstance(interface, Offense):
        close_inputs(proto, interface)
    offenses += find_offenses(proto)
    if isinstance(interface, Offense) or offenses:
        raise UnsupportedModel(f"{path}: this model cannot be quantized:", offenses)
    _check_structure(proto, path, mapped)
    source = Source(
        path=str(path),
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data) + sum(external.values()),
        opset=get_opset(proto),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        metadata={p.key: p.value for p in proto.metadata_props},
        data_files=tuple(sorted(external)),
    )
    return Loaded(proto, source, mapped, interface)


def read_proto(path: Path) -> onnx.ModelProto:
    """Read a model of any kind, quantized or not; data kept beside it are left there.

    Raises:
        UsageError: it is no ONNX model.
    """
    proto = _parse(path, _read(path))
    _check_text(proto, path)
    return proto


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the path of an .onnx file")
    if not path.exists():
        raise UsageError(f"{path}: no such file; check the path")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise UsageError(f"{path} is empty (0 bytes); export or download it again")
    check_signature(path)
    return data


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise UsageError(
            f"{path} ({len(data)} bytes) is not a readable ONNX model: truncated, damaged or"
            " another format; export or download it again"
        ) from None
    if not proto.HasField("graph") or not proto.ir_version or not proto.opset_import:
        raise UsageError(
            f"{path} ({len(data)} bytes) is not an ONNX model: it holds no graph, IR version or"
            " opset; it may be truncated or of another format"
        )
    if not all(port.name for port in (*proto.graph.input, *proto.graph.output)):
        raise UsageError(
            f"{path}: an input or output of the graph has no name, which ONNX does not allow;"
            " export it again"
        )
    return proto


def _list_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from proto.graph.initializer
    for node in [*proto.graph.node, *(node for f in proto.functions for node in f.node)]:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def list_external_names(path: Path) -> list[str]:
    """Return the names of the files beside a model that it refers to; they need not be there.

    A file that is no ONNX model has none; whoever opens it says so.
    """
    try:
        proto = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError):
        return []
    entries = (
        entry
        for tensor in _list_tensors(proto)
        if external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
    )
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _read_external(
    proto: onnx.ModelProto, path: Path
) -> tuple[dict[Path, int], dict[str, ir.ExternalTensor]]:
    """Read data kept beside the model into it; return its files' sizes, and what is left mapped."""
    folder = path.resolve().parent
    sizes: dict[Path, int] = {}
    mapped: dict[str, ir.ExternalTensor] = {}
    large = {t.name for t in proto.graph.initializer if math.prod(t.dims) >= _LARGE_TENSOR}
    for tensor in _list_tensors(proto):
        if not external_data_helper.uses_external_data(tensor):
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        file = _find_external_file(entry.get("location", ""), folder, tensor.name, path)
        sizes[file] = file.stat().st_size
        try:
            offset = int(entry.get("offset", 0))
            length = int(entry.get("length", sizes[file] - offset))
        except ValueError:
            offset = length = -1
        if offset < 0 or length < 0 or offset + length > sizes[file]:
            raise UsageError(
                f"{path}: tensor {tensor.name!r} asks for bytes that {file.name} does not have"
                f" ({sizes[file]} bytes): it is truncated, or belongs to another model"
            )
        if sizes[file] > _MAX_READ_BYTES and tensor.name in large:
            check_tensor(tensor, path, stored=length)
            kind, shape = ir.DataType(tensor.data_type), ir.Shape(tensor.dims)
            place = (str(file.relative_to(folder)), offset, length)
            mapped[tensor.name] = ir.ExternalTensor(
                *place, kind, shape=shape, name=tensor.name, base_dir=folder
            )
            continue
        with file.open("rb") as handle:
            handle.seek(offset)
            tensor.raw_data = handle.read(length)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    return sizes, mapped


def _find_external_file(location: str, folder: Path, tensor: str, path: Path) -> Path:
    shown = location if len(location) <= _MAX_SHOWN else f"{location[:_MAX_SHOWN]}..."
    try:
        file = (folder / location).resolve()
        there = file.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
        raise UsageError(
            f"{path}: tensor {tensor!r} names a data file that cannot be one ({shown!r}):"
            " the file is damaged"
        ) from None
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
        raise UsageError(
            f"{path}: tensor {tensor!r} points to data outside the model's folder ({shown!r});"
            " for safety only files in the same folder are read"
        )
    if not there:
        raise UsageError(
            f"{path}: its data file {shown!r} is missing; copy it into {folder} beside the model"
        )
    return file


def _check_structure(
    proto: onnx.ModelProto, path: Path, external: Mapping[str, ir.ExternalTensor]
) -> None:
    """Run the ONNX checker; IR 3 wants every weight listed as an input, which many files lack."""
    if proto.ir_version < 4:
        list_as_inputs(proto.graph, proto.graph.initializer)
    try:
        _declare_outputs(proto, external)
        onnx.checker.check_model(strip_initializers(proto, external))
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
    ) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        offense = Offense("graph", "", reason.strip(), "export it again")
        raise UnsupportedModel(f"{path}: this model is not valid ONNX:", [offense]) from None


def _declare_outputs(proto: onnx.ModelProto, external: Mapping[str, ir.ExternalTensor]) -> None:
    """Give outputs that declare no type or shape those that inference finds, as a runtime does."""
    bare = [o for o in proto.graph.output if not o.type.tensor_type.HasField("shape")]
    if not bare:
        return
    inferred = onnx.shape_inference.infer_shapes(strip_initializers(proto, external))
    found = {value.name: value.type for value in inferred.graph.output}
    for output in bare:
        if output.name in found:
            output.type.CopyFrom(found[output.name])


def _check_text(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse names that are no text: protobuf hands such bytes on as they are."""
    graph = proto.graph
    values = [*graph.initializer, *graph.input, *graph.output]
    texts = [graph.name, *(value.name for value in values)]
    for node in graph.node:
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [attribute.name for attribute in node.attribute]
    broken = [text for text in texts if not isinstance(text, str)]
    if broken:
        raise UsageError(f"{path}: the name {broken[0]!r} is not text: the file is damaged")
