# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that involve no model."""

from __future__ import annotations

import ipaddress

import pytest

from .target import Target


def _is_loopback(target: Target) -> bool:
    try:
        return ipaddress.ip_address(target.host).is_loopback
    except ValueError:
        return target.host == "localhost"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/pull"), ("POST", "/api/tags"), ("GET", "/api/delete"), ("PUT", "/api/show")]
)
def test_wrong_method(target: Target, method: str, path: str) -> None:
    reply = target.call(method, path)
    assert (reply.status, reply.body) == (405, b"405 method not allowed")
    assert reply.content_type == "text/plain"


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
def test_head_is_allowed(target: Target, path: str) -> None:
    reply = target.call("HEAD", path)
    assert (reply.status, reply.body) == (200, b"")


def test_status_contains_where_the_cloud_was_disabled(target: Target) -> None:
    cloud = target.call("GET", "/api/status").json()["cloud"]
    assert cloud["source"] in ("none", "env", "config", "both")
    assert cloud["disabled"] == (cloud["source"] != "none")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:11434", "10.1.2.3", "a.localhost", "b.local", "c.internal"])
def test_local_host_headers_are_served(target: Target, host: str) -> None:
    assert target.call("GET", "/api/version", headers={"Host": host}).status == 200


def test_a_foreign_host_header_is_refused_on_loopback(target: Target) -> None:
    if not _is_loopback(target):
        pytest.skip("only a server bound to loopback checks the Host header")
    reply = target.call("GET", "/api/version", headers={"Host": "evil.example.com"})
    assert (reply.status, reply.body) == (403, b"")


def test_a_foreign_origin_is_refused(target: Target) -> None:
    reply = target.call("GET", "/api/version", headers={"Origin": "http://evil.example.com"})
    if reply.headers.get("access-control-allow-origin") == "*":
        pytest.skip("this server was started with OLLAMA_ORIGINS=*")
    assert reply.status == 403


def test_a_local_origin_is_served(target: Target) -> None:
    assert target.call("GET", "/api/version", headers={"Origin": "http://localhost:3000"}).status == 200


def test_the_form_of_a_blob_digest_is_checked(target: Target) -> None:
    assert target.call("HEAD", "/api/blobs/sha256:abc").status == 400


def test_openai_errors_have_their_own_shape(target: Target) -> None:
    body = {"model": "kaido-conformance/none", "messages": [{"role": "user", "content": "x"}]}
    reply = target.call("POST", "/v1/chat/completions", body)
    assert reply.status == 404
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "not found" in error["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unread_body_is_not_the_next_request(target: Target, method: str) -> None:
    """Go discards it or closes the connection: a proxy may send requests of other clients on that connection."""
    connection = target.connect()
    path = "/api/version" if method == "GET" else "/no-such-route"
    connection.request(method, path, body="GET /no-such-route HTTP/1.1\r\nHost: localhost\r\n\r\n")
    first = connection.getresponse()
    assert first.status == (200 if method == "GET" else 404)
    first.read()
    connection.request("GET", "/api/version")
    second = connection.getresponse()
    assert second.status == 200
    assert "version" in second.read().decode()
    connection.close()
