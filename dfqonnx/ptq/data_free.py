"""Data-free quantization before training: the float network reworked, then the student settled.

    even -> level -> equalize -> absorb   float network in, one with the same outputs out
    ranges -> correct                     activations' steps, biases of the initialized student

The parts are in `fakequant`; each says its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from dfqonnx.config.distillation import EqualizationConfig
from dfqonnx.convert.program import Program
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.bias_correction import correct_bias, measured_means, set_ranges


def apply_data_free_init(
    student: Student,
    teacher: Program,
    batches: Iterable[Tensor],
    *,
    spec: EqualizationConfig,
    expected: Mapping[str, ActivationMoments],
) -> str:
    """Set ranges and biases of an initialized student in place; return what was done, in words.

    Args:
        student: every step is set.
        teacher: the float network that it is a copy of.
        batches: model inputs, for the means that statistics do not tell.
        spec: which parts are wanted.
        expected: see `EqualizedNetwork`.
    """
    done = []
    if spec.activation_ranges == "batchnorm":
        known = set_ranges(student, expected)
        rest = len(student.activations()) - known
        done.append(
            f"Took {known} activation ranges from BatchNorm statistics and {rest} from images."
        )
    if spec.bias_correction:
        names = list(dict.fromkeys(op.reads for op in student.operators()))
        means = {name: expected[name].mean for name in names if name in expected}
        missing = [name for name in names if name not in means]
        measured = measured_means(teacher, missing, batches) if missing else {}
        correct_bias(student, {**means, **measured})
        done.append(
            f"Corrected the biases, with {len(means)} means from BatchNorm statistics and"
            f" {len(measured)} from images."
        )
    return " ".join(done)
