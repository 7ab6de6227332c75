"""Netron in a real browser: it shows the graph, asks no foreign host, and wants no consent."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from dfqonnx.report.files import write_report
from dfqonnx.viewer.pair import choose_pair
from dfqonnx.viewer.serve import ViewAddresses, serve_pair
from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.pages.conftest import EVIL, full_report

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("netron") is None, reason="netron is not installed"
)
TEACHER = 'né"t.onnx'  # a name that has to be escaped


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ViewAddresses]:
    model = model_from(SMALL, **WEIGHTS)
    model.graph.node[0].name = EVIL  # the layer that the report knows
    onnx.save(model, tmp_path / TEACHER)
    onnx.save(model, tmp_path / "net.w4a4.onnx")
    write_report(full_report(), tmp_path)
    with serve_pair(choose_pair(tmp_path / "net.w4a4.onnx", tmp_path / TEACHER)) as addresses:
        yield addresses


def test_the_page_asks_no_foreign_host_and_shows_no_notice(
    browser: Any, served: ViewAddresses
) -> None:
    asked: list[str] = []
    browser.on("request", lambda request: asked.append(request.url))
    page = browser.new_page()
    page.goto(served.page)
    for address in (served.student, served.teacher):
        frame = next(f for f in page.frames if f.url.startswith(str(address)))
        frame.wait_for_selector("#target .node", timeout=20_000)  # the graph is drawn
        assert frame.locator("#target .node").count() >= 5
        assert not frame.locator("#message").is_visible()
        shown = frame.locator("#target").inner_text()
        assert "w4 a8" in shown  # on the node itself, without a click
        assert "20.0 dB" in shown
    page.close()
    foreign = [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    assert foreign == []
    assert any(url.startswith(f"{served.teacher}/data/") for url in asked)
    stored = [c for c in browser.cookies() if c["domain"].startswith("127.")]
    assert stored == []


def _fetch(address: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_name_is_escaped_and_the_model_is_there(served: ViewAddresses, tmp_path: Path) -> None:
    _, page = _fetch(f"{served.teacher}/")
    assert 'content="né&quot;t.onnx"' in page.decode()
    _, model = _fetch(f"{served.teacher}/data/model.onnx")
    assert len(onnx.load_from_string(model).graph.node) == 5


@pytest.mark.parametrize(
    "path", ["/../server.py", "/server.py", "/__init__.py", "/data/other.onnx", "//etc/passwd"]
)
def test_nothing_but_the_page_and_the_model_is_served(served: ViewAddresses, path: str) -> None:
    assert _fetch(served.student + path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1"])
def test_a_request_under_another_name_is_refused(served: ViewAddresses, host: str) -> None:
    for address in (served.page, f"{served.student}/data/model.onnx"):
        code, content = _fetch(address, Host=host)
        assert code == 403
        assert b"small" not in content
