"""What the file says about itself: the user's own metadata, and keys that begin with `dfqonnx.`."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dfqonnx.core.input_format import METADATA_KEY, Preprocessing
from dfqonnx.core.quantization import QuantizationConfig

PREFIX = "dfqonnx."


def describe(
    *,
    version: str,
    quant: QuantizationConfig,
    seed: int,
    recipe: str,
    teacher: str,
    inputs: Preprocessing | None,
    image_size: tuple[int, ...] | None = None,
) -> dict[str, str]:
    """Return the metadata of an exported file.

    Args:
        version: of dfqonnx.
        quant: widths and storage.
        seed: of the run.
        recipe: hash of the resolved recipe.
        teacher: sha256 of the float file.
        inputs: how pixels become the model's tensor, where known.
        image_size: shape of the input (no batch) that a model with open axes was trained at.
    """
    ends = "" if quant.first_last_bits is None else str(quant.first_last_bits)
    values = {
        "version": version,
        "bits": quant.bits.label,
        "strict_ends": ends,
        "stream": str(quant.residual_bits),
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
