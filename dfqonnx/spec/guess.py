"""What an unknown model's images may be like: the presets that fit the shape of its input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dfqonnx.errors import UsageError
from dfqonnx.spec.imagesize import image_size
from dfqonnx.spec.inputs import METADATA_KEY, PRESETS, InputSpec

USUAL = ("imagenet", "zero-one", "minus-one-one", "cifar10", "cifar100", "raw")
NOISE = InputSpec("noise", 255.0 / 8, (4.0,), (1.0,), "NHWC", "gray")  # pixels span -4..4


@dataclass(frozen=True)
class Guess:
    """An input specification and where it comes from.

    Attributes:
        inputs: the specification, fitted to the model's layout and channels.
        reason: one sentence for the user.
        certain: whether the model itself said so.
    """

    inputs: InputSpec
    reason: str
    certain: bool


def recorded(metadata: Mapping[str, str]) -> Guess | None:
    """Return what a file's metadata say; None where they are silent.

    Raises:
        UsageError: the metadata hold a specification that cannot be read.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        values = json.loads(metadata[METADATA_KEY])
        inputs = InputSpec.parse(values, name=str(values.get("name", "metadata")))
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"the model's metadata {METADATA_KEY} cannot be read ({error}); give --preprocess"
        ) from None
    return Guess(inputs, "recorded in the model's metadata", True)


def candidates(shape: tuple[int, ...]) -> list[InputSpec]:
    """Return the presets that fit a model's input `shape` (no batch), the most usual first."""
    found = []
    for name in USUAL:
        spec = PRESETS[name].fitted(shape)
        try:
            channels = image_size(shape, spec)[2]
        except UsageError:
            continue
        found.append(replace(spec, channels="gray") if channels == 1 else spec)
    return found
