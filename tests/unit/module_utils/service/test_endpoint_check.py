# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint of a client is checked before services use it: it answers, accepts the token, and has the models."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._service import endpoint_check
from ansible_collections.kaido.ollama.plugins.module_utils._service.endpoint_check import check
from ansible_collections.kaido.ollama.plugins.modules import service_info

from tests.unit.conftest import RunModule

TOKEN = "secret-token-0123456789"
KEY = "/etc/kaido-ollama/keys/gateway"


class Answer(BaseHTTPRequestHandler):
    """An Ollama server behind a gateway, and a provider with other routes."""

    status = 200
    body: t.ClassVar = {"models": [{"name": "tiny:latest"}, {"name": "kaido/embed:q8"}]}

    def do_GET(self) -> None:
        accepted = self.headers.get("Authorization") == f"Bearer {TOKEN}" or self.headers.get("x-api-key") == TOKEN
        status = self.status if accepted else 401
        if self.path.startswith("/v1/models/") and not self.path.endswith("/known"):
            status = 404
        body = json.dumps(self.body).encode()
        self.send_response(status)
        self.send_header("Location", "http://192.0.2.1/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """``/api/show``: a gateway queries a server that has the model; ``/api/tags`` is the list of one server."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200 if self.path == "/api/show" and asked == {"model": "on-another-server:1"} else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: t.Any) -> None:
        pass


@pytest.fixture
def url() -> t.Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def described(url: str, **changes: t.Any) -> dict[str, t.Any]:
    return {
        "version": 1, "provider": "gateway", "api": "ollama", "base_url": url, "openai_base_url": f"{url}/v1",
        "model": "tiny", "embedding_model": "kaido/embed:q8", "token_file": KEY, "ca_file": None, "fallback": None,
        **changes,
    }  # fmt: skip


def test_an_endpoint_that_works(url: str) -> None:
    assert check(described(url), {KEY: TOKEN}) == []
    remote = described(url, api="openai", model="known")
    assert check(described(url, fallback=remote), {KEY: TOKEN}) == []
    assert check(described(url, api="anthropic", model="known"), {KEY: TOKEN}) == []


def test_a_model_of_another_server_behind_the_gateway_is_found(url: str) -> None:
    assert check(described(url, model="on-another-server:1"), {KEY: TOKEN}) == []


@pytest.mark.parametrize(
    ("changes", "token", "message", "certain"),
    [
        ({}, "wrong-token-0123456789", "ollama_client_keys.gateway: {url} does not accept the token", True),
        ({"model": "other"}, TOKEN, "ollama_client_providers.gateway.model: invalid value 'other'; "
         "expected a model of {url}: kaido/embed:q8, tiny:latest", True),
        ({"embedding_model": "x"}, TOKEN, "ollama_client_providers.gateway.embedding_model: invalid value 'x'", True),
        ({"api": "openai"}, TOKEN, "provider gateway: {url} does not list the model tiny", False),
    ],
)  # fmt: skip
def test_a_problem_is_one_line(url: str, changes: dict[str, t.Any], token: str, message: str, certain: bool) -> None:
    [finding] = check(described(url, **changes), {KEY: token})
    assert finding.text.startswith(message.format(url=url))
    assert "\n" not in finding.text
    assert token not in finding.text
    assert finding.certain is certain


@pytest.mark.parametrize(
    ("status", "certain"), [(502, False), (503, False), (429, False), (403, True), (302, True), (404, True)]
)
def test_statuses(url: str, monkeypatch: pytest.MonkeyPatch, status: int, certain: bool) -> None:
    monkeypatch.setattr(Answer, "status", status)
    [finding] = check(described(url), {KEY: TOKEN})
    assert finding.certain is certain


def test_no_answer_may_be_temporary() -> None:
    [finding] = check(described("http://127.0.0.1:1"), {KEY: TOKEN})
    assert (finding.certain, finding.text.startswith("provider gateway: http://127.0.0.1:1 does not answer")) == (
        False,
        True,
    )


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"x"])
def test_an_endpoint_that_trickles_ends_the_check(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """A byte before each timeout of the socket: in a header, or in the line of the status."""
    monkeypatch.setattr(endpoint_check, "_TIMEOUT", 0.3)
    closing = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" if piece != b"x" else b"HTTP/1.1 2")
            while not closing.wait(0.1):
                connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: trickle(server.accept()[0]), daemon=True)
        thread.start()
        [finding] = check(described(f"http://127.0.0.1:{server.getsockname()[1]}"), {KEY: TOKEN})
        closing.set()
        thread.join()
    assert not finding.certain
    assert "did not answer, or too slowly" in finding.text


def test_the_module_fails_for_what_is_certain_and_warns_otherwise(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    path = "/etc/kaido-ollama/endpoint.json"

    def run(check_mode: bool = False, **changes: t.Any) -> dict[str, t.Any]:
        files = {KEY: {"content": TOKEN}, path: {"content": json.dumps(described(url, **changes))}}
        return run_module(service_info, {"files": json.dumps(files), "endpoint": path}, check=check_mode)

    assert run()["warnings"] == []
    assert "does not answer" in run(base_url="http://127.0.0.1:1")["warnings"][0]
    assert run(model="other")["failure"]["code"] == "endpoint_invalid"
    # In check mode the gateway may be about to get the token or the model.
    assert "invalid value 'other'" in run(check_mode=True, model="other")["warnings"][0]
