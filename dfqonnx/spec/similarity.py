"""An image set to hold against what a network remembers of its training data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.run import Device


@dataclass(frozen=True)
class SimilaritySpec:
    """What `dfqonnx similarity` measures.

    Attributes:
        model: the float ONNX file, its BatchNormalization still in it.
        images: a folder of image files, or an npz with x (uint8, NHWC).
        inputs: how pixels become the tensor; None asks the file, then guesses.
        references: whether noise, dead leaves and the model's own optimised images are measured
            as well, so that the number can be placed.
        seed: of the references.
        device: where torch works.
    """

    model: Path
    images: Path
    inputs: InputSpec | None = None
    references: bool = True
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be 0 or more")
