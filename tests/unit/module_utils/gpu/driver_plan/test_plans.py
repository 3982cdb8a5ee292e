# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: one row for each combination of system and GPU that caused problems in practice."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import cards as cards_module
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import plan
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import Request, Target

from tests.unit.module_utils.gpu.driver_plan.hosts import (
    A100,
    ALMA10,
    B300,
    DEBIAN12,
    DEBIAN12_BPO,
    DEBIAN13,
    DEBIAN13_BPO,
    DEBIAN13_OLD,
    FEDORA42,
    FUTURE,
    H100,
    M40,
    MI300,
    P40,
    PVE12,
    PVE13,
    RAPHAEL,
    RHEL9,
    ROCKY8,
    ROCKY9,
    RTX3090,
    RTX4090,
    RTX5090,
    RX6800,
    RX7800,
    RX7900,
    SB,
    STRIX,
    T4,
    UBUNTU,
    UBUNTU26,
    V100,
    named,
    on,
)

# target, request -> source, branch, modules, and the package that holds the module
PLANS: list[tuple[Target, dict[str, t.Any], tuple[str, int | None, str | None], str]] = [
    # Debian 13: its own 550 on its own kernel, NVIDIA's repository for GPUs and kernels that 550 does not support
    (on(DEBIAN13, RTX4090), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, T4), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, H100), {"vendor": "nvidia"}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, V100), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, V100, RTX4090), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, RTX5090), {}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, B300), {}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, RTX4090, RTX5090), {}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13_BPO, RTX4090), {}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, RTX4090), {"source": "nvidia"}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, A100), {"branch": "595"}, ("nvidia", 595, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, A100), {"branch": "615"}, ("nvidia", 615, "open"), "nvidia-kernel-open-dkms"),
    (
        on(DEBIAN13, A100),
        {"branch": "610", "modules": "proprietary"},
        ("nvidia", 610, "proprietary"),
        "nvidia-kernel-dkms",
    ),
    (on(DEBIAN13_OLD, RTX4090), {"modules": "open"}, ("distribution", 550, "open"), "nvidia-open-kernel-dkms"),
    # On the current kernel Debian's open modules do not build, NVIDIA's do
    (on(DEBIAN13, RTX4090), {"modules": "open"}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN13, FUTURE), {}, ("nvidia", 620, "open"), "nvidia-kernel-open-dkms"),
    # Debian 12: never its own 535
    (on(DEBIAN12, RTX4090), {}, ("nvidia", 580, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN12, P40), {}, ("nvidia", 580, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN12, M40), {}, ("nvidia", 580, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN12, P40, RTX4090), {}, ("nvidia", 580, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN12_BPO, RTX3090), {}, ("nvidia", 580, "open"), "nvidia-kernel-open-dkms"),
    (on(DEBIAN12, RTX5090), {"branch": "570"}, ("nvidia", 570, "open"), "nvidia-kernel-open-dkms"),
    # Ubuntu: signed modules of its archive, with Secure Boot or without
    (on(UBUNTU, RTX4090), {}, ("distribution", 580, "open"), "linux-modules-nvidia-580-server-open-generic"),
    (on(UBUNTU, RTX4090, **SB), {}, ("distribution", 580, "open"), "linux-modules-nvidia-580-server-open-generic"),
    (on(UBUNTU, P40), {}, ("distribution", 580, "proprietary"), "linux-modules-nvidia-580-server-generic"),
    (on(UBUNTU, RTX5090), {"branch": "595"}, ("distribution", 595, "open"), "nvidia-utils-595-server"),
    (on(UBUNTU26, RTX5090), {}, ("distribution", 580, "open"), "linux-modules-nvidia-580-server-open-generic"),
    (on(UBUNTU, RTX4090), {"source": "nvidia"}, ("nvidia", 580, "open"), "nvidia-dkms-580-open"),
    (on(UBUNTU, RTX4090), {"source": "nvidia", "branch": "595"}, ("nvidia", 595, "open"), "nvidia-dkms-open"),
    (on(UBUNTU, RTX4090), {"branch": "615"}, ("nvidia", 615, "open"), "nvidia-dkms-open"),
    # RHEL and derivatives, Fedora
    (on(ROCKY8, RTX4090), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(ROCKY9, RTX4090), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(ROCKY9, V100), {}, ("nvidia", 580, "proprietary"), "kmod-nvidia-latest-dkms"),
    (on(RHEL9, RTX4090, epel=True), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(ALMA10, RTX4090), {"key_fingerprint": "AB" * 20}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    (on(FEDORA42, RTX5090), {}, ("nvidia", 580, "open"), "kmod-nvidia-open-dkms"),
    # Only older branches have proprietary modules
    (
        on(DEBIAN13, RTX4090),
        {"source": "nvidia", "modules": "proprietary"},
        ("nvidia", 595, "proprietary"),
        "nvidia-kernel-dkms",
    ),
    # Kernels of Proxmox VE, and of others with installed headers
    (on(PVE12, RTX4090), {}, ("nvidia", 580, "open"), "proxmox-headers-6.8.12-4-pve"),
    (on(PVE13, RTX4090), {}, ("nvidia", 620, "open"), "proxmox-headers-6.14.11-2-bpo12-pve"),
    # NVSwitches
    (on(DEBIAN13, H100, nvswitches=4), {}, ("nvidia", 620, "open"), "nvidia-fabricmanager"),
    (on(UBUNTU, H100, nvswitches=4), {}, ("distribution", 580, "open"), "nvidia-fabricmanager-580"),
    (on(ROCKY9, H100, nvswitches=4), {}, ("nvidia", 580, "open"), "nvidia-fabricmanager"),
    # Secure Boot, accepted or prepared
    (on(DEBIAN13, RTX4090, **SB), {"accept_mok": True}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    (on(DEBIAN13, RTX4090, key_enrolled=True, **SB), {}, ("distribution", 550, "proprietary"), "nvidia-kernel-dkms"),
    # AMD: the driver is in the kernel
    (on(DEBIAN13, RX7900), {}, ("distribution", None, None), "firmware-amd-graphics"),
    (on(DEBIAN13, RX7800), {}, ("distribution", None, None), "firmware-amd-graphics"),
    (on(DEBIAN12, RX6800), {}, ("distribution", None, None), "firmware-amd-graphics"),
    (on(UBUNTU26, STRIX), {}, ("distribution", None, None), "linux-firmware"),
    (on(ALMA10, MI300), {}, ("distribution", None, None), "amd-gpu-firmware"),
    (on(DEBIAN13, MI300), {"amdgpu_dkms": "31.50"}, ("amd", None, None), "amdgpu-dkms"),
    (on(DEBIAN13_OLD, MI300), {"amdgpu_dkms": "30.30"}, ("amd", None, None), "amdgpu-dkms"),
    # Both: NVIDIA has precedence over the integrated GPU of a processor
    (on(UBUNTU, RAPHAEL, RTX4090), {}, ("distribution", 580, "open"), "nvidia-headless-no-dkms-580-server-open"),
    (on(UBUNTU, RX7900, RTX4090), {"vendor": "amd"}, ("distribution", None, None), "linux-firmware"),
]


# An image that is built in a container for another kernel and for other GPUs
IMAGE = {"kernel": "6.12.117+deb13-amd64", "cards": (RTX4090,)}

PLANS.append(
    (
        replace(DEBIAN13, kernel="6.18.44", platform="container"),
        IMAGE,
        ("distribution", 550, "proprietary"),
        "nvidia-kernel-dkms",
    )
)


NOTHING: list[tuple[Target, dict[str, t.Any], str]] = [
    (DEBIAN13, {}, "no GPU of NVIDIA or AMD"),
    (on(DEBIAN13, RTX4090), {"vendor": "none"}, ""),
    (on(DEBIAN13, "8086:56a0"), {}, "no GPU of NVIDIA or AMD"),
    (on(DEBIAN13, RTX4090, platform="container"), {}, "a container uses the driver of its host"),
    (on(UBUNTU, RTX4090, platform="wsl2"), {}, "WSL2 uses the driver of Windows"),
    (on(UBUNTU, H100, platform="dgx"), {}, "DGX OS contains"),
]


@pytest.mark.parametrize(("target", "asked", "chosen", "package"), PLANS, ids=named)
def test_a_host_gets_a_plan(
    target: Target, asked: dict[str, t.Any], chosen: tuple[str, int | None, str | None], package: str
) -> None:
    result = plan(Request(**asked), target)
    assert (result.source, result.branch, result.modules) == chosen
    assert package in result.packages
    assert set(result.headers) <= set(result.packages)
    assert result.dkms == any("headers" in name or "devel" in name for name in result.headers)
    assert result.experimental == any(note.startswith("experimental: ") for note in result.notes)
    assert result.experimental == (chosen[0] != "distribution" or chosen[1] != 550)


@pytest.mark.parametrize(("target", "asked", "note"), NOTHING, ids=named)
def test_a_host_is_left_unchanged(target: Target, asked: dict[str, t.Any], note: str) -> None:
    result = plan(Request(**asked), target)
    assert (result.vendor, result.packages, result.files) == ("none", [], [])
    assert note in "; ".join(result.notes)


def test_a_working_driver_stays_unless_something_is_requested() -> None:
    target = on(UBUNTU, RTX4090, works=True, installer=True, foreign=("/etc/apt/sources.list.d/cuda.list",))
    result = plan(Request(), target)
    assert (result.source, result.packages) == ("present", [])
    assert {file.path for file in result.files} >= {"/etc/modules-load.d/kaido-gpu-driver.conf"}
    with pytest.raises(OllamaError):
        plan(Request(branch="580"), target)
    assert plan(Request(), replace(target, installer=False, foreign=(), ours=True)).source == "distribution"


@pytest.mark.parametrize(
    ("device", "generation", "capability"),
    [
        (0x133F, "Kepler or older", "3.7"),
        (0x1340, "Maxwell", "5.2"),
        (0x1D7F, "Pascal", "6.1"),
        (0x1D81, "Volta", "7.0"),
        (0x1DF6, "Volta", "7.0"),
        (0x1E02, "Turing", "7.5"),
        (0x28F8, "Ada", "8.9"),
        (0x2901, "Blackwell", "10.0"),
        (0x2FFF, "Blackwell", "12.0"),
        (0x31C2, "Blackwell Ultra or newer", "10.3"),
    ],
)
def test_the_edges_of_the_generations(device: int, generation: str, capability: str) -> None:
    assert cards_module.nvidia(device)[:2] == (generation, capability)


def test_notes() -> None:
    target = on(DEBIAN13, RTX4090, mok_certificate="/etc/keys/mok.der", **SB)
    assert "mokutil --import /etc/keys/mok.der" in "; ".join(plan(Request(accept_mok=True), target).notes)
    assert plan(Request(), on(UBUNTU, RAPHAEL, RTX4090)).notes[:1] == ["GPUs of amd are left unchanged"]
    assert plan(Request(), on(DEBIAN13, RTX4090)).notes == []
