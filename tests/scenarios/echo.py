"""An endpoint that answers each question with the topic that it names, and golden questions that it answers well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_QUESTIONS = [
    {"id": f"q{n}", "request": {"question": f"{n}"}, "expected": {"topic": f"{n}"}} for n in range(10)
]
GOLDEN = "".join(json.dumps(question) + "\n" for question in _QUESTIONS)


@contextmanager
def echoing() -> Iterator[str]:
    """Serves meanwhile, at this address."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/answer"
        server.shutdown()
        serving.join()


class _Server(ThreadingHTTPServer):
    """Answers whoever asks; those that are gone before they hear it are no defect."""

    daemon_threads = True

    def handle_error(self, request: object, client: object) -> None:
        """Say nothing."""


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 4096  # head and body in one packet, or the body waits 40 ms for an acknowledgement

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"topic": asked["question"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
