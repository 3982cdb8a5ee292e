# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service still lacks, from what there is; and the module on this machine."""

from __future__ import annotations

import grp
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.parameters import PASS_VARS
from ansible_collections.kaido.ollama.plugins.module_utils._service.pending import (
    ManagedFile,
    ServiceSpec,
    ServiceState,
    pending_steps,
)
from ansible_collections.kaido.ollama.plugins.module_utils._service.survey import _unhealthy, survey
from ansible_collections.kaido.ollama.plugins.modules import service_info

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

UNIT = "/etc/systemd/system/x.service"
CONF = "/etc/x/x.conf"
NOW = time.time()
WANTED = ServiceSpec(
    unit="x.service", user="x", programs=["/usr/sbin/x"], files={UNIT: ManagedFile("u"), CONF: ManagedFile("c")}
)
DONE = ServiceState(
    changed={UNIT: NOW - 50, CONF: NOW - 50}, active=True, enabled=True, started=NOW - 40, reloaded=NOW - 40
)


@pytest.mark.parametrize(
    ("host", "steps"),
    [
        (DONE, []),
        (
            ServiceState(missing=("/usr/sbin/x",), has_user=False, differing=(UNIT, CONF)),
            ["packages", "account", "files", "restart"],
        ),
        (replace(DONE, differing=(CONF,)), ["files", "reload"]),
        (replace(DONE, differing=(UNIT,)), ["files", "restart"]),
        (replace(DONE, active=False), ["restart"]),
        (replace(DONE, enabled=False), ["restart"]),
        (replace(DONE, unhealthy="http 502"), ["restart"]),
        # Runs that were cut short before their handlers
        (replace(DONE, changed={UNIT: NOW - 50, CONF: NOW - 30}), ["reload"]),
        (replace(DONE, changed={UNIT: NOW - 30, CONF: NOW - 50}), ["restart"]),
        (replace(DONE, changed={UNIT: NOW - 50, CONF: NOW - 30}, reloaded=NOW - 20), []),
        # A clock that was set back
        (replace(DONE, changed={UNIT: NOW + 86400, CONF: NOW + 86400}), []),
    ],
)
def test_only_what_is_missing_is_to_be_done(host: ServiceState, steps: list[str]) -> None:
    found = pending_steps(WANTED, host)
    assert list(found) == steps
    assert all(found.values())


def test_a_newer_copied_file_requires_a_reload(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("renewed")
    host = survey(ServiceSpec(reads=[str(tmp_path / "tls.crt"), str(tmp_path / "none")]))
    assert list(host.changed) == [str(tmp_path / "tls.crt")]


def test_files_alone_need_no_service() -> None:
    assert list(pending_steps(ServiceSpec(files={CONF: ManagedFile("c")}), ServiceState(differing=(CONF,)))) == [
        "files"
    ]


def run_on(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, **params: object) -> dict[str, object]:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return run_module(service_info, params)


def test_files_are_compared_by_content_and_mode(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("secret\n")
    path.chmod(0o600)
    owner = os.stat(path)
    # Whoever runs the tests stands for root.
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result([*real(fd)[:4], 0, *real(fd)[5:10]]))
    group = grp.getgrgid(owner.st_gid).gr_name
    wanted = {"content": "secret\n", "mode": "0600", "group": group}

    def differing(**changes: str) -> object:
        return run_on(run_module, monkeypatch, files=json.dumps({str(path): {**wanted, **changes}}))["files"]

    assert differing() == []
    for change in ({"content": "other\n"}, {"mode": "0640"}, {"group": "no-such-group"}):
        assert differing(**change) == [str(path)]
    path.unlink()
    assert differing() == [str(path)]


def test_unexpected_files_are_found(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    files = {str(tmp_path / name): {"content": None} for name in ("link", "never")}
    found = run_on(run_module, monkeypatch, files=json.dumps({str(tmp_path): {"content": None}, **files}))
    assert found["files"] == [str(tmp_path), str(tmp_path / "link")]
    assert found["todo"] == ["files"]


def test_a_port_in_use_is_refused_with_its_process(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run_on(
            run_module, monkeypatch, unit="x.service", listen=[f"0.0.0.0:{port}"], listen_variable="ollama_gateway_port"
        )
        elsewhere = run_on(run_module, monkeypatch, listen=[f"127.0.0.2:{port}"])
    assert result["failure"]["code"] == "port_taken"  # type: ignore[index]
    assert str(result["msg"]).startswith(f"ollama_gateway_port: port {port} is in use by ")
    assert f"(pid {os.getpid()})" in str(result["msg"])
    assert not elsewhere["failed"]


def test_root_is_required(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_module(service_info, {})["failure"]["code"] == "root_required"


def test_a_copy_is_compared_with_its_source(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a further call for a certificate that may have been renewed."""
    source, copy = tmp_path / "source.crt", tmp_path / "tls.crt"
    source.write_text("PEM")
    copy.write_text("PEM")
    copy.chmod(0o640)
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result([*real(fd)[:4], 0, *real(fd)[5:10]]))
    group = grp.getgrgid(copy.stat().st_gid).gr_name
    row = {str(copy): {"source": str(source), "mode": "0640", "group": group}}
    assert run_on(run_module, monkeypatch, files=json.dumps(row))["files"] == []
    source.write_text("RENEWED")
    assert run_on(run_module, monkeypatch, files=json.dumps(row))["files"] == [str(copy)]
    source.unlink()
    missing = run_on(run_module, monkeypatch, files=json.dumps(row))
    assert missing["failure"]["code"] == "file_unreadable"  # type: ignore[index]
    assert str(missing["msg"]).startswith(f"{source}: cannot be read on this host")


def test_an_address_of_another_host_is_refused(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_on(run_module, monkeypatch, listen=["192.0.2.1:11443"], listen_variable="ollama_gateway_port")
    assert result["failure"]["code"] == "address_unavailable"  # type: ignore[index]
    expected = "ollama_gateway_address: invalid value '192.0.2.1'; expected an address of this host"
    assert result["msg"] == expected


def test_paths_come_from_the_table_of_platforms(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = yaml.safe_load((ROOT / "roles/ollama/vars/platforms.yml").read_text())["ollama__platforms"]
    assert all({"nologin", "nginx", "haproxy", "ca_bundle"} <= set(row) for row in table.values())
    own = {key: {"nginx": "/no/nginx"} for key in table}
    found = run_on(run_module, monkeypatch, programs=["@nginx@"], platforms=own)
    assert found["todo"] == ["packages"]
    assert found["reasons"] == {"packages": "/no/nginx: not installed"}


def test_the_files_are_masked_in_the_invocation() -> None:
    """Also if they contain what messages redact, such as a URL with credentials or an Authorization header."""
    files = {"/etc/x": {"content": "https://$host@x secret-token-0123456789 Authorization: Bearer TOKEN"}}
    code = (
        "import sys; from ansible.module_utils import basic; basic._ANSIBLE_ARGS = sys.stdin.buffer.read(); "
        "basic._ANSIBLE_PROFILE = 'legacy'; "
        "from ansible_collections.kaido.ollama.plugins.modules import service_info; service_info.main()"
    )
    arguments: dict[str, t.Any] = {"files": json.dumps(files)}
    if "inject_invocation" in PASS_VARS:
        # From ansible-core 2.21 on, results have no invocation by default.
        arguments["_ansible_inject_invocation"] = True
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(done.stdout)
    assert result["invocation"]["module_args"]["files"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
    # From ansible-core 2.22 on, the controller masks what this lists; test_controller_prints_no_secret checks that the
    # controller prints neither it nor a secret.
    result.pop("_ansible_new_secrets", None)
    assert "secret-token" not in json.dumps(result) + done.stderr


@pytest.mark.parametrize(
    ("status", "expected"), [(200, None), (503, "with status 200: 503"), (None, "with status 200: ")]
)
def test_a_service_is_healthy_if_it_answers_with_status_200(status: int | None, expected: str | None) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if status:
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        reason = _unhealthy(f"http://127.0.0.1:{server.server_port}/healthz")
    assert reason is None if expected is None else expected in str(reason)
