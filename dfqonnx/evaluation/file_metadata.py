"""What a file says about itself."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dfqonnx.errors import UsageError


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata properties of the model at `path`.

    Raises:
        UsageError: not a readable ONNX file.
    """
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise UsageError(f"{path} is not a readable ONNX file ({error})") from None
    return {entry.key: entry.value for entry in proto.metadata_props}
