"""Is the file what was trained, and does the runtime compute what the file says?

Three ways: the torch student, the file as written (optimization off), the file as deployed (all
optimizations). Per-layer differences are counted in quantization levels on equal inputs
(`forced.py`); end to end they are counted in classes and in the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from dfqonnx.runtime.session import Array, Provider, Session, images_together

BATCH = 32  # images at once, at most
_REAL = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class QuantizerMismatches:
    """Codes of one site that differ on equal inputs; `summed` as in `CodeTensor`."""

    site: str
    codes: int
    differing: int
    largest: int
    summed: bool = False


@dataclass(frozen=True)
class CodeMismatches:
    """Fresh flips between two executions.

    Attributes:
        sites: one entry per quantizer, in graph order.
    """

    sites: tuple[QuantizerMismatches, ...]

    @property
    def fraction(self) -> float:
        """Share of all codes that differ."""
        return sum(s.differing for s in self.sites) / max(1, sum(s.codes for s in self.sites))

    @property
    def largest(self) -> int:
        """Largest difference in levels."""
        return max((s.largest for s in self.sites), default=0)

    def behind_sums(self, wanted: bool) -> CodeMismatches:
        """Return those that stand behind sums over planes, or those that do not."""
        return CodeMismatches(tuple(site for site in self.sites if site.summed == wanted))


@dataclass(frozen=True)
class Parity:
    """Three-way comparison; what involves the torch student is None without it.

    Attributes:
        on_vs_off: deployed against as written, fresh flips.
        off_vs_torch: as written against torch, fresh flips.
        on_vs_torch: deployed against torch, fresh flips.
        top1_on_vs_off: share of images with the same class, end to end; None without classes.
        top1_on_vs_torch: the same against torch.
        output_on_vs_off: largest difference of an output over the largest output, end to end.
        output_on_vs_torch: the same against torch.
        images: how many were compared.
    """

    on_vs_off: CodeMismatches
    off_vs_torch: CodeMismatches | None
    on_vs_torch: CodeMismatches | None
    top1_on_vs_off: float | None
    top1_on_vs_torch: float | None
    output_on_vs_off: float
    output_on_vs_torch: float | None
    images: int


@dataclass(frozen=True)
class StudentOutputs:
    """What the torch student computed on the same images.

    Attributes:
        codes: site name -> uint8 codes, images first.
        logits: (N, K).
    """

    codes: Mapping[str, NDArray[np.uint8]]
    logits: Array


def measure_parity(
    path: Path,
    x: NDArray[np.float32],
    *,
    torch_run: StudentOutputs | None = None,
    batch: int | None = None,
    provider: Provider = "cpu",
) -> Parity | None:
    """Compare the executions of the exported file at `path` on inputs `x`.

    Returns:
        None when the file has no quantizers of activations.

    Raises:
        InternalError: the torch student's sites are not those of the file.
    """
    proto = onnx.load(path)
    codes = find_codes(proto)
    if not codes:
        return None
    given = {} if torch_run is None else dict(torch_run.codes)
    if torch_run is not None and given.keys() != {code.site for code in codes}:
        odd = sorted(given.keys() ^ {code.site for code in codes})[0]
        raise InternalError(f"parity: site {odd!r} is not both in the file and in the student")
    bench = _Bench(proto, codes, x[: min(2, len(x))], provider)
    step = bench.written.batch or batch or images_together(x.shape[1:], BATCH)
    tallies = [_MismatchTally(codes) for _ in range(3)]
    written: list[Array] = []
    for start in range(0, len(x), step):
        part = x[start : start + step]
        off, output = bench.codes_as_written(part, step)
        written.append(output)
        tallies[0].add(bench.forced(bench.deployed, part, off, step), off)
        if torch_run is not None:
            torch = {code.value: given[code.site][start : start + step] for code in codes}
            tallies[1].add(bench.forced(bench.reference, part, torch, step), torch)
            tallies[2].add(bench.forced(bench.deployed, part, torch, step), torch)
    on = Session(path, provider=provider).run_batched({bench.input: x}, size=step)[bench.output]
    off_output = np.concatenate(written)
    logits = None if torch_run is None else torch_run.logits
    return Parity(
        tallies[0].result(),
        None if logits is None else tallies[1].result(),
        None if logits is None else tallies[2].result(),
        same_class(on, off_output),
        None if logits is None else same_class(on, logits),
        output_difference(on, off_output),
        None if logits is None or on.shape != logits.shape else output_difference(on, logits),
        len(x),
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


class _Bench:
    """The sessions that take part."""

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
        del exposed  # a large model is there often enough
        names = [code.value for code in codes]
        found = self.written.run_batched({self.input: sample}, outputs=names)
        forced = force_codes(proto, codes, {name: found[name].shape for name in names})
        data = forced.SerializeToString()
        self.reference = Session(data, optimization="off", provider=provider)
        self.deployed = Session(data, optimization="all", provider=provider)

    def codes_as_written(self, x: NDArray[np.float32], size: int) -> tuple[dict[str, Array], Array]:
        names = [code.value for code in self.codes]
        found = self.written.run_batched({self.input: x}, size=size, outputs=[*names, self.output])
        return {name: found[name] for name in names}, found[self.output]

    def forced(
        self, session: Session, x: NDArray[np.float32], codes: Mapping[str, Array], size: int
    ) -> dict[str, Array]:
        feeds = {self.input: x} | {feed_name(value): array for value, array in codes.items()}
        names = [code.value for code in self.codes]
        known = {port.name for port in session.inputs}
        feeds = {name: array for name, array in feeds.items() if name in known}
        return session.run_batched(feeds, size=size, outputs=names)


class _MismatchTally:
    def __init__(self, codes: tuple[CodeTensor, ...]) -> None:
        self._codes = codes
        self._counts = {code.value: [0, 0, 0] for code in codes}

    def add(self, found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        for value, count in self._counts.items():
            difference = np.abs(found[value].astype(np.int32) - expected[value].astype(np.int32))
            count[0] += difference.size
            count[1] += int(np.count_nonzero(difference))
            count[2] = max(count[2], int(difference.max(initial=0)))

    def result(self) -> CodeMismatches:
        found = []
        for code in self._codes:
            total, differing, largest = self._counts[code.value]
            found.append(QuantizerMismatches(code.site, total, differing, largest, code.summed))
        return CodeMismatches(tuple(found))
