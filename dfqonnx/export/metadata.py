"""What a file says about itself: the user's own metadata, and keys that begin with `dfqonnx.`.

Written by `run`, and read again by `validate` and `compare`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from dfqonnx.core.input_format import METADATA_KEY, Preprocessing
from dfqonnx.core.quantization import BitWidths, NodeRules, QuantizationConfig
from dfqonnx.errors import UsageError

PREFIX = "dfqonnx."
MAX_SIDE = 100_000


def describe(
    *,
    version: str,
    quant: QuantizationConfig,
    target: str,
    seed: int,
    recipe: str,
    teacher: str,
    inputs: Preprocessing | None,
    image_size: tuple[int, ...] | None = None,
) -> dict[str, str]:
    """Return the metadata of an exported file.

    `recipe` is the hash of the resolved recipe, `teacher` the sha256 of the float file,
    `image_size` the shape (no batch) that a model with open axes was trained at.
    """
    values = {
        "version": version,
        "bits": quant.bits.label,
        "first_last_bits": str(quant.first_last_bits or ""),
        "residual_bits": str(quant.residual_bits),
        "target": target,
        "seed": str(seed),
        "recipe": recipe,
        "teacher": teacher,
        "input_shape": "x".join(map(str, image_size or ())),
    }
    found = {PREFIX + key: value for key, value in values.items() if value}
    if inputs is not None:
        found[METADATA_KEY] = inputs.to_json()
    return found


def attach(model: ir.Model, own: Mapping[str, str], added: Mapping[str, str]) -> None:
    """Give `model` the user's metadata `own` and `added`; ours from an earlier run go."""
    kept = {key: value for key, value in own.items() if not key.startswith(PREFIX)}
    model.metadata_props.clear()
    model.metadata_props.update(kept | dict(added))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of the model at `path`; a UsageError where it is not readable ONNX."""
    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise UsageError(f"{path} is not a readable ONNX file ({error})") from None
    return {entry.key: entry.value for entry in proto.metadata_props}


def recorded_image_size(metadata: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the image size that a file which leaves it open was trained at; None elsewhere."""
    shape = metadata.get("dfqonnx.input_shape", "")
    sizes = tuple(_to_number(part, "input_shape") for part in shape.split("x") if part)
    if not all(0 < size <= MAX_SIDE for size in sizes):
        raise UsageError(f"the file's metadata dfqonnx.input_shape = {shape!r:.80}: no image size")
    if len(sizes) != 3:
        return sizes or None
    return sizes[1:] if sizes[0] <= sizes[2] else sizes[:2]


def recorded_quantization(metadata: Mapping[str, str]) -> QuantizationConfig | None:
    """Return the widths that a file was made with; None where it does not say."""
    if "dfqonnx.bits" not in metadata:
        return None
    ends = metadata.get("dfqonnx.first_last_bits")
    return QuantizationConfig(
        BitWidths.parse(metadata["dfqonnx.bits"]),
        first_last_bits=_to_number(ends, "first_last_bits") if ends else None,
        residual_bits=_to_number(metadata.get("dfqonnx.residual_bits", "8"), "residual_bits"),
    )


def describe_rules(rules: NodeRules) -> dict[str, str]:
    """Return the metadata of a file whose nodes follow the user's rules."""
    widths = [(pattern, bits.label) for pattern, bits in rules.bits_for]
    lists = {"keep_float": rules.keep_float, "bits_for": widths}
    return {PREFIX + key: json.dumps(entries) for key, entries in lists.items() if entries}


def recorded_rules(metadata: Mapping[str, str]) -> NodeRules:
    """Return the rules that a file was made with; they need not fit the teacher at hand."""
    kept = _read_list(metadata, "keep_float")
    pairs = _read_list(metadata, "bits_for")
    if not all(isinstance(each, str) for each in kept) or not all(
        isinstance(each, list) and len(each) == 2 and all(isinstance(part, str) for part in each)
        for each in pairs
    ):
        raise UsageError("the file's metadata dfqonnx.keep_float or dfqonnx.bits_for is damaged")
    widths = tuple((pattern, BitWidths.parse(text)) for pattern, text in pairs)
    return NodeRules(tuple(kept), widths, required=False)


def _read_list(metadata: Mapping[str, str], key: str) -> list[Any]:
    text = metadata.get(PREFIX + key, "[]")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, list):
        raise UsageError(f"the file's metadata dfqonnx.{key} = {text!r:.80}: expected a list")
    return content


def _to_number(text: str, key: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text):
        raise UsageError(f"the file's metadata dfqonnx.{key} = {text!r:.80}: expected numbers")
    return int(text)
