"""What a student may lose and take, in place of its bit widths: `--max-drop 0.5 --max-size 0.12x`.

    --max-drop 0.5       points of top-1, as they are estimated without labels
    --max-size 0.12x     of the bytes of the float file; or 500KiB, 0.5MB, 500000
    --min-speed 1.5x     of the float model's speed in the target's runtime

Any one or two of them. The third could rarely be met as well, and nothing would be left to choose
by. `--bits auto` sets one by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dfqonnx.core.bit_choice import BitChoice
from dfqonnx.core.quantization import BitWidths, NodeRules
from dfqonnx.errors import UsageError

Limit = str | float | None
LimitName = Literal["drop", "size", "speed"]
AUTO = "auto"
MIXED = "mixed"  # what stands for widths in names of files and folders
DEFAULTS = ("4", "w4a4")  # of `--bits`: widths that nobody asked for
AUTO_DROP = 0.5  # points, of a classifier
AUTO_NOISE = 10**-2.5  # power over signal (25 dB), of other outputs
AUTO_REPAIRS = 1.0  # share of the nodes plus that of the multiply-adds in float or 16 bits, at most
LEAST_RATIO, MOST_RATIO = 0.01, 1.0  # of the float file's bytes
MOST_SPEED = 20.0
MOST_DROP = 50.0
_UNITS = {
    "": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "k": 2**10, "m": 2**20, "g": 2**30,
}  # fmt: skip


@dataclass(frozen=True)
class SizeLimit:
    """The most bytes of a file, or the most as a share of those of the float file."""

    text: str  # as it was written
    ratio: float | None = None
    bytes: int | None = None

    def of(self, float_bytes: int) -> int:
        """Return the limit in bytes for a float file of that size."""
        return int((self.ratio or 0.0) * float_bytes) if self.bytes is None else self.bytes


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """Limits that widths are chosen within; None leaves one open.

    `is_automatic` where none was given: a classifier is to lose `AUTO_DROP` points at most, another
    network's outputs are to have a noise of `AUTO_NOISE` at most. Where either would take more than
    `AUTO_REPAIRS`, a few repairs have to do.
    """

    max_drop: float | None = None  # points
    max_size: SizeLimit | None = None
    min_speed: float | None = None  # times that of the float model
    is_automatic: bool = False

    def __post_init__(self) -> None:
        given = [self.max_drop, self.max_size, self.min_speed]
        count = sum(limit is not None for limit in given)
        if count > 2:
            raise UsageError(
                "--max-drop, --max-size, --min-speed: give one or two of them; what is left open is"
                " made as good as it can be"
            )
        if not count and not self.is_automatic:
            raise UsageError("a search for widths needs --max-drop, --max-size or --min-speed")

    @property
    def options(self) -> Mapping[LimitName, str]:
        """Each limit as an option of the command line."""
        words: dict[LimitName, str] = {}
        if self.max_drop is not None:
            words["drop"] = f"--max-drop {self.max_drop:g}"
        if self.max_size is not None:
            words["size"] = f"--max-size {self.max_size.text}"
        if self.min_speed is not None:
            words["speed"] = f"--min-speed {self.min_speed:g}x"
        return words

    @property
    def text(self) -> str:
        """The limits as options of the command line."""
        return " ".join(self.options.values()) or "--bits auto"


@dataclass(frozen=True)
class WidthSearch:
    """A search for widths: its limits, the rules for nodes that a person gave, and its outcome."""

    limits: SearchLimits
    nodes: NodeRules
    choice: BitChoice | None = None  # None before the search


def read_limits(
    bits: str | int | BitWidths,
    max_drop: Limit = None,
    max_size: Limit = None,
    min_speed: Limit = None,
) -> SearchLimits | None:
    """Return the limits of a run; None where its widths are given.

    Raises:
        UsageError: a text cannot be read, a value is out of range, or all three are given.
    """
    text = bits.label if isinstance(bits, BitWidths) else str(bits).strip().lower()
    if max_drop is None and max_size is None and min_speed is None:
        return SearchLimits(is_automatic=True) if text == AUTO else None
    if text not in {AUTO, *DEFAULTS}:
        raise UsageError(
            f"--bits {text}: --max-drop, --max-size and --min-speed look for widths; leave --bits"
            " away, or fix those of single nodes with --bits-for"
        )
    return SearchLimits(
        max_drop=None if max_drop is None else _read_drop(str(max_drop)),
        max_size=None if max_size is None else _read_size(str(max_size)),
        min_speed=None if min_speed is None else _read_speed(str(min_speed)),
    )


def _read_drop(text: str) -> float:
    value = _read_number(text.strip().removesuffix("%"))
    if value is None or not 0 < value <= MOST_DROP:
        raise UsageError(
            f"--max-drop {text}: expected points of top-1 above 0 and up to {MOST_DROP:g}, such as"
            " 0.5"
        )
    return value


def _read_size(text: str) -> SizeLimit:
    plain = text.strip().lower().replace(" ", "")
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?\d+)?)([a-z%]*)", plain)
    value = None if match is None else _read_number(match[1])
    unit = "" if match is None else match[2]
    expected = "expected a share of the float file such as 0.12x, or a size such as 500KiB or 0.5MB"
    if value is None or (unit not in _UNITS and unit not in {"x", "%"}):
        raise UsageError(f"--max-size {text}: cannot be read; {expected}")
    if unit in {"x", "%"}:
        ratio = value / (100 if unit == "%" else 1)
        if not LEAST_RATIO <= ratio <= MOST_RATIO:
            raise UsageError(
                f"--max-size {text}: expected {LEAST_RATIO:g}x to {MOST_RATIO:g}x of the float file"
            )
        return SizeLimit(f"{ratio:g}x", ratio=ratio)
    size = int(value * _UNITS[unit])
    if not unit and value < 1024:
        raise UsageError(f"--max-size {text}: is that a share or bytes? {expected}")
    if size < 1:
        raise UsageError(f"--max-size {text}: {expected}")
    return SizeLimit(plain if unit else str(size), bytes=size)


def _read_speed(text: str) -> float:
    value = _read_number(text.strip().lower().removesuffix("x"))
    if value is None or not 0 < value <= MOST_SPEED:
        raise UsageError(
            f"--min-speed {text}: expected times the float speed, above 0 and up to"
            f" {MOST_SPEED:g}, such as 1.5x"
        )
    return value


def _read_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
