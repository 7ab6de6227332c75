"""Everything that can go wrong, as one small tree.

    DfqError                      the root; `exit_code` is what the command line ends with
    +-- UsageError           2    a flag, a path, a recipe key or a data file is wrong
    +-- UnsupportedModel     3    the model cannot be quantized; every offending node is named
    +-- EnvironmentProblem   4    ONNX Runtime missing or doubled, no CUDA device, disk full
    +-- InternalError        5    dfqonnx contradicts itself: please report it

Messages name the file, node or key, the value, what was expected and what to do next. They are
written with the options of the command line; `str` of an error says `eval_data` for `--eval-data`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dfqonnx.foreign_text import MAX_LINE, printable, printable_lines

MAX_NODES_NAMED = 8  # of one fault, in a message


class DfqError(Exception):
    """Root of every error that dfqonnx raises on purpose; its message is safe to show.

    Attributes:
        message: the text with the options of the command line; `str` has those of Python.
    """

    exit_code = 5

    def __init__(self, message: str = "") -> None:
        self.message = printable_lines(message)
        super().__init__(name_parameters(self.message))


class UsageError(DfqError):
    """The request is wrong: a flag, path, recipe key or data file."""

    exit_code = 2


@dataclass(frozen=True)
class Offense:
    """One reason why a model is refused, tied to its node."""

    node: str
    op: str
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        """Return `node (op): reason; advice`."""
        node = printable(self.node)
        head = f"{node} ({printable(self.op)})" if self.op else node
        text = f"{head}: {self.reason}" + (f"; {self.advice}" if self.advice else "")
        return printable(text, most=MAX_LINE)


class UnsupportedModel(DfqError):
    """The model cannot be quantized as it is.

    Attributes:
        offenses: every reason found, not only the first.
    """

    exit_code = 3

    def __init__(self, message: str, offenses: Sequence[Offense] = ()) -> None:
        self.offenses = tuple(offenses)
        lines = summarize_offenses(offenses)
        super().__init__("\n".join([message, *(f"  - {line}" for line in lines)]))


def summarize_offenses(offenses: Sequence[Offense]) -> list[str]:
    """Return one line per offense; many nodes with one fault share a line.

    >>> summarize_offenses([Offense(f"n{i}", "Foo", "unknown") for i in range(12)])
    ['12 nodes (Foo): unknown: n0, n1, n2, n3, n4, n5, n6, n7, ... (--json names all)']
    """
    groups: dict[tuple[str, str, str], list[Offense]] = {}
    for offense in offenses:
        groups.setdefault((offense.op, offense.reason, offense.advice), []).append(offense)
    lines: list[str] = []
    for (op, reason, advice), group in groups.items():
        if len(group) <= 3:
            lines += map(str, group)
            continue
        names = ", ".join(printable(offense.node) for offense in group[:MAX_NODES_NAMED])
        more = ", ... (--json names all)" if len(group) > MAX_NODES_NAMED else ""
        lines.append(str(Offense(f"{len(group)} nodes", op, f"{reason}: {names}{more}", advice)))
    return lines


class EnvironmentProblem(DfqError):
    """The machine lacks something: a runtime, a device, disk space, a permission."""

    exit_code = 4


class InternalError(DfqError):
    """Two parts of dfqonnx contradict each other; the message says which."""

    exit_code = 5


RENAMED = {"gate": "gates", "input": "inputs", "no-references": "references"}
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])(?![\w-])")
_COMMAND = re.compile(r"((?:dfqonnx|pip|python) [a-z][^;,()\n]*)")


def name_parameters(message: str) -> str:
    """Return a message with the parameters of Python in the place of options.

    Commands that are quoted stay what they are.

    >>> name_parameters("--eval-data x.npz: holds no labels; dfqonnx run --images x.npz")
    'eval_data x.npz: holds no labels; dfqonnx run --images x.npz'
    """
    parts = _COMMAND.split(message)  # what stands between commands, and the commands
    parts[::2] = [
        _OPTION.sub(lambda found: RENAMED.get(found[1], found[1].replace("-", "_")), part)
        for part in parts[::2]
    ]
    return "".join(parts)


QUANTIZING_PACKAGES = ("torch", "scipy")  # of the extras cpu and gpu, and not of light
HOW_TO_QUANTIZE = (
    "For the CPU: pip install 'dfqonnx[cpu]'; for NVIDIA GPUs: pip install 'dfqonnx[gpu]'"
)


def explain_missing(error: ModuleNotFoundError) -> EnvironmentProblem | None:
    """Return what to install where a light install lacks `error.name`; None for other modules."""
    package = (error.name or "").split(".")[0]
    if package not in QUANTIZING_PACKAGES:
        return None
    return EnvironmentProblem(
        f"This is a light install, which validates, audits and compares; quantizing, making images"
        f" and inspecting some models need {package} too. {HOW_TO_QUANTIZE}"
    )


def did_you_mean(
    name: str, known: Iterable[str], *, label: str = "Known", preferred: str = ""
) -> str:
    """Return the end of a message about an unknown name: the nearest known one, then all of them.

    `label` stands before the list of names, which is left out without one; `preferred` is a better
    suggestion than the nearest known name.

    >>> did_you_mean("nois", ["leaves", "noise"], label="Sources")
    "; did you mean 'noise'? Sources: leaves, noise."
    """
    names = list(known)
    nearest = preferred or next(iter(difflib.get_close_matches(name, names, n=1)), "")
    hint = f"; did you mean {nearest!r}?" if nearest else "."
    return f"{hint} {label}: {', '.join(names)}." if label else hint
