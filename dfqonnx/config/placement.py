"""Which nodes are treated in another way than the rest, as a recipe or a command says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dfqonnx.core.quantization import BitWidths, NodeRules
from dfqonnx.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """Nodes that are treated in another way, by name, by a pattern such as `head*`, or by operator.

    Attributes:
        keep_float: nodes to leave in float.
        bits_for: widths of Conv, Gemm and MatMul other than those of the run, and 16 bits of
            activations (`w8a16`) for any node that the target computes on codes, such as
            `{"head*": "w8a8"}`; of several that mean a node the last one counts.
    """

    keep_float: tuple[str, ...] = ()
    bits_for: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rules()

    def rules(self) -> NodeRules:
        """Return the rules, their widths read.

        Raises:
            UsageError: widths cannot be read, or a pattern is empty.
        """
        return NodeRules(
            keep_float=tuple(map(_check_pattern, self.keep_float)),
            bits_for=tuple(
                (_check_pattern(pattern), BitWidths.parse(text))
                for pattern, text in self.bits_for.items()
            ),
        )


def read_rules(
    keep_float: Sequence[str], bits_for: Sequence[str] | Mapping[str, str | int], recipe: NodeRules
) -> NodeRules:
    """Return the rules of a recipe with those of a person behind them.

    Args:
        keep_float: names, patterns, operators.
        bits_for: `PATTERN=WIDTHS`, or patterns with their widths.
        recipe: the recipe's own.

    Raises:
        UsageError: a text cannot be read.
    """
    if isinstance(bits_for, Mapping):
        widths = {pattern: str(text) for pattern, text in bits_for.items()}
    else:
        widths = dict(map(_split, bits_for))
    own = PlacementConfig(keep_float=tuple(keep_float), bits_for=widths).rules()
    return NodeRules(
        keep_float=tuple(dict.fromkeys((*recipe.keep_float, *own.keep_float))),
        bits_for=tuple(dict.fromkeys((*recipe.bits_for, *own.bits_for))),
    )


def _split(text: str) -> tuple[str, str]:
    pattern, equals, widths = text.rpartition("=")
    if not equals or not pattern:
        raise UsageError(f"--bits-for: cannot read {text!r}; write PATTERN=w8a8")
    return pattern, widths


def _check_pattern(pattern: str) -> str:
    if not pattern.strip():
        raise UsageError("--keep-float, --bits-for: a pattern is empty; give a name or an operator")
    return pattern
