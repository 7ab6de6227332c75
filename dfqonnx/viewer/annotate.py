"""Writes a copy of a model with notes as node metadata, for a viewer and not for deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dfqonnx.errors import UsageError

Notes = Mapping[str, Mapping[str, str]]
NODE_METADATA_IR_VERSION = 10  # the first whose nodes may carry metadata


def annotate(path: Path, notes: Notes, to: Path) -> int:
    """Write the model at `path` to `to`, with `notes` as metadata of the nodes of these names.

    External tensors are included, so that the copy stands alone.

    Returns:
        the number of nodes with notes.

    Raises:
        UsageError: `path` is not a readable ONNX file.
    """
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, onnx.checker.ValidationError) as error:
        raise UsageError(f"{path}: not a readable ONNX file ({error})") from None
    count = 0
    for node in model.graph.node:
        known = notes.get(node.name, {})
        count += bool(known)
        for key, value in known.items():
            entry = node.metadata_props.add()
            entry.key, entry.value = key, value
    model.ir_version = max(model.ir_version, NODE_METADATA_IR_VERSION)
    onnx.save(model, to)
    return count
