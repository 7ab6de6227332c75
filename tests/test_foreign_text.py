"""Names of strangers: shown on one line, as text, whatever they hold."""

from __future__ import annotations

import json
import re
import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dfqonnx.errors import Offense, UnsupportedModel, UsageError
from dfqonnx.foreign_text import (
    MAX_NAME,
    json_safe,
    markdown,
    markdown_name,
    printable,
    printable_lines,
    visible,
    workflow_data,
    workflow_property,
    xml_text,
)

EVIL = (
    "n\n::error title=x::owned\n  ::stop-commands::y\r##[error]z ##vso[task.complete]\x1b[2J\x07"
    "\u202eabc\u2066\x85\u2028\x00|`[/b]<script>alert(1)</script><img src=x onerror=a()>&lt;*b*"
)
TEXTS = st.text(st.characters(), max_size=60) | st.sampled_from([EVIL, "", "a" * 20_000])


def assert_harmless(text: str) -> None:
    """What a terminal and a build server may be given, our own annotations aside."""
    odd = {c for c in text if unicodedata.category(c)[0] == "C" and c != "\n"}
    assert odd == set()
    assert not re.search("[\u2028\u2029]", text)
    assert "##" not in text
    assert [line for line in text.split("\n") if line.lstrip().startswith("::")] == []


@given(TEXTS)
def test_any_text_becomes_one_harmless_line(text: str) -> None:
    assert_harmless(printable(text))
    assert "\n" not in printable(text)
    assert len(printable(text)) <= 10 * MAX_NAME + 40  # an escape has up to ten characters
    assert "\n" not in visible(text)


@given(TEXTS)
def test_a_message_with_a_name_in_it_is_harmless(text: str) -> None:
    for message in (
        UsageError(f"file {text}: no"),
        UnsupportedModel("no", [Offense(text, text, text)]),
    ):
        assert_harmless(str(message))
    assert_harmless(printable_lines(text))


def test_plain_names_stay_as_they_are() -> None:
    for name in ("layer1.0/conv_1:0", "café 网络", "a[0]", "/model/Conv#2", "a:b"):
        assert printable(name) == name
        assert f"file {name}" in str(UsageError(f"file {name}"))


@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from([EVIL, "_a_", "1. a"]))
def test_markdown_shows_exactly_the_text(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parseInline(markdown(text))
    (inline,) = tokens
    assert {token.type for token in inline.children or []} <= {"text", "text_special"}
    shown = "".join(token.content for token in inline.children or [])
    assert shown.strip() == visible(text, most=4000).strip()


@pytest.mark.parametrize("name", [EVIL, "a|b", "a`b", "", " ", "conv_1", "<b>", "&amp;", "_x_"])
def test_a_name_in_a_table_is_one_cell_without_markup(name: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| {markdown_name(name)} | {markdown(name)} |\n"
    html = MarkdownIt("commonmark").enable("table").render(page)
    assert html.count("<td") == 2
    known = {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert set(re.findall(r"</?(\w+)", html)) <= known
    assert "<script" not in page
    text = ElementTree.fromstring(html).findall(".//td")[1]
    assert "".join(text.itertext()).strip() == visible(name).strip()


@given(TEXTS)
def test_a_command_of_a_build_server_is_one_line(text: str) -> None:
    line = f"::error title={workflow_property(text)}::{workflow_data(text)}"
    assert "\n" not in line
    assert "\r" not in line
    head = line.removeprefix("::error title=").split("::")[0]
    assert not set(head) & {",", ":"}


@given(TEXTS)
def test_xml_and_json_hold_any_text(text: str) -> None:
    root = ElementTree.Element("a", name=xml_text(text))
    root.text = xml_text(text)
    ElementTree.fromstring(ElementTree.tostring(root, encoding="utf-8"))
    written = json_safe(json.dumps({"a": text}))
    assert json.loads(written) == {"a": text}
    assert "##" not in written


def test_ten_million_letters_are_cut() -> None:
    for show in (printable, visible, markdown, markdown_name, xml_text, workflow_property):
        assert len(show("a" * 10_000_000)) < 5000
    assert len(str(UsageError("a" * 10_000_000))) < 5000
