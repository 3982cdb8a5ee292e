# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway as it is: the configuration that Ansible renders, in the real nginx and HAProxy, before a server that
writes down what reaches it. Without these programs only the tables are tested; the Molecule scenarios have them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import typing as t
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.kaido.ollama.plugins.filter import fleet as filters
from ansible_collections.kaido.ollama.plugins.filter.token_errors import token_errors
from ansible_collections.kaido.ollama.plugins.module_utils._service import certificates

from tests.conftest import ROOT
from tests.standin import until
from tests.unit.playbook import run_playbook

ROLE = ROOT / "roles" / "ollama_gateway"
USER, ADMIN = "user-token+of.alice~0123456789==", "admin-token-of-ops-0123456789"
# Every kind of name that a map of nginx, its variables, regular expressions or includes, or HAProxy could read as
# something else, and lengths at the limits of hashes. The filter decides; what it accepts has to work.
NAMES = [
    "default", "include", "hostnames", "volatile", "Default", "map", "user", "admin", "on", "off", "none", "null", "0",
    "1e3", "true", "-", "--", ".a", "a.", ".example.org", "*.example.org", "example.*", "~alice", "~*alice", "~",
    "\\alice", "\\default", "$host", "${host}", "a$b", "a b", "a\tb", "a\nb", "a;b", "a{b", "a}b", '"a"', "'a'",
    "a\"b", "a'b", "#a", "a#b", "a/b", "user/a", "a:b", "a=b", "a,b", "%41", "\u00e4rger", "\u0430lice", "a\u00a0b",
    "a\x00b", "a\x1b[31m", "", " ",
    "a" * 64, "a" * 65, "A" * 63, "x" * 60 + "@-._", "alice@example.org", "2026", "server", "backend", "BACKEND",
]  # fmt: skip
nginx = pytest.mark.skipif(not shutil.which("nginx", path="/usr/sbin:/usr/bin"), reason="needs nginx")
haproxy = pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="needs HAProxy")


def render(folder: Path, *, fleet: bool = False, **variables: t.Any) -> Path:
    """Write the files of the host hecate as the role does, into `folder`; returns it."""
    servers = {"hecate": {}, **({"big2": {"ansible_host": "192.0.2.2"}} if fleet else {})}
    shared = {
        "ollama_gateway_enabled": True,
        "ollama_models": ["tiny"],
        "ollama_gateway_tokens": [
            {"name": "alice", "token": USER, "scope": "user"},
            {"name": "ops", "token": ADMIN, "scope": "admin"},
        ],
        **variables,
    }
    files = "{{ ollama_gateway__files" + (" | combine(ollama_gateway__balancer_files)" if fleet else "") + " }}"
    play = {
        "hosts": "hecate",
        "gather_facts": False,
        "connection": "local",
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "vars": {"files": files, "role_path": str(ROLE), "ansible_python_interpreter": sys.executable},
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": "{{ files[item].content }}",
                    "dest": f"{folder}/{{{{ item | basename }}}}",
                    "mode": "0600",
                },
                "loop": "{{ files.keys() }}",
                "no_log": True,
            },
            {"ansible.builtin.debug": {"var": "ollama_gateway__errors"}},
        ],
    }
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    hosts = {"ollama_servers": {"hosts": servers, "vars": {**defaults, **shared}}}
    (folder / "templates").symlink_to(ROLE / "templates")
    done = run_playbook(folder, hosts, [play], config="[defaults]\ncallback_result_format = json\n")
    assert done.status == 0, done.output
    assert '"ollama_gateway__errors": []' in done.stdout, done.stdout
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server(ThreadingHTTPServer):
    """A server that answers every request with 200 and records it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.hold = threading.Event()
        self.hold.set()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        assert isinstance(self.server, Server)
        if self.path != "/api/version":
            self.server.asked.append((self.requestline, {key.lower(): value for key, value in self.headers.items()}))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "POST":
            self.server.hold.wait(20)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):
                self.wfile.write(b"{}")

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = answer

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class Gateway:
    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.port = free_port()

    def send(self, data: bytes, *, tls: bool = True, wait: float = 3.0) -> bytes:
        """All that comes back for these bytes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        received = b""
        with ExitStack() as stack:
            connection: socket.socket = stack.enter_context(socket.create_connection(("127.0.0.1", self.port), wait))
            if tls:
                connection = stack.enter_context(context.wrap_socket(connection))
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionError, ssl.SSLError):
                pass
        return received

    def ask(self, line: str, *headers: str, token: str = USER, body: bytes = b"", **options: t.Any) -> bytes:
        lines = [f"{line} HTTP/1.1", "Host: hecate", "Connection: close", *headers]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body or line.startswith(("POST", "DELETE")):
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body, **options)

    def health(self) -> int:
        try:
            return status(self.ask("GET /healthz", token=""))
        except OSError:
            return 0

    def balancer_log(self) -> str:
        return (self.folder / "error.log").read_text()

    def log(self) -> str:
        return (self.folder / "access.log").read_text() + self.balancer_log()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


@contextmanager
def running(*, fleet: bool = False, **variables: t.Any) -> t.Iterator[Gateway]:
    with ExitStack() as stack:
        # Short, since sockets have at most 107 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kog")))
        server = Server()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gateway = Gateway(folder, server)
        settings = {"host": f"127.0.0.1:{server.server_port}"}
        render(folder, fleet=fleet, ollama_settings=settings, **{"ollama_gateway_port": gateway.port, **variables})
        key = certificates.new_key()
        (folder / "tls.key").write_text(key)
        (folder / "tls.crt").write_text(certificates.new_authority(key, "test"))
        shutil.copy(folder / "tls.crt", folder / "ca.crt")
        (folder / "cache").mkdir()
        for name in ("nginx.conf", "haproxy.cfg"):
            if (folder / name).exists():
                text = (folder / name).read_text()
                for there, here in (
                    ("/etc/ollama-gateway", str(folder)),
                    ("/var/cache/ollama-gateway", f"{folder}/cache"),
                    ("/run/ollama-balancer", str(folder)),
                    ("user ollama-gateway;", "user root;"),
                    ("listen 0.0.0.0:", "listen 127.0.0.1:"),
                    ("syslog:server=unix:/dev/log,nohostname,tag=ollama_gateway", f"{folder}/access.log"),
                    ("127.0.0.1:11444", f"127.0.0.1:{free_port()}"),
                ):
                    text = text.replace(there, here)
                (folder / name).write_text(text)
        error = stack.enter_context((folder / "error.log").open("wb"))
        commands = [["nginx", "-c", f"{folder}/nginx.conf", "-g", f"daemon off; pid {folder}/pid;"]]
        if fleet:
            commands.insert(0, ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"])
        for command in commands:
            path = f"/usr/sbin:{os.environ['PATH']}"
            process = subprocess.Popen(command, stdout=error, stderr=error, env={**os.environ, "PATH": path})
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
        until(lambda: gateway.health() == 200, "the gateway answers")
        yield gateway


@pytest.fixture(scope="module")
def alone() -> t.Iterator[Gateway]:
    with running(
        ollama_gateway_rate=0,
        ollama_gateway_failure_rate=0,
        ollama_gateway_max_body="1m",
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def shared() -> t.Iterator[Gateway]:
    with running(fleet=True, ollama_gateway_rate=0) as gateway:
        yield gateway


# Names of tokens


@nginx
def test_every_name_works_or_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rows = [{"name": name, "token": f"{index:03}-{'x' * 20}", "scope": "user"} for index, name in enumerate(NAMES)]
    # Each on its own: the names differ in case only, too.
    accepted = [row for row in rows if not token_errors([row])]
    refused = {row["name"] for row in rows if token_errors([row])}
    assert {"default", "include", "hostnames", "volatile", "a" * 64} <= {row["name"] for row in accepted}
    assert {"~alice", "\\default", "$host", "a;b", '"a"', "\u00e4rger", "a" * 65, "a\nb", "-"} <= refused
    unique = list({row["name"].lower(): row for row in accepted}.values())
    with running(ollama_gateway_tokens=unique, ollama_gateway_rate=0) as gateway:
        for row in unique:
            assert status(gateway.ask("GET /api/tags", token=row["token"])) == 200, row["name"]
            assert status(gateway.ask("POST /api/pull", token=row["token"])) == 403, row["name"]
        found = [line.split()[2] for line in gateway.log().splitlines() if " /api/tags " in line]
        assert found == [row["name"] for row in unique]


@haproxy
@pytest.mark.parametrize("name", ["default", "include", "BACKEND", "own", "peers", "ssl", "check", "0", "a" * 200])
def test_every_name_of_a_server_works_in_haproxy(tmp_path: Path, name: str) -> None:
    timeouts = "".join(f" timeout {what} 1s\n" for what in ("connect", "client", "server"))
    proxy = f"listen own\n bind 127.0.0.1:1\n server {name} 192.0.2.1:80\n"
    (tmp_path / "haproxy.cfg").write_text(f"defaults\n{timeouts}{proxy}")
    path = f"/usr/sbin:{os.environ['PATH']}"
    done = subprocess.run(
        ["haproxy", "-c", "-f", tmp_path / "haproxy.cfg"],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# Refusals

LONG = "x" * 9000
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


def is_refusal(answer: bytes) -> bool:
    head, _blank, body = answer.partition(b"\r\n\r\n")
    return (
        b"application/json" in head
        and b"<html" not in answer.lower()
        and list(json.loads(body.split(b"\r\n0\r\n")[0])) == ["error"]
    )


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


# Routes


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


# Limits


@nginx
def test_wrong_tokens_are_limited_and_right_ones_are_not() -> None:
    with running(ollama_gateway_failure_rate=2, ollama_gateway_rate=0) as gateway:
        wrong = [gateway.ask("GET /api/tags", token="wrong") for _turn in range(30)]
        assert {status(answer) for answer in wrong} == {401, 429}
        assert all(is_refusal(answer) for answer in wrong)
        assert [status(gateway.ask("GET /api/tags")) for _turn in range(30)] == [200] * 30
        assert status(gateway.ask("GET /nothing")) == 404


@nginx
def test_connections_are_limited_for_each_token_and_for_all() -> None:
    with running(ollama_gateway_rate=0, ollama_gateway_token_connections=3, ollama_gateway_connections=5) as gateway:
        gateway.server.hold.clear()
        answers: list[tuple[str, int]] = []

        def ask(token: str) -> None:
            answers.append((token, status(gateway.ask("POST /api/show", token=token, body=b"{}", wait=20.0))))

        threads: list[threading.Thread] = []
        before = len(gateway.server.asked)
        for token in [USER] * 5 + [ADMIN] * 5:
            threads.append(threading.Thread(target=ask, args=(token,)))
            threads[-1].start()
            until(lambda: len(gateway.server.asked) - before + len(answers) == len(threads), "it is held or refused")
        assert sorted(answers) == [(ADMIN, 429)] * 3 + [(USER, 429)] * 2
        gateway.server.hold.set()
        for thread in threads:
            thread.join(20)
        assert sorted(code for _token, code in answers) == [200] * 5 + [429] * 5


@nginx
def test_large_bodies_that_wait_are_not_in_memory() -> None:
    with running(ollama_gateway_rate=0) as gateway:
        gateway.server.hold.clear()
        master = int((gateway.folder / "pid").read_text())
        workers = subprocess.run(
            ["pgrep", "-P", str(master)], capture_output=True, text=True, check=True
        ).stdout.split()

        def memory() -> int:
            texts = [Path(f"/proc/{pid}/status").read_text() for pid in workers]
            return sum(int(text.split("VmRSS:")[1].split()[0]) << 10 for text in texts)

        before = memory()
        body = b'{"model":"tiny","prompt":"' + b"x" * (20 << 20) + b'"}'
        threads = [
            threading.Thread(target=gateway.ask, args=("POST /api/chat",), kwargs={"body": body, "wait": 20.0})
            for _turn in range(6)
        ]
        for thread in threads:
            thread.start()
        until(lambda: len(gateway.server.asked) == len(threads), "all have reached the server")
        held = memory() - before
        gateway.server.hold.set()
        for thread in threads:
            thread.join(20)
        assert len(gateway.server.asked) == len(threads)
        # They are 120 MB.
        assert held < 20 << 20


# Several servers


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
