# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where services listen and what they execute."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import typing as t
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.address import Address
from ansible_collections.kaido.ollama.plugins.module_utils._core.sockets import Socket
from ansible_collections.kaido.ollama.plugins.module_utils._service import units as units_module
from ansible_collections.kaido.ollama.plugins.module_utils._service.pending import (
    ServiceSpec,
    ServiceState,
    pending_steps,
)

from tests.unit.module_utils.service.root import make, process, tcp


def test_sockets_are_those_of_the_processes(tmp_path: Path) -> None:
    server, gateway, other = "ollama.service", "ollama-gateway.service", "nginx.service"
    process(tmp_path, 10, server, _3="socket:[1]", _4="socket:[9]")
    process(tmp_path, 20, gateway, _3="socket:[2]", _4="/dev/null")
    process(tmp_path, 21, gateway, _3="socket:[2]")
    process(tmp_path, 22, "ollama-balancer.service", _3="socket:[4]")
    process(tmp_path, 30, other, _3="socket:[3]")
    # The server's runners listen on loopback too; they are no port that this collection opens.
    tcp(
        tmp_path,
        ("0100007F", 11500, 997, 1),
        ("0100007F", 40000, 997, 9),
        ("00000000", 11443, 0, 2),
        ("0100007F", 11444, 996, 4),
        ("00000000", 80, 0, 3),
    )
    make(tmp_path, "/etc/ollama/ollama.env", 'OLLAMA_HOST="127.0.0.1:11500"\n')
    assert units_module.listening(str(tmp_path)) == [
        {"service": "server", "address": "127.0.0.1:11500"},
        {"service": "balancer", "address": "127.0.0.1:11444"},
        {"service": "gateway", "address": "0.0.0.0:11443"},
    ]


@pytest.mark.parametrize(("uid", "expected"), [(997, ["0.0.0.0:11480"]), (0, [])])
def test_hidden_processes_are_matched_by_user_except_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, expected: list[str]
) -> None:
    process(tmp_path, 10, _3="socket:[1]")
    os.chown(tmp_path / "proc/10", uid, uid)
    tcp(tmp_path, ("00000000", 11480, uid, 1), ("00000000", 22, 0, 2))
    real = os.listdir

    def listdir(path: t.Any = ".") -> list[str]:
        if str(path).endswith("/fd"):
            raise PermissionError(path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", listdir)
        assert [row["address"] for row in units_module.listening(str(tmp_path))] == expected
    monkeypatch.setattr(os, "readlink", Mock(side_effect=PermissionError))
    assert [row["address"] for row in units_module.listening(str(tmp_path))] == expected


NOW = time.time()
RUNS = ServiceState(active=True, enabled=True, started=NOW - 40, reloaded=NOW - 40)


@pytest.mark.parametrize(
    ("wanted", "observed", "restarts"),
    [
        ("0.0.0.0:11480", ["0.0.0.0:11480"], False),
        ("[::]:11480", [":::11480"], False),
        # nginx cannot bind a part of what it has bound: a reload keeps the old configuration.
        ("127.0.0.1:11480", ["0.0.0.0:11480"], True),
        ("0.0.0.0:11480", [":::11480"], True),
        ("0.0.0.0:11480", ["0.0.0.0:11480", "0.0.0.0:80"], True),
        ("0.0.0.0:11480", ["0.0.0.0:11480", "127.0.0.1:80"], False),
        # Unknown is no reason.
        ("0.0.0.0:11480", [], False),
    ],
)
def test_unexpected_sockets_require_a_restart(wanted: str, observed: list[str], restarts: bool) -> None:
    host, _colon, port = wanted.rpartition(":")
    sockets = tuple(
        Socket(address, int(number), 0, "1") for address, _colon, number in (text.rpartition(":") for text in observed)
    )
    asked = ServiceSpec(unit="x.service", listen=[Address(host.strip("[]"), int(port))])
    assert ("restart" in pending_steps(asked, replace(RUNS, sockets=sockets))) == restarts


def mapping(path: str, rights: str = "r-xp") -> str:
    return f"7f0000000000-7f0000001000 {rights} 00000000 08:01 1234   {path}\n"


@pytest.mark.parametrize(
    ("maps", "found"),
    [
        (mapping("/usr/sbin/nginx"), None),
        (mapping("/usr/sbin/nginx (deleted)"), "/usr/sbin/nginx was replaced after process 8 had loaded it"),
        (mapping("/usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)"), "/usr/lib/x86_64-linux-gnu/libssl.so.3 was"),
        (mapping("/lib/with space.so (deleted)"), "/lib/with space.so was replaced"),
        # Data, and what is no file of the system: shared memory, code made at run time.
        (mapping("/usr/share/zoneinfo/UTC (deleted)", "r--p"), None),
        (mapping("/dev/zero (deleted)", "rwxs"), None),
        (mapping("/memfd:pcre (deleted)"), None),
        (mapping("/tmp/ffi1234 (deleted)"), None),
        (mapping("/var/cache/ollama-mirror/planted (deleted)"), None),
        ("7f0000000000-7f0000001000 r-xp 00000000 00:00 0\nnonsense\n", None),
        ("", None),
    ],
)
def test_a_replaced_file_is_found_in_any_process(tmp_path: Path, maps: str, found: str | None) -> None:
    process(tmp_path, 7, maps=mapping("/usr/sbin/nginx"))
    process(tmp_path, 8, maps=maps)
    message = units_module.replaced(units_module.processes(str(tmp_path))["ollama-mirror.service"], root=str(tmp_path))
    assert (message or "").startswith(found or "")
    assert (message is None) == (found is None)


def test_a_program_newer_than_its_process_counts_as_replaced_without_proc(tmp_path: Path) -> None:
    program = make(tmp_path, "/usr/sbin/nginx")
    changed = os.stat(program).st_ctime

    def message(started: float) -> str | None:
        return units_module.replaced([7], ["/usr/sbin/nginx", "/usr/sbin/none"], started, str(tmp_path))

    assert message(changed - 5) == "/usr/sbin/nginx was replaced after its start"
    assert message(changed + 5) is None
    # It has not been started.
    assert message(0.0) is None


def test_a_program_that_is_really_replaced(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(str(shutil.which("sleep")), program)
    started = time.time() - 5
    with subprocess.Popen([program, "600"]) as running:
        try:
            deadline = time.monotonic() + 10
            # The kernel sets exe before it maps the program.
            mapped = re.compile(rf"r-xp .* {re.escape(str(program))}$", re.MULTILINE)
            while not mapped.search(Path(f"/proc/{running.pid}/maps").read_text()):
                assert time.monotonic() < deadline
            # It is newer than that start, and yet what runs.
            assert units_module.replaced([running.pid], [str(program)], started) is None
            shutil.copy(program, tmp_path / "new")
            os.rename(tmp_path / "new", program)
            why = units_module.replaced([running.pid], [str(program)], started)
        finally:
            running.kill()
    assert why == f"{program} was replaced after process {running.pid} had loaded it"
    steps = pending_steps(ServiceSpec(unit="x.service"), replace(RUNS, replaced=why))
    assert steps == {"restart": why}


def test_ended_processes_are_ignored() -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    assert units_module.replaced([ended.pid]) is None
