"""dfqonnx: quantize an ONNX network to 8..2 bits without data, and prove the result."""

__version__ = "0.1.0"
