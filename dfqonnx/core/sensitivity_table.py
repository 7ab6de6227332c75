"""Sensitivities as a table of text: a layer a line, its weight and what it reads at each width."""

from __future__ import annotations

from collections.abc import Iterator

from dfqonnx.core.sensitivity import QuantizerCost, Sensitivity
from dfqonnx.foreign_text import printable

NAME = 40  # characters of a name
CELL = 9


def describe_sensitivity(found: Sensitivity) -> Iterator[str]:
    """Yield the lines of the table, in graph order, and what they rest on."""
    weights, activations = found.widths("weight"), found.widths("activation")
    yield (
        f"What each quantizer alone costs ({found.unit}; {found.images} synthetic images,"
        f" {found.seconds:.0f} s of the processor)"
    )
    heads = [*(f"w{bits}" for bits in weights), *(f"a{bits}" for bits in activations)]
    yield _line("layer", heads)
    by_weight = found.of("weight")
    read = {
        (reader, cost.bits): cost
        for cost in found.costs
        if cost.kind == "activation"
        for reader in cost.readers
    }
    for node in dict.fromkeys(name for name, _ in by_weight):
        cells = [_cell(by_weight.get((node, bits))) for bits in weights]
        cells += [_cell(read.get((node, bits))) for bits in activations]
        yield _line(node, cells)
    others = [c for c in found.costs if c.kind == "activation" and not c.readers]
    if others:
        yield "tensors that no Conv, Gemm or MatMul reads"
    for tensor in dict.fromkeys(cost.tensor for cost in others):
        own = {cost.bits: cost for cost in others if cost.tensor == tensor}
        cells = [""] * len(weights) + [_cell(own.get(bits)) for bits in activations]
        yield _line(tensor, cells)
    if found.rank_correlation is not None:
        yield (
            "A second-order estimate, from one backward pass, ranks them alike: rank correlation"
            f" {found.rank_correlation:.3f}."
        )


def _line(name: str, cells: list[str]) -> str:
    shown = printable(name)
    shown = shown if len(shown) <= NAME else "..." + shown[3 - NAME :]
    return f"  {shown:<{NAME}}" + "".join(f"{cell:>{CELL}}" for cell in cells)


def _cell(cost: QuantizerCost | None) -> str:
    return "" if cost is None else f"{cost.loss:.2g}"
