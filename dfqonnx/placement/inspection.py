"""`inspect`: everything that can be said of a model before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfqonnx.core.bit_choice import BitChoice
from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.core.quantization_plan import ActivationQuantizer, QuantizationPlan
from dfqonnx.core.run_outline import RunOutline
from dfqonnx.core.sensitivity import Sensitivity
from dfqonnx.errors import Offense, UnsupportedModel, summarize_offenses
from dfqonnx.foreign_text import MAX_LINE, printable
from dfqonnx.graph.cost import Cost, estimate_costs, estimate_file_size
from dfqonnx.graph.model import NormalizedModel, SkippedRewrite

_ROLES = {
    "input": "the network's input",
    "residual": "operand or result of an elementwise node",
    "node-input": "read by Conv, Gemm or MatMul",
    "classifier-input": "read by the last layer",
    "output": "output of a last Conv, which fuses only with a quantizer behind it",
}


MOST_REASONS = 8  # that a summary gives


@dataclass(frozen=True)
class QuantizerLine:
    """One quantized tensor or weight, or one node left in float.

    `kind` is `activation`, `weight`, `shared` (a tensor with another one's codes) or `float`.
    """

    name: str
    kind: str
    bits: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `dfqonnx inspect` shows; `dataclasses.asdict` gives its JSON form."""

    path: str
    sha256: str = ""
    bytes: int = 0
    opset: int = 0
    producer: str = ""  # the exporter that made the file
    bits: str = ""  # short form of the widths asked for
    target: str = ""
    input: str = ""  # the image, its axes as the file declares them
    inputs: tuple[str, ...] = ()  # the others, and what becomes of each
    output: str = ""  # name of the first one
    outputs: tuple[str, ...] = ()  # all of them, their axes as declared
    operators: Mapping[str, int] | None = None  # how many of each in the normalized graph
    batchnorm: str = ""  # `present`, `partly` or `absent`
    batchnorm_nodes: int = 0  # in the file
    statistics: int = 0  # how many tensors have BatchNormalization statistics
    multiply_adds: int = 0  # for one image
    parameters: int = 0
    costs: tuple[Cost, ...] = ()
    quantizers: tuple[QuantizerLine, ...] = ()  # and nodes left in float
    estimated_bytes: int = 0  # of the exported file
    skipped: tuple[SkippedRewrite, ...] = ()  # rewrites of normalization that could not be made
    outline: RunOutline | None = None  # of the run, where `run --dry-run` asks
    bit_choice: BitChoice | None = None  # where `run --dry-run` looked for widths
    sensitivity: Sensitivity | None = None  # where `inspect --sensitivity` asks
    refusals: tuple[Offense, ...] = ()  # why it cannot be quantized; most fields are then empty

    def __str__(self) -> str:
        """Return the lines that the command line prints."""
        return "\n".join(_lines(self))

    def summary(self) -> str:
        """Return the lines without the single layers."""
        return "\n".join(_head_lines(self) + _count_lines(self))


def refusal(path: Path, quant: QuantizationConfig, error: UnsupportedModel) -> Inspection:
    """Return what is said of a model that cannot be quantized."""
    reasons = error.offenses or (Offense("graph", "", error.message),)
    return Inspection(path=str(path), bits=quant.bits.label, refusals=reasons)


def build_inspection(
    model: NormalizedModel, plan: QuantizationPlan, quant: QuantizationConfig
) -> Inspection:
    """Say what is in `model` and what would be done to it."""
    costs = estimate_costs(model)
    counts = Counter(node.op_type for node in model.ir.graph)
    return Inspection(
        path=model.source.path,
        sha256=model.source.sha256,
        bytes=model.source.bytes,
        opset=model.source.opset,
        producer=model.source.producer,
        bits=quant.bits.label,
        target=plan.target,
        input=_describe_image(model),
        inputs=tuple(_describe_others(model, plan)),
        output=model.output,
        outputs=tuple(f"{port.name} ({_join(port.shape)})" for port in model.contract.outputs),
        operators=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        batchnorm=model.batchnorm,
        batchnorm_nodes=model.batchnorm_nodes,
        statistics=len(model.statistics),
        multiply_adds=sum(c.multiply_adds for c in costs),
        parameters=sum(c.parameters for c in costs),
        costs=costs,
        quantizers=tuple(_quantizer_lines(plan)),
        estimated_bytes=estimate_file_size(model, plan, quant),
        skipped=model.skipped,
    )


def _describe_image(model: NormalizedModel) -> str:
    port = next(port for port in model.interface.inputs if port.name == model.input)
    axes = port.type.tensor_type.shape.dim
    sizes = [d.dim_value if d.dim_value > 0 else d.dim_param or None for d in axes]
    used = " x ".join(map(str, model.input_shape))
    note = f"; images of {used} are made" if model.open_axes else ""
    return f"{model.input} ({_join(sizes)}{note})"


def _describe_others(model: NormalizedModel, plan: QuantizationPlan) -> Iterator[str]:
    for port in model.interface.inputs:
        if port.name == model.input:
            continue
        fate = "no node reads it"
        if port.name in model.interface.live:
            fate = "a value is given, and it stays an input"
            count = sum(f"input {port.name!r}" in node.reason for node in plan.floats)
            if count:
                nodes = "node that reads it stays" if count == 1 else "nodes behind it stay"
                fate += f"; {count} {nodes} in float, since one value says no range"
        elif port.name in model.interface.held:
            fate = "the value given is built in"
        yield f"{port.name} ({fate})"


def _join(sizes: Sequence[int | str | None] | None) -> str:
    """Return sizes in words, open ones by name or as a question mark."""
    if sizes is None:
        return "of any shape"
    return " x ".join("?" if size is None else str(size) for size in sizes) or "one number"


def _quantizer_lines(plan: QuantizationPlan) -> Iterator[QuantizerLine]:
    made = {each.tensor: each.grid.bits for each in plan.activations if not each.consumers}
    for activation in plan.activations:
        words = _why(activation, made=made.get(activation.tensor, activation.grid.bits))
        yield QuantizerLine(activation.name, "activation", activation.grid.bits, words)
    for weight in plan.weights:
        words = f"{weight.op}, one scale per output channel"
        yield QuantizerLine(weight.node, "weight", weight.grid.bits, words)
    for shared in plan.shared:
        yield QuantizerLine(shared.tensor, "shared", None, f"same codes as {shared.of}")
    for node in plan.floats:
        yield QuantizerLine(node.node, "float", None, f"{node.op}: {node.reason}")


def _why(quantizer: ActivationQuantizer, *, made: int) -> str:
    """Return what a quantizer is for, of a tensor that is made with so many bits."""
    words = "signed" if quantizer.grid.signed else "unsigned"
    words += "" if quantizer.clip_max is None else f", at most {quantizer.clip_max:g}"
    words += "" if quantizer.fixed_scale is None else ", with the scale that its kernel always has"
    if quantizer.grid.bits > made:
        return f"{words}, converted for the kernel of {', '.join(quantizer.consumers)}"
    if quantizer.consumers:
        return f"{words}, quantized again for {', '.join(quantizer.consumers)}"
    return f"{words}, {_ROLES.get(quantizer.role, quantizer.role)}"


def _head_lines(found: Inspection) -> list[str]:
    if found.refusals:
        reasons = (f"  - {line}" for line in summarize_offenses(found.refusals))
        return [f"{found.path}: cannot be quantized:", *reasons]
    operators = ", ".join(f"{name} {count}" for name, count in (found.operators or {}).items())
    return [
        f"model        {found.path} ({found.bytes / 1e6:.2f} MB, opset {found.opset}"
        + (f", {printable(found.producer)})" if found.producer else ")"),
        f"input        {printable(found.input)}",
        *(f"             {printable(line)}" for line in found.inputs),
        *(
            f"{'' if index else 'output':<12} {printable(line)}"
            for index, line in enumerate(found.outputs)
        ),
        f"operators    {operators}",
        f"batch norm   {found.batchnorm} ({found.batchnorm_nodes} nodes,"
        f" statistics for {found.statistics} tensors)",
        f"cost         {found.multiply_adds / 1e6:.1f} M multiply-adds per image,"
        f" {found.parameters / 1e3:.1f} k parameters",
        f"file         about {found.estimated_bytes / 1e6:.3f} MB as {found.bits}"
        f" for {found.target}, {found.estimated_bytes / found.bytes:.2f} of the float file",
    ]


def _count_lines(found: Inspection) -> list[str]:
    """Return how many tensors and weights have which widths, and what stays in float and why."""
    if found.refusals:
        return []
    lines = []
    for kind, title in (("weight", "weights"), ("activation", "tensors")):
        widths = Counter(line.bits for line in found.quantizers if line.kind == kind)
        counts = ", ".join(f"{n} of {bits} bits" for bits, n in sorted(widths.items(), key=str))
        lines.append(f"{title:<12} {counts or 'none quantized'}")
    reasons: dict[str, list[str]] = {}
    for line in found.quantizers:
        if line.kind == "float":
            reasons.setdefault(line.reason, []).append(line.name)
    lines.append(f"in float     {sum(map(len, reasons.values()))} nodes")
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1]))[:MOST_REASONS]:
        count = f"{len(names)} x " if len(names) > 1 else f"{printable(names[0])}: "
        lines.append(f"             {count}{printable(reason, most=MAX_LINE)}")
    if len(reasons) > MOST_REASONS:
        lines.append(f"             and {len(reasons) - MOST_REASONS} more reasons")
    if found.skipped:
        lines.append(f"not simplified  {len(found.skipped)} nodes")
    return [*lines, "dfqonnx inspect --layers lists every tensor, weight and node."]


def _lines(found: Inspection) -> list[str]:
    lines = _head_lines(found)
    if found.refusals:
        return lines
    for kind, title in (
        ("activation", "quantized tensors"),
        ("weight", "quantized weights"),
        ("float", "left in float"),
    ):
        chosen = [line for line in found.quantizers if line.kind == kind]
        lines.append(f"{title} ({len(chosen)})")
        names = [printable(line.name) for line in chosen]
        width = max(map(len, names), default=0)
        for name, line in zip(names, chosen, strict=True):
            bits = "     " if line.bits is None else f"{line.bits} bit"
            lines.append(f"  {name:<{width}}  {bits}  {printable(line.reason, most=MAX_LINE)}")
    if found.skipped:
        lines.append(f"could not be simplified ({len(found.skipped)})")
        names = [printable(rewrite.node) for rewrite in found.skipped]
        width = max(map(len, names))
        for name, rewrite in zip(names, found.skipped, strict=True):
            lines.append(f"  {name:<{width}}  {printable(str(rewrite), most=MAX_LINE)}")
    return lines
