# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services of this collection a host has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._service import units as units_module
from ansible_collections.kaido.ollama.plugins.module_utils._service.removal import Removal
from ansible_collections.kaido.ollama.plugins.module_utils._service.units import SERVICES
from ansible_collections.kaido.ollama.plugins.modules import preflight, service_info

from tests.conftest import ROOT
from tests.unit.conftest import RunModule
from tests.unit.module_utils.service.root import MARKED, files, install, make, process

every_service = pytest.mark.parametrize("name", SERVICES)


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


def test_each_survey_reports_what_exists(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(units_module, "found", lambda root="/": ["mirror"])
    monkeypatch.setattr(units_module, "listening", lambda root="/": [{"service": "mirror", "address": "0.0.0.0:11480"}])
    result = run_module(service_info, {})
    assert result["services"] == ["mirror"]
    assert result["ansible_facts"]["ollama_listening"][0]["address"] == "0.0.0.0:11480"
    # A converge that changes nothing makes no other call.
    assert "units.found()" in Path(preflight.__file__).read_text()
