"""Bytes and hash of a model file, with the tensors that it keeps beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx


@dataclass(frozen=True)
class FileFacts:
    """A model on disk."""

    path: str  # the path as it was given
    sha256: str  # the hash of the .onnx file
    bytes: int  # its size, external data included


def measure_file(path: Path) -> FileFacts:
    """Return size and hash of the model at `path`."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
    proto = onnx.load(path, load_external_data=False)
    places = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    beside = [path.parent / place for place in sorted(places)]
    total = path.stat().st_size + sum(p.stat().st_size for p in beside if p.is_file())
    return FileFacts(str(path), digest.hexdigest(), total)
