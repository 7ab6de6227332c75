"""From a matplotlib figure to SVG that stands inside a page and follows its colors.

Figures are drawn in placeholder colors, which become CSS variables: one drawing serves the light
and the dark scheme. Text stays text, in the page's font. Nothing that a model names is ever drawn,
so no name needs escaping here; captions are HTML.
"""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#010203", "#020304", "#030405"
FIRST, SECOND, BAD = "#040506", "#050607", "#060708"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", FIRST: "first", SECOND: "second",
              BAD: "bad"}  # fmt: skip
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dfqonnx",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "path.simplify": False,
    "text.parse_math": False,
}
_COLOUR = re.compile("|".join(_VARIABLES))
_NOISE = re.compile(
    r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->|(?<=<g) id=\"[^\"]*\"", re.DOTALL
)
_SIZE = re.compile(r'(<svg[^>]*?) width="[^"]*pt"([^>]*?)>', re.DOTALL)
_HEIGHT = re.compile(r'(<svg[^>]*?) height="[^"]*pt"', re.DOTALL)


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of that many CSS pixels."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width / 72, height / 72), dpi=72)
    made.patch.set_visible(False)
    return made


def axes(fig: Figure, left: float, bottom: float, *, right: float = 6, top: float = 6) -> Axes:
    """Return axes with these margins in CSS pixels, ruled lightly from left to right."""
    width, height = fig.get_size_inches() * 72
    ax = fig.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    )
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="y", color=RULE, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.patch.set_visible(False)
    ax.tick_params(length=0)
    return ax


def settings() -> dict[str, object]:
    """Return the settings that a figure is both made and written under."""
    return dict(_SETTINGS)


def svg(fig: Figure, label: str) -> str:
    """Return the figure as an inline SVG element.

    Args:
        fig: drawn in the placeholder colors.
        label: what a screen reader says.
    """
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fig.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
    text = _NOISE.sub("", text[text.index("<svg") :])
    text = _SIZE.sub(r"\1\2>", _HEIGHT.sub(r"\1", text, count=1), count=1)
    text = _COLOUR.sub(lambda found: f"var(--{_VARIABLES[found[0]]})", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    opening = f'<svg role="img" aria-label="{html.escape(label)}"'
    return re.sub(r"\n\s*", "\n", text.replace("<svg", opening, 1)).strip()
