"""A web server for pages that only this machine may see."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import cast

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """What is sent for an address."""

    kind: str  # the MIME type
    content: bytes


Answers = Callable[[str], Answer | None]


class _LocalHandler(BaseHTTPRequestHandler):
    """Answers GET requests that name this very server, and refuses all others.

    A foreign page whose host name was made to point here sends that name along.
    """

    def __init__(self, answers: Answers, policy: str, *rest: object) -> None:
        self.answers, self.policy = answers, policy
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        port = cast("HTTPServer", self.server).server_port
        if self.headers.get("Host") not in {f"{HOST}:{port}", f"localhost:{port}"}:
            self.send_error(403, "this server answers to its own address only")
            return
        found = self.answers(urllib.parse.urlsplit(self.path).path)
        if found is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", found.kind)
        self.send_header("Content-Length", str(len(found.content)))
        self.send_header("Content-Security-Policy", self.policy)
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(found.content)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serve_locally(answers: Answers, policy: str) -> Iterator[str]:
    """Serve what `answers` returns for a path while the context is open; yield the address.

    `policy` is the Content-Security-Policy of every response.
    """
    server = ThreadingHTTPServer((HOST, 0), partial(_LocalHandler, answers, policy))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
