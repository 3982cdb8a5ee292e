# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes and their queries."""

from __future__ import annotations

import pytest

from tests.unit.roles.ollama_gateway.gateway import ADMIN, USER, Gateway, nginx, status


@nginx
@pytest.mark.parametrize(
    "path",
    [
        "/v1/nothing",
        "/v1/models/a/b",
        "/v1/chat",
        "/v1/files",
        "/v1/messages/count_tokens",
        "/v1/fine_tuning/jobs",
        "/api/nothing",
        "/api/experimental/x",
        "/api/user/keys/a/b",
        "/v1/models/..",
        "/v1/models/.x",
        "/v1/models/a%2fb",
        "/v1/models/a%252fb",
        "/v1/models/a;b",
        "/v1/chat/completions/",
        "/v1//models",
        "/V1/models",
    ],
)
def test_unknown_routes_are_refused(alone: Gateway, path: str) -> None:
    before = len(alone.server.asked)
    for token in (USER, ADMIN):
        for method in ("GET", "POST", "DELETE"):
            assert status(alone.ask(f"{method} {path}", token=token)) in (400, 404), (method, path)
    assert len(alone.server.asked) == before


@nginx
def test_the_query_reaches_neither_the_server_nor_a_log(alone: Gateway) -> None:
    secret = "s3cret-in-the-query"
    lines = [
        f"GET /api/tags?token={secret}",
        f"GET /?{secret}",
        f"POST /v1/messages?beta={secret}",
        f"POST /api/show??{secret}",
        f"POST /api/pull?x={secret}",
        f"HEAD /api/blobs/sha256:{'a' * 64}?{secret}",
        f"GET http://x/api/version?{secret}",
        f"GET /nothing?{secret}",
        f"GET /healthz?{secret}",
        f"GET /%zz?{secret}",
        f"POST /api/show?{secret}#{secret}",
    ]
    alone.server.asked.clear()
    for line in lines:
        alone.ask(line, token=ADMIN, body=b"{}" if line.startswith("POST") else b"")
        alone.ask(line, token=secret, body=b"{}" if line.startswith("POST") else b"")
    # What fails at the server is in the log of errors of nginx.
    alone.ask(f"POST /api/show?{secret}", body=b"x" * (2 << 20))
    assert len(alone.server.asked) >= 6
    assert all("?" not in line and secret not in str(headers) for line, headers in alone.server.asked)
    assert secret not in alone.log()
    assert USER not in alone.log()
    assert ADMIN not in alone.log()
