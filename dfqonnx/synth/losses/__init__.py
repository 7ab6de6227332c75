"""Losses of images: one file each, or one tight family; importing this files them all."""

from dfqonnx.synth.losses import (
    adversarial,
    classes,
    cluster,
    entropy,
    gaussian,
    margin,
    smooth,
)

__all__ = ["adversarial", "classes", "cluster", "entropy", "gaussian", "margin", "smooth"]
