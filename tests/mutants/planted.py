"""A mistake chosen by hand: a piece of one module's text, and what is put in its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PlantedMutant:
    """One mistake, found by its text, so that it fails loudly when the code has moved on."""

    module: str  # its path in the package, without the suffix
    before: str
    after: str
    about: str  # what is wrong with it, in one line
    tests: tuple[str, ...] = ()  # that are to notice it first; then those near its module

    def __str__(self) -> str:
        """Return where it is and what is wrong."""
        return f"`{self.module}.py`: {self.about}"

    def plant(self, source: str) -> str:
        """Return the module's text with the mistake in it.

        Raises:
            LookupError: the text to be replaced is not there, or is there more than once.
        """
        count = source.count(self.before)
        if count != 1:
            raise LookupError(f"{self}: {self.before!r} is there {count} times, expected once")
        return source.replace(self.before, self.after)


def mutants_of(module: str, *changes: tuple[str, str, str]) -> tuple[PlantedMutant, ...]:
    """Return mutants of one module from (about, before, after)."""
    return tuple(
        PlantedMutant(module=module, before=before, after=after, about=about)
        for about, before, after in changes
    )
