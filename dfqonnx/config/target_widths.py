"""Which bit widths a target takes, and what it says of narrow ones.

a width below the target's least     refused before anything slow, with what to ask for instead
activations of 16 bits               refused where the target does not take them
a width that is taken but gains      said in one line; the run goes on as asked
nothing there
"""

from __future__ import annotations

from collections.abc import Iterator

from dfqonnx.core.quantization import MAX_BITS, NodeRules, QuantizationConfig
from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable
from dfqonnx.targets.profile import TargetProfile, WidthLimit


def check_widths(target: TargetProfile, quant: QuantizationConfig, nodes: NodeRules) -> None:
    """Refuse widths that a target does not take.

    Raises:
        UsageError: names the option, the width, the reason, and what to ask for instead.
    """
    asked = [("--bits", quant.bits), *((f"--bits-for {p}", bits) for p, bits in nodes.bits_for)]
    for option, bits in asked:
        named = f"{printable(option)} {bits.label}"
        _check(target, target.least_weights, bits.weights, f"{named}: weights")
        _check(target, target.least_activations, bits.activations, f"{named}: activations")
        if bits.activations > MAX_BITS and target.wide_activations is None:
            raise UsageError(
                f"{named}: activations of {bits.activations} bits are none for --target"
                f" {target.name}: {target.no_wide_activations}; use --bits w8a8, or --keep-float"
                " for single nodes"
            )
    if quant.first_last_bits is not None:
        named = f"--strict-ends {quant.first_last_bits}: weights"
        _check(target, target.least_weights, quant.first_last_bits, named)


def _check(target: TargetProfile, limit: WidthLimit | None, bits: int, what: str) -> None:
    if limit is not None and bits < limit.bits:
        raise UsageError(
            f"{what} of {bits} bits are none for --target {target.name}: {limit.reason}; use"
            f" --bits {limit.instead}"
        )


def advise_widths(
    target: TargetProfile, quant: QuantizationConfig, nodes: NodeRules
) -> Iterator[str]:
    """Yield what is to be said of the widths of a run; nothing where they are good ones there."""
    widths = (quant.bits, *(bits for _, bits in nodes.bits_for))
    if target.wide_activations and any(bits.activations > MAX_BITS for bits in widths):
        yield f"For {target.name}, {target.wide_activations.advice}."
    if quant.bits.activations < MAX_BITS and target.narrow_activations:
        yield f"For {target.name}, {target.narrow_activations}."
    elif quant.bits.weights < MAX_BITS and target.narrow_weights:
        yield f"For {target.name}, {target.narrow_weights}."
