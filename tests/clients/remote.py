# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake remote provider: HTTPS, a key, and the part of OpenAI's API that prove.py uses.

python3 remote.py PORT CERTIFICATE KEY TOKEN
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL, WORDS = "remote-1", ("I", " am", " the", " remote", " one", ".")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    token: t.ClassVar[str]

    def answer(self, body: t.Any, status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def allowed(self) -> bool:
        if self.headers["Authorization"] == f"Bearer {self.token}":
            return True
        self.answer({"error": {"message": "Incorrect API key provided.", "type": "invalid_request_error"}}, 401)
        return False

    def do_GET(self) -> None:
        if not self.allowed():
            return
        if self.path == "/v1/models":
            self.answer({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "me"}]})
        else:
            self.answer({"error": {"message": f"no route {self.path}", "type": "invalid_request_error"}}, 404)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        if request.get("model") != MODEL:
            self.answer({"error": {"message": "no such model", "type": "invalid_request_error"}}, 404)
        elif self.path == "/v1/embeddings":
            row = {"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1.0]}
            self.answer(
                {"object": "list", "model": MODEL, "data": [row], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
            )
        elif self.path == "/v1/chat/completions" and request.get("stream"):
            self.stream()
        else:
            self.answer({"error": {"message": f"no route {self.path}", "type": "invalid_request_error"}}, 404)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in (*WORDS, None):
            choice = {"index": 0, "delta": {"content": word} if word else {}, "finish_reason": None if word else "stop"}
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            time.sleep(0.05)
        self.wfile.write(b"data: [DONE]\n\n")


def main() -> None:
    port, certificate, key, Handler.token = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("0.0.0.0", int(port)), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
