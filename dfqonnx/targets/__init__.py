"""Targets room: what each runtime can do, one value a runtime.

Placement, export, the cost estimate and the audit read the profile; none of them names a runtime.
A new target is one file here that calls `register`, and one import below.
"""

from dfqonnx.targets import onnxruntime_cpu as onnxruntime_cpu
