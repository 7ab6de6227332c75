"""What each command was asked for: one frozen configuration a command, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dfqonnx.config.gates import GateRule
from dfqonnx.config.recipe import Recipe
from dfqonnx.core.input_format import Layout, Preprocessing
from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.errors import UsageError
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS

Device = Literal["auto", "cpu", "cuda"]
ImageFileKind = Literal["npz", "npy", "folder"]
SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides the outcome of `dfqonnx run`.

    Attributes:
        model: the float teacher's ONNX file.
        quant: bit widths and storage.
        out: the output folder, complete or absent at the end.
        preprocess: how pixels become the model's tensor; None lets the run find out and warn.
        recipe: how images are made and how the student is trained.
        eval_data: labeled images to measure on (npz, folder or tar); never trained on.
        images: real images without labels (folder or npz) that sharpen the estimated drop; never
            trained on.
        seed: the seed of every random choice.
        device: the device of torch; `auto` takes CUDA where present.
        target: the name of the runtime that the file is for, see `targets`.
        budget: wall-clock seconds that images and training may take together; None lets the
            recipe decide from the model's multiply-adds, the same on every machine.
        gates: rules that the result has to meet.
        strict_gates: whether a rule that cannot be decided ends with exit code 1 as well.
        image_size: height and width for an input that leaves them open (one number: both); None
            takes usual ones.
    """

    model: Path
    quant: QuantizationConfig
    out: Path
    preprocess: Preprocessing | None = None
    recipe: Recipe = field(default_factory=Recipe)
    eval_data: Path | None = None
    images: Path | None = None
    seed: int = 0
    device: Device = "auto"
    target: str = DEFAULT_TARGET
    budget: float | None = None
    gates: tuple[GateRule, ...] = ()
    strict_gates: bool = False
    image_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        TARGETS[self.target]  # an unknown name is refused before anything slow
        _check_seed(self.seed)
        if self.budget is not None and self.budget < 10:
            raise UsageError(f"--budget {self.budget:g}s: too short; 10s is the least")


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """The pair of files that `dfqonnx validate` compares.

    Attributes:
        teacher: the float ONNX file.
        student: the quantized ONNX file.
        preprocess: how pixels become the tensor; None reads the student's metadata.
        eval_data: labeled images (npz, folder or tar).
        images: real images without labels (folder or npz) that sharpen the estimated drop.
        out: the folder for the report; None writes nothing.
        seed: the seed of the procedural images that stand in where there are no others.
        gates: rules that the student has to meet.
        strict_gates: whether a rule that cannot be decided ends with exit code 1 as well.
        image_size: height and width for an input that leaves them open (one number: both); None
            takes usual ones.
    """

    teacher: Path
    student: Path
    preprocess: Preprocessing | None = None
    eval_data: Path | None = None
    images: Path | None = None
    out: Path | None = None
    seed: int = 0
    gates: tuple[GateRule, ...] = ()
    strict_gates: bool = False
    image_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What `dfqonnx compare` measures.

    Attributes:
        students: output folders of runs, or ONNX files of any origin.
        teacher: the float file; None takes the one that all the folders' reports name.
        preprocess: how pixels become the tensor; None asks the files' metadata.
        eval_data: labeled images (npz, folder or tar); None compares on procedural images.
        seed: the seed of the procedural images.
        threads: the threads of the runtime while timing.
    """

    students: tuple[Path, ...]
    teacher: Path | None = None
    preprocess: Preprocessing | None = None
    eval_data: Path | None = None
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.students:
            raise UsageError("compare: give at least one output folder or ONNX file")
        _check_seed(self.seed)
        if self.threads < 1:
            raise UsageError(f"--threads {self.threads}: must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """What `dfqonnx synth` makes.

    Attributes:
        model: the float ONNX file.
        out: `NAME.npz` (x uint8 NHWC, y the network's classes), `NAME.npy` (one float32 array, as
            other toolchains calibrate with), or the name of a folder for PNG files.
        recipe: how images are made; its training is left out.
        count: the number of images; None leaves it to the recipe.
        layout: the axes of an npy; None takes the model's own.
        preprocessed: whether an npy holds what the model reads, or else pixels 0..255.
        preprocess: how pixels become the tensor; None asks the file, then guesses.
        seed: the seed of every random choice.
        device: the device of torch.
    """

    model: Path
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    count: int | None = None
    layout: Layout | None = None
    preprocessed: bool = False
    preprocess: Preprocessing | None = None
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        if self.count is not None and self.count < 2:
            raise UsageError(f"-n {self.count}: must be 2 or more")
        suffix = self.out.suffix.lower()
        if suffix and suffix not in SUFFIXES and not self.out.is_dir():
            raise UsageError(
                f"--out {self.out}: {suffix} is not written; give NAME.npz, NAME.npy, or a folder"
                " for PNG files"
            )
        if self.kind != "npy" and (self.layout is not None or self.preprocessed):
            flag = "--preprocessed" if self.preprocessed else "--layout"
            raise UsageError(
                f"{flag} is for calibration arrays: give --out NAME.npy; {self.out} would hold"
                " uint8 pixels, NHWC"
            )

    @property
    def kind(self) -> ImageFileKind:
        """The kind of file that is written."""
        suffix = self.out.suffix.lower()
        return "npz" if suffix == ".npz" else "npy" if suffix == ".npy" else "folder"

    @property
    def sheet(self) -> Path:
        """The contact sheet: beside the images, never among them."""
        return self.out.with_name(f"{self._name}-sheet.png")

    @property
    def generator(self) -> Path:
        """The file of a trained generator."""
        return self.out.with_name(f"{self._name}-generator.npz")

    @property
    def _name(self) -> str:
        return self.out.stem if self.kind != "folder" else self.out.name


@dataclass(frozen=True, kw_only=True)
class SimilarityConfig:
    """What `dfqonnx similarity` measures.

    Attributes:
        model: the float ONNX file, its BatchNormalization still in it.
        images: a folder of image files, or an npz with x (uint8, NHWC).
        preprocess: how pixels become the tensor; None asks the file, then guesses.
        references: whether noise, dead leaves and the model's own optimized images are measured
            as well, so that the number can be placed.
        seed: the seed of the references.
        device: the device of torch.
    """

    model: Path
    images: Path
    preprocess: Preprocessing | None = None
    references: bool = True
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        _check_seed(self.seed)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be 0 or more")
