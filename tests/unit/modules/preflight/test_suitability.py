# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that cannot meet a request: systems, ports, disks and the migration of the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.host import platform_of
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    HostFacts,
    PortListener,
    ServerFacts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.store_facts import StoreFacts

from tests.conftest import ROOT
from tests.unit.modules.preflight.hosts import CONVERGED, FRESH, MODELS, SUM, WANTED, examine, refusal


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [
        (replace(FRESH, machine="riscv64"), "architecture_unsupported", ["'riscv64'", "aarch64"]),
        (replace(FRESH, machine="armv7l"), "architecture_unsupported", ["'armv7l'"]),
        (replace(FRESH, has_systemd=False), "init_unsupported", ["systemd"]),
        (replace(FRESH, package_manager=None), "program_missing", ["zstd", "neither apt nor dnf", "first"]),
        (replace(FRESH, releases=replace(FRESH.releases, link="")), "installation_foreign", ["/usr/local/bin/ollama"]),
        (replace(FRESH, releases=replace(FRESH.releases, link="/usr/lib/x")), "installation_foreign", ["/usr/lib/x"]),
        (replace(FRESH, unit="[Unit]\nDescription=Ollama Service\n"), "installation_foreign", ["ollama.service"]),
        (
            replace(FRESH, listeners=(PortListener("127.0.0.1", 0, 77, "nginx"),)),
            "port_taken",
            ["ollama_settings.host", "'127.0.0.1:11434'", "nginx (pid 77)", "11434"],
        ),
        (replace(FRESH, listeners=(PortListener("0.0.0.0", 0, 77, "nginx"),)), "port_taken", ["nginx"]),
        (replace(FRESH, listeners=(PortListener("::", 0),)), "port_taken", ["that is not visible"]),
        # A manually started server is not the unit, although the account is the same.
        (replace(CONVERGED, listeners=(PortListener("127.0.0.1", 997, 78, "ollama"),)), "port_taken", ["pid 78"]),
        (
            replace(CONVERGED, service=ServerFacts(), listeners=(PortListener("127.0.0.1", 997),)),
            "port_taken",
            ["that is not visible"],
        ),
    ],
)
def test_an_unsuitable_host_is_refused(host: HostFacts, code: str, words: list[str]) -> None:
    error = refusal(WANTED, host)
    assert error.code == code
    for word in words:
        assert word in error.message


@pytest.mark.parametrize(
    "listener",
    [
        PortListener("127.0.0.2", 0, 77, "other"),
        PortListener("::1", 0, 77, "other"),
        PortListener("127.0.0.1", 997, 42, "ollama", True),
        PortListener("127.0.0.1", 997),
    ],
)
def test_a_port_that_is_not_in_the_way(listener: PortListener) -> None:
    assert examine(WANTED, replace(CONVERGED, listeners=(listener,))) == {}


def test_localhost_meets_both_loopbacks() -> None:
    wanted = replace(WANTED, settings={"host": "localhost"})
    assert refusal(wanted, replace(FRESH, listeners=(PortListener("::1", 0, 77, "other"),))).code == "port_taken"


@pytest.mark.parametrize(
    ("version", "current", "store", "refused"),
    [
        ("0.40.2", "0.35.1", "v1", True),
        ("0.40.2", None, "v1", True),
        ("0.40.2", None, None, False),
        ("0.40.2", "0.40.1", "v1", False),
        ("0.40.2", None, "v2", False),
        ("0.35.1", "0.40.2", "v2", True),
        ("0.35.1", None, "v2", True),
        ("0.35.1", "0.40.2", "v1", False),
        ("0.35.1", "0.34.4", "v1", False),
    ],
)
def test_crossing_0_40_is_a_choice(version: str, current: str | None, store: str | None, refused: bool) -> None:
    wanted = replace(WANTED, version=version, checksum=SUM)
    releases = {current: {"ollama-linux-amd64.tar.zst": SUM}} if current else {}
    host = replace(
        CONVERGED, releases=replace(CONVERGED.releases, current=current, releases=releases), store=StoreFacts(store)
    )
    if refused:
        error = refusal(wanted, host)
        assert error.code == "store_migration_not_accepted"
        assert "ollama_accept_store_migration" in error.message
    assert "release" in examine(replace(wanted, accept_store_migration=True), host)


def test_a_disk_that_is_not_mounted() -> None:
    there = replace(CONVERGED, store=StoreFacts("v1", mounted=False))
    error = refusal(replace(WANTED, models_mount_required=True), there)
    assert error.code == "directory_not_mounted"
    assert MODELS in error.message
    assert examine(WANTED, there) == {}
    assert examine(replace(WANTED, models_mount_required=True), CONVERGED) == {}


@pytest.mark.parametrize(("free", "refused"), [((10 << 30) * 1.24, True), ((10 << 30) * 1.26, False)])
def test_room_for_what_0_40_writes(free: float, refused: bool) -> None:
    wanted = replace(WANTED, version="0.40.2", checksum=SUM, accept_store_migration=True)
    host = replace(CONVERGED, store=StoreFacts("v1", largest=10 << 30, free=int(free)))
    if refused:
        error = refusal(wanted, host)
        assert error.code == "disk_full"
        assert "requires 13.4 GB for the largest one" in error.message
    else:
        assert list(examine(wanted, host)) == ["packages", "release", "backup", "service"]


@pytest.mark.parametrize(
    ("os_release", "key"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "ubuntu"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', "rhel"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="10.0"\n', "rhel"),
        ("ID=fedora\nVERSION_ID=43\n", "fedora"),
        ("ID=arch\n", "arch"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "ubuntu"),
        ("ID=plan9\n", ""),
        ("", ""),
    ],
)
def test_platforms(os_release: str, key: str) -> None:
    table = ROOT / "roles/ollama/vars/platforms.yml"
    platforms = yaml.safe_load(table.read_text())["ollama__platforms"]
    assert platform_of(os_release, platforms) == key
    assert not key or set(platforms[key]) - {"experimental"} == {"packages", "nologin", "nginx", "haproxy", "ca_bundle"}


@pytest.mark.parametrize(("program", "found"), [("apt-get", "apt-get"), ("dnf", "dnf"), ("pacman", None)])
def test_package_managers_that_ansible_itself_drives(
    root: Path, monkeypatch: pytest.MonkeyPatch, program: str, found: str | None
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path="": name if name == program else None)
    assert host_facts.gather(WANTED, 11434, str(root), {}).package_manager == found


def test_a_version_of_a_platform_comes_first() -> None:
    assert platform_of("ID=debian\nVERSION_ID=12\n", {"debian", "debian12"}) == "debian12"
    assert platform_of("ID=rocky\nVERSION_ID=9.4\n", {"rocky9", "rhel"}) == "rocky9"
