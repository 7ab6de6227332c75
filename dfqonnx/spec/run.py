"""One run, as the user asked for it: everything `flow.run` needs, checked at birth."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dfqonnx.errors import UsageError
from dfqonnx.spec.distill import DistillSpec
from dfqonnx.spec.gates import Rule
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.quant import QuantSpec
from dfqonnx.spec.synth import SynthSpec

Device = Literal["auto", "cpu", "cuda"]
Target = Literal["ort-cpu"]
Need = Literal["statistics", "classes", "student"]


@dataclass(frozen=True)
class Recipe:
    """How images are made and how the student is trained: a YAML file under `pipelines/`.

    Attributes:
        name: the file's stem.
        about: one line for `dfqonnx recipes`.
        paper: who published it, and where.
        needs: what it cannot do without: BatchNormalization `statistics` in the file, a teacher
            that tells `classes` apart, a `student` to play against.
        cost: one line: how long it takes.
        scale: which of the file's scales this is; empty where it has none.
        synth: the images.
        distill: the training; `steps: 0` trains nothing.
    """

    name: str = "default"
    about: str = ""
    paper: str = ""
    needs: tuple[Need, ...] = ()
    cost: str = ""
    scale: str = ""
    synth: SynthSpec = field(default_factory=SynthSpec)
    distill: DistillSpec = field(default_factory=DistillSpec)

    @property
    def title(self) -> str:
        """Name and scale, for reports."""
        return f"{self.name} at {self.scale} scale" if self.scale else self.name


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's outcome.

    Attributes:
        model: the float teacher's ONNX file.
        quant: bits, ends, storage.
        out: output folder, complete or absent at the end.
        inputs: how pixels become the model's tensor; None lets the run find out and warn.
        recipe: source of images and training schedule.
        eval_data: labelled images to measure on (npz, folder or tar); never trained on.
        images: real images without labels (folder or npz) that sharpen the estimated drop; never
            trained on.
        seed: of every random choice.
        device: where torch works; `auto` takes CUDA where present.
        target: runtime the file is for.
        budget: wall-clock seconds that images and training may take together; None lets the
            recipe decide from the model's multiply-adds, the same on every machine.
        gates: rules that the result must keep to.
        strict_gates: whether a rule that cannot be decided ends with exit code 1 as well.
        image_size: height and width for an input that leaves them open (one number: both); None
            takes usual ones.
    """

    model: Path
    quant: QuantSpec
    out: Path
    inputs: InputSpec | None = None
    recipe: Recipe = field(default_factory=Recipe)
    eval_data: Path | None = None
    images: Path | None = None
    seed: int = 0
    device: Device = "auto"
    target: Target = "ort-cpu"
    budget: float | None = None
    gates: tuple[Rule, ...] = ()
    strict_gates: bool = False
    image_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be 0 or more")
        if self.budget is not None and self.budget < 10:
            raise UsageError(f"--budget {self.budget:g}s: too short; 10s is the least")


@dataclass(frozen=True)
class ValidateSpec:
    """A quantized file to hold against its float teacher.

    Attributes:
        teacher: the float ONNX file.
        student: the quantized ONNX file.
        inputs: how pixels become the tensor; None reads the student's metadata.
        eval_data: labelled images (npz, folder or tar).
        images: real images without labels (folder or npz) that sharpen the estimated drop.
        out: folder for report.json and report.md; None writes nothing.
        seed: of the synthetic images that stand in where there are no others.
        gates: rules that the student must keep to.
        strict_gates: whether a rule that cannot be decided ends with exit code 1 as well.
        image_size: height and width for an input that leaves them open (one number: both); None
            takes usual ones.
    """

    teacher: Path
    student: Path
    inputs: InputSpec | None = None
    eval_data: Path | None = None
    images: Path | None = None
    out: Path | None = None
    seed: int = 0
    gates: tuple[Rule, ...] = ()
    strict_gates: bool = False
    image_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be 0 or more")


def parse_duration(text: str) -> float:
    """Return the seconds in `30s`, `10m` or `1h`.

    Raises:
        UsageError: not a number followed by s, m or h.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip().lower())
    if match is None:
        raise UsageError(f"--budget: cannot read {text!r}; write 30s, 10m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
