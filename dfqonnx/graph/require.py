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
        UnsupportedModel: naming each node that reads one that is not finite, or huge.
    """
    offences = [offence for node in graph for offence in _offences(node)]
    if offences:
        raise UnsupportedModel("this model holds numbers that cannot be computed with:", offences)


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
