"""Losses of images: one file each, or one tight family; importing this files them all."""

from dfqonnx.synthesis.losses import bn_matching as gaussian
from dfqonnx.synthesis.losses import bn_matching as norm
from dfqonnx.synthesis.losses import bn_matching as sample
from dfqonnx.synthesis.losses import class_losses as classes
from dfqonnx.synthesis.losses import class_losses as entropy
from dfqonnx.synthesis.losses import class_losses as focal
from dfqonnx.synthesis.losses import class_losses as margin
from dfqonnx.synthesis.losses import cluster
from dfqonnx.synthesis.losses import image_priors as priors
from dfqonnx.synthesis.losses import image_priors as smooth
from dfqonnx.synthesis.losses import student_losses as adversarial
from dfqonnx.synthesis.losses import student_losses as competition

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
