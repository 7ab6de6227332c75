"""What each command was asked for: one frozen configuration a command, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from dfqonnx.config.effort import Effort
from dfqonnx.config.gates import GateRule
from dfqonnx.config.measuring import MeasuringConfig
from dfqonnx.config.recipe import Recipe
from dfqonnx.config.search_limits import MIXED, WidthSearch
from dfqonnx.config.target_widths import check_widths
from dfqonnx.core.input_format import Layout, Preprocessing
from dfqonnx.core.quantization import NodeRules, QuantizationConfig
from dfqonnx.errors import UsageError
from dfqonnx.targets.profile import DEFAULT_TARGET, TARGETS

Device = Literal["auto", "cpu", "cuda"]
ImageFileKind = Literal["npz", "npy", "folder"]
SUFFIXES = (".npz", ".npy")
LEAST_MEMORY = 256 * 2**20  # bytes


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides the outcome of `dfqonnx run`."""

    model: Path  # the float teacher's ONNX file
    quant: QuantizationConfig
    out: Path  # folder, complete or absent at the end
    file: Path | None = None  # where the model stands as well, put there last
    nodes: NodeRules = field(default_factory=NodeRules)  # the recipe's included
    search: WidthSearch | None = None  # what `quant` and `nodes` are looked for by; None: given
    preprocess: Preprocessing | None = None  # None lets the run find out and warn
    recipe: Recipe = field(default_factory=Recipe)
    eval_data: Path | None = None  # see `data/task_data.py`; never trained on
    images: Path | None = None  # unlabeled, for the drop estimate; never trained on
    calibrate_with: Path | None = None  # unlabeled, they join the synthetic images but for a part
    seed: int = 0
    device: Device = "auto"  # `auto` takes CUDA where present
    target: str = DEFAULT_TARGET
    budget: float | None = None  # seconds; None: the recipe decides by the model's cost
    effort: Effort = "default"  # whose work the recipe has, see `config/effort.py`
    memory: int | None = None  # bytes; None: what the machine or its container leaves
    gates: tuple[GateRule, ...] = ()
    strict: bool = (
        False  # whether all that is no pass fails, by the usual rules where none is given
    )
    image_size: tuple[int, ...] | None = (
        None  # of open axes: (h, w) or (both,); None takes usual ones
    )
    measuring: MeasuringConfig = field(default_factory=MeasuringConfig)
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # values of other inputs

    @property
    def student_name(self) -> str:
        """The name of the quantized file in the folder."""
        bits = self.quant.bits.label if self.search is None else MIXED
        named = f"{self.model.stem}.{bits}.onnx"
        return named if self.file is None else self.file.name

    def __post_init__(self) -> None:
        check_widths(TARGETS[self.target], self.quant, self.nodes)  # before anything slow
        _check_seed(self.seed)
        if self.budget is not None and self.budget < 10:
            raise UsageError(f"--budget {self.budget:g}s: too short; 10s is the least")
        if self.memory is not None and self.memory < LEAST_MEMORY:
            raise UsageError(
                f"--memory {self.memory / 2**20:g}MiB: too little; the libraries alone take"
                f" {LEAST_MEMORY // 2**20}MiB"
            )


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """The pair of files that `dfqonnx validate` compares."""

    teacher: Path
    student: Path
    preprocess: Preprocessing | None = None  # None reads the student's metadata
    eval_data: Path | None = None  # see `data/task_data.py`
    images: Path | None = None  # unlabeled: folder or npz, for the drop estimate
    out: Path | None = None  # None writes no report
    seed: int = 0  # of procedural images
    gates: tuple[GateRule, ...] = ()
    strict: bool = (
        False  # whether all that is no pass fails, by the usual rules where none is given
    )
    image_size: tuple[int, ...] | None = (
        None  # of open axes: (h, w) or (both,); None takes usual ones
    )
    measuring: MeasuringConfig = field(default_factory=MeasuringConfig)
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # values of other inputs

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What `dfqonnx compare` measures."""

    students: tuple[Path, ...]  # output folders of runs, or ONNX files of any origin
    teacher: Path | None = None  # None takes the one that all the folders' reports name
    preprocess: Preprocessing | None = None  # None asks the files' metadata
    eval_data: Path | None = None  # labeled: npz, folder or tar; None takes procedural ones
    classes: Path | None = None  # a file with the names of the model's classes, in order
    seed: int = 0  # of procedural images
    threads: int = 1  # of the runtime while timing

    def __post_init__(self) -> None:
        if not self.students:
            raise UsageError("compare: give at least one output folder or ONNX file")
        _check_seed(self.seed)
        if self.threads < 1:
            raise UsageError(f"--threads {self.threads}: must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """What `dfqonnx synth` makes."""

    model: Path
    out: Path  # NAME.npz, NAME.npy, or a folder for PNG files, see `write_images`
    recipe: Recipe = field(default_factory=Recipe)  # its training is left out
    count: int | None = None  # None leaves it to the recipe
    layout: Layout | None = None  # of an npy; None takes the model's own
    preprocessed: bool = False  # an npy holds what the model reads, else pixels 0..255
    preprocess: Preprocessing | None = None  # None asks the file, then guesses
    seed: int = 0
    device: Device = "auto"
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # values of other inputs

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
    """What `dfqonnx similarity` measures."""

    model: Path  # its BatchNormalization still in it
    images: Path  # a folder of image files, or an npz with x (uint8, NHWC)
    preprocess: Preprocessing | None = None  # None asks the file, then guesses
    references: bool = True  # measure noise, dead leaves and optimized images as well
    seed: int = 0  # of the references
    device: Device = "auto"

    def __post_init__(self) -> None:
        _check_seed(self.seed)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be 0 or more")
