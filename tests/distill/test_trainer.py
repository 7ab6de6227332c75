"""One step of a student in training."""

from __future__ import annotations

import numpy as np
import torch

from dfqonnx.config.distillation import DistillationConfig, OptimizerConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.image_pool import ImagePool, feed
from dfqonnx.distill.schedule import width_at
from dfqonnx.distill.trainer import Trainer
from dfqonnx.fakequant.soft_rounding import slowed
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS


def test_only_codes_slow_down_as_their_ramp_narrows(
    tiny: tuple[Program, QuantizationPlan], student: Student, images: np.ndarray
) -> None:
    spec = DistillationConfig(
        batch_size=16, optimizer=OptimizerConfig(weight_lr=2e-3, scale_lr=5e-3)
    )
    pool = ImagePool(images, INPUTS, holdout=16, context=RunContext())
    sample = list(pool.batches(pool.train[:32], 16))
    student.initialize(sample)
    batches = feed(pool, None, spec, torch.Generator().manual_seed(0))
    target = ProgramModule(tiny[0], taps=student.features, channels_last=True)
    trainee = Trainer(student, target, spec, batches=batches, sample=sample)
    for done in (0.1, 0.75, 0.79, 0.9):
        trainee.step(done, done)
        codes, biases, steps = (group["lr"] for group in trainee.optimizer.param_groups)
        rate, width = spec.optimizer.lr_factor(done), width_at(done)
        assert codes == 2e-3 * rate * (slowed(width) if width else 1.0)
        assert (biases, steps) == (2e-3 * rate, 5e-3 * rate)
