"""A real receiver of webhooks on a real socket, which answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What came, and what is answered: a status each, the last one for all that follow."""

    url: str
    answers: list[int] = field(default_factory=lambda: [200])
    wait_s: float = 0.0
    location: str | None = None
    endless: bool = False
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.received]

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.received]


@contextmanager
def receiver(tls: Any = None, **told: Any) -> Iterator[Receiver]:
    """A running receiver; `tls` is a server's SSL context."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            stop.wait(made.wait_s)
            status = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            self.send_response(status)
            if made.location:
                self.send_header("location", made.location)
            self.end_headers()
            while made.endless and not stop.is_set():
                try:
                    self.wfile.write(b"x" * 4096)
                except OSError:
                    return

        def do_GET(self) -> None:
            made.received.append(({}, b"GET"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # a client that has had enough

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    made = Receiver(f"{scheme}://127.0.0.1:{server.server_address[1]}/hook", **told)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
