"""Is the file what was trained, and does the runtime compute what the file says?

Three executions: the torch student, the file as written (optimization off), the file as deployed
(all optimizations). Mismatches of codes are counted on equal inputs (`code_forcing.py`); end to end
the classes and the outputs are compared.

Where more codes of a quantizer differ than ties explain by chance, what it rounds is looked at,
and ties are counted (`rounding_ties.py`); any other mismatch is the fault of the nodes before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from dfqonnx.errors import InternalError
from dfqonnx.evaluation.code_forcing import (
    CodeTensor,
    expose_codes,
    feed_name,
    find_codes,
    force_codes,
)
from dfqonnx.evaluation.code_mismatches import CodeMismatches, MismatchTally
from dfqonnx.runtime.session import Array, Provider, Session, images_together

BATCH = 32  # images at once, at most
_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Three executions compared; what involves the torch student is None without it."""

    on_vs_off: CodeMismatches  # deployed file against the file as written
    off_vs_torch: CodeMismatches | None  # file as written against torch
    top1_on_vs_off: float | None  # share of images of the same class; None without classes
    top1_on_vs_torch: float | None  # the same against torch
    output_on_vs_off: float  # largest difference over the largest output
    images: int


@dataclass(frozen=True)
class StudentOutputs:
    """What the torch student computed on the same images."""

    codes: Mapping[str, NDArray[Any]]  # by the quantizer's name, images first
    logits: Array  # (N, K)
    output: str = ""  # the name of the value that they are


def measure_parity(
    path: Path | bytes,
    x: NDArray[np.float32],
    *,
    torch_run: StudentOutputs | None = None,
    batch: int | None = None,
    provider: Provider = "cpu",
) -> Parity | None:
    """Compare the executions of the exported file at `path`, or of its bytes, on inputs `x`.

    Returns:
        None when the file has no quantizers of activations.

    Raises:
        InternalError: the torch student's quantizers are not those of the file.
    """
    proto = onnx.load_from_string(path) if isinstance(path, bytes) else onnx.load(path)
    codes = find_codes(proto)
    if not codes:
        return None
    trained = {} if torch_run is None else dict(torch_run.codes)
    if torch_run is not None and trained.keys() != {code.quantizer for code in codes}:
        odd = sorted(trained.keys() ^ {code.quantizer for code in codes})[0]
        raise InternalError(f"parity: quantizer {odd!r} is not both in the file and in the student")
    sessions = _Sessions(proto, codes, x[: min(2, len(x))], provider)
    step = sessions.written.batch or batch or images_together(x.shape[1:], BATCH)
    on_vs_off, off_vs_torch = MismatchTally(codes), MismatchTally(codes)
    outputs: list[Array] = []
    for run in _run_all(sessions, x, step, trained):
        outputs.append(run.output)
        on_vs_off.add(run.deployed, run.written)
        if torch_run is not None:
            off_vs_torch.add(run.reference, run.trained)
    if suspects := on_vs_off.suspects() | off_vs_torch.suspects():
        sessions.expose_reals(suspects)
        for run in _run_all(sessions, x, step, trained):
            on_vs_off.add_ties(sessions.reals(run.x, run.written, step), run.deployed, run.written)
            if torch_run is not None:
                reals = sessions.reals(run.x, run.trained, step)
                off_vs_torch.add_ties(reals, run.reference, run.trained)
    session = Session(path, provider=provider)
    on = session.run_batched({sessions.input: x}, size=step)[sessions.output]
    off = np.concatenate(outputs)
    return Parity(
        on_vs_off=on_vs_off.result(),
        off_vs_torch=None if torch_run is None else off_vs_torch.result(),
        top1_on_vs_off=same_class(on, off),
        top1_on_vs_torch=None if torch_run is None else same_class(on, torch_run.logits),
        output_on_vs_off=output_difference(on, off),
        images=len(x),
    )


def same_class(first: Array, second: Array) -> float | None:
    """Return the share of rows (N, K) with the same largest entry; None for other shapes."""
    if first.ndim != 2 or first.shape != second.shape or first.shape[1] < 2:
        return None
    return float((first.argmax(1) == second.argmax(1)).mean())


def output_difference(first: Array, second: Array) -> float:
    """Return the largest absolute difference over the largest magnitude of `second`."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return float(np.abs(first - second).max() / max(float(np.abs(second).max()), 1e-30))


def _first_output(proto: onnx.ModelProto) -> str:
    """Return the first output with class scores (N, K), else the first real one, else the first."""
    ports = [(o.name, o.type.tensor_type) for o in proto.graph.output]
    real = [(name, kind) for name, kind in ports if kind.elem_type in _REAL]
    scores = [name for name, kind in real if len(kind.shape.dim) == 2]
    return str((scores or [name for name, _ in (*real, *ports)])[0])


@dataclass(frozen=True, kw_only=True)
class _BatchCodes:
    """The codes of one batch in every execution, by value name."""

    x: NDArray[np.float32]
    output: Array  # of the file as written
    written: Mapping[str, Array]
    deployed: Mapping[str, Array]  # reading the codes of the file as written
    trained: Mapping[str, Array]  # the torch student's; empty without one, like the next
    reference: Mapping[str, Array]  # the file as written, reading the student's codes


def _run_all(
    sessions: _Sessions, x: NDArray[np.float32], step: int, trained: Mapping[str, Array]
) -> Iterator[_BatchCodes]:
    for start in range(0, len(x), step):
        part = x[start : start + step]
        written, output = sessions.run_as_written(part, step)
        torch: dict[str, Array] = {}
        reference: dict[str, Array] = {}
        if trained:
            for code in sessions.codes:
                rows = _rows(trained[code.quantizer], x, start, step)
                torch[code.value] = _with_channels_of(written[code.value], rows, code.zero_point)
            reference = sessions.run_forced(sessions.reference, part, torch, step)
        yield _BatchCodes(
            x=part,
            output=output,
            written=written,
            deployed=sessions.run_forced(sessions.deployed, part, written, step),
            trained=torch,
            reference=reference,
        )


def _with_channels_of(written: Array, trained: Array, zero_point: int) -> Array:
    """Return the student's codes with the channels of zeros that the file has, and it has not."""
    if written.ndim != trained.ndim or written.ndim < 2:
        return trained
    missing = max(0, written.shape[1] - trained.shape[1])
    ends = [(0, 0), (0, missing), *[(0, 0)] * (written.ndim - 2)]
    return np.pad(trained, ends, constant_values=zero_point) if missing else trained


def _rows(codes: Array, x: NDArray[np.float32], start: int, step: int) -> Array:
    """Return the codes of the images from `start` on, where an image may have several rows."""
    each = len(codes) // len(x)
    return codes[start * each : (start + step) * each]


class _Sessions:
    """The file as written, and with forced codes as written and as deployed."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        codes: tuple[CodeTensor, ...],
        sample: NDArray[np.float32],
        provider: Provider,
    ) -> None:
        self.codes = codes
        self.input, self.output = proto.graph.input[0].name, _first_output(proto)
        exposed = expose_codes(proto, codes).SerializeToString()
        self.written = Session(exposed, optimization="off", provider=provider)
        del exposed  # a large model is in memory often enough
        names = [code.value for code in codes]
        found = self.written.run_batched({self.input: sample}, outputs=names)
        shapes = {name: found[name].shape for name in names}
        forced = force_codes(proto, codes, shapes, images=len(sample))
        data = forced.SerializeToString()
        self._forced, self._provider = forced, provider
        self._reals: dict[str, str] = {}
        self.reference = Session(data, optimization="off", provider=provider)
        self.deployed = Session(data, optimization="all", provider=provider)

    def run_as_written(self, x: NDArray[np.float32], size: int) -> tuple[dict[str, Array], Array]:
        names = [code.value for code in self.codes]
        found = self.written.run_batched({self.input: x}, size=size, outputs=[*names, self.output])
        return {name: found[name] for name in names}, found[self.output]

    def run_forced(
        self, session: Session, x: NDArray[np.float32], codes: Mapping[str, Array], size: int
    ) -> dict[str, Array]:
        names = [code.value for code in self.codes]
        return self._run(session, x, codes, size=size, outputs=names)

    def expose_reals(self, values: Collection[str]) -> None:
        """Let `reals` return what is rounded to the codes `values`."""
        self._reals = {code.value: code.real for code in self.codes if code.value in values}
        present = {port.name for port in (*self._forced.graph.output, *self._forced.graph.input)}
        for real in sorted(set(self._reals.values()) - present):
            port = onnx.helper.make_tensor_value_info(real, onnx.TensorProto.FLOAT, None)
            self._forced.graph.output.append(port)
        data = self._forced.SerializeToString()
        self._rounding = Session(data, optimization="off", provider=self._provider)

    def reals(
        self, x: NDArray[np.float32], codes: Mapping[str, Array], size: int
    ) -> dict[str, Array]:
        """Return what is rounded to the exposed codes, on equal codes before them."""
        names = {v: real for v, real in self._reals.items() if real != self.input}
        outputs = sorted(set(names.values()))
        found = self._run(self._rounding, x, codes, size=size, outputs=outputs)
        return {value: found[real] for value, real in names.items()}

    def _run(
        self,
        session: Session,
        x: NDArray[np.float32],
        codes: Mapping[str, Array],
        *,
        size: int,
        outputs: Sequence[str],
    ) -> dict[str, Array]:
        feeds = {self.input: x} | {feed_name(value): array for value, array in codes.items()}
        known = {port.name for port in session.inputs}
        feeds = {name: array for name, array in feeds.items() if name in known}
        if session.batch is None or len(x) == session.batch:  # an image may have several rows
            return session.run_whole(feeds, outputs)
        return session.run_batched(feeds, size=size, outputs=outputs)
