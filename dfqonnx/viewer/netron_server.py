"""Netron's page over one file, served to this machine only and without its usage reports.

Netron's own server hands out a page that asks a foreign host for the user's place, shows a notice
about cookies, reports what is opened, and refuses to work half a year after its release. Here the
page is told that it is no packaged release (so it reports nothing), that it is of today, and that
the notice was accepted; no cookie is ever stored. Attributes are shown on the nodes, among them
bits and noise, until the user hides them. A policy lets it talk to this server only. A
request under another host's name, as a foreign page could make one, is refused.
"""

from __future__ import annotations

import html
import importlib.resources
import mimetypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dfqonnx.viewer.local_server import Answer, serve_locally

POLICY = (
    "default-src 'self' 'unsafe-inline' data: blob:; connect-src 'self' blob: data:; "
    "worker-src 'self' blob:; form-action 'none'"
)
MODEL, SCRIPT = "/data/model.onnx", "/without-cookies.js"
WITHOUT_COOKIES = (
    "Object.defineProperty(document, 'cookie', {get: () => 'consent=1', set: () => {}});\n"
    "if (localStorage.getItem('options') === null) {\n"
    "    localStorage.setItem('options', JSON.stringify({attributes: true}));\n"
    "}\n"
)


@contextmanager
def serve_netron(path: Path, name: str) -> Iterator[str]:
    """Serve the ONNX file `path`, shown as `name`, while the context is open; yield the address."""
    with serve_locally(partial(_answer, path, name), POLICY) as address:
        yield address


def _answer(path: Path, name: str, asked: str) -> Answer | None:
    """Return what stands at the path `asked` of the address; None where nothing does."""
    if asked == "/":
        return Answer("text/html; charset=utf-8", _page(name).encode(errors="replace"))
    if asked == SCRIPT:
        return Answer("text/javascript", WITHOUT_COOKIES.encode())
    if asked == MODEL:
        return Answer("application/octet-stream", path.read_bytes())
    file = importlib.resources.files("netron") / asked.removeprefix("/")
    if not re.fullmatch(r"/[\w-]+\.(js|css|json|png|ico)", asked) or not file.is_file():
        return None
    return Answer(mimetypes.guess_type(asked)[0] or "application/octet-stream", file.read_bytes())


def _page(name: str) -> str:
    """Return Netron's page with our values in its head."""
    page = (importlib.resources.files("netron") / "index.html").read_text(encoding="utf-8")
    page = re.sub(r'<meta name="(?:version|date|file|name|identifier)" content="[^"]*">', "", page)
    values = {
        "version": "0.0.0",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        "file": MODEL,
        "name": name,
        "identifier": name,
    }
    head = "".join(
        f'<meta name="{key}" content="{html.escape(value)}">\n' for key, value in values.items()
    )
    head += f'<script type="text/javascript" src="{SCRIPT}"></script>\n'
    return page.replace("<head>", f"<head>\n{head}", 1)
