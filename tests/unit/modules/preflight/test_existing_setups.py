# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on hosts as operators have them: units and drop-ins of others, forwarded ports, missing authorities."""

from __future__ import annotations

import socket
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import sockets
from ansible_collections.kaido.ollama.plugins.module_utils._core.address import Address
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import host_facts
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import HostFacts, ServerFacts
from ansible_collections.kaido.ollama.plugins.modules import preflight

from tests.unit.conftest import RunModule
from tests.unit.modules.preflight.hosts import (
    CONVERGED,
    FOREIGN,
    FRESH,
    MODELS,
    WANTED,
    arguments,
    examine,
    refusal,
    show,
)

START = "[Service]\nExecStart=\nExecStart="


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (START + "/home/me/ollama serve\n", ["ExecStart=/home/me/ollama serve does not start /opt/ollama/current"]),
        (START + "/usr/bin/env OLLAMA_DEBUG=1 /usr/bin/ollama serve\n", ["does not start"]),
        ("[Service]\nEnvironmentFile=\n", ["EnvironmentFile= clears the settings in /etc/ollama/ollama.env"]),
        (START + "/opt/ollama/current/bin/ollama serve\n", []),
        (START + "/usr/local/bin/ollama serve\n", []),
        (START + "@/opt/ollama/current/bin/ollama ollama serve\n", []),
        (START + "/usr/bin/numactl --interleave=all /opt/ollama/current/bin/ollama serve\n", []),
        (START + "/usr/bin/nice \\\n  -n 5 \\\n  /opt/ollama/current/bin/ollama serve\n", []),
        (START + "/bin/sh -c 'exec /opt/ollama/current/bin/ollama serve'\n", []),
        (START + "/opt/ollama/current/bin/ollama-other serve\n", ["does not start"]),
        ("[Service]\nEnvironmentFile=\nEnvironmentFile=-/etc/ollama/ollama.env\n", []),
        ("[Service]\nEnvironmentFile=/etc/ollama/ollama.env\nEnvironmentFile=\n", ["EnvironmentFile= clears"]),
        ("[Service]\nNice=5\nExecStartPre=/bin/true\nEnvironment=OLLAMA_DEBUG=1\n", []),
    ],
)
@pytest.mark.parametrize("host", [FRESH, CONVERGED])
def test_a_drop_in_that_starts_another_program_is_refused(text: str, words: list[str], host: HostFacts) -> None:
    there = replace(host, drop_ins={"override.conf": text})
    if not words:
        examine(WANTED, there)
        return
    error = refusal(WANTED, there)
    assert error.code == "drop_in_conflict"
    for word in ["/etc/systemd/system/ollama.service.d/override.conf: ", *words]:
        assert word in error.message


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OLLAMA_MODELS": "/srv/other"}, ["OLLAMA_MODELS=/srv/other", f"ollama_models_dir: {MODELS}"]),
        ({"OLLAMA_HOST": "0.0.0.0:11434"}, ["OLLAMA_HOST=0.0.0.0:11434", "ollama_settings.host: 127.0.0.1:11434"]),
        ({"OLLAMA_MODELS": MODELS, "OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_DEBUG": "1"}, []),
    ],
)
def test_a_file_of_a_drop_in_that_overrides_the_role_is_refused(variables: dict[str, str], words: list[str]) -> None:
    text = "[Service]\nEnvironmentFile=-/etc/default/ollama\n"
    there = replace(CONVERGED, drop_ins={"x.conf": text}, drop_in_files={"x.conf": variables})
    if not words:
        examine(WANTED, there)
        return
    error = refusal(WANTED, there)
    assert error.code == "drop_in_conflict"
    assert all(word in error.message for word in words)


@pytest.mark.parametrize("line", ["EnvironmentFile=/etc/default/ollama", 'EnvironmentFile = "-/etc/default/ollama"'])
def test_the_files_of_drop_ins_are_read(tmp_path: Path, line: str) -> None:
    for path, text in {
        "etc/default/ollama": "OLLAMA_MODELS=/srv/other\nnot a variable\n",
        "etc/systemd/system/ollama.service.d/x.conf": f"[Service]\n{line}\nEnvironmentFile=-/etc/missing\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert host_facts.gather(WANTED, 11434, str(tmp_path), show()).drop_in_files == {
        "x.conf": {"OLLAMA_MODELS": "/srv/other"}
    }


def test_a_masked_unit_is_named(tmp_path: Path) -> None:
    host = host_facts.gather(WANTED, 11434, str(tmp_path), show(UnitFileState="masked"))
    error = refusal(WANTED, replace(FOREIGN, service=host.service))
    assert error.code == "unit_masked"
    assert "systemctl unmask ollama.service" in error.message


def test_a_unit_in_another_directory_is_an_installation_of_others(tmp_path: Path) -> None:
    path = "/usr/lib/systemd/system/ollama.service"
    service = host_facts.gather(WANTED, 11434, str(tmp_path), show(FragmentPath=path)).service
    error = refusal(WANTED, replace(FRESH, service=replace(service, environment={"OLLAMA_MODELS": "/srv/llm"})))
    assert error.code == "installation_foreign"
    for word in (path, "dpkg -S or rpm -qf", "set ollama_models_dir: /srv/llm"):
        assert word in error.message
    ours = ServerFacts(path="/etc/systemd/system/ollama.service", active=True, enabled=True, started=2000.0)
    assert examine(WANTED, replace(CONVERGED, service=ours)) == {}


def test_a_port_that_a_rule_forwards_is_refused() -> None:
    """Docker without its userland proxy has no listener: the firewall sends connections to the container."""
    error = refusal(WANTED, replace(FRESH, forwarded=True))
    assert error.code == "port_taken"
    for word in ("ollama_settings.host: '127.0.0.1:11434'", "no program of this host listens", "container engine"):
        assert word in error.message


def test_only_an_address_that_accepts_connections_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1])
        assert sockets.accepts(address)
    assert not sockets.accepts(address)
    assert not sockets.accepts(Address("name.invalid", 80))


@pytest.mark.parametrize(
    ("wanted", "option"),
    [
        ({"settings": {"ssl_cert_file": "/etc/corp.pem"}}, "ollama_settings.ssl_cert_file: invalid value"),
        ({"settings": {"ssl_cert_file": "/etc"}}, "ollama_settings.ssl_cert_file: invalid value '/etc'"),
        ({"environment": {"SSL_CERT_FILE": "/etc/corp.pem"}}, "ollama_environment.SSL_CERT_FILE: invalid value"),
        ({"settings": {"ssl_cert_file": "/etc/there.pem"}}, None),
        ({"settings": {"ssl_cert_dir": "/etc/missing"}}, None),
        ({}, None),
    ],
)
def test_authorities_that_the_server_could_not_read(
    tmp_path: Path, wanted: dict[str, t.Any], option: str | None
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/there.pem").touch()
    problem = host_facts.gather(replace(WANTED, **wanted), 11434, str(tmp_path), show()).authority_problem
    assert problem is None if option is None else str(problem).startswith(option)


@pytest.mark.parametrize("check", [False, True])
def test_missing_authorities_fail_before_anything_changes(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    """In check mode an earlier task has not created the file yet."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    problem = "ollama_settings.ssl_cert_file: invalid value '/x'; expected a file"
    monkeypatch.setattr(host_facts, "gather", lambda *_: replace(FRESH, authority_problem=problem))
    result = run_module(preflight, arguments(), check=check)
    if check:
        assert problem in result["warnings"]
    else:
        assert (result["failure"]["code"], result["msg"]) == ("file_unreadable", problem)
