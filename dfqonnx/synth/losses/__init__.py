"""Losses of images: one file each, or one tight family; importing this files them all."""

from dfqonnx.synth.losses import classes, gaussian, smooth

__all__ = ["classes", "gaussian", "smooth"]
