"""`inspect`: everything that can be said of a model before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.core.quantization_plan import ActivationQuantizer, QuantizationPlan
from dfqonnx.errors import Offense, UnsupportedModel, summary
from dfqonnx.graph.cost import Cost, estimate_costs, file_bytes
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers

_ROLES = {
    "input": "the network's input",
    "stream": "operand or result of an elementwise node",
    "node-input": "read by Conv, Gemm or MatMul",
    "classifier-input": "read by the last layer",
    "output": "output of a last Conv, which fuses only with a quantizer behind it",
}


@dataclass(frozen=True)
class QuantizerLine:
    """One quantized tensor or weight, or one node left in float."""

    name: str
    kind: str
    bits: int | None
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What `dfqonnx inspect` shows; `dataclasses.asdict` gives its JSON form.

    Attributes:
        path: of the model.
        sha256: of the file.
        bytes: its size.
        opset: of the file.
        producer: exporter that made it.
        bits: short form of the widths asked for.
        input: name and shape of the input.
        output: name of the output.
        operators: operator -> how many the normalized graph holds.
        batchnorm: `present`, `partly` or `absent`.
        batchnorm_nodes: how many BatchNormalization the file holds.
        statistics: how many tensors have BatchNormalization statistics.
        multiply_adds: for one image.
        parameters: of the whole network.
        costs: per node.
        sites: every quantizer, and every node left in float, with its reason.
        estimated_bytes: size of the exported file.
        refusals: why the model cannot be quantized; the fields above are then empty.
    """

    path: str
    sha256: str = ""
    bytes: int = 0
    opset: int = 0
    producer: str = ""
    bits: str = ""
    input: str = ""
    output: str = ""
    operators: Mapping[str, int] | None = None
    batchnorm: str = ""
    batchnorm_nodes: int = 0
    statistics: int = 0
    multiply_adds: int = 0
    parameters: int = 0
    costs: tuple[Cost, ...] = ()
    sites: tuple[QuantizerLine, ...] = ()
    estimated_bytes: int = 0
    refusals: tuple[Offense, ...] = ()

    def __str__(self) -> str:
        """Return the lines that the command line prints."""
        return "\n".join(_lines(self))


def inspect_file(
    path: Path, quant: QuantizationConfig, inputs: InputFormat | None = None
) -> Inspection:
    """Inspect the model at `path`; a model that cannot be quantized gives its refusals.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        model = normalize(load(path))
    except UnsupportedModel as error:
        return refusal(path, quant, error)
    sites = place_quantizers(model, quant, input_signed=inputs is None or inputs.signed)
    return build_inspection(model, sites, quant)


def refusal(path: Path, quant: QuantizationConfig, error: UnsupportedModel) -> Inspection:
    """Return what is said of a model that cannot be quantized."""
    reasons = error.offenses or (Offense("graph", "", str(error)),)
    return Inspection(path=str(path), bits=quant.bits.label, refusals=reasons)


def build_inspection(
    model: NormalizedModel, sites: QuantizationPlan, quant: QuantizationConfig
) -> Inspection:
    """Say what is in `model` and what would be done to it."""
    spent = estimate_costs(model)
    shape = " x ".join(("N", *map(str, model.input_shape)))
    counts = Counter(node.op_type for node in model.ir.graph)
    return Inspection(
        path=model.source.path,
        sha256=model.source.sha256,
        bytes=model.source.bytes,
        opset=model.source.opset,
        producer=model.source.producer,
        bits=quant.bits.label,
        input=f"{model.input} ({shape})",
        output=model.output,
        operators=dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        batchnorm=model.batchnorm,
        batchnorm_nodes=model.batchnorm_nodes,
        statistics=len(model.statistics),
        multiply_adds=sum(c.multiply_adds for c in spent),
        parameters=sum(c.parameters for c in spent),
        costs=spent,
        sites=_site_lines(sites),
        estimated_bytes=file_bytes(model, sites, quant),
    )


def _site_lines(sites: QuantizationPlan) -> tuple[QuantizerLine, ...]:
    lines = [QuantizerLine(s.name, "activation", s.grid.bits, _why(s)) for s in sites.activations]
    lines += [
        QuantizerLine(s.node, "weight", s.grid.bits, f"{s.op}, one scale per output channel")
        for s in sites.weights
    ]
    lines += [QuantizerLine(s.tensor, "alias", None, f"same codes as {s.of}") for s in sites.shared]
    lines += [QuantizerLine(s.node, "float", None, f"{s.op}: {s.reason}") for s in sites.floats]
    return tuple(lines)


def _why(site: ActivationQuantizer) -> str:
    sign = "signed" if site.grid.signed else "unsigned"
    top = "" if site.clip_max is None else f", at most {site.clip_max:g}"
    if site.consumers:
        return f"{sign}{top}, second reading for {', '.join(site.consumers)}"
    return f"{sign}{top}, {_ROLES.get(site.role, site.role)}"


def _lines(found: Inspection) -> list[str]:
    if found.refusals:
        reasons = (f"  - {line}" for line in summary(found.refusals))
        return [f"{found.path}: cannot be quantized:", *reasons]
    operators = ", ".join(f"{name} {count}" for name, count in (found.operators or {}).items())
    lines = [
        f"model        {found.path} ({found.bytes / 1e6:.2f} MB, opset {found.opset}"
        + (f", {found.producer})" if found.producer else ")"),
        f"input        {found.input}",
        f"output       {found.output}",
        f"operators    {operators}",
        f"batch norm   {found.batchnorm} ({found.batchnorm_nodes} nodes,"
        f" statistics for {found.statistics} tensors)",
        f"cost         {found.multiply_adds / 1e6:.1f} M multiply-adds per image,"
        f" {found.parameters / 1e3:.1f} k parameters",
        f"file         about {found.estimated_bytes / 1e6:.3f} MB as {found.bits},"
        f" {found.estimated_bytes / found.bytes:.2f} of the float file",
    ]
    for kind, title in (
        ("activation", "quantized tensors"),
        ("weight", "quantized weights"),
        ("float", "left in float"),
    ):
        chosen = [s for s in found.sites if s.kind == kind]
        lines.append(f"{title} ({len(chosen)})")
        width = max((len(s.name) for s in chosen), default=0)
        for site in chosen:
            bits = "     " if site.bits is None else f"{site.bits} bit"
            lines.append(f"  {site.name:<{width}}  {bits}  {site.reason}")
    return lines
