"""Serves one file with Netron, in a process of its own.

    python -m dfqonnx.viewer.netron_process FILE PORT

Netron keeps the file it serves in a class, so two files need two processes. Every response carries
a policy that lets the page talk to this server only, so that Netron's usage reports are not sent.
"""

from __future__ import annotations

import importlib
import logging
import sys
from http.server import BaseHTTPRequestHandler

HOST = "127.0.0.1"
POLICY = (
    "default-src 'self' 'unsafe-inline' data: blob:; connect-src 'self' blob: data:; "
    "worker-src 'self' blob:; form-action 'none'"
)


def block_foreign_requests() -> None:
    """Add the policy to every response of this process."""
    original = BaseHTTPRequestHandler.end_headers

    def end_headers(handler: BaseHTTPRequestHandler) -> None:
        handler.send_header("Content-Security-Policy", POLICY)
        original(handler)

    BaseHTTPRequestHandler.end_headers = end_headers  # type: ignore[method-assign, assignment]


def main(path: str, port: str) -> None:
    """Serve until interrupted."""
    netron = importlib.import_module("netron")
    logging.basicConfig(level=logging.ERROR)
    block_foreign_requests()
    netron.start(path, address=(HOST, int(port)), browse=False)
    netron.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
