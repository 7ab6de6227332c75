"""Gathers what the warnings about a result's evidence are made of. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.guess_input_format import read_recorded_format
from dfqonnx.errors import DfqError
from dfqonnx.evaluation.evaluate import Evaluation, EvaluationData
from dfqonnx.evaluation.evidence import share_in_float
from dfqonnx.evaluation.output_reach import FEWEST, measure_reach
from dfqonnx.graph.cost import estimate_costs
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.report.evidence_warnings import EvidenceFacts

MOST_INPUTS, REACH_VALUES = 32, 2**22  # of the compared ones, spread over all, that reach takes


def gather_evidence(
    model: NormalizedModel,
    images: EvaluationData,
    found: Evaluation,
    *,
    recorded: Mapping[str, Mapping[str, str]],
    kept_float: Collection[str],
) -> EvidenceFacts:
    """Return what is known about the evidence of an evaluation.

    `recorded` has the metadata of every file under its name; the nodes in `kept_float` were left in
    float by the plan.
    """
    shown = found.evaluation or found.synthetic
    costs = {cost.node: cost.multiply_adds for cost in estimate_costs(model)}
    in_float = {node.name for node in found.audit.float_weighted}
    in_float |= {name for name in kept_float if costs.get(name)}  # others multiply nothing
    count = int(np.clip(REACH_VALUES // np.prod(images.inputs.shape), FEWEST, MOST_INPUTS))
    x = images.spread_tensors(count)
    return EvidenceFacts(
        contradictions=tuple(find_contradictions(images.inputs, recorded)),
        classes=None if shown is None else shown.evidence,
        reach=() if x is None else measure_reach(model, x),
        share_in_float=share_in_float(costs, in_float),
    )


def find_contradictions(
    used: InputFormat, recorded: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield a sentence for every file whose metadata record another preprocessing than `used`."""
    for name, metadata in recorded.items():
        try:
            found = read_recorded_format(metadata)
            if found is None:
                continue
            told = InputFormat(found.preprocessing.fitted(used.shape), used.shape)
        except DfqError:  # damaged, or of another model: no reason to end a finished run
            yield (
                f"Inputs were made by {used.describe_values()}, and what {name} records cannot be"
                " read."
            )
            continue
        if not used.feeds_as(told):
            yield (
                f"Inputs were made by {used.describe_values()}, but {name} records"
                f" {told.describe_values()}."
            )
