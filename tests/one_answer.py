"""A real HTTP server for one test of a client: every request gets the same answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Gives every request the same answer and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.cut = 200, b"{}", False
        self.keeps = False  # a connection open, and hangs up when it is used a second time
        self.asked: list[tuple[str, Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            used = False

            def do_GET(self) -> None:
                if self.used:
                    self.close_connection = True
                    return
                self.used = True
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                owner.asked.append((self.path, json.loads(body) if body else None))
                self.send_response(owner.status)
                self.send_header("Content-Length", str(len(owner.body) + owner.cut))
                self.send_header("Connection", "keep-alive" if owner.keeps else "close")
                self.end_headers()
                self.wfile.write(owner.body)

            do_POST = do_GET  # noqa: N815 - the name that the base class calls

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, body: Any, status: int = 200) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def one_answer() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join()
        made.http.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
