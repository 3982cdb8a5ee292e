# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The survey of a host, in a directory with its files."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import (
    PortListener,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.survey import Survey
from ansible_collections.kaido.ollama.plugins.module_utils._release import release

from tests.unit.modules.preflight.hosts import MODELS, NOW, UNIT, WANTED, show


def test_a_replaced_library_of_the_server_is_detected(root: Path) -> None:
    def seen() -> str | None:
        return host_facts.gather(WANTED, 11434, str(root), show()).service.replaced

    assert seen() is None
    line = "7f0000000000-7f0000001000 r-xp 00000000 08:01 1234   /usr/lib/libc.so.6 (deleted)\n"
    (root / "proc/42/maps").write_text(line)
    assert seen() == "/usr/lib/libc.so.6 was replaced after process 42 had loaded it"


def test_survey(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    host = host_facts.gather(WANTED, 11434, str(root), show(ExecMainStartTimestampMonotonic="997000000"))
    assert host.has_systemd
    assert host.releases.current == "0.35.1"
    assert list(host.releases.releases) == ["0.35.1"]
    assert host.releases.link == "/opt/ollama/current/bin/ollama"
    assert host.unit == UNIT
    assert host.environment == {"OLLAMA_HOST": "127.0.0.1:11434"}
    assert host.environment_is_private == (os.getuid() == 0)
    assert host.directories.problems == ()
    assert {"/usr/share/ollama", MODELS, f"{MODELS}/manifests"} <= set(host.directories.wrong)
    assert host.drop_ins == {"limits.conf": "[ServerFacts]\nMemoryMax=8G\n"}
    assert host.service.active
    assert host.service.enabled
    assert host.service.started == NOW - 3
    assert host.configured > 0
    assert host.store.generation is None
    assert host.listeners == (
        PortListener("127.0.0.1", 997, 42, "ollama", True),
        PortListener("::1", 997),
        PortListener("127.0.0.1", 997),
    )


def test_survey_of_a_fresh_host(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    host = host_facts.gather(replace(WANTED, user="nobody-here", group="nobody-here"), 11434, str(tmp_path), {})
    assert not host.has_systemd
    assert (host.unit, host.environment, host.account) == (None, None, None)
    assert (host.store.generation, host.other_program, host.platform) == (None, None, "")
    assert host.releases == release.State(current=None, releases={}, link=None)
    assert host.directories == Survey(wrong=("/usr/share/ollama", MODELS))
    assert host.service.active is False
    assert host.listeners == ()


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("etc/ollama/ollama.env", True),
        ("etc/systemd/system/ollama.service", True),
        ("opt/ollama/current", True),
        ("etc/systemd/system/ollama.service.d/limits.conf", True),
        ("", False),
    ],
)
def test_a_server_older_than_its_configuration_is_noticed(root: Path, changed: str, stale: bool) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1000, 1000), follow_symlinks=False)
    if changed:
        os.utime(root / changed, (time.time() - 10, time.time() - 10), follow_symlinks=False)
    minute_ago = show(ExecMainStartTimestampMonotonic=str(int((time.monotonic() - 60) * 1e6)))
    host = host_facts.gather(WANTED, 11434, str(root), minute_ago)
    assert (host.service.started < host.configured) == stale


@pytest.mark.parametrize(
    ("tree", "generation"),
    [
        ("manifests/registry.ollama.ai/library/tiny/latest", "v1"),
        ("manifests-v2/ollama.com/library/tiny/latest", "v2"),
        ("blobs/sha256-0", None),
    ],
)
def test_the_generation_of_the_store(root: Path, tree: str, generation: str | None) -> None:
    path = root / MODELS.lstrip("/") / tree
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    assert host_facts.gather(WANTED, 11434, str(root), show()).store.generation == generation


def test_groups_come_from_the_devices(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "_group_name", lambda group: f"owner-{group}")
    gid = os.getgid() or 12345
    for name in ("dev/dri/renderD128", "dev/nvidia0"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.chown(path, -1, gid if "dri" in name else os.getgid())
    groups = host_facts.gather(WANTED, 11434, str(root), show()).device_groups
    assert groups == tuple(sorted([f"owner-{gid}", "owner-render", "owner-video"]))


def test_the_disk_is_that_of_the_nearest_directory(root: Path) -> None:
    wanted = replace(WANTED, models_dir="/data/models", models_mount_required=True)
    store = host_facts.gather(wanted, 11434, str(root), show()).store
    assert not store.mounted
    assert store.free > 0


def test_the_largest_model_is_determined_only_for_the_migration_to_0_40(root: Path) -> None:
    manifests = root / MODELS.lstrip("/") / "manifests/registry.ollama.ai/library/tiny"
    for tag, sizes in (("latest", [5, 6]), ("big", [100, 1])):
        (manifests / tag).write_text(json.dumps({"layers": [{"size": size} for size in sizes]}))
    (manifests / "broken").write_text("")
    assert host_facts.gather(replace(WANTED, version="0.40.2"), 11434, str(root), show()).store.largest == 101
    assert host_facts.gather(WANTED, 11434, str(root), show()).store.largest == 0


def test_the_former_server_in_systemd(root: Path, tmp_path: Path) -> None:
    (tmp_path / "vendor.env").write_text("# theirs\nOLLAMA_MODELS='/data/m'\nexport=no\n")
    expected_text = show(User="ollama", Environment='PATH=/usr/bin "OLLAMA_ORIGINS=a b"')
    expected_text["EnvironmentFiles"] = "/vendor.env (ignore_errors=no)"
    service = host_facts.gather(WANTED, 11434, str(root), expected_text).service
    assert service.user == "ollama"
    assert service.environment["OLLAMA_ORIGINS"] == "a b"
    assert service.environment["OLLAMA_MODELS"] == "/data/m"


def test_another_program_is_found(root: Path) -> None:
    program = root / "usr/bin/ollama"
    program.parent.mkdir(parents=True)
    program.write_text("")
    assert host_facts.gather(WANTED, 11434, str(root), show()).other_program == "/usr/bin/ollama"
    (root / "usr/local/bin/ollama").unlink()
    (root / "usr/local/bin/ollama").symlink_to(program)
    assert host_facts.gather(WANTED, 11434, str(root), show()).other_program is None
