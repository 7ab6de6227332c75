"""What a rule of the linter is, and what it finds.

    error      the file does not load there, or computes something else than it says
    warning    multiply-adds run in float or slowly, or numbers lose precision
    note       it costs a little, or only elsewhere

A rule is a function from a graph and a target to the places where it is broken. It is registered
with what a person needs to know about it, and where that was measured or is published. It stands
only where there is such a source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from onnx import NodeProto

from dfqonnx.core.registry import Registry
from dfqonnx.lint.qdq_graph import QdqGraph, label
from dfqonnx.targets.profile import TARGETS, TargetProfile

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # worst first
MEASURED = "measured here with ONNX Runtime 1.31.1 on x86-64 with VNNI"


@dataclass(frozen=True)
class Place:
    """One node that breaks a rule, and the layers (by first output) that suffer from it."""

    node: str
    detail: str = ""
    layers: frozenset[str] = frozenset()


Check = Callable[[QdqGraph, TargetProfile], Iterator[Place]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One entry of the catalogue.

    `applies` tells whether a target has the fact that the rule rests on.
    """

    id: str
    name: str
    level: Level
    title: str  # what is wrong, in a few words
    cost: str
    mend: str
    source: str
    applies: Callable[[TargetProfile], bool]
    check: Check

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets that it concerns."""
        return tuple(name for name in TARGETS if self.applies(TARGETS[name]))


@dataclass(frozen=True, kw_only=True)
class RuleFinding:
    """A broken rule: every place in the file, and the share of multiply-adds concerned."""

    rule: Rule
    places: tuple[Place, ...]
    layers: int  # how many layers suffer
    share: float | None  # 0..1 of the file's multiply-adds; None where shapes are unknown


RULES: Registry[Rule] = Registry("rule")
_NAMES: Registry[str] = Registry("rule's name")


def everywhere(target: TargetProfile) -> bool:
    """Tell that a rule of ONNX itself holds for any target."""
    return bool(target.name)


def register_rule(
    number: int,
    name: str,
    level: Level,
    *,
    title: str,
    cost: str,
    mend: str,
    source: str,
    applies: Callable[[TargetProfile], bool] = everywhere,
) -> Callable[[Check], Check]:
    """Return a decorator that files a check as the rule `QDQ<number>`.

    Raises:
        InternalError: the number or the name is taken.
    """

    def file(check: Check) -> Check:
        rule = Rule(
            id=f"QDQ{number:03}",
            name=name,
            level=level,
            title=title,
            cost=cost,
            mend=mend,
            source=source,
            applies=applies,
            check=check,
        )
        _NAMES.add(name)(rule.id)
        RULES.add(rule.id)(rule)
        return check

    return file


def place(node: NodeProto, detail: str = "", *, layers: frozenset[str] = frozenset()) -> Place:
    """Return a node as the place of a finding."""
    return Place(label(node), detail, layers)


def layer_place(graph: QdqGraph, layer: NodeProto, detail: str = "") -> Place:
    """Return a layer as the place of a finding from which it suffers itself."""
    suffering = frozenset(name for name in layer.output[:1] if name in graph.layers)
    return Place(label(layer), detail, suffering)
