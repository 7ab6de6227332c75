"""Why a node has the widths that it has: what its neighboring options would save and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dfqonnx.core.bit_choice import NodeChoice
from dfqonnx.core.quantization import MAX_BITS, WIDE_BITS
from dfqonnx.mixed_precision.search_widths import FoundWidths
from dfqonnx.mixed_precision.width_problem import Option, Solution

KIB = 1024


def explain_choices(found: FoundWidths, ops: Mapping[str, str]) -> Iterator[NodeChoice]:
    """Yield what was chosen, with the reason, in the order of the problem.

    `ops` are the operators of nodes by name. Nodes without a weight come only where they are in
    float.
    """
    for node, option in found.solution.chosen.items():
        if option.weights is None and not option.is_float:
            continue
        yield NodeChoice(
            node=node,
            op=ops.get(node, ""),
            widths=option.label,
            bytes=int(option.bytes),
            noise_share=option.noise / max(found.solution.noise, 1e-30),
            reason=_explain(found, node, option),
        )


def _explain(found: FoundWidths, node: str, option: Option) -> str:
    others = [each for each in found.problem.nodes[node] if each.label != option.label]
    if not others:
        return "no other width is to be had here"
    integers = [each for each in others if (each.activations or WIDE_BITS) <= MAX_BITS]
    if (option.activations is None or option.activations > MAX_BITS) and integers:
        nearest = max(integers, key=lambda each: ((each.weights or 0), each.activations or 0))
        more = _change(found, node, nearest).noise - found.solution.noise
        return f"{nearest.label} would add {_percent(more, found.solution.noise)} to the noise"
    smaller = [each for each in integers if each.bytes < option.bytes]
    if smaller:
        nearest = max(smaller, key=lambda each: each.bytes)
        more = _change(found, node, nearest).noise - found.solution.noise
        saved = (option.bytes - nearest.bytes) / KIB
        return (
            f"{nearest.label} would save {saved:.1f} KiB and add"
            f" {_percent(more, found.solution.noise)} to the noise"
        )
    larger = [each for each in integers if each.bytes > option.bytes]
    if larger:
        nearest = min(larger, key=lambda each: each.bytes)
        less = found.solution.noise - _change(found, node, nearest).noise
        more_bytes = (nearest.bytes - option.bytes) / KIB
        return (
            f"{nearest.label} would take {more_bytes:.1f} KiB more and"
            f" {_percent(less, found.solution.noise)} off the noise"
        )
    return "it costs the least noise of all widths with these bytes"


def _change(found: FoundWidths, node: str, option: Option) -> Solution:
    """Return what the solution would be with another option for one node."""
    return Solution.of(found.problem, {**found.solution.chosen, node: option})


def _percent(part: float, whole: float) -> str:
    """Return a share in words."""
    share = max(0.0, part) / max(whole, 1e-30)
    return f"{share:.1%}" if share < 0.995 else f"{share:.3g} times as much"
