"""ONNX Runtime sessions: one place that imports it, one that turns its errors into ours.

`OptimizationLevel.off` executes the graph as written: the reference for what the file says. `all`
is what a user deploys. Models with a fixed batch are fed in pieces, the last one filled up.

Which ONNX Runtime is installed, read from package metadata: nothing is imported.

The CPU and the GPU distribution install the same import package; with both, the one installed last
wins in part, and whether CUDA works is luck. So exactly one is asked for.

How many images pass a network at once, so that what stands between its nodes fits into memory.

Networks widen what they read: among those at hand a value holds up to 32 times the numbers of the
input (an audio network's first Conv), and two such values are alive at a time.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.foreign_text import printable

QNN = "onnxruntime-qnn"
QNN_PLUGIN = 2  # from this version on it is an addition to ONNX Runtime and not a copy of it
DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    QNN,
)


def installed_runtimes() -> dict[str, str]:
    """Return distribution name -> version of every ONNX Runtime that is installed."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            number = version(name)
        except PackageNotFoundError:
            continue
        if name != QNN or int(number.partition(".")[0]) < QNN_PLUGIN:
            found[name] = number
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
            "for NVIDIA GPUs: pip install 'dfqonnx[gpu]'; "
            "to validate, audit and compare only: pip install 'dfqonnx[light]'"
        )
    if len(found) > 1:
        names = " ".join(found)
        raise EnvironmentProblem(
            f"{' and '.join(found)} are installed together and overwrite each other. Keep one: "
            f"pip uninstall -y {names} && pip install onnxruntime   (or onnxruntime-gpu)"
        )
    return next(iter(found))


WIDENING = 64  # float32 numbers alive at once for each number of the input
MEMORY = 2**28  # bytes for them
MOST = 64


def images_together(shape: Sequence[int], most: int = MOST) -> int:
    """Return how many images of `shape`, without the batch axis, to run at once: 1 to `most`."""
    each = 4 * WIDENING * max(1, math.prod(shape))
    return max(1, min(most, MEMORY // each))


OptimizationLevel = Literal["off", "all"]
Provider = Literal["cpu", "cuda"]
Array = NDArray[Any]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TYPES = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}
_FATAL_ONLY = 4  # what fails is raised, and said once


@dataclass(frozen=True)
class SessionValue:
    """An input or output as the runtime sees it; free axes are None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session:
    """A loaded model; `batch` is the size that it is fixed to, None when it is free."""

    def __init__(
        self,
        model: Path | bytes,
        *,
        optimization: OptimizationLevel = "all",
        threads: int = 1,
        provider: Provider = "cpu",
        optimized_path: Path | None = None,
        profile_prefix: Path | None = None,
    ) -> None:
        """Load `model`, a file or a serialized model without external data.

        `threads` are those of one operator; operators run one after the other. The runtime writes
        the graph that it really executes to `optimized_path`, and the times of its nodes to a file
        whose name begins with `profile_prefix`, see `end_profiling`.

        Raises:
            EnvironmentProblem: the runtime or the provider is not there, or `optimized_path` cannot
                be written.
            UsageError: the runtime refuses the model.
        """
        runtime = _runtime()
        if _PROVIDERS[provider] not in runtime.get_available_providers():
            raise EnvironmentProblem(
                f"provider {provider}: this ONNX Runtime does not have {_PROVIDERS[provider]}"
                " (it has " + ", ".join(runtime.get_available_providers()) + "); for NVIDIA GPUs:"
                " pip uninstall -y onnxruntime && pip install 'dfqonnx[gpu]'"
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _FATAL_ONLY
        levels = runtime.GraphOptimizationLevel
        wanted = levels.ORT_DISABLE_ALL if optimization == "off" else levels.ORT_ENABLE_ALL
        options.graph_optimization_level = wanted
        if optimized_path is not None:
            options.optimized_model_filepath = str(optimized_path)
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_prefix)
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = runtime.InferenceSession(
                source, options, providers=[_PROVIDERS[provider]]
            )
        except Exception as error:  # noqa: BLE001 - the runtime raises a class per status code
            if optimized_path is not None:  # it loads where nothing is to be written
                Session(model, optimization=optimization, threads=threads, provider=provider)
                raise EnvironmentProblem(
                    f"{optimized_path}: ONNX Runtime cannot write the graph that it runs"
                    f" ({_brief(error)}); free space in {optimized_path.parent}, or set TMPDIR"
                ) from None
            name = "the model" if isinstance(model, bytes) else str(model)
            raise UsageError(f"{name}: ONNX Runtime cannot load it: {_brief(error)}") from None
        self.inputs = tuple(_port(i) for i in self._session.get_inputs())
        self.outputs = tuple(_port(o) for o in self._session.get_outputs())
        self.batch = self.inputs[0].shape[0] if self.inputs[0].shape else None

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Run once with exactly these feeds; a UsageError where the runtime refuses them."""
        try:
            found: list[Array] = self._session.run(outputs, dict(feeds))
        except Exception as error:  # noqa: BLE001 - the runtime raises a class per status code
            raise UsageError(f"ONNX Runtime cannot run the model: {_brief(error)}") from None
        return found

    def bound(self, feeds: Mapping[str, Array]) -> Callable[[], object]:
        """Return a call that runs on `feeds` and does nothing else, for timing."""
        typed = {name: self.typed(name, array) for name, array in feeds.items()}
        return partial(self._session.run, None, typed)

    def end_profiling(self) -> Path:
        """Return the file with the times of nodes, complete."""
        return Path(self._session.end_profiling())

    def run_whole(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run once, whatever the first axes of the feeds are, in the types of the inputs."""
        typed = {name: self.typed(name, array) for name, array in feeds.items()}
        return dict(zip(outputs, self.run(typed, outputs), strict=True))

    def run_batched(
        self,
        feeds: Mapping[str, Array],
        *,
        size: int | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Run over the first axis of all feeds, of equal length, in pieces and join the results.

        `size` is the images at once where the model leaves it free; None takes as many as memory
        holds. `outputs` of None are all. One whose pieces do not fit together (images not on the
        first axis, or a list whose length depends on what is seen) is a row of all its values.
        """
        names = list(outputs or (port.name for port in self.outputs))
        feeds = {name: self.typed(name, array) for name, array in feeds.items()}
        first = next(iter(feeds.values()))
        length = len(first)
        step = self.batch or size or images_together(first.shape[1:])
        pieces: list[list[Array]] = []
        for start in range(0, length, step):
            piece = {name: array[start : start + step] for name, array in feeds.items()}
            count = len(next(iter(piece.values())))
            if self.batch and count < step:
                piece = {name: _fill(array, step) for name, array in piece.items()}
            fed = len(next(iter(piece.values())))
            pieces.append([_first(array, count, fed) for array in self.run(piece, names)])
        joined = [_join(parts) for parts in zip(*pieces, strict=True)]
        return dict(zip(names, joined, strict=True))

    def typed(self, name: str, array: Array) -> Array:
        """Return `array` in the type that the input has; pixels are rounded."""
        wanted = next((_TYPES.get(p.dtype) for p in self.inputs if p.name == name), None)
        if wanted is np.uint8 and array.dtype.kind == "f":
            return round_to_pixels(array)
        return array if wanted is None else array.astype(wanted, copy=False)


def providers() -> tuple[str, ...]:
    """Return what the installed ONNX Runtime can run on; raises what `require_runtime` raises."""
    return tuple(_runtime().get_available_providers())


def runtime_version() -> str:
    """Return the version of the installed ONNX Runtime."""
    return str(_runtime().__version__)


def _runtime() -> Any:
    require_runtime()
    return importlib.import_module("onnxruntime")


def _port(value: Any) -> SessionValue:
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape or ())
    return SessionValue(value.name, value.type, shape)


def _first(array: Array, count: int, fed: int) -> Array:
    """Return the rows of the first `count` of the images fed; all where rows are no images."""
    array = np.atleast_1d(array)
    return array[:count] if len(array) == fed else array


def _join(parts: Sequence[Array]) -> Array:
    if len({part.shape[1:] for part in parts}) > 1:
        parts = [part.ravel() for part in parts]
    return np.concatenate(parts)


def _fill(array: Array, length: int) -> Array:
    return np.concatenate([array, np.repeat(array[-1:], length - len(array), axis=0)])


def _brief(error: Exception) -> str:
    """Return the runtime's message without its own source positions."""
    return printable(" ".join(str(error).split()))
