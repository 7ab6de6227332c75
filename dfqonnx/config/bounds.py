"""Bounds of a recipe's numbers; a refusal names the key, its value and the bound."""

from __future__ import annotations

from dfqonnx.errors import UsageError


def check_least(config: object, where: str, **least: int) -> None:
    """Refuse numbers below their least value; None is open."""
    for key, bound in least.items():
        value = getattr(config, key)
        if value is not None and value < bound:
            raise UsageError(f"{where}.{key} {value}: must be {bound} or more")


def check_positive(config: object, where: str, *keys: str) -> None:
    """Refuse numbers of 0 or less."""
    for key in keys:
        if getattr(config, key) <= 0:
            raise UsageError(f"{where}.{key} {getattr(config, key)}: must be above 0")


def check_fractions(config: object, where: str, *keys: str) -> None:
    """Refuse numbers outside 0..1; None is open."""
    for key in keys:
        value = getattr(config, key)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{where}.{key} {value}: must be in 0..1")


def check_milestones(milestones: tuple[float, ...], where: str) -> None:
    """Refuse milestones that are no fractions of a schedule, its ends excluded."""
    if any(not 0 < m < 1 for m in milestones):
        raise UsageError(f"{where}.milestones {list(milestones)}: must be in 0..1")
