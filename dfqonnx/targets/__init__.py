"""Targets room: what each runtime can do, one value a runtime.

Placement, export, the cost estimate and the audit read the profile; none of them names a runtime.
A new target is one file here that calls `register`, and one import below.
"""

from dfqonnx.targets import onnxruntime_cpu as onnxruntime_cpu
from dfqonnx.targets import onnxruntime_cpu_legacy as onnxruntime_cpu_legacy
from dfqonnx.targets import onnxruntime_qnn as onnxruntime_qnn
from dfqonnx.targets import onnxruntime_web as onnxruntime_web
from dfqonnx.targets import openvino as openvino
from dfqonnx.targets import portable as portable
from dfqonnx.targets import size as size
from dfqonnx.targets import stm32 as stm32
from dfqonnx.targets import tensorrt as tensorrt
from dfqonnx.targets import vitisai as vitisai
