"""Which ONNX Runtime is installed, read from package metadata: nothing is imported.

The CPU and the GPU distribution install the same import package; with both, the one installed last
wins in part, and whether CUDA works is luck. So exactly one is asked for.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from dfqonnx.errors import EnvironmentProblem

DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)


def installed_runtimes() -> dict[str, str]:
    """Return distribution name -> version of every ONNX Runtime that is installed."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def require_runtime() -> str:
    """Return the name of the one ONNX Runtime that is installed.

    Raises:
        EnvironmentProblem: none, or several; the message has the command that repairs it.
    """
    found = installed_runtimes()
    if not found:
        raise EnvironmentProblem(
            "ONNX Runtime is not installed. For the CPU: pip install 'dfqonnx[cpu]'; "
            "for NVIDIA GPUs: pip install 'dfqonnx[gpu]'"
        )
    if len(found) > 1:
        names = " ".join(found)
        raise EnvironmentProblem(
            f"{' and '.join(found)} are installed together and overwrite each other. Keep one: "
            f"pip uninstall -y {names} && pip install onnxruntime   (or onnxruntime-gpu)"
        )
    return next(iter(found))
