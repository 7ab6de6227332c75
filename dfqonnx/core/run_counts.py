"""What a network is and what a run does to it, as numbers: the arguments of the cost model.

All sizes are those of one image. They come from `convert/network_size` and
`workflows/stage_seconds.count_run`; nothing here knows torch or ONNX.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """How large a network is; counts are for one image."""

    multiply_adds: int  # of the nodes with weights
    values: int  # numbers that all nodes write
    live: int  # numbers alive at once in a forward pass, at most
    quantized: int  # values that pass activation quantizers
    parameters: int
    nodes: int
    pixels: int  # numbers that the network reads
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """How many images are made, and how."""

    images: int  # in all
    optimized: int  # of them, through the teacher
    batch: int  # images that are optimized together
    steps: int  # of optimization, each of a batch


@dataclass(frozen=True)
class LayerShape:
    """A node that GPTQ solves, as G matrices (O, M)."""

    outputs: int  # O, of all groups
    fan_in: int  # M
    groups: int  # G
    searched: bool  # whether a search of codes follows the rounding


@dataclass(frozen=True, kw_only=True)
class RunCounts:
    """What the stages of a run do, as far as it is known before."""

    size: NetworkSize
    synthesis: ImageCounts  # of the images that are made first
    all_images: ImageCounts  # where a student turns out to need it; else the same
    batch: int  # images of a training step
    part: int  # images of it that pass at once
    calibration_batch: int  # images that pass together while ranges are set
    calibration: int  # images
    probes: int  # images of each kind of probe
    gptq: int  # images
    dampings: int  # candidates of GPTQ
    held_out: int  # images
    steps: int  # of training, surely
    possible_steps: int  # where a student turns out to need it
    has_statistics: bool  # whether images are compared with BatchNormalization
    layers: tuple[LayerShape, ...]  # that GPTQ solves

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the counts that `to_json` wrote."""
        return cls(
            **content
            | {
                "size": NetworkSize(**content["size"]),
                "synthesis": ImageCounts(**content["synthesis"]),
                "all_images": ImageCounts(**content["all_images"]),
                "layers": tuple(LayerShape(**layer) for layer in content["layers"]),
            }
        )
