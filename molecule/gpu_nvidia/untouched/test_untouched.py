# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without changes of the role: after check mode, a failed plan, a failed build, and removal."""

from __future__ import annotations

import typing as t

import pytest

FILES = [
    "/etc/apt/sources.list.d/kaido-gpu-driver.sources",
    "/etc/modprobe.d/kaido-gpu-driver.conf",
    "/etc/modules-load.d/kaido-gpu-driver.conf",
    "/etc/systemd/system/nvidia-persistenced.service.d",
    "/usr/lib/systemd/system-sleep/kaido-gpu-driver",
    "/var/lib/kaido-ollama/gpu_driver.json",
]


@pytest.mark.parametrize("path", FILES)
def test_no_file_is_left(host: t.Any, path: str) -> None:
    assert not host.file(path).exists


def test_no_driver_is_left(host: t.Any) -> None:
    states = host.check_output("dpkg-query --show --showformat '${Package} ${db:Status-Abbrev}\\n'").splitlines()
    left = [line for line in states if any(word in line for word in ("nvidia", "libcuda", "dkms", "linux-headers"))]
    assert left == []
    assert [line for line in states if not line.rstrip().endswith(" ii")] == []


def test_no_module_is_left(host: t.Any) -> None:
    assert host.run("find /lib/modules -name 'nvidia*.ko*' -path '*dkms*'").stdout == ""


def test_apt_is_in_order(host: t.Any) -> None:
    assert host.check_output("dpkg --audit") == ""
    host.check_output("apt-get --simulate install hello")
