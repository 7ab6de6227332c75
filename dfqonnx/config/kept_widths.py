"""The outcome of a search for widths as JSON can hold it, and back.

A search within `--min-speed` measures time: made anew it may end elsewhere, and an interrupted run
would not find its own work. So the outcome is kept as the images are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.bit_choice import BitChoice
from dfqonnx.core.quantization import BitWidths, NodeRules


@dataclass(frozen=True)
class KeptWidths:
    """Widths that were chosen for a run, and what is to be said of them."""

    bits: BitWidths
    nodes: NodeRules
    choice: BitChoice

    @classmethod
    def of(cls, config: RunConfig) -> KeptWidths:
        """Return the widths of a run whose search is over."""
        assert config.search is not None
        assert config.search.choice is not None
        return cls(config.quant.bits, config.nodes, config.search.choice)

    def apply(self, config: RunConfig) -> RunConfig:
        """Return a run, whose search has not begun, with these widths."""
        assert config.search is not None
        quant = replace(config.quant, bits=self.bits)
        search = replace(config.search, choice=self.choice)
        return replace(config, quant=quant, nodes=self.nodes, search=search)


_ADAPTER = TypeAdapter(KeptWidths)


def widths_to_facts(widths: KeptWidths) -> dict[str, Any]:
    """Return widths as JSON can hold them."""
    facts: dict[str, Any] = _ADAPTER.dump_python(widths, mode="json")
    return facts


def widths_from_facts(facts: Mapping[str, Any]) -> KeptWidths:
    """Return what `widths_to_facts` was given.

    Raises:
        ValueError: these are none.
    """
    return _ADAPTER.validate_python(dict(facts))
