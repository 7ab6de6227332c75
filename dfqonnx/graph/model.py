"""What the graph room hands to everybody else: the normalized model and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.graph.interface import Interface

BatchNormState = Literal["present", "partly", "absent"]
Dim = int | str | None
ORIGIN = "dfqonnx.origin"  # node metadata: the operator that this node replaces
UNSUPPORTED = "dfqonnx.unsupported"  # key in `Node.meta`: why the node cannot be computed
BATCH = "N"  # name of the free batch axis


@dataclass(frozen=True, kw_only=True)
class Source:
    """The user's file."""

    path: str  # as given
    sha256: str  # of the .onnx file itself
    bytes: int  # size on disk, external data included
    opset: int  # version of the ai.onnx operators
    producer: str  # name and version of the exporter, as recorded in the file
    metadata: Mapping[str, str]  # the file's own metadata properties
    data_files: tuple[Path, ...] = ()  # with weights, beside it


@dataclass(frozen=True)
class ValueInfo:
    """A graph input or output as the user declared it; `None` is a dimension without name."""

    name: str
    dtype: int
    shape: tuple[Dim, ...] | None


@dataclass(frozen=True)
class Contract:
    """The user's own inputs and outputs; export restores them."""

    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]

    @property
    def batch(self) -> int | None:
        """The batch size that the user's file is fixed to; None when it is free."""
        shape = self.inputs[0].shape
        return shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else None

    @property
    def fed_type(self) -> Literal["float32", "float16", "bfloat16"]:
        """The type that real inputs are rounded to before the user's file reads them."""
        match self.inputs[0].dtype:
            case ir.DataType.FLOAT16:
                return "float16"
            case ir.DataType.BFLOAT16:
                return "bfloat16"
        return "float32"

    @property
    def reads_pixels(self) -> bool:
        """Whether the user's file reads pixels 0..255 as integers."""
        return self.inputs[0].dtype == int(ir.DataType.UINT8)


@dataclass(frozen=True)
class SkippedRewrite:
    """A rewrite that a pass could not make."""

    node: str
    op: str
    rewrite: str  # name of the pass
    reason: str  # why this node had to stay as it is

    def __str__(self) -> str:
        """Return one line without the node's name."""
        return f"{self.op}, {self.rewrite.replace('_', ' ')}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class NormalizedModel:
    """A normalized model; CONTRIBUTING lists what holds for it."""

    ir: ir.Model
    source: Source
    contract: Contract
    # value name -> what a BatchNormalization knew about that value
    statistics: Mapping[str, ChannelStatistics]
    # whether every Conv that could have had a BatchNormalization still has it (`present`), some
    # (`partly`) or none (`absent`)
    batchnorm: BatchNormState
    batchnorm_nodes: int  # how many the user's file holds
    input: str  # name of the image input
    input_shape: tuple[int, ...]  # its shape without the batch axis, in the model's own layout
    output: str  # name of the (first) output
    logits: str  # the first training output
    # the values that distillation compares, see `trainable_region`
    training_outputs: tuple[str, ...] = ()
    # nodes that cannot be computed, and layers behind them: node name -> reason
    unsupported: Mapping[str, str] = field(default_factory=dict)
    # axes of the input that the file leaves open, the batch axis (0) not among them; `input_shape`
    # has the sizes chosen for them
    open_axes: tuple[int, ...] = ()
    # the user's inputs; `contract` has those of the closed form, see `graph/interface`
    interface: Interface = field(default_factory=Interface)
    # rewrites that could not be made, in the order of the passes
    skipped: tuple[SkippedRewrite, ...] = ()
