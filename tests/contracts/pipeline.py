"""One file through the whole way but training, and what has to hold for every result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from dfqonnx.config.input_values import read_inputs
from dfqonnx.convert.program import Program
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.equalization.range_leveling import find_leveled_quantizers, level_ranges
from dfqonnx.equalization.scale_groups import find_scale_groups
from dfqonnx.evaluation.parity import Parity, StudentOutputs, measure_parity
from dfqonnx.export.closed_files import closed_files, open_file
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.placement.place import place_quantizers
from dfqonnx.rehearsal.rehearse import rehearse
from dfqonnx.runtime.session import Session
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.workflows.teacher import open_program


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What came of a file."""

    model: NormalizedModel
    plan: QuantizationPlan
    proto: onnx.ModelProto  # the exported one
    sqnr_db: dict[str, float]  # by output, on inputs that set no range; infinite where equal
    growth: float  # bytes of the exported file over those of the float file
    parity: Parity | None

    def float_ops(self) -> list[str]:
        """The operators left in float."""
        return sorted(node.op for node in self.plan.floats)


def quantize(
    proto: onnx.ModelProto,
    folder: Path,
    *,
    bits: str = "8",
    images: int = 8,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    rehearsed: bool = False,
) -> Quantized:
    """Quantize with ranges of random inputs; compare float and quantized file on other ones."""
    torch.set_num_threads(1)
    path, target = folder / "net.onnx", folder / "net.q.onnx"
    onnx.save(proto, path)
    model, program = open_program(path, given=read_inputs(given or {}))
    config = QuantizationConfig(BitWidths.parse(bits))

    def place(kept_float: Mapping[str, str]) -> QuantizationPlan:
        return place_quantizers(
            model, config, ONNXRUNTIME_CPU, input_signed=True, kept_float=kept_float
        )

    draw = np.random.default_rng(seed)
    seen, unseen = (_draw(model, count, draw) for count in (8 * images, images))
    plan = place({})
    if rehearsed:
        quiet = SilentProgress()
        plan = rehearse(model, place, seen[:2], storage="auto", progress=quiet)
    student = Student(_level(program, plan, seen), plan).eval()
    student.initialize([torch.from_numpy(seen)])
    write(export(model, plan, student.qparams()), target)
    with torch.no_grad():
        fed = torch.from_numpy(unseen)
        run = StudentOutputs(student.codes(fed), student(fed)[0].numpy())
    with closed_files(model.interface, path) as (original,):
        teacher, exported = (Session(p, optimization="off") for p in (original, target))
    feeds = {model.input: unseen}
    first, second = (s.run_batched(feeds) for s in (teacher, exported))
    parity = measure_parity(target, unseen, torch_run=run)
    open_file(target, model.interface, unseen[:1])
    return Quantized(
        model=model,
        plan=plan,
        proto=onnx.load(target),
        sqnr_db={name: _sqnr(first[name], second[name]) for name in first},
        growth=target.stat().st_size / path.stat().st_size,
        parity=parity,
    )


def _level(program: Program, plan: QuantizationPlan, seen: NDArray[np.float32]) -> Program:
    """Return the network with channels that lie far apart leveled, as a run does."""
    groups = find_scale_groups(program, plan)
    quantizers = find_leveled_quantizers(groups, plan)
    if not quantizers:
        return program
    factors, _ = level_ranges(program, quantizers, groups, torch.from_numpy(seen))
    return groups.scale(program, factors)


def _draw(model: NormalizedModel, count: int, draw: np.random.Generator) -> NDArray[np.float32]:
    shape = (count, *model.input_shape)
    if model.contract.reads_pixels:
        return draw.integers(0, 256, shape).astype(np.float32)
    return draw.normal(size=shape).astype(np.float32)


def _sqnr(first: NDArray[Any], second: NDArray[Any]) -> float:
    first, second = first.astype(np.float64), second.astype(np.float64)
    noise = float(np.square(first - second).sum())
    return float("inf") if noise == 0 else 10 * np.log10(float(np.square(first).sum()) / noise)


def check_contract(float_file: onnx.ModelProto, found: onnx.ModelProto) -> None:
    """Names, order, types, sizes and open axes of inputs and outputs are the user's."""
    stored = {t.name for t in float_file.graph.initializer}
    ports = [[p for p in float_file.graph.input if p.name not in stored], float_file.graph.output]
    for wanted, made in zip(ports, (found.graph.input, found.graph.output), strict=True):
        assert [p.name for p in wanted] == [p.name for p in made]
        for a, b in zip(wanted, made, strict=True):
            first, second = a.type.tensor_type, b.type.tensor_type
            assert first.elem_type == second.elem_type, a.name
            sizes = [[d.dim_value or None for d in t.shape.dim] for t in (first, second)]
            assert sizes[0] == sizes[1], (a.name, sizes)
    onnx.checker.check_model(found, full_check=True)
