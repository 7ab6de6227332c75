"""What the target's own runtime does with a file: loads it, computes what was trained, on integers.

    the file as written (ONNX Runtime, no optimization)  -- 30 inputs --  the file in its runtime
    the trained student, where there is one

Both are compared by the power of the outputs over that of their difference, and by their answers:
classes, or for probabilities the side of one half. A target whose runtime is not at hand is known
by rules only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from dfqonnx.evaluation.outputs import ComparisonTally
from dfqonnx.runtime.adapters.execute import Execution, execute, fix_sizes
from dfqonnx.runtime.adapters.runtime_audit import RuntimeAudit, audit_execution, with_share
from dfqonnx.runtime.adapters.runtimes import (
    ONNXRUNTIME,
    RuntimeAdapter,
    RuntimePlace,
    find_runtime,
    runtime_of,
)
from dfqonnx.runtime.kernel_audit import Audit
from dfqonnx.runtime.latency import Latency, summarize_turns
from dfqonnx.runtime.session import Session, runtime_version
from dfqonnx.targets.profile import recorded_target

PROOF_INPUTS = 30
EQUAL_DB = 200.0  # what stands for equal outputs, whose ratio is infinite
IMAGE_SECONDS = 60.0  # that inputs may take; the rest is left out
Array = NDArray[Any]
Outputs = Sequence[Mapping[str, Array]]  # of every run
Trained = tuple[str, Array] | None  # a value's name, and what it is for every input


@dataclass(frozen=True, kw_only=True)
class TargetProof:
    """What a target's runtime did with a file.

    Attributes:
        runtime, version: empty where no runtime is known, or it is not at hand.
        advice: why it was not tried, and how to get the runtime.
        loads: None where it was not tried: rules are all there is.
        failure: what the runtime says where it fails.
        parity_db: power of the outputs of the file as written over that of the difference, of the
            worst output; at most `EQUAL_DB`; None for outputs whose length depends on the input.
        sqnr_db: the same with what varies with the input as signal, as everywhere else; None for
            fewer than two inputs and for outputs that do not vary.
        same: share of equal answers; None where outputs are no classes or probabilities.
        trained_parity_db, trained_same: the same to the trained student, of its first output where
            that is one of the file.
        images: how many inputs were run.
        integer_share: of the multiply-adds; None where the runtime does not say.
        partitions: of an accelerator that takes parts of the graph.
        elsewhere: the operators that it leaves to the main processor.
        speedup: float over quantized in that runtime; None where it was not timed.
    """

    target: str
    runtime: str = ""
    version: str = ""
    advice: str = ""
    loads: bool | None = None
    failure: str = ""
    parity_db: float | None = None
    sqnr_db: float | None = None
    same: float | None = None
    trained_parity_db: float | None = None
    trained_same: float | None = None
    images: int = 0
    integer_share: float | None = None
    partitions: int | None = None
    elsewhere: tuple[str, ...] = ()
    speedup: float | None = None

    @property
    def is_rules_only(self) -> bool:
        """Whether the runtime was not asked."""
        return self.loads is None


@dataclass(frozen=True)
class TargetRun:
    """The proof, with what the runtime says of its nodes and how fast it is, where it does."""

    proof: TargetProof
    audit: Audit | None = None
    latency: Latency | None = None


def target_of(student: Path) -> str:
    """Return the name of the target that a file says it is for; the default where it does not."""
    proto = onnx.load(student, load_external_data=False)
    return recorded_target({entry.key: entry.value for entry in proto.metadata_props}).name


def is_proved_here(target: str) -> bool:
    """Tell whether the ONNX Runtime of this process is the proof of a target."""
    adapter = runtime_of(target)
    return adapter is ONNXRUNTIME and not adapter.environment


def prove_here(
    target: str,
    student: Path,
    x: NDArray[np.float32] | None,
    *,
    audit: Audit,
    latency: Latency | None,
    trained: Trained = None,
) -> TargetProof:
    """Sum up what the ONNX Runtime of this process does with a file that it loads.

    `audit` and `latency` were measured in it.
    """
    proof = TargetProof(
        target=target,
        runtime=ONNXRUNTIME.title,
        version=runtime_version(),
        loads=True,
        speedup=None if latency is None else latency.speedup,
    )
    if x is None:
        return proof
    written, deployed = Session(student, optimization="off"), Session(student)
    feeds, count = _feeds(written, x[:PROOF_INPUTS])
    fixed = fix_sizes(onnx.load(student, load_external_data=False), feeds.shape[1:])
    proof = replace(proof, integer_share=with_share(audit, fixed).share)
    found = _run_session(deployed, feeds)
    return _compare(
        proof, _run_session(written, feeds), found, feeds=feeds, trained=(trained, count)
    )


def prove_in_target(
    target: str,
    files: tuple[Path, Path],
    x: NDArray[np.float32] | None,
    *,
    trained: Trained = None,
    turn_seconds: float = 2.0,
) -> TargetRun:
    """Run the quantized one of the files, the second, in the runtime of its target.

    Args:
        target: its name.
        files: the float file, and the quantized one.
        x: inputs (N, ...), of which the first are taken.
        trained: what the trained student computes for the same inputs; where that is no output
            of the file (the scores before a Softmax), nothing is compared with it.
        turn_seconds: for timing both files; 0 does not time them.
    """
    adapter = runtime_of(target)
    if adapter is None:
        return TargetRun(TargetProof(target=target, advice="no runtime of it can be asked"))
    place = find_runtime(adapter)
    if place is None or x is None:
        advice = "there are no inputs" if x is None else f"not at hand: {adapter.advice}"
        return TargetRun(TargetProof(target=target, runtime=adapter.title, advice=advice))
    return prove_in_runtime(
        (adapter, place), files, x, target=target, trained=trained, turn_seconds=turn_seconds
    )


def prove_in_runtime(
    runtime: tuple[RuntimeAdapter, RuntimePlace],
    files: tuple[Path, Path],
    x: NDArray[np.float32],
    *,
    target: str,
    trained: Trained = None,
    turn_seconds: float = 2.0,
) -> TargetRun:
    """Do what `prove_in_target` does in a runtime that was found."""
    adapter, place = runtime
    written = Session(files[1], optimization="off")
    feeds, count = _feeds(written, x[:PROOF_INPUTS])
    done = execute(
        adapter,
        place,
        files[1],
        feeds,
        teacher=files[0],
        seconds=IMAGE_SECONDS,
        turn_seconds=turn_seconds,
    )
    proof = TargetProof(
        target=target,
        runtime=adapter.title,
        version=done.version,
        loads=done.loads,
        failure=done.failure,
    )
    audited = _audit(adapter, files[1], feeds, done)
    if audited is not None:
        proof = replace(
            proof,
            integer_share=audited.share,
            partitions=audited.partitions,
            elsewhere=audited.elsewhere,
        )
    if done.outputs:
        names = [port.name for port in written.outputs]
        runs = range(len(done.outputs[0]))
        found = [dict(zip(names, (o[k] for o in done.outputs), strict=False)) for k in runs]
        expected = _run_session(written, feeds[: len(runs)])
        proof = _compare(proof, expected, found, feeds=feeds, trained=(trained, count))
    latency = None
    if len(done.turns):
        latency = summarize_turns(done.turns, batch=feeds.shape[1], threads=1)
        proof = replace(proof, speedup=latency.speedup)
    return TargetRun(proof, None if audited is None else audited.audit, latency)


def _audit(
    adapter: RuntimeAdapter, student: Path, feeds: Array, done: Execution
) -> RuntimeAudit | None:
    if not done.loads:
        return None
    proto = onnx.load(student, load_external_data=False)
    return audit_execution(adapter, fix_sizes(proto, feeds.shape[1:]), done)


def _feeds(session: Session, x: NDArray[np.float32]) -> tuple[Array, int]:
    """Return the inputs as runs (runs, batch, ...) of the batch that the file has, and how many."""
    batch, shape = session.batch or 1, x.shape[1:]
    full = np.resize(x, (-(-len(x) // batch) * batch, *shape))
    return session.typed(session.inputs[0].name, full).reshape(-1, batch, *shape), len(x)


def _run_session(session: Session, feeds: Array) -> Outputs:
    names = [port.name for port in session.outputs]
    found = (session.run({session.inputs[0].name: each}) for each in feeds)
    return [dict(zip(names, values, strict=True)) for values in found]


def _compare(
    proof: TargetProof,
    expected: Outputs,
    found: Outputs,
    *,
    feeds: Array,
    trained: tuple[Trained, int],
) -> TargetProof:
    """Add how far the outputs are from the file as written and from the trained student."""
    student, count = trained
    batch, shape = feeds.shape[1], feeds.shape[2:]
    total = batch * len(found)
    proof = replace(
        proof,
        images=min(count, total),
        parity_db=_power_ratio(expected, found),
        sqnr_db=_decibels(expected, found, shape, batch),
        same=_same_answers(expected, found),
    )
    first, values = student or ("", np.zeros(0))
    if first not in found[0] or len(values) < total:
        return proof
    wanted = [{first: values[k * batch : (k + 1) * batch]} for k in range(len(found))]
    outputs = [{first: each[first]} for each in found]
    if any(w[first].shape != o[first].shape for w, o in zip(wanted, outputs, strict=True)):
        return proof
    return replace(
        proof,
        trained_parity_db=_power_ratio(wanted, outputs),
        trained_same=_same_answers(wanted, outputs),
    )


def _power_ratio(expected: Outputs, found: Outputs) -> float | None:
    """Return the power of the outputs over that of the difference, of the worst output."""
    ratios = []
    for name in found[0]:
        pairs = [(first[name], second[name]) for first, second in zip(expected, found, strict=True)]
        if any(first.shape != second.shape for first, second in pairs):
            continue
        power = sum(float(np.square(first.astype(np.float64)).sum()) for first, _ in pairs)
        apart = sum(float(np.square(np.subtract(*pair, dtype=np.float64)).sum()) for pair in pairs)
        ratio = EQUAL_DB if apart == 0 else 10 * math.log10(max(power, 1e-300) / apart)
        ratios.append(min(ratio, EQUAL_DB))
    return min(ratios, default=None)


def _decibels(
    expected: Outputs, found: Outputs, shape: tuple[int, ...], batch: int
) -> float | None:
    """Return the ratio of the worst output; None for lists whose length depends on the image."""
    tally = ComparisonTally(shape)
    for first, second in zip(expected, found, strict=True):
        if any(first[name].shape != second[name].shape for name in second):
            return None
        tally.add(first, second, batch)
    known = [
        EQUAL_DB if each.sqnr_db is None else min(each.sqnr_db, EQUAL_DB)
        for each in tally.result().outputs
        if each.exact or each.sqnr_db is not None
    ]
    return min(known, default=None)


def _same_answers(expected: Outputs, found: Outputs) -> float | None:
    """Return the share of equal classes or labels, else of probabilities on one side of a half."""
    shares = []
    for name in found[0]:
        pairs = [(first[name], second[name]) for first, second in zip(expected, found, strict=True)]
        if any(first.shape != second.shape for first, second in pairs):
            continue
        t, s = (
            np.concatenate([np.atleast_1d(a) for a in part]) for part in zip(*pairs, strict=True)
        )
        if t.dtype.kind != "f":
            shares.append(float((t == s).mean()))
        elif t.ndim == 2 and t.shape[1] > 1:
            shares.append(float((t.argmax(1) == s.argmax(1)).mean()))
        elif t.size and t.min() >= 0 and t.max() <= 1:
            shares.append(float(((t > 0.5) == (s > 0.5)).mean()))
    return min(shares, default=None)
