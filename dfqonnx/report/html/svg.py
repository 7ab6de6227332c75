"""Turns a matplotlib figure into inline SVG that follows the colors of its page.

Figures are drawn in placeholder colors that become CSS variables, so that one drawing serves the
light and the dark scheme. Text stays text, in the page's font. No name from a model is ever drawn,
so nothing needs escaping here; captions are HTML.
"""

from __future__ import annotations

import html
import io
import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#010203", "#020304", "#030405"
FIRST, SECOND, BAD = "#040506", "#050607", "#060708"
_CSS_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", FIRST: "first", SECOND: "second",
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
_COLOR = re.compile("|".join(_CSS_VARIABLES))
_SUPERFLUOUS = re.compile(
    r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->|(?<=<g) id=\"[^\"]*\"", re.DOTALL
)
_WIDTH = re.compile(r'(<svg[^>]*?) width="[^"]*pt"([^>]*?)>', re.DOTALL)
_HEIGHT = re.compile(r'(<svg[^>]*?) height="[^"]*pt"', re.DOTALL)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in CSS pixels."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width / 72, height / 72), dpi=72)
    made.patch.set_visible(False)
    return made


def add_axes(fig: Figure, left: float, bottom: float, *, right: float = 6, top: float = 6) -> Axes:
    """Return axes with these margins in CSS pixels and light horizontal grid lines."""
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


def chart_settings() -> AbstractContextManager[None]:
    """Return the context in which figures are both drawn and written."""
    from matplotlib import rc_context

    return rc_context(_SETTINGS)  # type: ignore[arg-type]


def to_svg(fig: Figure, label: str) -> str:
    """Return the figure as an inline SVG element; screen readers read `label` aloud."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    fig.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
    text = _SUPERFLUOUS.sub("", text[text.index("<svg") :])
    text = _WIDTH.sub(r"\1\2>", _HEIGHT.sub(r"\1", text, count=1), count=1)
    text = _COLOR.sub(lambda found: f"var(--{_CSS_VARIABLES[found[0]]})", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    opening = f'<svg role="img" aria-label="{html.escape(label)}"'
    return re.sub(r"\n\s*", "\n", text.replace("<svg", opening, 1)).strip()
