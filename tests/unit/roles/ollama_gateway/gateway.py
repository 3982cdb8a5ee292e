# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway as it is: the configuration that Ansible renders, in the real nginx and HAProxy, before a server that
writes down what reaches it. Without these programs only the tables are tested; the Molecule scenarios have them.
"""

from __future__ import annotations

import json
import os
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
from ansible_collections.kaido.ollama.plugins.module_utils._service import certificates

from tests.conftest import ROOT
from tests.standin import until
from tests.unit.playbook import run_playbook

ROLE = ROOT / "roles" / "ollama_gateway"


USER, ADMIN = "user-token+of.alice~0123456789==", "admin-token-of-ops-0123456789"


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


LONG = "x" * 9000


def is_refusal(answer: bytes) -> bool:
    head, _blank, body = answer.partition(b"\r\n\r\n")
    return (
        b"application/json" in head
        and b"<html" not in answer.lower()
        and list(json.loads(body.split(b"\r\n0\r\n")[0])) == ["error"]
    )
