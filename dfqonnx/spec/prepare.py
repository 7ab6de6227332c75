"""What is done to a network before its first training step, without looking at any image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ranges = Literal["images", "batchnorm"]


@dataclass(frozen=True)
class PrepareSpec:
    """Data-free quantization (Nagel et al., ICCV 2019), each part by itself.

    Attributes:
        equalise: give neighbouring layers equal ranges, channel by channel; a ReLU6 becomes a ReLU
            where BatchNormalization says that next to nothing lies above 6.
        absorb: move high biases on to the next layer, where BatchNormalization tells them; needs
            `equalise`.
        correct: shift every bias by what rounding the weights does to the mean of the output; means
            come from BatchNormalization, else from the images.
        ranges: what sets the activations' ranges: a search on `images`, or mean +- 6 deviations of
            what `batchnorm` remembers, and images only where it does not reach.
    """

    equalise: bool = False
    absorb: bool = False
    correct: bool = False
    ranges: Ranges = "images"
