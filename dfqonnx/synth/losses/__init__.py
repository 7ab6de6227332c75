"""Losses of images: one file each, or one tight family; importing this files them all."""

from dfqonnx.synth.losses import (
    adversarial,
    classes,
    cluster,
    competition,
    entropy,
    focal,
    gaussian,
    margin,
    norm,
    priors,
    sample,
    smooth,
)

__all__ = [
    "adversarial",
    "classes",
    "cluster",
    "competition",
    "entropy",
    "focal",
    "gaussian",
    "margin",
    "norm",
    "priors",
    "sample",
    "smooth",
]
