"""Two statements about a result: what holds of the file, and what is known of its accuracy.

    file        the runtime computes what the file says, the file is what was trained, layers run on
                integers; the file is smaller, and not slower: these only warn without `--strict`
    accuracy    judged by rules; or only measured, or estimated without labels; or not judged

Each has a status, from its gates and from what was found about the evidence. The verdict is one
word for programs, the worst of both:

    fail > inconclusive > not judged > warning > pass

An `EvidenceWarning` says that a number deserves less trust. One that affects only what passes turns
a rule that holds into an inconclusive one, because a student that fails is no better for it; one
that affects any judgment makes every rule on these numbers inconclusive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Topic = Literal["file", "accuracy"]
Origin = Literal["check", "user", "strict"]
Effect = Literal["warn", "no pass", "no judgment"]
Scope = Literal["labels", "inputs", "everything"]
FileStatus = Literal["pass", "warning", "fail", "inconclusive"]
AccuracyStatus = Literal["pass", "fail", "inconclusive", "measured", "estimated", "not judged"]
Verdict = Literal["pass", "warning", "not judged", "inconclusive", "fail"]
NO_RULE = "no rule"


@dataclass(frozen=True, kw_only=True)
class MeasuredValue:
    """The quantity that a user's gate was compared with, in the unit of its bound.

    `low` to `high` is its interval over `n` images or turns; all three are `value` or 1 where it
    is exact. `images_needed` would decide an inconclusive gate; None where no number would.
    """

    value: float
    low: float
    high: float
    n: int
    images_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A rule that a result must meet.

    Attributes:
        value: what was found, in words.
        holds: None where the data does not decide.
        topic: which of the two statements it belongs to.
        origin: a built-in check, a rule that the user set, or one that `--strict` added.
        is_required: whether the command fails when it does not hold; otherwise that is a warning.
        doubts: names of the evidence warnings that made it inconclusive.
    """

    rule: str
    value: str
    holds: bool | None
    topic: Topic = "file"
    origin: Origin = "check"
    is_required: bool = True
    measured: MeasuredValue | None = None
    doubts: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The rule, with the names of the doubts about its evidence."""
        return f"{self.rule}: {', '.join(self.doubts)}" if self.doubts else self.rule


@dataclass(frozen=True, kw_only=True)
class EvidenceWarning:
    """Something that weakens what was measured, or what is worth knowing before the file is used.

    Attributes:
        name: a word to search for, such as `float-model-at-chance`.
        found: what was found, in words.
        advice: what to do about it.
        effect: only a warning; or a rule that would hold is inconclusive; or any rule is.
        scope: which numbers it is about: those that need labels, all that were compared on the
            same inputs, or also those from other inputs, such as the estimated drop.
    """

    name: str
    found: str
    advice: str
    effect: Effect = "warn"
    scope: Scope = "inputs"

    def __str__(self) -> str:
        """Return name, finding and advice in one line."""
        return f"{self.name}: {self.found} {self.advice}"


@dataclass(frozen=True)
class FileChecks:
    """What holds of the file whatever it is used for; `reasons` stand against a pass."""

    status: FileStatus
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one clause."""
        words = {
            "pass": "pass", "warning": "warn, not met", "fail": "fail, not met",
            "inconclusive": "inconclusive",
        }  # fmt: skip
        return f"file checks {words[self.status]}{_listed(self.reasons)}"


@dataclass(frozen=True)
class AccuracyStatement:
    """What is known of the student's accuracy; `reasons` are rules, or why there is no judgment."""

    status: AccuracyStatus
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one clause."""
        words = {
            "pass": "passes", "fail": "fails, not met", "inconclusive": "inconclusive",
            "measured": "measured, not judged", "estimated": "estimated, not judged",
            "not judged": "not judged",
        }  # fmt: skip
        return f"accuracy {words[self.status]}{_listed(self.reasons)}"


def _listed(reasons: Sequence[str]) -> str:
    return f" ({'; '.join(reasons)})" if reasons else ""


def _reasons(gates: Iterable[Gate]) -> tuple[str, ...]:
    return tuple(gate.reason for gate in gates)


def state_file_checks(gates: Sequence[Gate]) -> FileChecks:
    """Return the statement about the file from all gates of a report."""
    about = [gate for gate in gates if gate.topic == "file"]
    if not about:
        return FileChecks("inconclusive", ("nothing was checked",))
    failing = _reasons(gate for gate in about if gate.holds is False and gate.is_required)
    undecided = _reasons(gate for gate in about if gate.holds is None)
    warned = _reasons(gate for gate in about if gate.holds is False)
    if failing:
        return FileChecks("fail", failing)
    if undecided:
        return FileChecks("inconclusive", undecided)
    return FileChecks("warning", warned) if warned else FileChecks("pass")


def state_accuracy(
    gates: Sequence[Gate], evidence: Sequence[EvidenceWarning], *, unjudged: AccuracyStatus
) -> AccuracyStatement:
    """Return the statement about accuracy from all gates and warnings of a report.

    `unjudged` is the status where no rule judges and nothing speaks against the evidence.
    """
    rules = [gate for gate in gates if gate.topic == "accuracy"]
    failing = _reasons(gate for gate in rules if gate.holds is False)
    undecided = _reasons(gate for gate in rules if gate.holds is None)
    doubts = tuple(dict.fromkeys(found.name for found in evidence if found.effect != "warn"))
    if failing:
        return AccuracyStatement("fail", failing)
    if undecided:
        return AccuracyStatement("inconclusive", undecided)
    if rules:
        return AccuracyStatement("pass", _reasons(rules))
    if doubts:
        return AccuracyStatement("inconclusive", doubts)
    return AccuracyStatement(unjudged, (NO_RULE,))


def combine(file: FileChecks, accuracy: AccuracyStatement) -> Verdict:
    """Return the worst of both statements in one word."""
    statuses = {file.status, accuracy.status}
    if statuses & {"measured", "estimated"}:
        statuses.add("not judged")
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "not judged", "warning")
    return next((word for word in order if word in statuses), "pass")
