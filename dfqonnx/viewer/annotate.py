"""Writes a copy of a model with notes on its nodes, for a viewer and not for deployment.

Notes are node metadata, which Netron lists beside the graph when a node is chosen. Badges are
attributes, which it writes on the node itself; no operator knows them, so no runtime loads a copy
that has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dfqonnx.errors import UsageError

Notes = Mapping[str, Mapping[str, str]]
NODE_METADATA_IR_VERSION = 10  # the first whose nodes may carry metadata


def annotate(path: Path, notes: Notes, to: Path, *, badges: Notes | None = None) -> int:
    """Write the model at `path` to `to`, with `notes` as metadata of the nodes of these names.

    `badges` become attributes of their nodes, where they do not have one of that name.

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
        own = {attribute.name for attribute in node.attribute}
        for key, value in (badges or {}).get(node.name, {}).items():
            if key not in own:
                node.attribute.append(onnx.helper.make_attribute(key, value))
    model.ir_version = max(model.ir_version, NODE_METADATA_IR_VERSION)
    onnx.save(model, to)
    return count
