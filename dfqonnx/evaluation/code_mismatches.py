"""How many codes two executions of one file compute differently, quantizer by quantizer.

Ties are counted apart (`rounding_ties.py`). A quantizer with other mismatches than ties is
*faulty*: the nodes before it compute something else in one of the executions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dfqonnx.evaluation.code_forcing import CodeTensor
from dfqonnx.evaluation.rounding_ties import count_ties
from dfqonnx.runtime.session import Array

# Ties in float32 may be rounded to either side: so many of the codes may mismatch, by one level.
MAX_MISMATCH_FRACTION, MAX_MISMATCH_LEVELS = 1e-4, 1
# Behind float sums over whole planes: ONNX Runtime's InstanceNormalization of 800 x 800 numbers was
# measured 0.025 of a level off the float64 result (torch: 1e-5), which changes up to twice that
# fraction of the codes.
MAX_SUMMED_FRACTION, MAX_SUMMED_LEVELS = 5e-2, 2
# Of codes of 16 bits 257 lie in one of 8, so that what moves those by 0.05 of a level moves
# these by 13.
MAX_WIDE_SUMMED_LEVELS = 14
FEWEST = 4  # codes of one quantizer that have to differ before it counts as faulty


@dataclass(frozen=True, kw_only=True)
class QuantizerMismatches:
    """The mismatches of one quantizer on equal inputs."""

    quantizer: str
    codes: int  # how many were compared
    differing: int  # how many differ
    largest: int  # in levels
    summed: bool = False  # as in `CodeTensor`
    wide: bool = False  # the same
    nodes: tuple[str, ...] = ()  # those that compute what it rounds, `CodeTensor.makers`
    ties: int = 0  # of the differing ones, where they were looked at

    @property
    def fraction(self) -> float:
        """The share of codes that differ, ties aside."""
        return (self.differing - self.ties) / max(1, self.codes)

    @property
    def faulty(self) -> bool:
        """Whether something else than the rounding of ties differs here."""
        fraction, levels = MAX_MISMATCH_FRACTION, MAX_MISMATCH_LEVELS
        if self.summed:
            fraction, levels = MAX_SUMMED_FRACTION, MAX_SUMMED_LEVELS
            if self.wide:
                fraction, levels = 1.0, MAX_WIDE_SUMMED_LEVELS
        several = self.differing - self.ties >= FEWEST
        return self.largest > levels or (several and self.fraction > fraction)


@dataclass(frozen=True)
class CodeMismatches:
    """The mismatches between two executions, one entry per quantizer in graph order."""

    quantizers: tuple[QuantizerMismatches, ...]

    @property
    def fraction(self) -> float:
        """The share of all codes that differ."""
        codes = sum(each.codes for each in self.quantizers)
        return sum(each.differing for each in self.quantizers) / max(1, codes)

    @property
    def fraction_without_ties(self) -> float:
        """The share of all codes that differ, ties aside."""
        codes = sum(each.codes for each in self.quantizers)
        return sum(each.differing - each.ties for each in self.quantizers) / max(1, codes)

    @property
    def faulty(self) -> tuple[QuantizerMismatches, ...]:
        """The quantizers behind faulty nodes, the worst first."""
        found = [each for each in self.quantizers if each.faulty]
        return tuple(sorted(found, key=lambda each: (-each.largest, -each.fraction)))

    @property
    def largest(self) -> int:
        """The largest difference, in levels."""
        return max((each.largest for each in self.quantizers), default=0)

    @property
    def sums_agree(self) -> bool:
        """Whether codes behind sums over planes differ by no more than such sums do."""
        summed = [each for each in self.quantizers if each.summed]
        narrow = CodeMismatches(tuple(each for each in summed if not each.wide))
        wide = CodeMismatches(tuple(each for each in summed if each.wide))
        few = narrow.fraction <= MAX_SUMMED_FRACTION and narrow.largest <= MAX_SUMMED_LEVELS
        return few and wide.largest <= MAX_WIDE_SUMMED_LEVELS

    def behind_sums(self, wanted: bool) -> CodeMismatches:
        """Return those that stand behind sums over planes, or those that do not."""
        return CodeMismatches(tuple(each for each in self.quantizers if each.summed == wanted))


class MismatchTally:
    """Counts the mismatches of every code tensor, batch by batch."""

    def __init__(self, codes: tuple[CodeTensor, ...]) -> None:
        self._codes = codes
        self._counts = {code.value: [0, 0, 0, 0] for code in codes}

    def add(self, found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        """Count the codes of one batch, by value name."""
        for value, count in self._counts.items():
            difference = np.abs(found[value].astype(np.int32) - expected[value].astype(np.int32))
            count[0] += difference.size
            count[1] += int(np.count_nonzero(difference))
            count[2] = max(count[2], int(difference.max(initial=0)))

    def add_ties(
        self,
        reals: Mapping[str, Array],
        found: Mapping[str, Array],
        expected: Mapping[str, Array],
    ) -> None:
        """Count the ties of one batch where `reals` has what is rounded, by value name."""
        for code in self._codes:
            if code.value in reals:
                value = code.value
                ties = count_ties(code, reals[value], found[value], expected[value])
                self._counts[value][3] += ties

    def suspects(self) -> set[str]:
        """Return the code tensors of quantizers that are faulty unless ties explain it."""
        found = {each.quantizer for each in self.result().faulty}
        return {code.value for code in self._codes if code.quantizer in found}

    def result(self) -> CodeMismatches:
        """Return what was counted."""
        found = []
        for code in self._codes:
            total, differing, largest, ties = self._counts[code.value]
            found.append(
                QuantizerMismatches(
                    quantizer=code.quantizer,
                    codes=total,
                    differing=differing,
                    largest=largest,
                    summed=code.summed,
                    wide=code.wide,
                    nodes=code.makers,
                    ties=ties,
                )
            )
        return CodeMismatches(tuple(found))
