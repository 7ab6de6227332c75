"""Every loss that a recipe may name: what is known of it without torch.

Images: computed in `synth/losses`, one function each. Students: in `distill/objective`. Tests hold
these tables and the functions together.
"""

from __future__ import annotations

from collections.abc import Mapping

from dfqonnx.spec.terms import Known

IMAGE_LOSSES: Mapping[str, Known] = {
    "adversarial": Known("minus KL(teacher || students)", {"temperature": 1.0}),
    "balance": Known("minus the entropy of the teacher's mean answer"),
    "batchnorm-kl": Known("KL(images || training data) of channel statistics, mean of all"),
    "batchnorm-kl-reverse": Known("KL(training data || images) of channel statistics, summed"),
    "batchnorm-kl-sum": Known("KL(images || training data) of channel statistics, summed"),
    "batchnorm-mse": Known("squared error of channel statistics, mean over layers"),
    "batchnorm-norm": Known("Euclidean distance of means and of variances, sum over layers"),
    "batchnorm-pseudo-kl": Known("DFQF's divergence of channel statistics, summed over layers"),
    "batchnorm-sample": Known("squared distance of every image's own statistics, summed"),
    "blur": Known("mean squared difference from a blurred copy"),
    "class": Known("cross-entropy to the class asked for"),
    "cluster": Known(
        "deep statistics per class, off their moving centroids",
        {"rate": 0.1, "noise": 0.2, "deep": 0.34, "after": 0.0},
    ),
    "competition": Known("1 - Jensen-Shannon, teacher to students", {"temperature": 3.0}),
    "confidence": Known("mean entropy of the teacher's answers"),
    "focal": Known("cross-entropy times (1 - p)^gamma: hard images", {"gamma": 2.0}),
    "labels": Known("KL of the teacher to the labels asked for; they may name two classes"),
    "margin": Known("angles below this one between features and class centre", {"angle": 0.3}),
    "smooth": Known("total variation"),
    "smooth-norm": Known("Euclidean norms of differences in four directions"),
}
STUDENT_LOSSES: Mapping[str, Known] = {
    "attention": Known("blocks' channel attention, squared error of unit vectors, summed"),
    "class": Known("cross-entropy to the class asked for, or to the teacher's own"),
    "dkd": Known(
        "decoupled distillation: the target class, and the others among themselves",
        {"target": 1.0, "others": 8.0},
    ),
    "kd": Known("KL(teacher || student) T^2"),
    "logits": Known("mean squared error of the logits"),
    "features": Known("blocks' squared error over the teacher's variance, summed"),
}
