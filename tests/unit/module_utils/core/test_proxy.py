# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies and authorities for requests of this collection: chosen as Ollama chooses them, and really used."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import subprocess
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import request
from ansible_collections.kaido.ollama.plugins.module_utils._core.proxy import (
    is_excepted,
    of_server,
    parse_environment,
    proxy_for,
    way_out,
)
from ansible_collections.kaido.ollama.plugins.module_utils._server.argspec import registry_environment

PROXY = "http://proxy.lan:3128"


# As golang.org/x/net/http/httpproxy has it; its own tests are among these.
@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "direct"),
    [
        ("localhost", 80, "", True),
        ("127.0.0.1", 80, "", True),
        ("127.0.0.2", 80, "", True),
        ("::1", 80, "", True),
        ("::ffff:127.0.0.1", 80, "", True),
        ("api.localhost", 80, "", True),
        ("example.lan", 80, "", False),
        ("example.lan", 80, "*", True),
        ("example.lan", 80, "other.lan, *", True),
        ("example.lan", 80, "example.lan", True),
        ("EXAMPLE.lan", 80, "Example.LAN ", True),
        ("a.example.lan", 80, "example.lan", True),
        ("badexample.lan", 80, "example.lan", False),
        ("example.lan", 80, ".example.lan", False),
        ("a.example.lan", 80, ".example.lan", True),
        ("example.lan", 80, "*.example.lan", False),
        ("a.b.example.lan", 80, "*.example.lan", True),
        ("example.lan", 443, "example.lan:443", True),
        ("example.lan", 80, "example.lan:443", False),
        ("example.lan", 80, ":80", False),
        ("10.1.2.3", 80, "10.0.0.0/8", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3", True),
        ("10.1.2.3", 80, "10.1.2.3:80", True),
        ("10.1.2.3", 81, "10.1.2.3:80", False),
        ("10.1.2.3", 80, "2.3", True),
        ("fd00::5", 80, "fd00::/8", True),
        ("fd00::5", 80, "[fd00::5]:80", True),
        ("fd00::5", 81, "[fd00::5]:80", False),
        ("fd00::5", 80, "[fd00::5]", True),
        ("fd00::5", 80, "fd00:0::5", True),
        ("example.lan", 80, ",, ,/,[,:,10.0.0.0/99", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(host: str, port: int, no_proxy: str, direct: bool) -> None:
    assert is_excepted(host, port, no_proxy) is direct


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://a.lan", {"HTTPS_PROXY": PROXY}, "proxy.lan:3128"),
        ("https://a.lan", {"https_proxy": PROXY}, "proxy.lan:3128"),
        ("https://a.lan", {"HTTPS_PROXY": "http://one.lan", "https_proxy": PROXY}, "one.lan"),
        ("https://a.lan", {"HTTPS_PROXY": "", "https_proxy": PROXY}, "proxy.lan:3128"),
        ("https://a.lan", {"HTTPS_PROXY": "proxy.lan:3128"}, "proxy.lan:3128"),
        ("https://a.lan", {"HTTPS_PROXY": "u:p@proxy.lan:3128"}, "u:p@proxy.lan:3128"),
        ("https://a.lan", {"HTTP_PROXY": PROXY}, None),
        ("http://a.lan", {"HTTP_PROXY": PROXY}, "proxy.lan:3128"),
        ("http://a.lan", {"HTTP_PROXY": PROXY, "no_proxy": "lan"}, None),
        ("https://127.0.0.1:5000", {"HTTPS_PROXY": PROXY}, None),
        ("https://a.lan", {"ALL_PROXY": PROXY}, None),
    ],
)
def test_a_proxy_is_selected_as_by_go(url: str, environment: dict[str, str], proxy: str | None) -> None:
    found = proxy_for(urlsplit(url), environment)
    assert (found.netloc if found else None) == proxy


@pytest.mark.parametrize(
    "value", ["socks5://proxy.lan:1080", "https://proxy.lan", "http://", "http://[::1", "http://a:0"]
)
def test_an_unusable_proxy_is_reported(value: str) -> None:
    with pytest.raises(OllamaError, match="HTTPS_PROXY") as caught:
        proxy_for(urlsplit("https://a.lan"), {"HTTPS_PROXY": value})
    assert caught.value.code == "url_invalid"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"OLLAMA_HOST": "x"}, "value_invalid"),
        ({"ssl_cert_file": "/x"}, "value_invalid"),
        ({"HTTPS_PROXY": 1}, "value_invalid"),
        ({"https_proxy": "http://[::1"}, "url_invalid"),
    ],
)
def test_an_invalid_variable_is_refused(values: dict[str, t.Any], code: str) -> None:
    with pytest.raises(OllamaError) as caught:
        parse_environment(values, what="registry_environment")
    assert caught.value.code == code


def test_the_option_comes_before_the_environment_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://task.lan")
    monkeypatch.setenv("NO_PROXY", "a.lan")
    found = registry_environment({"registry_environment": {"HTTPS_PROXY": PROXY, "SSL_CERT_FILE": ""}})
    assert "https_proxy" not in found
    assert (found["HTTPS_PROXY"], found["NO_PROXY"]) == (PROXY, "a.lan")


@pytest.mark.parametrize(
    ("variables", "proxy", "expected"),
    [
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None, {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}),
        ({"https_proxy": PROXY, "OLLAMA_HOST": "x"}, None, {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.lan"}),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://q.lan"}, None, {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.lan"}),
        (
            {"HTTPS_PROXY": PROXY, "NO_PROXY": "*", "SSL_CERT_FILE": "/ca"},
            "http://r.lan",
            {
                **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://r.lan"),
                "NO_PROXY": "a.lan",
                "SSL_CERT_FILE": "/ca",
            },
        ),
    ],
)
def test_the_way_out_is_that_of_the_server(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None, expected: dict[str, str]
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "a.lan")
    assert way_out(of_server(variables), proxy) == expected


class Proxy:
    """A forward proxy on loopback that connects every name to one address, and records its requests."""

    def __init__(self, target: tuple[str, int], password: str = "") -> None:
        self.asked: list[str] = []
        self._target = target
        self._password = password
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._loop, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def _loop(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._one, args=(self._listener.accept()[0],), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            self.asked.append(head.decode())
            allowed = f"Proxy-Authorization: Basic {base64.b64encode(self._password.encode()).decode()}\r\n"
            if self._password and allowed.encode() not in head:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(self._target) as server:
                if head.startswith(b"CONNECT "):
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(head)
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                back.join(5)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of registry.example, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key.pem"]
    command += ["-subj", "/CN=registry.example", "-addext", "subjectAltName=DNS:registry.example", "-out", "ca.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem", folder / "key.pem"


@pytest.fixture
def server(authority: tuple[Path, Path]) -> Iterator[tuple[str, int]]:
    """An https server of registry.example that answers every request with `hi`, and counts nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority)
    listener = socket.create_server(("127.0.0.1", 0))

    def one(raw: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), context.wrap_socket(raw, server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    def loop() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    yield "127.0.0.1", listener.getsockname()[1]
    listener.close()


URL = "https://registry.example/v2/x"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "ca_path"])
def test_https_goes_through_the_proxy_with_the_authority(
    server: tuple[str, int], authority: tuple[Path, Path], variable: str
) -> None:
    trusted = str(authority[0].parent if variable == "SSL_CERT_DIR" else authority[0])
    with Proxy(server, "u:p@ss") as proxy:
        environment = {"HTTPS_PROXY": f"http://u:p%40ss@127.0.0.1:{proxy.port}"}
        ca_path = trusted if variable == "ca_path" else None
        answer = request("GET", URL, environment={**environment, variable: trusted}, ca_path=ca_path, timeout=10)
    assert answer.body == b"hi"
    assert proxy.asked[0].startswith("CONNECT registry.example:443 HTTP/1.1\r\n")


def test_an_unknown_authority_is_refused(server: tuple[str, int]) -> None:
    with Proxy(server) as proxy, pytest.raises(OllamaError) as caught:
        request("GET", URL, environment={"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}, timeout=10)
    assert caught.value.code == "tls_failed"


def test_a_proxy_that_refuses_is_named_without_its_password(server: tuple[str, int]) -> None:
    with Proxy(server, "u:right") as proxy, pytest.raises(OllamaError) as caught:
        request("GET", URL, environment={"HTTPS_PROXY": f"http://u:wrong@127.0.0.1:{proxy.port}"}, timeout=10)
    assert caught.value.code == "server_unreachable"
    assert f"the proxy 127.0.0.1:{proxy.port} refused {URL}: 407" in caught.value.message
    assert "wrong" not in str(caught.value.to_fail_json())


def test_an_unreachable_proxy_is_named() -> None:
    with pytest.raises(OllamaError, match=r"cannot reach the proxy 127\.0\.0\.1:1 for https://registry\.example"):
        request("GET", URL, environment={"HTTPS_PROXY": "127.0.0.1:1"}, timeout=10)


def test_plain_http_goes_through_the_proxy() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def answer() -> None:
        connection, _peer = listener.accept()
        with connection:
            seen.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")

    threading.Thread(target=answer, daemon=True).start()
    with listener, Proxy(listener.getsockname()) as proxy:
        environment = {"HTTP_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": "other.example"}
        assert request("GET", "http://mirror.example:8080/v2/x", environment=environment, timeout=10).body == b"hi"
    assert proxy.asked[0].startswith("GET http://mirror.example:8080/v2/x HTTP/1.1\r\n")
    assert "\r\nHost: mirror.example:8080\r\n" in proxy.asked[0]
