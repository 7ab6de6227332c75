"""Refuse networks that nothing can compute: constants that are no numbers, values without measure.

NaN and infinity come from training that diverged or from a damaged file; beyond 1e18 the squares
that every error measure is made of leave float32. Bounds of a Clip and fillings of masks are free
to be infinite: only constants that enter sums and products are looked at.

A value of more than 2^30 numbers for one image (4 GB in float32) is a wrong shape, or an image size
that no machine trains on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dfqonnx.errors import Offence, UnsupportedModel
from dfqonnx.graph.passes.edit import constant, dims

LARGEST = 1e18
MOST = 2**30  # numbers in one value, for one image
_FREE = frozenset({"Clip", "Max", "Min", "Where", "Pad", "Less", "Greater", "Equal"})
_ADVICE = "the training has diverged or the file is damaged: check where it comes from"


def require_finite(graph: ir.Graph) -> None:
    """Look at every floating-point constant that a node computes with.

    Raises:
        UnsupportedModel: naming each node that reads one that is not finite, or huge, and each
            Conv whose bias has another length than it has outputs.
    """
    offences = [offence for node in graph for offence in (*_offences(node), *_misfits(node))]
    if offences:
        raise UnsupportedModel("this model holds constants that cannot be computed with:", offences)


def require_measure(graph: ir.Graph) -> None:
    """Look at the size of every computed value.

    Raises:
        UnsupportedModel: naming each node that makes a value too large to be held.
    """
    offences = []
    for node in graph:
        for value in node.outputs:
            sizes = [d for d in dims(value) or () if isinstance(d, int)]
            if math.prod(sizes) > MOST:
                shape = " x ".join(map(str, dims(value) or ()))
                reason = f"its output {value.name!r} is {shape}, over 4 GB for a single image"
                advice = "export the model with the image size that it is used with"
                offences.append(Offence(str(node.name), node.op_type, reason, advice))
    if offences:
        raise UnsupportedModel("this model is too large to be trained:", offences)


def _offences(node: ir.Node) -> Iterator[Offence]:
    if node.op_type in _FREE:
        return
    for value in node.inputs:
        array = constant(value)
        if value is None or array is None or array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            wrong = int(np.count_nonzero(~(np.abs(array) <= LARGEST)))
        if wrong:
            yield Offence(
                str(node.name),
                node.op_type,
                f"{wrong} of the {array.size} values of {value.name!r} are NaN, infinite"
                f" or above {LARGEST:g}",
                _ADVICE,
            )


def _misfits(node: ir.Node) -> Iterator[Offence]:
    """Neither shape inference nor a runtime that loads the file looks at the length of a bias."""
    if node.op_type != "Conv" or len(node.inputs) < 3:
        return
    weight, bias = dims(node.inputs[1]), dims(node.inputs[2])
    if weight and bias is not None and node.inputs[2] is not None and bias != weight[:1]:
        reason = f"its bias has the shape {list(bias)}, for {weight[0]} output channels"
        yield Offence(str(node.name), node.op_type, reason, "the file is damaged: export it again")
