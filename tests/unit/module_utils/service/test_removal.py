# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The removal of services."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._service import units as units_module
from ansible_collections.kaido.ollama.plugins.module_utils._service.removal import Removal
from ansible_collections.kaido.ollama.plugins.module_utils._service.units import SERVICES
from ansible_collections.kaido.ollama.plugins.modules import service_absent

from tests.unit.conftest import RunModule
from tests.unit.module_utils.service.root import files, install, make, process


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
