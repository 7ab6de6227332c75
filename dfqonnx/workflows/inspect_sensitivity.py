"""`dfqonnx inspect --sensitivity`: what every quantizer of a network costs at each width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization import (
    MAX_BITS,
    MIN_BITS,
    WIDE_BITS,
    BitWidths,
    NodeRules,
    QuantizationConfig,
)
from dfqonnx.core.sensitivity import Sensitivity
from dfqonnx.mixed_precision.width_problem import NARROW
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.choose_widths import measure_network
from dfqonnx.workflows.teacher import open_teacher


def measure_model(
    model: Path,
    preprocess: Preprocessing | None,
    *,
    image_size: tuple[int, ...] | None,
    target: str,
    given: Mapping[str, NDArray[Any]],
    rules: NodeRules,
    progress: Progress,
) -> Sensitivity:
    """Return the costs of weights of 2 to 8 bits and of activations of 4, 8 and, there, 16 bits.

    Raises:
        UsageError, UnsupportedModel: as for a run.
    """
    profile = TARGETS[target]
    config = RunConfig(
        model=model,
        quant=QuantizationConfig(BitWidths(MAX_BITS, MAX_BITS)),
        out=model.with_suffix(""),  # nothing is written
        nodes=rules,
        preprocess=preprocess,
        image_size=image_size,
        inputs=given,
        target=target,
    )
    teacher = open_teacher(config, RunContext(progress=progress))
    limit = profile.least_activations
    widths = [MAX_BITS]
    widths += [NARROW] if limit is None or limit.bits <= NARROW else []
    widths += [WIDE_BITS] if profile.wide_activations is not None else []
    plans = {
        bits: place_quantizers(
            teacher.model,
            QuantizationConfig(BitWidths(MAX_BITS, bits)),
            profile,
            input_signed=teacher.inputs.signed,
            rules=rules,
        )
        for bits in widths
    }
    least = MIN_BITS if profile.least_weights is None else profile.least_weights.bits
    return measure_network(
        teacher, plans, range(least, MAX_BITS + 1), config=config, progress=progress
    )
