"""The output layers solved anew, once all before them is trained.

What an output layer reads no longer changes, and nothing reads what it writes: the codes, scales
and bias that come closest to the teacher's outputs have a closed form (`ptq/gptq`), over all images
at once. Training by small batches leaves a random walk of half a code in its weights, each of which
meets few images that say something about it.

Least squares on logits is what distillation is at high T (Hinton et al., 2015, section 2.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.fakequant.capture import Inputs, ProgramValues, capture
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.ptq.gptq import SampledPositions, can_refit, refit_layer

MAX_IMAGES = 2048  # that the layers are solved on
MAX_VALUES = 2**24  # kept of one layer's inputs, or outputs, over all images


@torch.no_grad()
def refit_output_layer(
    student: Student,
    teacher: ProgramModule,
    pool: ImagePool,
    *,
    config: DistillationConfig,
    seed: int,
) -> Agreement:
    """Solve the output layers in place, near the teacher's, where that agrees better.

    The student's weights are rounded. Returns its held-out agreement as it was left.
    """

    def agreement() -> Agreement:
        return measure_agreement(student, teacher, pool.held_out_batches(config.batch_size))

    best, kept = agreement(), student.save_state()
    program = teacher.program
    layers = find_output_layers(student, program)
    if not layers:
        return best
    samples = _sample(student, program, pool, layers, batch_size=config.batch_size, seed=seed)
    for damping in config.gptq_damping:
        for sample in samples:
            layer = sample.layer
            layer.weight.copy_(program.tensors[layer.spec.weight])
            refit_layer(layer, torch.cat(sample.x, 2), torch.cat(sample.y, 2), damping=damping)
        found = agreement()
        if found.better_than(best):
            best, kept = found, student.save_state()
    student.load_state(kept)
    return best


def find_output_layers(student: Student, program: Program) -> list[QuantizedLayer]:
    """Return the matrix products after which only shapes change up to the training outputs."""
    ends, producers = set(program.training_outputs), {str(s.outputs[0]): s for s in program.steps}
    for call in reversed(program.steps):
        if has_trait(call.op, Trait.REARRANGES_AXES) and ends & {
            str(name) for name in call.outputs
        }:
            ends.add(str(call.inputs[0]))
    last = {producers[name].node for name in ends if name in producers}
    return [layer for layer in student.layers() if layer.spec.node in last and can_refit(layer)]


class _LayerSample:
    """What one layer reads and what the teacher answers, at random positions of every batch."""

    def __init__(self, layer: QuantizedLayer, program: Program, max_values: int) -> None:
        self.layer, self.name = layer, str(program.step(layer.spec.node).outputs[0])
        groups = int(layer.attributes.get("group", 1))
        widest = max(layer.fan_in * groups, layer.weight.shape[layer.spec.axis])
        self._positions = max(1, max_values // widest)
        self.x: list[Tensor] = []  # (G, M, P) by batch
        self.y: list[Tensor] = []  # (G, O/g, P) by batch

    def add(self, value: Tensor, wanted: Tensor, generator: torch.Generator) -> None:
        """Keep random positions of a batch."""
        spec, attributes = self.layer.spec, self.layer.attributes
        at = SampledPositions(spec, attributes, wanted, count=self._positions, generator=generator)
        self.x.append(at.inputs(value, self.layer.weight))
        self.y.append(at.outputs(wanted))


def _sample(
    student: Student,
    program: Program,
    pool: ImagePool,
    layers: list[QuantizedLayer],
    *,
    batch_size: int,
    seed: int,
) -> list[_LayerSample]:
    """Return samples of all layers from images of the training."""
    images = pool.train[:MAX_IMAGES]
    batches = -(-len(images) // batch_size)
    samples = {
        layer.spec.node: _LayerSample(layer, program, MAX_VALUES // batches) for layer in layers
    }
    generator = torch.Generator().manual_seed(seed)
    teacher = ProgramValues(program, [s.name for s in samples.values()], pool.train.device)
    wanted: dict[str, Tensor] = {}

    def keep(layer: QuantizedLayer, inputs: Inputs) -> None:
        sample = samples[layer.spec.node]
        sample.add(inputs[0], wanted[sample.name], generator)

    with capture(layers, before=keep):
        for x in pool.batches(images, batch_size):
            wanted.update(teacher(x))
            student(x)
    return list(samples.values())
