# SPDX-License-Identifier: GPL-3.0-or-later
"""Several servers and gateways, and the addresses of servers."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kaido.ollama.plugins.filter import fleet as filters

from tests.standin import until
from tests.unit.roles.ollama_gateway.gateway import ADMIN, USER, Gateway, haproxy, nginx, render, status


def peers_secret(gateway: Gateway) -> str:
    return (gateway.folder / "peers.map").read_text().split()[1]


@nginx
@haproxy
def test_only_other_gateways_skip_the_queue(shared: Gateway) -> None:
    def through(hop: str | None) -> tuple[int, bool]:
        before, log = len(shared.server.asked), shared.balancer_log()
        code = status(
            shared.ask("POST /api/show", *([f"X-Ollama-Hop: {hop}"] if hop else []), body=b'{"model":"tiny"}')
        )
        reached = len(shared.server.asked) > before
        # The balancer logs a request after its answer, the later one of two perhaps first.
        for _marker in range(3):
            before_marker = shared.balancer_log().count("POST /api/embed")
            assert status(shared.ask("POST /api/embed", body=b'{"model":"tiny"}')) == 200
            until(lambda: shared.balancer_log().count("POST /api/embed") > before_marker, "the request in the log")  # noqa: B023
        balanced = bool(re.search("POST /api/show .*/hecate status", shared.balancer_log()[len(log) :]))
        return code if reached or code != 200 else 0, balanced

    assert through(None) == (200, True)
    for forged in ("1", "own", "true", "1, 1", "x" * 64, peers_secret(shared)[:-1], peers_secret(shared) + "0"):
        assert through(forged) == (200, True), forged
    # A gateway with other tokens, or a client that pretends to be one.
    assert through("0" * 64) == (502, False)
    assert through(peers_secret(shared)) == (200, False)
    assert status(shared.ask("GET /healthz", f"X-Ollama-Hop: {'0' * 64}", token="")) == 502
    assert status(shared.ask("GET /healthz", f"X-Ollama-Hop: {peers_secret(shared)}", token="")) == 200


@nginx
@haproxy
@pytest.mark.parametrize("size", [10, 300 << 10, 2 << 20])
def test_the_model_of_a_body_of_any_size_is_found(shared: Gateway, size: int) -> None:
    body = b'{"model" : "library/tiny", "prompt":"' + b"x" * size + b'"}'
    before = shared.balancer_log()
    assert status(shared.ask("POST /api/generate", body=body)) == 200
    expected = "library/tiny inference-models-1/hecate"
    until(lambda: expected in shared.balancer_log()[len(before) :], f"{expected} in the log")


def test_only_gateways_share_their_secret(tmp_path: Path) -> None:
    def secret(name: str, **variables: t.Any) -> tuple[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        render(folder, fleet=True, **variables)
        reported = (folder / "peers.conf").read_text() + (folder / "peers.map").read_text()
        for file in ("nginx.conf", "haproxy.cfg"):
            assert re.search(r"peers (\S+)", reported)[1] not in (folder / file).read_text()  # type: ignore[index]
        return re.search(r"~\^([0-9a-f]{64})\$", reported)[1], re.search(r"peers (\S+)", reported)[1]  # type: ignore[index]

    rows = [
        {"name": "alice", "token": USER, "scope": "user"},
        {"name": "ops", "token": ADMIN, "scope": "admin"},
    ]
    one, other = secret("a"), secret("b", ollama_gateway_tokens=rows[::-1])
    assert one == other == (one[0], one[0])
    fixed = secret("c", ollama_gateway_peer_secret="a-secret-of-the-gateways")
    assert fixed == secret("d", ollama_gateway_peer_secret="a-secret-of-the-gateways", ollama_gateway_tokens=rows[:1])
    assert fixed != one


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "127.0.0.1:11434"),
        ("127.0.0.1", "127.0.0.1:11434"),
        ("127.0.0.1:1234", "127.0.0.1:1234"),
        ("0.0.0.0", "127.0.0.1:11434"),
        ("0.0.0.0:1234", "127.0.0.1:1234"),
        ("http://127.0.0.1:1234", "127.0.0.1:1234"),
        ("localhost", "localhost:11434"),
        ("localhost:1234", "localhost:1234"),
        # Field case 06
        ("::1", "[::1]:11434"),
        ("[::1]", "[::1]:11434"),
        ("[::1]:11434", "[::1]:11434"),
        ("http://[::1]:1234", "[::1]:1234"),
        ("::", "[::1]:11434"),
        ("[::]", "[::1]:11434"),
        ("[::]:1234", "[::1]:1234"),
        ("0:0:0:0:0:0:0:0", "[::1]:11434"),
        ("fd00::11", "[fd00::11]:11434"),
        ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]:11434"),
    ],
)
def test_the_local_server_is_found_by_any_spelling(host: str, address: str) -> None:
    assert filters.address(host, "ollama_settings.host")["local"] == address


@pytest.mark.parametrize(
    "host", [":1234", "::1:99999:", "127.0.0.1:1234/", "https://a:1", 5, ["a"], "a b", "[1.2.3.4]"]
)
def test_an_address_that_cannot_be_used_is_one_line(host: t.Any) -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"^ollama_settings\.host: invalid value [^\n]*; expected|; [^\n]*expected"
    ):
        filters.address(host, "ollama_settings.host")
