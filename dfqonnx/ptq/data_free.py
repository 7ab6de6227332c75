"""What data-free quantization does to an initialized student before any training.

    activation ranges    from the moments that BatchNormalization knows
    bias correction      with the means that it knows, and measured ones for the other values

Both are in `bias_correction`, with their source. `equalization` comes before: it changes the float
network that the student is a copy of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from dfqonnx.config.distillation import EqualizationConfig
from dfqonnx.convert.program import Program
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.bias_correction import correct_bias, measure_means, set_activation_ranges


def apply_data_free_init(
    student: Student,
    teacher: Program,
    batches: Iterable[Tensor],
    *,
    spec: EqualizationConfig,
    expected: Mapping[str, ActivationMoments],
) -> str:
    """Set ranges and biases of an initialized student in place; return sentences on what was done.

    `batches` of model inputs give the means that no statistics know; `expected` are the moments of
    values, by name, see `EqualizedNetwork`.
    """
    done = []
    if spec.activation_ranges == "batchnorm":
        known = set_activation_ranges(student, expected)
        rest = len(student.quantizers()) - known
        done.append(
            f"Took {known} activation ranges from BatchNorm statistics and {rest} from images."
        )
    if spec.bias_correction:
        names = list(dict.fromkeys(layer.input_name for layer in student.layers()))
        means = {name: expected[name].mean for name in names if name in expected}
        missing = [name for name in names if name not in means]
        measured = measure_means(teacher, missing, batches) if missing else {}
        correct_bias(student, {**means, **measured})
        done.append(
            f"Corrected the biases, with {len(means)} means from BatchNorm statistics and"
            f" {len(measured)} from images."
        )
    return " ".join(done)
