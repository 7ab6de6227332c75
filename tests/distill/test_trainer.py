"""One step of a student in training."""

from __future__ import annotations

import numpy as np
import torch

from dfqonnx.config.distillation import DistillationConfig, OptimizerConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.image_pool import ImagePool, TrainingBatches
from dfqonnx.distill.schedule import rounding_temperature
from dfqonnx.distill.trainer import Replica
from dfqonnx.fakequant.soft_rounding import code_lr_factor
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS


def test_only_codes_slow_down_as_their_temperature_falls(
    tiny: tuple[Program, QuantizationPlan], student: Student, images: np.ndarray
) -> None:
    config = DistillationConfig(
        batch_size=16, optimizer=OptimizerConfig(weight_lr=2e-3, scale_lr=5e-3)
    )
    pool = ImagePool(images, INPUTS, holdout=16, context=RunContext())
    sample = list(pool.batches(pool.train[:32], 16))
    student.initialize(sample)
    batches = TrainingBatches(pool, None, config, torch.Generator().manual_seed(0))
    teacher = ProgramModule(tiny[0], taps=student.features, channels_last=True)
    replica = Replica(student, teacher, config, batches=batches, sample=sample)
    for done in (0.1, 0.75, 0.79, 0.9):
        replica.step(done, done)
        groups = [group for own in replica.optimizers for group in own.param_groups]
        codes, biases, steps = (group["lr"] for group in groups)
        lr_factor, temperature = config.optimizer.lr_factor(done), rounding_temperature(done)
        assert codes == 2e-3 * lr_factor * (code_lr_factor(temperature) if temperature else 1.0)
        assert (biases, steps) == (2e-3 * lr_factor, 5e-3 * lr_factor)
