# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway on hecate from another host, with requests and with raw bytes over TLS."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import ssl
import subprocess
import typing as t
from pathlib import Path

import pytest
import requests
import yaml
from conftest import LAB, PROJECT, gate, get_host, until

INVENTORY = yaml.safe_load((PROJECT / "molecule/gateway/inventory/gateway.yml").read_text())
TOKENS = {row["name"]: row["token"] for row in INVENTORY["ollama_servers"]["hosts"]["hecate"]["ollama_gateway_tokens"]}
USER, ADMIN = TOKENS["alice"], TOKENS["ops"]
REFUSALS = set(
    yaml.safe_load((PROJECT / "roles/ollama_gateway/vars/main.yml").read_text())["ollama_gateway__refusals"].values()
)
PORT = 11443
NOBODY = "sha256:" + "a" * 64
# The router of Ollama (server/routes.go), and the routes of each scope: repeated here on purpose.
ROUTES = [
    ("user", "GET", "/", None),
    ("user", "HEAD", "/", None),
    ("user", "GET", "/api/version", None),
    ("user", "HEAD", "/api/version", None),
    ("user", "GET", "/api/tags", None),
    ("user", "HEAD", "/api/tags", None),
    ("user", "GET", "/api/ps", None),
    ("user", "POST", "/api/show", {"model": "nobody"}),
    ("user", "POST", "/api/generate", {"model": "nobody"}),
    ("user", "POST", "/api/chat", {"model": "nobody"}),
    ("user", "POST", "/api/embed", {"model": "nobody"}),
    ("user", "POST", "/api/embeddings", {"model": "nobody"}),
    ("user", "GET", "/v1/models", None),
    ("user", "GET", "/v1/models/nobody%3Alatest", None),
    ("user", "POST", "/v1/chat/completions", {"model": "nobody"}),
    ("user", "POST", "/v1/completions", {"model": "nobody"}),
    ("user", "POST", "/v1/embeddings", {"model": "nobody"}),
    ("user", "POST", "/v1/responses", {"model": "nobody"}),
    ("user", "POST", "/v1/messages?beta=true", {"model": "nobody"}),
    ("user", "POST", "/v1/audio/transcriptions", None),
    ("admin", "GET", "/api/status", None),
    ("admin", "POST", "/api/pull", {"model": "no name"}),
    ("admin", "POST", "/api/push", {"model": "no name"}),
    ("admin", "POST", "/api/create", {"model": "no name"}),
    ("admin", "POST", "/api/copy", {"source": "nobody", "destination": "nobody2"}),
    ("admin", "DELETE", "/api/delete", {"model": "nobody"}),
    ("admin", "HEAD", f"/api/blobs/{NOBODY}", None),
    ("admin", "POST", f"/api/blobs/{NOBODY}", None),
    ("admin", "POST", "/api/me", None),
    ("admin", "POST", "/api/signout", None),
    ("admin", "DELETE", "/api/user/keys/nobody", None),
    ("admin", "POST", "/api/experimental/web_search", None),
]


@pytest.fixture(scope="module")
def hecate() -> t.Any:
    return get_host("hecate")


@pytest.fixture(scope="module")
def dev1() -> t.Any:
    return get_host("dev1")


@pytest.fixture(scope="module")
def address(hecate: t.Any) -> str:
    return str(hecate.check_output("hostname -I").split()[0])


@pytest.fixture(scope="module")
def authority(hecate: t.Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.crt"
    path.write_text(hecate.file("/etc/ollama-gateway/ca.crt").content_string)
    return str(path)


Ask = t.Callable[..., requests.Response]


@pytest.fixture(scope="module")
def ask(address: str, authority: str) -> t.Iterator[Ask]:
    with requests.Session() as session:
        session.verify = authority
        session.trust_env = False

        def send(method: str, path: str, token: str | None = USER, **options: t.Any) -> requests.Response:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            headers.update(options.pop("headers", {}))
            url = f"https://{address}:{PORT}{path}"

            def not_too_fast() -> list[requests.Response]:
                found = session.request(method, url, headers=headers, timeout=30, **options)
                return [found] if found.status_code != 429 else []

            return until(not_too_fast, "no status 429")[0]

        yield send


def passed(answer: requests.Response) -> bool:
    """Whether the server behind the gateway answered, not the gateway."""
    try:
        told = answer.json().get("error")
    except (ValueError, AttributeError):
        told = None
    return answer.status_code not in (401, 403) and not (isinstance(told, str) and told in REFUSALS)


def names(ask: Ask) -> set[str]:
    return {row["name"] for row in ask("GET", "/api/tags").json()["models"]}


@pytest.mark.parametrize(("scope", "method", "path", "body"), ROUTES, ids=lambda value: str(value)[:40])
def test_each_route_requires_the_right_token(ask: Ask, scope: str, method: str, path: str, body: t.Any) -> None:
    for token in (None, "wrong", USER.swapcase(), USER[:-1], USER + "x", f"x {USER}"):
        refused = ask(method, path, token, json=body)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    allowed = ask(method, path, USER, json=body)
    assert passed(allowed) == (scope == "user"), allowed.text
    assert (allowed.status_code == 403) == (scope == "admin")
    assert passed(ask(method, path, ADMIN, json=body))


@pytest.mark.parametrize("token", [None, USER, ADMIN])
@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/", "/v1", "/v1/", "/v2/", "/answers", "/metrics", "/api/pull/x"]
)
def test_what_is_no_route_is_refused(ask: Ask, path: str, token: str | None) -> None:
    assert ask("GET", path, token).status_code == (404 if token else 401)


def test_another_method_is_refused(ask: Ask) -> None:
    for method in ("GET", "PUT", "OPTIONS", "TRACE", "PATCH"):
        assert ask(method, "/api/generate", ADMIN).status_code == 405


# Getting around the scopes. Each request tries to copy a model, which only admin may.

COPY = b'{"source":"tiny","destination":"smuggled"}'
AUTH = f"Authorization: Bearer {USER}\r\n".encode()


def request(line: str, headers: bytes = AUTH, body: bytes = COPY) -> bytes:
    """A complete request for the line, with a length."""
    return (
        line.encode("latin-1")
        + b" HTTP/1.1\r\nHost: hecate\r\n"
        + headers
        + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )


PATHS = [
    "//api/copy", "/api//copy", "/api/./copy", "/./api/copy", "/api/tags/../copy", "/api/tags/..//copy",
    "/x/../api/copy", "/v1/../api/copy", "/v1/x/..%2f..%2fapi/copy", "/v1/x%2f..%2f..%2fapi%2fcopy",
    "/v1/models/%2e%2e/%2e%2e/api/copy", "/v1/models/..%2f..%2fapi%2fcopy", "/api/%63opy", "/%61pi/copy",
    "/api%2fcopy", "/api/copy/", "/api/copy//", "/API/COPY", "/Api/Copy", "/api/copY", "/api/copy%20", "/api/copy%00",
    "/api/copy;x=1", "/api/copy%3fx", "/api/copy%23", "/api\\copy", "\\api\\copy", "/api/tags%2f..%2fcopy",
    "/healthz/../api/copy", "/healthz:/../api/copy", "/healthz%2f..%2fapi%2fcopy", "/healthz?/../api/copy",
    "/api/tags?/../copy", "/api/tags#/../copy", "/api/tags%0d%0aX:%20y", "/api/t\u00e4gs/../copy",
    "/answers/../api/copy",
    "http://localhost:11434/api/copy", "https://hecate:11443/api/copy", "HTTP://HECATE//api/copy",
    "http://hecate/api/tags/../copy", "api/copy", "*", "/api/copy?model=x", "/api/copy#x",
]  # fmt: skip
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(COPY), COPY)
INNER = request("POST /api/copy", headers=b"")
INNER_USER = request("POST /api/copy")
SMUGGLED = {
    "in chunks": b"POST /api/copy HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "two lines": b"GET /api/tags HTTP/1.1\r\nHost: x\r\n" + AUTH + b"\r\n" + INNER_USER,
    "no token on the second": b"GET /api/tags HTTP/1.1\r\nHost: x\r\n" + AUTH + b"\r\n" + INNER,
    "length and chunks": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + INNER,
    "chunks and length": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n" % (len(INNER) + 5)
    + INNER,
    "two lengths": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(INNER)
    + INNER,
    "a list of lengths": b"POST /api/show HTTP/1.1\r\nHost: x\r\n" + AUTH + b"Content-Length: 0, 9\r\n\r\n" + INNER,
    "odd chunks": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n"
    + INNER,
    "chunks twice": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + INNER,
    "chunks with a tab": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    + INNER,
    "a huge chunk": b"POST /api/show HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n"
    + INNER,
    "bare line feeds": INNER_USER.replace(b"\r\n", b"\n"),
    "a folded header": b"POST /api/copy HTTP/1.1\r\nHost: x\r\nAuthorization:\r\n Bearer "
    + USER.encode()
    + b"\r\n\r\n",
    "a space before the colon": b"GET /api/tags HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Content-Length : 99\r\n\r\n"
    + INNER,
    "a body where none belongs": b"GET /api/tags HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Content-Length: %d\r\n\r\n" % len(INNER)
    + INNER,
    "HTTP/0.9": b"POST /api/copy\r\n",
    "HTTP/1.0": b"POST /api/copy HTTP/1.0\r\n" + AUTH + b"Content-Length: %d\r\n\r\n" % len(COPY) + COPY,
    "a tunnel": b"CONNECT localhost:11434 HTTP/1.1\r\nHost: x\r\n" + AUTH + b"\r\n" + INNER,
    "an upgrade": b"GET /api/tags HTTP/1.1\r\nHost: x\r\n"
    + AUTH
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
    + INNER,
}
HEADERS = [
    "X-Original-URL: /api/copy", "X-Rewrite-URL: /api/copy", "X-Forwarded-Uri: /api/copy",
    "X-Accel-Redirect: /api/copy",
    "X-HTTP-Method-Override: DELETE", "X-Ollama-Hop: 1", "X-Ollama-Route: control", "X-Ollama-Model: tiny",
    "Host: localhost:11434", f"Authorization: Bearer {ADMIN[:-1]}", f"authorization: Bearer {USER} ",
    f"Authorization: Basic {USER}", "Authorization_: x", "X-Forwarded-For: 127.0.0.1", "Connection: Authorization",
]  # fmt: skip


def raw(address: str, sent: bytes) -> bytes:
    """All that comes back for these bytes, until the gateway hangs up or is silent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    received = b""
    with socket.create_connection((address, PORT), timeout=1) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(sent)
        try:
            while piece := tls.recv(65536):
                received += piece
                if b"Connection: close" in received:
                    tls.settimeout(0.2)
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
    return received


@pytest.mark.parametrize("method", ["POST", "GET", "post"])
def test_no_spelling_of_a_path_gets_around_the_scopes(ask: Ask, address: str, method: str) -> None:
    before = names(ask)
    for path in PATHS:
        sent = request(f"{method} {path}", AUTH + b"Connection: close\r\n")
        [answer] = until(lambda sent=sent: [a for a in [raw(address, sent)] if b" 429 " not in a[:20]], "no status 429")
        assert answer.split(b" ", 2)[1:2] != [b"200"], (path, answer[:200])
    assert names(ask) == before


@pytest.mark.parametrize("case", SMUGGLED)
def test_no_request_is_smuggled(ask: Ask, address: str, case: str) -> None:
    before = names(ask)
    raw(address, SMUGGLED[case])
    # On all connections that the gateway keeps open to the server
    for _index in range(5):
        assert names(ask) == before


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_lifts_a_scope(ask: Ask, address: str, header: str) -> None:
    before = names(ask)
    for order in (AUTH + header.encode() + b"\r\n", header.encode() + b"\r\n" + AUTH):
        answer = raw(address, request("POST /api/copy", order + b"Connection: close\r\n"))
        assert answer.split(b" ", 2)[1] in (b"400", b"401", b"403"), answer[:200]
    assert names(ask) == before


def test_the_admin_scope_permits_the_routes(ask: Ask) -> None:
    assert ask("POST", "/api/copy", ADMIN, data=COPY).status_code == 200
    assert "smuggled:latest" in names(ask)
    assert ask("DELETE", "/api/delete", ADMIN, json={"model": "smuggled"}).status_code == 200


# Streams, bodies, rates


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"model": "tiny", "prompt": "tell me"}),
        ("/v1/chat/completions", {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_a_response_is_streamed_word_by_word(ask: Ask, hecate: t.Any, path: str, body: t.Any) -> None:
    with gate(hecate) as opened, ask("POST", path, json=body, stream=True) as answer:
        assert answer.status_code == 200
        lines = (line for line in answer.iter_lines(chunk_size=1) if line)
        assert next(lines), "the first word is here, while the stand-in holds the others back"
        opened()
        assert len(list(lines)) > 2


def test_bodies_are_limited_but_uploads_of_admins_are_not(ask: Ask) -> None:
    too_large = {"model": "tiny", "prompt": "x" * (8 << 20)}
    assert ask("POST", "/api/generate", json=too_large).status_code == 413
    nearly = json.dumps({"prompt": "x" * (7 << 20), "model": "nobody", "stream": False})
    assert ask("POST", "/api/generate", data=nearly).status_code == 404
    blob = os.urandom(9 << 20)
    digest = hashlib.sha256(blob).hexdigest()
    assert ask("POST", f"/api/blobs/sha256:{digest}", ADMIN, data=blob).status_code == 201


def test_rates_are_limited_for_each_token_alone(address: str, authority: str) -> None:
    with requests.Session() as session:
        session.verify = authority
        session.trust_env = False
        url = f"https://{address}:{PORT}/api/version"

        def status(token: str) -> int:
            return session.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code

        found = [status(USER) for _index in range(150)]
        assert set(found) == {200, 429}
        assert found[:20] == [200] * 20
        assert status(ADMIN) == 200
        until(lambda: status(USER) == 200, "the token may ask again")


# Certificates, files, logs


def test_only_clients_that_trust_the_authority_connect(address: str, authority: str) -> None:
    url = f"https://{address}:{PORT}/healthz"
    assert requests.get(url, verify=authority, timeout=10).text == "ok\n"
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=10)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection((address, PORT), timeout=5) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain)
    assert "https" in requests.get(f"http://{address}:{PORT}/", timeout=10).text.lower()


def test_it_is_for_the_names_that_clients_use(hecate: t.Any, address: str) -> None:
    shown = hecate.check_output("openssl x509 -in /etc/ollama-gateway/tls.crt -noout -ext subjectAltName")
    assert set(re.findall(r"(?:DNS|IP Address):([^,\s]+)", shown)) >= {"hecate", "localhost", "127.0.0.1", address}


@pytest.mark.parametrize(
    ("name", "mode"), [("tokens.conf", 0o600), ("peers.conf", 0o600), ("tls.key", 0o600), ("ca.key", 0o600)]
)
def test_secrets_are_roots_alone(hecate: t.Any, name: str, mode: int) -> None:
    file = hecate.file(f"/etc/ollama-gateway/{name}")
    assert (file.user, file.mode) == ("root", mode)


def test_tokens_are_in_no_other_file(hecate: t.Any, ask: Ask) -> None:
    ask("GET", f"/api/version?token={USER}")
    ask("GET", "/api/version", f"{USER} x")
    for token in TOKENS.values():
        # sudo writes down what these tests call: a pattern that does not match itself.
        pattern = f"[{token[0]}]{token[1:]}"
        found = hecate.run("grep -rl -- %s /etc /var /run /home /root /tmp /opt", pattern).stdout.split()
        assert set(found) <= {"/etc/ollama-gateway/tokens.conf"}
        assert token in hecate.file("/etc/ollama-gateway/tokens.conf").content_string.replace("\\", "")
        assert not hecate.run("journalctl --output cat | grep -- %s", pattern).stdout


def test_the_log_has_token_and_route_of_each_request(hecate: t.Any, ask: Ask, address: str) -> None:
    ask("GET", "/api/ps", USER)
    ask("GET", "/api/ps", ADMIN)
    ask("GET", "/api/ps", "wrong")
    lines = hecate.check_output("journalctl --identifier ollama_gateway --output cat").splitlines()
    found = [line.split()[2:6] for line in lines if line.split()[4] == "/api/ps"][-3:]
    assert found == [
        ["alice", "GET", "/api/ps", "200"],
        ["ops", "GET", "/api/ps", "200"],
        ["-", "GET", "/api/ps", "401"],
    ]


def test_only_the_master_is_root_and_the_unit_is_confined(hecate: t.Any) -> None:
    users = hecate.check_output("ps -C nginx -o user:20=").split()
    assert sorted(set(users)) == ["ollama-gateway", "root"]
    assert users.count("root") == 1
    hecate.check_output("systemd-analyze security --threshold=30 ollama-gateway.service")


def test_nothing_else_is_open(hecate: t.Any, dev1: t.Any, address: str) -> None:
    for host in (hecate, dev1):
        here = host.check_output("hostname -I").split()[0]
        open_ports = {
            int(line.split()[3].rsplit(":", 1)[1])
            for line in host.check_output("ss -H -ltn").splitlines()
            if not line.split()[3].startswith(("127.", "[::1]"))
        }
        assert open_ports == ({22, PORT} if host is hecate else {22})
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((here, 11434), timeout=5).close()
    assert dev1.run(f"curl --silent --max-time 5 http://{address}:11434/").rc == 7


def test_another_converge_prints_no_secret(tmp_path: Path) -> None:
    """With all the output that there is, and with something to do: the token's file is gone."""
    hecate = get_host("hecate")
    hecate.check_output("rm /etc/ollama-gateway/tokens.conf")
    done = subprocess.run(
        ["ansible-playbook", "-vvvv", "--diff", "-i", LAB / "inventory", "-i", PROJECT / "molecule/gateway/inventory",
         "--limit", "hecate", PROJECT / "molecule/gateway/converge.yml"],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOG_PATH": str(tmp_path / "log")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Write the secrets" in done.stdout
    told = done.stdout + done.stderr + (tmp_path / "log").read_text()
    for secret in (*TOKENS.values(), "PRIVATE KEY"):
        assert secret not in told
