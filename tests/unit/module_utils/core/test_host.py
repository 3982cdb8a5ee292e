# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a host, and the properties and actions of systemd units."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import host, systemd
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError

FAKE = r"""#!/bin/sh
echo "$@" >>"$0.log"
[ "$1" = restart ] && { echo "Job failed." >&2; exit 1; }
printf 'ActiveState=active\nEnvironmentFiles=/a (ignore_errors=no)\nEnvironmentFiles=/b (ignore_errors=no)\n'
printf 'Environment=A=1 B=2\nnoise\n'
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl in place of this machine's; its calls are in the file beside it."""
    path = tmp_path / "systemctl"
    path.write_text(FAKE)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return path


def test_properties(systemctl: Path) -> None:
    assert systemd.show("ollama.service", ("ActiveState", "Environment")) == {
        "ActiveState": "active",
        "EnvironmentFiles": "/a (ignore_errors=no)\n/b (ignore_errors=no)",
        "Environment": "A=1 B=2",
    }
    assert Path(f"{systemctl}.log").read_text() == "show --property ActiveState,Environment -- ollama.service\n"


def test_host_without_systemd_has_no_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd.command, "find", lambda program: None)
    assert systemd.show("ollama.service", ("ActiveState",)) == {}
    with pytest.raises(OllamaError) as error:
        systemd.act("start", "ollama.service")
    assert error.value.code == "program_missing"


def test_failed_action(systemctl: Path) -> None:
    systemd.act("daemon-reload")
    with pytest.raises(OllamaError) as error:
        systemd.act("restart", "a.service")
    assert (error.value.code, error.value.message) == ("unit_failed", "systemctl restart a.service failed: Job failed.")


def test_monotonic_times_become_times_of_the_clock() -> None:
    now = systemd.since_boot(str(int(time.monotonic() * 1e6)))
    assert now > systemd.since_boot(None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"\n', {"ID": "debian", "VERSION_ID": "12"}),
        ("# ID=comment\n\nID='rocky'\nID_LIKE=\"rhel centos\"\nnonsense", {"ID": "rocky", "ID_LIKE": "rhel centos"}),
        ("", {}),
    ],
)
def test_os_release(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    for directory in ("usr/lib", "etc"):
        path = tmp_path / directory / "os-release"
        path.parent.mkdir(parents=True)
        assert host.os_release(str(tmp_path)) == ({} if directory == "usr/lib" else {"ID": "vendor"})
        path.write_text("ID=vendor" if directory == "usr/lib" else text)
    assert host.os_release(str(tmp_path)) == expected


def test_accounts() -> None:
    root = host.find_user("root")
    assert root
    assert (root.pw_uid, host.user_name(0)) == (0, "root")
    assert host.find_group("root")
    assert host.find_user("no-such-user") is None
    assert host.find_group("no-such-group") is None
    assert host.user_name(2_000_000_123) is None


def test_mount_points(tmp_path: Path) -> None:
    assert {"/", "/proc"} <= host.mount_points()
    (tmp_path / "link").symlink_to("/proc")
    assert host.is_mount_point("/proc")
    assert host.is_mount_point(str(tmp_path / "link"))
    assert not host.is_mount_point(str(tmp_path))
    assert not host.is_mount_point(os.path.join(tmp_path, "missing"))
