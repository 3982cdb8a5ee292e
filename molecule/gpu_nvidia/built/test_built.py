# SPDX-License-Identifier: GPL-3.0-or-later
"""A built and signed module that is loaded at the next boot; no change on Debian 12."""

from __future__ import annotations

import typing as t

import pytest


@pytest.fixture(autouse=True)
def only_hecate(host: t.Any) -> None:
    if host.check_output("hostname") != "hecate":
        assert not host.file("/etc/apt/sources.list.d/kaido-gpu-driver.sources").exists
        assert "nvidia" not in host.check_output("dpkg-query --show")
        pytest.skip("the plan fails on Debian 12")


@pytest.fixture
def kernel(host: t.Any) -> str:
    [name] = host.check_output("ls /lib/modules").split()
    return str(name)


def test_the_module_is_built_for_that_kernel_and_signed(host: t.Any, kernel: str) -> None:
    path = f"/lib/modules/{kernel}/updates/dkms/nvidia-current.ko.xz"
    assert host.file(path).size > 1_000_000
    assert host.check_output("/usr/sbin/modinfo -F version %s", path).startswith("550.")
    assert host.check_output("/usr/sbin/modinfo -F vermagic %s", path).split()[0] == kernel
    assert host.check_output("/usr/sbin/modinfo -F signer %s", path) == "DKMS module signing key"
    assert host.file(path.replace("current", "current-uvm")).exists


def test_dkms_and_dpkg_agree(host: t.Any, kernel: str) -> None:
    assert f", {kernel}, x86_64: installed" in host.check_output("dkms status")
    assert host.check_output("dpkg --audit") == ""


def test_only_packages_for_computing_are_installed(host: t.Any) -> None:
    packages = host.check_output("dpkg-query --show --showformat '${Package}\\n'").split()
    assert {"nvidia-kernel-dkms", "libcuda1", "nvidia-smi", "nvidia-persistenced", "nvidia-modprobe"} <= set(packages)
    assert [name for name in packages if name.startswith(("xserver", "xorg", "libgl1", "libx11"))] == []


def test_it_is_loaded_at_boot(host: t.Any) -> None:
    assert host.service("nvidia-persistenced").is_enabled
    assert "nvidia-uvm" in host.file("/etc/modules-load.d/kaido-gpu-driver.conf").content_string.splitlines()
    assert "nvidia-modprobe -u -c 0" in host.check_output("systemctl cat nvidia-persistenced")
    assert host.file("/usr/lib/systemd/system-sleep/kaido-gpu-driver").mode == 0o755


def test_the_driver_package_is_on_hold(host: t.Any) -> None:
    held = host.check_output("apt-mark showhold").split()
    assert held == ["libcuda1", "nvidia-kernel-dkms", "nvidia-persistenced", "nvidia-smi"]


def test_debian_components_come_from_the_mirror_of_the_host(host: t.Any) -> None:
    content = host.file("/etc/apt/sources.list.d/kaido-gpu-driver.sources").content_string
    uris = {line.split(": ")[1] for line in content.splitlines() if line.startswith("URIs")}
    assert uris
    assert all(f"deb {uri} " in host.file("/etc/apt/sources.list").content_string for uri in uris)
