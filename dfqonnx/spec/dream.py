"""Images to make for a network and keep: what `dfqonnx synth` was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.run import Device, Recipe

Layout = Literal["NHWC", "NCHW"]
Kind = Literal["npz", "npy", "folder"]
SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True)
class DreamSpec:
    """What `dfqonnx synth` makes.

    Attributes:
        model: the float ONNX file.
        out: `NAME.npz` (x uint8 NHWC, y the network's classes), `NAME.npy` (one float32 array, as
            other toolchains calibrate with), or the name of a folder for PNG files.
        recipe: how images are made; its training is left out.
        count: how many; None leaves it to the recipe.
        layout: axes of an npy; None takes the model's own.
        preprocessed: whether an npy holds what the model reads; else pixels 0..255.
        inputs: how pixels become the tensor; None asks the file, then guesses.
        seed: of every random choice.
        device: where torch works.
    """

    model: Path
    out: Path
    recipe: Recipe = field(default_factory=Recipe)
    count: int | None = None
    layout: Layout | None = None
    preprocessed: bool = False
    inputs: InputSpec | None = None
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be 0 or more")
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
    def kind(self) -> Kind:
        """What is written."""
        suffix = self.out.suffix.lower()
        return "npz" if suffix == ".npz" else "npy" if suffix == ".npy" else "folder"

    @property
    def sheet(self) -> Path:
        """Where the contact sheet goes: beside the images, never among them."""
        return self.out.with_name(f"{self._name}-sheet.png")

    @property
    def generator(self) -> Path:
        """Where a trained generator goes."""
        return self.out.with_name(f"{self._name}-generator.npz")

    @property
    def _name(self) -> str:
        return self.out.stem if self.kind != "folder" else self.out.name
