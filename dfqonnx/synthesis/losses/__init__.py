"""Losses of images, one tight family a file; importing this package registers them all."""

from dfqonnx.synthesis.losses import (
    bn_matching,
    class_losses,
    cluster,
    image_priors,
    margin,
    student_losses,
)

__all__ = ["bn_matching", "class_losses", "cluster", "image_priors", "margin", "student_losses"]
