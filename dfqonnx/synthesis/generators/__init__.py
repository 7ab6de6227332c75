"""Generators, one architecture or tight family a file; importing this files them all."""

from dfqonnx.synthesis.generators import akd, gdfq, lrq

__all__ = ["akd", "gdfq", "lrq"]
