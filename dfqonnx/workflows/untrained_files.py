"""Files with untrained numbers: as many bytes as trained ones, and as fast."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.quantization import BitWidths, NodeRules
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.evaluation.file_size import measure_file
from dfqonnx.export.closed_files import closed_files, open_file
from dfqonnx.export.export import export
from dfqonnx.export.untrained import set_untrained_parameters
from dfqonnx.export.writer import write
from dfqonnx.graph.intermediate_outputs import expose_intermediate_outputs
from dfqonnx.mixed_precision.build_problem import NodeTimes
from dfqonnx.placement.couplings import find_computing_nodes
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.latency import measure_latency
from dfqonnx.runtime.node_times import time_nodes
from dfqonnx.runtime.session import Session
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.file_metadata import describe_run_file
from dfqonnx.workflows.teacher import Teacher

LATENCY_SECONDS = 1.0
PROBES = 2  # inputs that untrained ranges are set on


@dataclass(kw_only=True)
class UntrainedFiles:
    """Files with untrained numbers: as many bytes as trained ones, and as fast."""

    config: RunConfig
    teacher: Teacher
    folder: Path
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        inputs = self.teacher.inputs
        rng = np.random.default_rng(self.config.seed)
        pixels = make_probe_images(inputs.image_size, rng=rng, count=PROBES, photo=inputs.is_image)
        x = np.asarray(inputs.to_tensor(pixels), np.float32)
        self.values[self.teacher.model.input] = x

    @property
    def x(self) -> NDArray[np.float32]:
        """The inputs that untrained ranges are set on."""
        return self.values[self.teacher.model.input]

    def place(self, bits: BitWidths, rules: NodeRules) -> QuantizationPlan:
        """Return where quantizers stand with these widths and rules."""
        return place_quantizers(
            self.teacher.model,
            replace(self.config.quant, bits=bits),
            TARGETS[self.config.target],
            input_signed=self.teacher.inputs.signed,
            rules=rules,
        )

    def write(self, plan: QuantizationPlan, config: RunConfig) -> Path:
        """Write the file of a plan, and return where it is."""
        model = self.teacher.model
        names = {quantizer.tensor for quantizer in plan.activations}
        missing = sorted(names - self.values.keys())
        if missing:
            session = Session(expose_intermediate_outputs(model, missing), optimization="off")
            self.values.update(session.run_batched({model.input: self.x}, outputs=missing))
        exported = export(
            model,
            plan,
            set_untrained_parameters(model, plan, self.values),
            storage=config.quant.weight_storage,
            metadata=describe_run_file(config, self.teacher),
        )
        path = self.folder / "untrained.onnx"
        write(exported, path)
        return path

    def size(self, path: Path) -> int:
        """Return the bytes that a file has with the user's inputs, data beside it included."""
        interface = self.teacher.model.interface
        if not interface.is_plain:
            opened = path.with_name("opened.onnx")
            shutil.copy(path, opened)
            open_file(opened, interface, self.x[:1])
            path = opened
        return measure_file(path).bytes

    def speed(self, path: Path) -> float:
        """Return the speed of a file, times that of the float model."""
        with closed_files(self.teacher.model.interface, self.config.model) as (original,):
            found = measure_latency(original, path, self.x[:1], seconds=LATENCY_SECONDS)
        return found.speedup

    def time_nodes(self, plan: QuantizationPlan) -> NodeTimes:
        """Return the times of the nodes of the float file and of that of a plan."""
        owners = find_computing_nodes(self.teacher.model, TARGETS[self.config.target])
        path = self.write(plan, self.config)
        with closed_files(self.teacher.model.interface, self.config.model) as (original,):
            floats = time_nodes(original, self.x[:1], owners)
            integers = time_nodes(path, self.x[:1], owners)
        total = sum(floats.values())
        return NodeTimes(
            floats=floats,
            integers=integers,
            float_total=total,
            integer_total=total / self.speed(path),
        )
