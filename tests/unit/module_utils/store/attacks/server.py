# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that does not touch the store."""

from __future__ import annotations

import http.server
import json
import typing as t


class Server(http.server.ThreadingHTTPServer):
    """A server that does not touch the store: it lists a model, and refuses pulls and deletions."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.answers: dict[str, t.Any] = {
            "/api/version": {"version": "0.35.1"},
            "/api/tags": {"models": [{"name": "tiny:latest", "digest": "0" * 64, "size": 1}]},
            "/api/ps": {"models": []},
            "/api/pull": {"error": "pull model manifest: 401: unauthorized"},
        }


class Answers(http.server.BaseHTTPRequestHandler):
    """The answers of `Server`."""

    def answer(self) -> None:
        answers = t.cast("Server", self.server).answers
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(answers.get(self.path, {"error": "it is broken"})).encode() + b"\n"
        self.send_response(200 if self.path in answers else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *args: object) -> None:
        pass
