"""Several quantized files against one float teacher, as the user asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import InputSpec


@dataclass(frozen=True)
class CompareSpec:
    """What `dfqonnx compare` measures.

    Attributes:
        targets: output folders of runs, or ONNX files of any origin.
        teacher: the float file; None takes the one that all the folders' reports name.
        inputs: how pixels become the tensor; None asks the files' metadata.
        eval_data: labelled images (npz, folder or tar); None compares on procedural images.
        seed: of the procedural images.
        threads: of the runtime while timing.
    """

    targets: tuple[Path, ...]
    teacher: Path | None = None
    inputs: InputSpec | None = None
    eval_data: Path | None = None
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.targets:
            raise UsageError("compare: give at least one output folder or ONNX file")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be 0 or more")
        if self.threads < 1:
            raise UsageError(f"--threads {self.threads}: must be 1 or more")
