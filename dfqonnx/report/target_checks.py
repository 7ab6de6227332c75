"""What the target's runtime did with a file: the checks of it, and its lines in a report.

A file that its target does not load or run fails, and so does one whose outputs there are another
network's: noise of more than a tenth of what varies, and more than quantization made itself. Ties
that are rounded otherwise spread through every later layer, the more the coarser its codes are;
noise within that of quantization is no other network. Where the runtime was not asked, the check is
inconclusive and says that only rules are known.
"""

from __future__ import annotations

from collections.abc import Iterator

from dfqonnx.evaluation.target_proof import EQUAL_DB, TargetProof
from dfqonnx.report.number_format import format_count, format_names
from dfqonnx.report.verdict import Gate

LEAST_DB = 20.0
_LISTED = 6  # operators that an accelerator leaves to the main processor


def check_target(proof: TargetProof, sqnr_db: float | None = None) -> Iterator[Gate]:
    """Yield the checks of a file in the runtime of its target.

    `sqnr_db` is what quantization left of the float model's outputs, of the worst output.
    """
    rule = f"the file runs in the runtime of its target {proof.target}"
    if proof.is_rules_only:
        yield Gate(rule=rule, value=describe_absence(proof), holds=None)
        return
    words = proof.failure or f"{proof.runtime} {proof.version} loads and runs it"
    yield Gate(rule=rule, value=words, holds=not proof.failure)
    found = proof.sqnr_db
    if found is not None:
        least, limit = LEAST_DB, f"{LEAST_DB:.0f} dB"
        if sqnr_db is not None and sqnr_db < LEAST_DB:
            least, limit = sqnr_db, f"the quantization noise ({sqnr_db:.1f} dB)"
        rule = f"it computes there what the file says, to {limit}"
        yield Gate(rule=rule, value=_closeness(found, proof.same), holds=found >= least)


def describe_absence(proof: TargetProof) -> str:
    """Return why only rules are known of a target."""
    return "rules only: " + "; ".join(filter(None, (proof.runtime, proof.advice)))


def target_lines(proof: TargetProof) -> Iterator[tuple[str, str]]:
    """Yield (label, text) of what is known of a file in the runtime of its target."""
    if proof.is_rules_only:
        yield f"target {proof.target}", describe_absence(proof)
        return
    loads = proof.failure or f"{proof.runtime} {proof.version} loads and runs it"
    yield f"target {proof.target}", loads
    images = f"{proof.images:,} inputs"
    if proof.trained_parity_db is not None:
        words = _closeness(proof.trained_parity_db, proof.trained_same)
        yield "there, to the trained student", f"{words}, {images}"
    if proof.parity_db is not None:
        words = _closeness(proof.parity_db, proof.same)
        yield "there, to the file as written", f"{words}, {images}"
    if proof.integer_share is not None:
        yield "there, on integers", f"{100 * proof.integer_share:.1f} % of the multiply-adds"
    if proof.partitions is not None:
        rest = format_names(list(proof.elsewhere[:_LISTED])) if proof.elsewhere else "nothing"
        more = (
            f" and {len(proof.elsewhere) - _LISTED} more" if len(proof.elsewhere) > _LISTED else ""
        )
        yield "there, in parts", f"{format_count(proof.partitions, 'part')}; left out: {rest}{more}"
    if proof.speedup is not None:
        yield "there, speed", f"{proof.speedup:.2f} times the float model's"


def _closeness(decibels: float, same: float | None) -> str:
    words = "equal outputs" if decibels >= EQUAL_DB else f"{decibels:.1f} dB"
    return words if same is None else f"{words}, same answer for {100 * same:.1f} %"
