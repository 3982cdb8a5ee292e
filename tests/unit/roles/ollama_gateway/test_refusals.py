# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals: each one is an error of the gateway in JSON."""

from __future__ import annotations

import re

import pytest

from tests.standin import until
from tests.unit.roles.ollama_gateway.gateway import (
    ADMIN,
    LONG,
    USER,
    Gateway,
    haproxy,
    is_refusal,
    nginx,
    running,
    status,
)

MALFORMED = {
    "no method": b"\r\n\r\nGET\r\n\r\n",
    "an invalid method": b"g3t /api/tags HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "an invalid version": b"GET /api/tags HTTP/x\r\nHost: x\r\n\r\n",
    "HTTP/2": b"GET /api/tags HTTP/2.0\r\nHost: x\r\n\r\n",
    "no host": b"GET /api/tags HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /api/tags HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "an invalid host": b"GET /api/tags HTTP/1.1\r\nHost: x/../y\r\n\r\n",
    "bytes": bytes(range(128, 256)) + b"\r\n\r\n",
    "a null": b"GET /api/\x00tags HTTP/1.1\r\nHost: x\r\n\r\n",
    "out of the root": b"GET /../../etc HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad escape": b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long line": f"GET /{LONG} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a long header": f"GET /api/tags HTTP/1.1\r\nHost: x\r\nX: {LONG}\r\n\r\n".encode(),
    "many headers": f"GET /api/tags HTTP/1.1\r\nHost: x\r\n{'X: ' + 'y' * 4000}\r\n".encode() * 12 + b"\r\n",
    "a negative length": b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": b"POST /api/show HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nx",
    "an unknown encoding": b"POST /api/show HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nx",
    "a tunnel": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a trace": b"TRACE /api/tags HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in a header": b"GET /api/tags HTTP/1.1\r\nHost: x\r\nA B : x\r\n\r\n",
}


# A body that ends wrong is refused after the token.
BODIES = {
    "a bad chunk": (b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "a huge chunk": (b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    "a long body": (b"Content-Length: 99999999\r\n\r\n", 413),
}


@nginx
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_get_the_refusal_of_the_gateway(alone: Gateway, case: str) -> None:
    before = len(alone.server.asked)
    data = MALFORMED[case].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    answer = alone.send(data)
    assert 400 <= status(answer) < 506, answer
    assert status(answer) != 500
    assert is_refusal(answer), answer
    assert len(alone.server.asked) == before


@nginx
@pytest.mark.parametrize("case", BODIES)
def test_malformed_bodies_get_the_refusal_of_the_gateway(alone: Gateway, case: str) -> None:
    sent, expected = BODIES[case]
    head = f"POST /api/show HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {USER}\r\n".encode()
    answer = alone.send(head + sent)
    assert status(answer) == expected, answer
    assert is_refusal(answer), answer


@nginx
def test_every_refusal_is_json(alone: Gateway) -> None:
    found = {
        401: alone.ask("GET /api/tags", token="x"),
        403: alone.ask("POST /api/pull"),
        404: alone.ask("GET /nothing"),
        405: alone.ask("GET /api/show"),
        400: alone.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", tls=False),
        414: alone.ask(f"GET /{LONG}"),
        431: alone.ask("GET /api/tags", f"X: {LONG}"),
    }
    for code, answer in found.items():
        assert (status(answer), is_refusal(answer)) == (code, True), answer
    assert b"WWW-Authenticate: Bearer" in found[401]
    assert b"https" in found[400]
    text = (alone.folder / "nginx.conf").read_text()
    for code in (400, 401, 403, 404, 405, 408, 413, 414, 429, 494, 495, 496, 497, 500, 501, 502, 503, 504, 505):
        assert re.search(rf"error_page {code} ", text), code


@nginx
@pytest.mark.parametrize(
    "path",
    [
        "/.gateway/400",
        "/.gateway/401",
        "/.gateway/x",
        "//.gateway/400",
        "/x/../.gateway/497",
        "/answers",
        "/%61nswers",
        "/.gateway/../api/pull",
    ],
)
def test_internal_locations_are_no_routes(alone: Gateway, path: str) -> None:
    before = len(alone.server.asked)
    for token in ("", USER, ADMIN):
        answer = alone.ask(f"GET {path}", token=token)
        assert status(answer) in (401, 404), answer
        assert is_refusal(answer)
    assert len(alone.server.asked) == before


@nginx
@pytest.mark.parametrize("fleet", [False, pytest.param(True, marks=haproxy)])
def test_a_stopped_server_results_in_an_error_in_json(fleet: bool) -> None:
    with running(fleet=fleet, ollama_gateway_rate=0, ollama_gateway_queue_timeout=1) as gateway:
        gateway.server.shutdown()
        gateway.server.server_close()
        answers = []

        def is_unavailable() -> bool:
            answers.append(gateway.ask("GET /healthz", token=""))
            return status(answers[-1]) == 503

        until(is_unavailable, "the gateway has detected it")
        assert is_refusal(answers[-1]), answers[-1]
        for line in ("GET /api/tags", "POST /api/chat", "POST /api/pull"):
            answer = gateway.ask(line, token=ADMIN, body=b"{}" if line.startswith("POST") else b"", wait=20.0)
            assert status(answer) in (502, 503), answer
            assert is_refusal(answer), answer


@nginx
@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/answers", "/metrics", "/v1", "/api/pull", "/healthz/", "/healthz?x"]
)
def test_without_a_token_routes_are_not_disclosed(alone: Gateway, path: str) -> None:
    for token in ("", "x" * 30):
        assert status(alone.ask(f"GET {path}", token=token)) == 401
