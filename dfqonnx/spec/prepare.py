"""What is done to a network before its first training step, without looking at any image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfqonnx.errors import UsageError

Ranges = Literal["images", "batchnorm"]


@dataclass(frozen=True)
class PrepareSpec:
    """What makes a network easier to quantize; all but `level` as Nagel et al. (ICCV 2019) do it.

    Attributes:
        level: how far channels that share an activation's step of fewer than 8 bits are brought to
            one range, from 0 (not at all) to 1 (wholly); the float network computes what it did.
        equalise: give neighbouring layers equal ranges, channel by channel; a ReLU6 becomes a ReLU
            where BatchNormalization says that next to nothing lies above 6.
        absorb: move high biases on to the next layer, where BatchNormalization tells them; needs
            `equalise`.
        correct: shift every bias by what rounding the weights does to the mean of the output; means
            come from BatchNormalization, else from the images.
        ranges: what sets the activations' ranges: a search on `images`, or mean +- 6 deviations of
            what `batchnorm` remembers, and images only where it does not reach.
    """

    level: float = 0.3
    equalise: bool = False
    absorb: bool = False
    correct: bool = False
    ranges: Ranges = "images"

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise UsageError(f"distill.prepare.level {self.level}: must be in 0..1")
