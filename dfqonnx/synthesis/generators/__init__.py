"""Generators, one tight family a file; importing this package registers them all."""

from dfqonnx.synthesis.generators import akd, gdfq, lrq

__all__ = ["akd", "gdfq", "lrq"]
