r"""Text of strangers made safe: names, and whatever else a model or a data file says.

A name may hold line breaks (a build server obeys lines that begin with `::`, or hold `##[`),
escapes that repaint a terminal, marks that turn the direction of writing, halves of characters that
no file can be written with, markup of rich, Markdown or HTML, and ten million letters.

    visible             one line, for a page
    printable           one line, for a terminal, a log, a table
    printable_lines     a message of ours with such names in it; its own line breaks stay
    markdown            a piece of Markdown that shows exactly this text
    xml_text            text that XML 1.0 allows
    json_safe           JSON that a build server cannot misread; it means the same
    workflow_data       message of a build server's command (`::error::MESSAGE`)
    workflow_property   value in its head (`::error title=VALUE::`)

What is not shown as it is becomes `\n`, `\x1b`, `\u202e` and so on, as Python writes it.

>>> printable("a\n::stop-commands::b")
'a\\n:\\x3astop-commands:\\x3ab'
"""

from __future__ import annotations

import html
import re

MAX_NAME = 300  # characters that are shown of one name
MAX_LINE = 4000  # and of a line with several
_MARKDOWN = re.compile(
    r"[\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])|^>|^[-+](?=\s)"  # what means something in Markdown
)
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")  # what begins a tag or an entity
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def visible(text: str, *, most: int = MAX_NAME) -> str:
    """Return `text` as one line of at most about `most` characters, every one of them visible."""
    if len(text) > most:
        head, tail = text[: 2 * most // 3], text[-most // 3 :]
        text = f"{head}... ({len(text):,} characters) ...{tail}"
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def printable(text: str, *, most: int = MAX_NAME) -> str:
    """Return `text` as `visible` does, with nothing in it that a build server obeys."""
    return visible(text, most=most).replace("::", ":\\x3a").replace("##", "#\\x23")


def printable_lines(text: str) -> str:
    """Return a message of ours, in which names may stand, line by line; tabs become spaces."""
    lines = text.replace("\t", "    ").split("\n")
    return "\n".join(printable(line, most=MAX_LINE) for line in lines)


def markdown(text: str, *, most: int = MAX_LINE) -> str:
    """Return Markdown, also for a cell of a table, that shows `text` and nothing else."""
    safe = _MARKDOWN.sub(lambda found: "\\" + found[0], visible(text, most=most))
    safe = _HTML.sub(lambda found: html.escape(found[0]), safe)
    return safe.replace("://", ":&#47;/").replace("www.", "www&#46;")


def markdown_name(name: str) -> str:
    """Return a name for a cell of a table, in a code span where it can stand in one."""
    if not name.strip() or set(name) & set("`<>&") or visible(name) != name:
        return markdown(name, most=MAX_NAME)
    return f"`{name.replace('|', chr(92) + '|')}`"


def xml_text(text: str) -> str:
    """Return `text` without what XML forbids or a reader should not meet; line breaks stay."""
    return _FORBIDDEN.sub("?", printable_lines(text))


def json_safe(text: str) -> str:
    """Return JSON of ASCII characters that means the same, with nothing a build server obeys."""
    return text.replace("##", "#\\u0023")


def workflow_data(text: str) -> str:
    """Return the message of a build server's command; our own line breaks stay line breaks."""
    return printable_lines(text).replace("%", "%25").replace("\n", "%0A")


def workflow_property(text: str) -> str:
    """Return a value in the head of a build server's command."""
    return workflow_data(text).replace(":", "%3A").replace(",", "%2C")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
