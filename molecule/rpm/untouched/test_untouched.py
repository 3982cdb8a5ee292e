# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without changes of roles gpu_driver and ollama_monitoring: after check mode, and after removal."""

from __future__ import annotations

import typing as t

import pytest

FILES = [
    "/etc/yum.repos.d/kaido-gpu-driver.repo",
    "/etc/yum.repos.d/epel.repo",
    "/etc/pki/rpm-gpg/kaido-gpu-driver.asc",
    "/etc/dnf/modules.d/nvidia-driver.module",
    "/etc/modprobe.d/kaido-gpu-driver.conf",
    "/etc/modules-load.d/kaido-gpu-driver.conf",
    "/etc/systemd/system/nvidia-persistenced.service.d",
    "/usr/lib/systemd/system-sleep/kaido-gpu-driver",
    "/var/lib/kaido-ollama/gpu_driver.json",
    "/etc/kaido-ollama-monitoring",
]
# Of role packages, which removes nothing, and kernels, of which dnf removes none that was a dependency.
KEPT = ("nginx-", "haproxy-", "zstd-", "kernel-core-", "kernel-devel-")


@pytest.mark.parametrize("path", FILES)
def test_no_file_is_left(host: t.Any, path: str) -> None:
    assert not host.file(path).exists


def test_the_packages_are_those_of_before(host: t.Any) -> None:
    before = set(host.file("/srv/packages").content_string.split())
    now = {name for name in host.check_output("rpm --query --all").split() if not name.startswith("gpg-pubkey-")}
    assert {name for name in now - before if not name.startswith(KEPT)} == set()
    assert {name for name in before - now if not name.startswith("gpg-pubkey-")} == set()


def test_the_key_of_the_driver_is_not_trusted(host: t.Any) -> None:
    assert "NVIDIA" not in host.run("rpm --query gpg-pubkey --queryformat '%{SUMMARY}\\n'").stdout


def test_dnf_is_in_order(host: t.Any) -> None:
    assert "kaido" not in host.check_output("dnf --cacheonly repolist --all")
    host.check_output("rpm --verify --all --nodeps")
