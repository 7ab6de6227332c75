"""A copy of a model whose nodes say what is known of them, for a viewer; never for deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dfqonnx.errors import UsageError

Notes = Mapping[str, Mapping[str, str]]
NODE_METADATA_SINCE = 10  # IR version from which nodes may carry metadata
LARGEST = 2**30  # bytes; larger models are shown as they are


def annotate(path: Path, notes: Notes, to: Path) -> int:
    """Write the model at `path` to `to`, with `notes` as metadata of the nodes of these names.

    Tensors kept beside the file are taken in, so that the copy stands alone.

    Returns:
        how many nodes got notes.

    Raises:
        UsageError: `path` is not a readable ONNX file.
    """
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, onnx.checker.ValidationError) as error:
        raise UsageError(f"{path} is not a readable ONNX file ({error})") from None
    count = 0
    for node in model.graph.node:
        known = notes.get(node.name, {})
        count += bool(known)
        for key, value in known.items():
            entry = node.metadata_props.add()
            entry.key, entry.value = key, value
    model.ir_version = max(model.ir_version, NODE_METADATA_SINCE)
    onnx.save(model, to)
    return count


def annotatable(path: Path) -> bool:
    """Tell whether a copy of the file is worth its time and space."""
    return path.stat().st_size <= LARGEST
