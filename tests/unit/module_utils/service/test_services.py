# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of this collection on a host: which there are, where they listen, what they execute, their removal."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
import typing as t
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.address import Address
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.sockets import Socket
from ansible_collections.kaido.ollama.plugins.module_utils._service import units as units_module
from ansible_collections.kaido.ollama.plugins.module_utils._service.pending import (
    ServiceSpec,
    ServiceState,
    pending_steps,
)
from ansible_collections.kaido.ollama.plugins.module_utils._service.removal import Removal
from ansible_collections.kaido.ollama.plugins.module_utils._service.units import SERVICES
from ansible_collections.kaido.ollama.plugins.modules import preflight, service_absent, service_info

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

MARKED = "# Managed by the Ansible role kaido.ollama.x: changes here are lost.\n[Service]\n"
every_service = pytest.mark.parametrize("name", SERVICES)


def make(root: Path, path: str, content: str = "x") -> Path:
    """Write a file below a directory that stands for /."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def install(root: Path, *names: str) -> None:
    """Create everything that services consist of."""
    for name in names:
        service = SERVICES[name]
        for path in service.files:
            make(root, path)
        for path in service.trees:
            make(root, f"{path}/deep/file")
        if service.unit_path:
            make(root, service.unit_path, MARKED)


def files(root: Path) -> set[str]:
    """Return the paths of all files and links below a directory."""
    return {"/" + str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def process(root: Path, pid: int, unit: str = "ollama-mirror.service", maps: str = "", **links: str) -> None:
    """Create a process as procfs shows it."""
    make(root, f"proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
    make(root, f"proc/{pid}/maps", maps)
    (root / f"proc/{pid}/fd").mkdir()
    for number, target in links.items():
        (root / f"proc/{pid}/fd" / number.strip("_")).symlink_to(target)


def tcp(root: Path, *sockets: tuple[str, int, int, int]) -> None:
    """Write the table of sockets: address in hexadecimal, port, uid and inode."""
    lines = [
        f"  0: {address}:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0 0\n"
        for address, port, uid, inode in sockets
    ]
    make(root, "proc/net/tcp", "header\n" + "".join(lines))


# What there is


@every_service
def test_each_service_is_found_by_its_unit_or_by_any_file_that_stayed(tmp_path: Path, name: str) -> None:
    service = SERVICES[name]
    assert units_module.found(str(tmp_path)) == []
    for path in (*service.files, *service.trees):
        root = tmp_path / path.replace("/", "_")
        make(root, path)
        assert units_module.found(str(root)) == [name]
    if service.unit_path:
        make(tmp_path, service.unit_path, MARKED)
        assert units_module.found(str(tmp_path)) == [name]


def test_a_foreign_unit_is_recognized(tmp_path: Path) -> None:
    install(tmp_path, "mirror", "gateway")
    make(tmp_path, "/etc/systemd/system/ollama-mirror.service", "[Service]\nExecStart=/opt/mine\n")
    before = files(tmp_path)
    assert units_module.found(str(tmp_path)) == ["gateway"]
    removal = Removal(["mirror"], root=str(tmp_path), execute=lambda *_command: 0)
    removal.apply()
    assert (removal.actions, files(tmp_path)) == ([], before)


def test_a_process_without_a_unit_file_is_found(tmp_path: Path) -> None:
    process(tmp_path, 7)
    process(tmp_path, 8, unit="nginx.service")
    assert units_module.found(str(tmp_path)) == ["mirror"]


@pytest.mark.parametrize(
    ("init", "cgroup", "ours"),
    [
        ("0::/init.scope", "0::/system.slice/ollama-mirror.service", True),
        ("0::/init.scope", "0::/system.slice/system-ollama.slice/ollama-mirror.service", True),
        ("1:name=systemd:/init.scope\n0::/", "1:name=systemd:/system.slice/ollama-mirror.service\n0::/", True),
        # In a container that sees the names of its host.
        ("0::/docker/abc/init.scope", "0::/docker/abc/system.slice/ollama-mirror.service", True),
        ("", "0::/system.slice/ollama-mirror.service", True),
        # A unit of a user, and one in a container on this host.
        ("0::/init.scope", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama-mirror.service", False),
        ("0::/init.scope", "0::/system.slice/docker-abc.scope/system.slice/ollama-mirror.service", False),
        ("0::/init.scope", "0::/docker/abc/system.slice/ollama-mirror.service", False),
        ("0::/docker/abc/init.scope", "0::/docker/other/system.slice/ollama-mirror.service", False),
        ("0::/init.scope", "0::/system.slice/not-ollama-mirror.service", False),
        ("0::/init.scope", "nonsense", False),
    ],
)
def test_only_units_of_this_system_count(tmp_path: Path, init: str, cgroup: str, ours: bool) -> None:
    make(tmp_path, "proc/1/cgroup", init + "\n")
    make(tmp_path, "proc/7/cgroup", cgroup + "\n")
    assert units_module.processes(str(tmp_path)) == ({"ollama-mirror.service": [7]} if ours else {})


def test_the_list_contains_what_the_roles_write() -> None:
    listed = {path for service in SERVICES.values() for path in service.files}
    written = {
        path
        for role in ("ollama_mirror", "ollama_gateway", "ollama_client")
        for file in (ROOT / "roles" / role).rglob("*")
        if file.suffix in (".yml", ".j2")
        for path in re.findall(r"/etc/ollama-(?:mirror|gateway|forwarder)/[A-Za-z0-9._-]*[A-Za-z0-9]", file.read_text())
    }
    assert written
    assert written <= listed
    units = {
        f"{value['name']}.service"
        for role in ("ollama_mirror", "ollama_gateway", "ollama_client")
        for value in yaml.safe_load((ROOT / "roles" / role / "vars" / "main.yml").read_text()).values()
        if isinstance(value, dict) and "sandbox" in value
    }
    assert units == {service.unit for service in SERVICES.values() if service.unit}
    for path in (*(ROOT / "roles").glob("*/templates/*.service.j2"), ROOT / "roles/ollama_services/templates/unit.j2"):
        assert "managed }}" in path.read_text()


# Removal


@pytest.mark.parametrize("names", [["mirror"], ["balancer", "gateway"], ["forwarder", "client"], [*SERVICES]])
def test_nothing_of_a_service_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    install(tmp_path, *SERVICES)
    (expected := tmp_path / "expected").mkdir()
    install(expected, *(name for name in SERVICES if name not in names))
    monkeypatch.setattr(
        pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 500, 500, "", "/nonexistent", "/usr/sbin/nologin"))
    )
    wanted = files(expected)
    shutil.rmtree(expected)
    commands: list[tuple[str, ...]] = []

    def execute(*command: str) -> int:
        # The unit file is the last to go: until then another run finds the service.
        assert all((tmp_path / str(s.unit_path).lstrip("/")).exists() for s in chosen if s.unit) or command[-1] == (
            "daemon-reload"
        )
        commands.append(command)
        return 0

    chosen = [SERVICES[name] for name in names]
    predicted = Removal(names, root=str(tmp_path), check_mode=True, execute=execute)
    predicted.apply()
    assert commands == []
    removal = Removal(names, root=str(tmp_path), execute=execute)
    removal.apply()
    assert predicted.actions == removal.actions
    assert predicted.kept == removal.kept == {}
    assert files(tmp_path) == wanted
    assert units_module.found(str(tmp_path)) == [name for name in SERVICES if name not in names]
    for service in chosen:
        assert not service.unit or ("systemctl", "stop", service.unit) in commands
        assert not service.unit or ("systemctl", "disable", service.unit) in commands
        assert not service.user or ("userdel", service.user) in commands
        assert not [path for path in service.directories if (tmp_path / path.lstrip("/")).exists()]
    again = Removal(names, root=str(tmp_path), execute=execute)
    again.apply()
    assert again.actions == []


def test_files_of_others_stay_and_are_named(tmp_path: Path) -> None:
    install(tmp_path, "gateway")
    make(tmp_path, "/etc/ollama-gateway/mine.pem")
    make(tmp_path, "/etc/systemd/system/ollama-gateway.service.d/mine.conf")
    removal = Removal(["gateway"], root=str(tmp_path), execute=lambda *_command: 0)
    removal.apply()
    assert files(tmp_path) == {
        "/etc/ollama-gateway/mine.pem",
        "/etc/systemd/system/ollama-gateway.service.d/mine.conf",
    }
    assert removal.kept == {
        "/etc/ollama-gateway": "it contains mine.pem",
        "/etc/systemd/system/ollama-gateway.service.d": "drop-ins belong to the user",
    }


def test_an_interrupted_write_leaves_no_key(tmp_path: Path) -> None:
    make(tmp_path, "/etc/ollama-gateway/ca.key.new")
    assert units_module.found(str(tmp_path)) == ["gateway"]
    Removal(["gateway"], root=str(tmp_path), execute=lambda *_command: 0).apply()
    assert files(tmp_path) == set()


@pytest.mark.parametrize("entry", ["/var/cache/ollama-mirror", "/var/cache/ollama-mirror/deep/link"])
def test_links_of_a_service_account_are_not_followed(tmp_path: Path, entry: str) -> None:
    victim = make(tmp_path / "victim", "file")
    install(root := tmp_path / "root", "mirror")
    link = root / entry.lstrip("/")
    if link.is_dir():
        shutil.rmtree(link)
    link.symlink_to(victim.parent)
    for path in (root / "var/cache/ollama-mirror", link):
        os.lchown(path, 4711, 4711)
    Removal(["mirror"], root=str(root), execute=lambda *_command: 0).apply()
    assert victim.read_text() == "x"
    assert files(root) == set()


def test_a_foreign_account_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mirror")
    monkeypatch.setattr(
        pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 1500, 1500, "", "/home/x", "/bin/sh"))
    )
    removal = Removal(["mirror"], root=str(tmp_path), execute=lambda *_command: 0)
    removal.apply()
    assert "remove user ollama-mirror" not in removal.actions


def test_a_unit_that_does_not_stop_is_an_error_and_keeps_its_files(tmp_path: Path) -> None:
    install(tmp_path, "mirror")
    process(tmp_path, 7)
    before = files(tmp_path)
    with pytest.raises(OllamaError) as caught:
        Removal(["mirror"], root=str(tmp_path), execute=lambda *_command: 1).apply()
    assert caught.value.code == "service_running"
    assert files(tmp_path) == before


@pytest.mark.parametrize("check", [False, True])
def test_the_module_has_nothing_to_do_where_nothing_is(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(units_module, "found", lambda root="/": [])
    result = run_module(service_absent, {"names": ["mirror", "gateway"]}, check=check)
    assert (result["failed"], result["changed"], result["services"]) == (False, False, [])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_module(service_absent, {"names": ["mirror"]})["failure"]["code"] == "root_required"


def test_each_survey_reports_what_exists(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(units_module, "found", lambda root="/": ["mirror"])
    monkeypatch.setattr(units_module, "listening", lambda root="/": [{"service": "mirror", "address": "0.0.0.0:11480"}])
    result = run_module(service_info, {})
    assert result["services"] == ["mirror"]
    assert result["ansible_facts"]["ollama_listening"][0]["address"] == "0.0.0.0:11480"
    # A converge that changes nothing makes no other call.
    assert "units.found()" in Path(preflight.__file__).read_text()


# Where they listen


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


# What they execute


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
