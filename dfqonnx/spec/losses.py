"""Every loss that a recipe may name: what is known of it without torch.

Images: computed in `synth/losses`, one function each. Students: in `distill/terms`. A test holds
these tables and the functions together.
"""

from __future__ import annotations

from collections.abc import Mapping

from dfqonnx.spec.terms import Known

IMAGE_LOSSES: Mapping[str, Known] = {
    "batchnorm-kl": Known("KL(images || training data) of channel statistics, mean of all"),
    "labels": Known("KL of the teacher to the labels asked for; they may name two classes"),
    "smooth": Known("total variation"),
}
STUDENT_LOSSES: Mapping[str, Known] = {
    "kd": Known("KL(teacher || student) T^2"),
    "logits": Known("mean squared error of the logits"),
    "features": Known("blocks' squared error over the teacher's variance, summed"),
}
