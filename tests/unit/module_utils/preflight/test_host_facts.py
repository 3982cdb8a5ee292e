# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of accounts, drop-ins and listeners of a host."""

from __future__ import annotations

import os
import pwd

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
)

from tests.unit.module_utils.preflight.trees import HOME, SERVICE, Tree, gathered
from tests.unit.modules.preflight.hosts import (
    WANTED,
    show,
)


def test_drop_ins_in_other_places_are_read(tree: Tree) -> None:
    tree.directory("/run/systemd/system/ollama.service.d", owner=Identity(0, 0))
    path = "/run/systemd/system/ollama.service.d/x.conf"
    tree.file(path, "[Service]\nUser=root\n")
    host = host_facts.gather(WANTED, 11434, str(tree.root), show(DropInPaths=path))
    assert host.drop_ins == {path: "[Service]\nUser=root\n"}


@pytest.mark.parametrize("planted", ["fifo", "secret", "endless"])
def test_an_environment_file_of_another_account_is_read_with_its_rights(tree: Tree, planted: str) -> None:
    """An administrator's drop-in may name a file in the home of the account, which then puts something else there."""
    path = f"{HOME}/server.conf"
    tree.file("/srv/victim/env", "SECRET=xyzzy\n", mode=0o600, owner=Identity(0, 0))
    if planted == "fifo":
        os.mkfifo(tree.at(path))
    else:
        tree.link(path, str(tree.at("/srv/victim/env")) if planted == "secret" else "/dev/zero")
    properties = show(EnvironmentFiles=f"{path} (ignore_errors=no)")
    assert host_facts.gather(WANTED, 11434, str(tree.root), properties).service.environment == {}
    tree.at(path).unlink()
    tree.file(path, "OLLAMA_DEBUG=1\n")
    assert host_facts.gather(WANTED, 11434, str(tree.root), properties).service.environment == {"OLLAMA_DEBUG": "1"}


@pytest.mark.parametrize(
    ("cgroup", "ours"),
    [
        ("0::/system.slice/ollama.service", True),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service", False),
        ("0::/system.slice/docker-ab.scope/system.slice/ollama.service", False),
    ],
)
def test_a_listener_in_a_unit_of_a_user_is_not_the_server(tree: Tree, cgroup: str, ours: bool) -> None:
    """A local user may start any program as a unit of that name, on the port of the server."""
    tree.directory("/proc/net")
    line = "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 555 1\n"
    tree.file("/proc/net/tcp", "header\n" + line)
    tree.directory("/proc/42/fd")
    tree.at("/proc/42/fd/7").symlink_to("socket:[555]")
    tree.file("/proc/42/comm", "ollama\n")
    tree.file("/proc/42/cgroup", cgroup + "\n")
    [listener] = gathered(tree).listeners
    assert listener.unit is ours


def test_the_account_as_the_host_has_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("www", "x", SERVICE.uid, 0, "", "/var/www", "/usr/sbin/nologin"))
    monkeypatch.setattr(host_facts, "find_user", lambda _name: entry)
    monkeypatch.setattr("os.getgrouplist", lambda _name, gid: [gid])
    for pid, unit in (("7", "nginx.service"), ("8", "ollama.service")):
        tree.directory(f"/proc/{pid}")
        tree.file(f"/proc/{pid}/comm", "nginx\n")
        tree.file(f"/proc/{pid}/cgroup", f"0::/system.slice/{unit}\n")
    account = gathered(tree).account
    assert account is not None
    assert (account.local, account.processes, account.home) == (False, ("nginx (pid 7)",), "/var/www")
    tree.directory("/etc", owner=Identity(0, 0))
    tree.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:64101:0::/var/www:/usr/sbin/nologin\n")
    account = gathered(tree).account
    assert account is not None
    assert account.local
