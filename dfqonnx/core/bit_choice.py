"""Values of a search for bit widths: what was chosen for each node, and why."""

from __future__ import annotations

from dataclasses import dataclass

from dfqonnx.core.sensitivity import Sensitivity


@dataclass(frozen=True, kw_only=True)
class NodeChoice:
    """What was chosen for one node.

    Attributes:
        node: its name.
        op: its operator.
        widths: `w4a8`, `a16` of a node without a weight, or `float`.
        bytes: of its weight in the file.
        noise_share: of the whole noise, what its weight adds.
        reason: why these widths and not the neighboring ones.
    """

    node: str
    op: str
    widths: str
    bytes: int
    noise_share: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class StudentForecast:
    """What is expected of a student before it is trained.

    `noise` is the power of the outputs' noise over their signal, untrained; `drop`, in points, what
    the estimate of the drop makes of it, None where outputs hold no classes; `speed` is times that
    of the float model, None where it was not looked at.
    """

    name: str
    noise: float
    drop: float | None
    bytes: int
    speed: float | None = None


@dataclass(frozen=True, kw_only=True)
class BitChoice:
    """The outcome of a search for bit widths.

    Attributes:
        limits: as they were asked for.
        nodes: in graph order; those without a weight only where they are repaired.
        chosen: what is expected of the student.
        uniform: the same of students with equal widths everywhere, the widest first.
        repaired: how many nodes read 16 bits or stay in float.
        images: synthetic ones that noise was measured on.
        seconds: of the processor for all of it.
        sensitivity: what each quantizer costs at each width.
    """

    limits: str
    nodes: tuple[NodeChoice, ...]
    chosen: StudentForecast
    uniform: tuple[StudentForecast, ...]
    repaired: int
    images: int
    seconds: float
    sensitivity: Sensitivity
