# SPDX-License-Identifier: GPL-3.0-or-later
"""Driver plans and failures: one row for each combination that caused problems in practice."""

from __future__ import annotations

import fnmatch
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import cards as cards_module
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_files, driver_systems, kernels
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import plan
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import Card, Request, Target

K40, M40, P40, V100 = "10de:1024", "10de:17fd", "10de:1b38", "10de:1db4"
T4, A100, RTX3090, H100, RTX4090 = "10de:1eb8", "10de:20b0", "10de:2204", "10de:2330", "10de:2684"
RTX5090, B300, FUTURE = "10de:2b85", "10de:3182", "10de:3a00"
RX6800, RX7900, RX7800, MI300, STRIX, RAPHAEL = (
    "1002:73bf",
    "1002:744c",
    "1002:747e",
    "1002:74a1",
    "1002:1586",
    "1002:164e",
)
MIRROR = tuple(
    driver_files.AptSource(f"http://deb.debian.org/debian{suffix}", suite, ("main",), "/usr/share/keyrings/d.gpg")
    for suffix, suite in (("", "trixie"), ("-security", "trixie-security"))
)
DEBIAN12 = Target("debian", "12", "6.1.0-56-amd64", codename="bookworm", archive=MIRROR)
DEBIAN12_BPO = replace(DEBIAN12, kernel="6.12.95+deb12-amd64")
DEBIAN13 = Target("debian", "13", "6.12.117+deb13-amd64", codename="trixie", archive=MIRROR)
DEBIAN13_BPO = replace(DEBIAN13, kernel="7.3.4+deb13-amd64")
DEBIAN13_OLD = replace(DEBIAN13, kernel="6.12.48+deb13-amd64")
FORKY = Target("debian", "", "7.2.12+deb14-amd64", codename="forky")
UBUNTU = Target("ubuntu", "24.04", "6.8.0-88-generic", ("debian",))
UBUNTU26 = Target("ubuntu", "26.04", "7.0.0-31-generic", ("debian",))
ROCKY8 = Target("rocky", "8.10", "4.18.0-553.el8_10.x86_64", ("rhel", "centos", "fedora"))
ROCKY9 = Target("rocky", "9.8", "5.14.0-687.51.1.el9_8.x86_64", ("rhel", "centos", "fedora"))
RHEL9 = Target("rhel", "9.8", "5.14.0-687.51.1.el9_8.x86_64", ("fedora",))
ALMA10 = Target("almalinux", "10.1", "6.12.0-124.el10_1.x86_64", ("rhel", "centos", "fedora"))
FEDORA42 = Target("fedora", "42", "6.17.4-200.fc42.x86_64")
ARCH = Target("arch", "", "6.17.5-arch1-1")
PVE12 = replace(DEBIAN12, kernel="6.8.12-4-pve")
PVE13 = replace(DEBIAN13, kernel="6.14.11-2-bpo12-pve")
XANMOD = "6.12.8-x64v3-xanmod1"
SB = {"secure_boot": True}


def on(target: Target, *cards: str, **more: t.Any) -> Target:
    vendors = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
    integrated = {STRIX, RAPHAEL}
    return replace(
        target, cards=tuple(Card(vendors[card[:4]], card, integrated=card in integrated) for card in cards), **more
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

REFUSALS: list[tuple[Target, dict[str, t.Any], str, str]] = [
    # bad input
    (
        on(DEBIAN13, RTX4090),
        {"branch": "581"},
        "branch_unknown",
        "gpu_driver_branch: invalid value '581'; expected auto or one of 550",
    ),
    (
        on(DEBIAN13, RTX4090),
        {"branch": "latest"},
        "branch_unknown",
        "gpu_driver_branch: invalid value 'latest'; expected auto",
    ),
    (on(DEBIAN12, RTX4090), {"branch": "535"}, "branch_too_old", "invalid value '535'; expected auto or one of 550"),
    (DEBIAN13, {"cards": ("2684",)}, "card_invalid", "gpu_driver_cards: invalid value '2684'; expected PCI IDs"),
    (on(DEBIAN13, RX7900), {"vendor": "nvidia"}, "vendor_missing", "expected auto or none, as this host has 1002:744c"),
    (DEBIAN13, {"vendor": "amd"}, "vendor_missing", "expected auto or none, as this host has no GPU"),
    (on(FEDORA42, RTX4090), {"source": "distribution"}, "source_unsuitable", "expected auto or nvidia for Fedora 42"),
    (
        on(ROCKY9, RTX4090),
        {"hold": True},
        "package_held",
        "gpu_driver_hold: invalid value true; expected false for RHEL 9",
    ),
    (on(RHEL9, RTX4090), {}, "epel_missing", "configure EPEL on this host"),
    (on(UBUNTU, RTX4090), {"source": "distribution", "branch": "570"}, "driver_unavailable", "has 580, 595, not 570"),
    (on(RHEL9, RX7900), {"amdgpu_dkms": "31.50"}, "epel_missing", "configure EPEL on this host"),
    # Debian
    (
        on(DEBIAN12, RTX4090),
        {"source": "distribution"},
        "driver_unavailable",
        "has only 535, and these cards require 550 or newer",
    ),
    (
        on(DEBIAN12, P40),
        {"source": "distribution"},
        "driver_unavailable",
        "has only 535, and these cards require 570 to 580",
    ),
    (on(DEBIAN13, P40), {}, "driver_unavailable", "has only 550, and these cards require 570 to 580"),
    (on(DEBIAN13, M40), {}, "driver_unavailable", "with branch 580 (Debian 12, Ubuntu)"),
    (on(DEBIAN13, RTX4090), {"branch": "580"}, "driver_unavailable", "has 590, 595, 610, 615, 620, not 580"),
    (
        on(DEBIAN13_BPO, RTX4090),
        {"source": "distribution"},
        "driver_unavailable",
        "550, which does not build on kernels after",
    ),
    (on(DEBIAN13_BPO, V100), {}, "driver_unavailable", "does not build on kernels after 6.12 (this is 7.3.4)"),
    (
        on(DEBIAN13, RTX4090),
        {"source": "distribution", "modules": "open"},
        "driver_unavailable",
        "does not build with open modules on kernel 6.12.97 and later",
    ),
    (
        on(DEBIAN13, RTX5090),
        {"source": "distribution"},
        "driver_unavailable",
        "has only 550, and these cards require 570",
    ),
    (on(FORKY, RTX4090), {}, "system_unsupported", "unsupported system debian without a version"),
    # cards
    (on(DEBIAN12, K40), {}, "card_too_old", "of generation Kepler or older, which Ollama does not support"),
    (on(DEBIAN12, K40, RTX4090), {}, "card_too_old", "10de:1024 is of generation Kepler"),
    (
        on(UBUNTU, V100, RTX5090),
        {},
        "cards_conflict",
        "no driver runs all of these: 10de:1db4 (Volta) requires branch 550",
    ),
    (on(UBUNTU, P40, RTX5090), {}, "cards_conflict", "Options: remove one of them; bind one to vfio-pci"),
    # modules
    (on(DEBIAN12, P40), {"modules": "open"}, "driver_unavailable", "has no open modules of branch 580 for these cards"),
    (
        on(DEBIAN12, RTX5090),
        {"modules": "proprietary"},
        "driver_unavailable",
        "has no proprietary modules of branch 580",
    ),
    (
        on(DEBIAN13, RTX4090),
        {"branch": "615", "modules": "proprietary"},
        "driver_unavailable",
        "has no proprietary modules of branch 615",
    ),
    (on(DEBIAN12, P40), {"branch": "595"}, "driver_unavailable", "has 595, but these cards require 570 to 580"),
    # Secure Boot
    (
        on(DEBIAN13, RTX4090, **SB),
        {},
        "driver_unavailable",
        "and Secure Boot rejects it until the host's key is enrolled",
    ),
    (
        on(UBUNTU, RTX4090, **SB),
        {"source": "nvidia"},
        "driver_unavailable",
        "which gpu_driver_accept_mok: true accepts",
    ),
    (on(ROCKY9, RTX4090, **SB), {}, "driver_unavailable", "Secure Boot rejects it"),
    # hosts
    (
        on(DEBIAN13, RTX4090, platform="container"),
        {"vendor": "nvidia"},
        "platform_unsupported",
        "run this role on the host",
    ),
    (
        on(UBUNTU, RTX4090, platform="wsl2"),
        {"vendor": "nvidia"},
        "platform_unsupported",
        "WSL2 uses the driver of Windows",
    ),
    (
        on(UBUNTU, RTX4090, platform="jetson"),
        {"vendor": "nvidia"},
        "platform_unsupported",
        "is part of its Linux (L4T)",
    ),
    (
        on(UBUNTU, H100, platform="dgx"),
        {"vendor": "nvidia"},
        "platform_unsupported",
        "DGX OS contains and manages its driver",
    ),
    (
        on(ARCH, RTX4090),
        {},
        "system_unsupported",
        "unsupported system arch without a version; expected one of Debian 12, Debian 13",
    ),
    (
        on(DEBIAN13, H100, nvswitches=4),
        {"source": "distribution"},
        "driver_unavailable",
        "has no nvidia-fabricmanager, which the NVSwitches of this machine require",
    ),
    # existing installations
    (on(UBUNTU, RTX4090, installer=True), {}, "installation_foreign", "run nvidia-uninstall; set"),
    (
        on(DEBIAN13, RTX4090, foreign=("/etc/apt/sources.list.d/cuda.list",)),
        {},
        "repository_conflict",
        "/etc/apt/sources.list.d/cuda.list configures another source",
    ),
    (
        on(ALMA10, RTX4090),
        {},
        "key_unknown",
        "no fingerprint of NVIDIA's signing key for RHEL 10 and derivatives (CDF6BA43.pub)",
    ),
    # AMD
    (
        on(DEBIAN12, RX7800),
        {},
        "firmware_too_old",
        "1002:747e requires a newer kernel and firmware than those of Debian 12",
    ),
    (
        on(DEBIAN13, MI300),
        {"amdgpu_dkms": "30.30"},
        "amdgpu_kernel_unsupported",
        "as it does not build on kernel 6.12.117",
    ),
    (
        on(DEBIAN13, MI300),
        {"amdgpu_dkms": "7.2"},
        "amdgpu_version_unknown",
        "invalid value '7.2'; expected an empty text",
    ),
    (
        on(UBUNTU26, STRIX),
        {"amdgpu_dkms": "31.50"},
        "amdgpu_integrated_unsupported",
        "with the kernel's own driver only",
    ),
    (on(ROCKY8, MI300), {"amdgpu_dkms": "31.50"}, "amdgpu_system_unsupported", "AMD has no repository for RHEL 8"),
    (
        on(DEBIAN13, MI300, **SB),
        {"amdgpu_dkms": "31.50"},
        "secure_boot_key_missing",
        "Options: gpu_driver_accept_mok: true; an empty text",
    ),
]

NOTHING: list[tuple[Target, dict[str, t.Any], str]] = [
    (DEBIAN13, {}, "no GPU of NVIDIA or AMD"),
    (on(DEBIAN13, RTX4090), {"vendor": "none"}, ""),
    (on(DEBIAN13, "8086:56a0"), {}, "no GPU of NVIDIA or AMD"),
    (on(DEBIAN13, RTX4090, platform="container"), {}, "a container uses the driver of its host"),
    (on(UBUNTU, RTX4090, platform="wsl2"), {}, "WSL2 uses the driver of Windows"),
    (on(UBUNTU, H100, platform="dgx"), {}, "DGX OS contains"),
]


def named(value: t.Any) -> str | None:
    if isinstance(value, Target):
        return "-".join([value.os_id + value.os_version, *(card.pci_id for card in value.cards)])
    return str(value) if isinstance(value, dict | tuple) else None


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


@pytest.mark.parametrize(("target", "asked", "code", "says"), REFUSALS, ids=named)
def test_a_failure_contains_the_options(target: Target, asked: dict[str, t.Any], code: str, says: str) -> None:
    with pytest.raises(OllamaError) as caught:
        plan(Request(**asked), target)
    assert caught.value.code == f"gpu_{code}"
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert any(words in caught.value.message for words in ("; expected ", "Options: ", "set gpu_driver_vendor: none"))


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


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (DEBIAN13, ["linux-headers-6.12.117+deb13-amd64", "linux-headers-amd64"]),
        (
            replace(DEBIAN13, kernel="6.12.117+deb13-cloud-amd64"),
            ["linux-headers-6.12.117+deb13-cloud-amd64", "linux-headers-cloud-amd64"],
        ),
        (
            replace(DEBIAN13, kernel="6.12.117+deb13-rt-amd64"),
            ["linux-headers-6.12.117+deb13-rt-amd64", "linux-headers-rt-amd64"],
        ),
        (replace(DEBIAN12, kernel="6.1.0-56-arm64"), ["linux-headers-6.1.0-56-arm64", "linux-headers-arm64"]),
        (UBUNTU, ["linux-headers-6.8.0-88-generic", "linux-headers-generic"]),
        (
            replace(UBUNTU, packages=frozenset({"linux-image-generic-hwe-24.04", "linux-image-6.8.0-88-generic"})),
            ["linux-headers-6.8.0-88-generic", "linux-headers-generic-hwe-24.04"],
        ),
        (replace(UBUNTU, kernel="6.8.0-1021-aws"), ["linux-headers-6.8.0-1021-aws", "linux-headers-aws"]),
        (ROCKY8, ["kernel-devel-4.18.0-553.el8_10.x86_64", "kernel-headers"]),
        (ROCKY9, ["kernel-devel-5.14.0-687.51.1.el9_8.x86_64", "kernel-devel-matched", "kernel-headers"]),
        (
            replace(ROCKY9, kernel="5.14.0-687.el9.aarch64+64k", machine="aarch64"),
            ["kernel-64k-devel-5.14.0-687.el9.aarch64", "kernel-64k-devel-matched", "kernel-headers"],
        ),
        (replace(ROCKY9, kernel="5.15.0-1.el9uek.x86_64"), ["kernel-uek-devel-5.15.0-1.el9uek.x86_64"]),
        (PVE12, ["proxmox-headers-6.8.12-4-pve", "proxmox-default-headers"]),
        (PVE13, ["proxmox-headers-6.14.11-2-bpo12-pve", "proxmox-default-headers"]),
        (
            replace(PVE12, packages=frozenset({"proxmox-default-kernel", "proxmox-kernel-6.8"})),
            ["proxmox-headers-6.8.12-4-pve", "proxmox-default-headers"],
        ),
        (
            replace(PVE13, packages=frozenset({"proxmox-default-kernel", "proxmox-kernel-6.8", "proxmox-kernel-6.14"})),
            ["proxmox-headers-6.14.11-2-bpo12-pve", "proxmox-headers-6.14"],
        ),
        (replace(DEBIAN12, kernel="6.2.16-20-pve"), ["pve-headers-6.2.16-20-pve", "pve-headers"]),
    ],
    ids=named,
)
def test_headers_are_those_of_the_planned_kernel(target: Target, expected: list[str]) -> None:
    system = driver_systems.find(target.os_id, target.os_like, target.os_version)
    assert system
    assert kernels.headers(system, target.kernel, target.packages) == expected


OTHER_KERNELS = [
    (DEBIAN13, XANMOD),
    (DEBIAN13, "6.12.8-1-liquorix-amd64"),
    (DEBIAN13, "6.12.8-custom-amd64"),
    (DEBIAN12, "6.18.2-zabbly+"),
    (UBUNTU, XANMOD),
    (UBUNTU, "6.12.8-1-liquorix-amd64"),
    (UBUNTU, "6.12.8-061208-generic"),
    (UBUNTU, "6.8.12-4-pve"),
    (ROCKY9, "6.17.4-1.el9.elrepo.x86_64"),
    (ROCKY9, "5.14.0-687.el9.x86_64+rt"),
    (FEDORA42, "6.12.8-cachyos1.fc42.x86_64"),
    (FEDORA42, "6.17.1-2.surface.fc42.x86_64"),
]


@pytest.mark.parametrize(("target", "kernel"), OTHER_KERNELS, ids=named)
def test_a_kernel_of_another_vendor_requires_installed_headers(target: Target, kernel: str) -> None:
    other = on(replace(target, kernel=kernel), RTX4090)
    with pytest.raises(OllamaError) as caught:
        plan(Request(source="nvidia"), other)
    assert caught.value.code == "gpu_kernel_headers_unknown"
    assert caught.value.message.startswith(f"kernel {kernel} is not one of ")
    assert f"/lib/modules/{kernel}/build exists" in caught.value.message
    result = plan(Request(), replace(other, with_headers=frozenset({kernel})))
    assert (result.headers, result.dkms) == ([], True)
    assert not any(kernel in name for name in result.packages)


@pytest.mark.parametrize(
    ("target", "kernel"),
    [
        (DEBIAN12, "6.5.0-0.deb12.4-amd64"),
        (DEBIAN12, "6.12.9+bpo-cloud-arm64"),
        (DEBIAN13, "6.12.43+deb13-rt-amd64"),
        (UBUNTU, "6.8.0-1021-aws"),
        (UBUNTU, "6.8.0-1010-nvidia-64k"),
        (UBUNTU, "5.15.0-130-lowlatency"),
        (ROCKY8, "4.18.0-553.el8_10.x86_64"),
        (ROCKY9, "5.15.0-200.131.27.el9uek.x86_64"),
        (ALMA10, "6.12.0-124.8.1.el10_1.aarch64"),
        (FEDORA42, "6.17.4-200.fc42.x86_64"),
    ],
    ids=named,
)
def test_kernels_of_the_distribution_are_known(target: Target, kernel: str) -> None:
    system = driver_systems.find(target.os_id, target.os_like, target.os_version)
    assert system
    assert kernels.is_known(system, kernel)


def test_held_packages_do_not_freeze_the_modules_of_new_kernels() -> None:
    result = plan(Request(hold=True), on(UBUNTU, RTX4090))
    assert result.held == ["nvidia-headless-no-dkms-580-server-open", "nvidia-utils-580-server"]
    assert "linux-modules-nvidia-580-server-open-generic are not held" in "; ".join(result.notes)
    built = plan(Request(hold=True), on(DEBIAN13, RTX4090))
    assert built.held == [name for name in built.packages if name not in built.headers]
    assert plan(Request(), on(UBUNTU, RTX4090)).held == []


@pytest.mark.parametrize(("target", "builder"), [(ROCKY8, "powertools"), (ROCKY9, "crb"), (RHEL9, "crb")])
def test_the_repositories_that_dkms_comes_from(target: Target, builder: str) -> None:
    """The name on RHEL differs from derivatives, and must not match the repositories of debug and source packages."""
    found = plan(Request(), on(target, RTX4090, epel=True)).enablerepo
    assert found[:2] == ["epel", builder]
    number = target.os_version.split(".")[0]
    names = [f"codeready-builder-for-rhel-{number}-x86_64{kind}-rpms" for kind in ("", "-debug", "-source")]
    assert fnmatch.filter(names, found[2]) == names[:1]


def files(target: Target, **asked: t.Any) -> dict[str, str]:
    return {file.path: file.content for file in plan(Request(**asked), target).files}


def test_debian_components_are_added_beside_the_entries_of_the_host() -> None:
    content = files(on(DEBIAN13, RTX4090))[driver_files.APT_SOURCES]
    first, second = content.split("\n\n")
    assert first.splitlines()[1:] == [
        "Types: deb",
        "URIs: http://deb.debian.org/debian",
        "Suites: trixie",
        "Components: contrib non-free non-free-firmware",
        "Signed-By: /usr/share/keyrings/d.gpg",
    ]
    assert "trixie-security" in second
    half = tuple(source._replace(components=("main", "contrib", "non-free-firmware")) for source in MIRROR)
    assert "Components: non-free\n" in files(on(DEBIAN13, RTX4090, archive=half))[driver_files.APT_SOURCES]
    full = tuple(s._replace(components=("main", "contrib", "non-free", "non-free-firmware")) for s in MIRROR)
    assert driver_files.APT_SOURCES not in files(on(DEBIAN13, RTX4090, archive=full))
    assert "Components: non-free-firmware\n" in files(on(DEBIAN13, RX7900))[driver_files.APT_SOURCES]


def test_nvidias_repository_has_a_pinned_key_and_branch() -> None:
    result = plan(Request(), on(DEBIAN12, RTX4090))
    content = {file.path: file.content for file in result.files}
    assert (
        "URIs: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/\nSuites: /\nSigned-By: "
        in (content[driver_files.APT_SOURCES])
    )
    pin = content["/etc/apt/preferences.d/kaido-gpu-driver"]
    assert "Package: *\nPin: release l=NVIDIA CUDA\nPin-Priority: 1\n" in pin
    assert "Pin: version 580.*\nPin-Priority: 1001\n" in pin
    assert result.key
    assert result.key.fingerprint == "EB693B3035CD5710E231E123A4B469963BF863CC"
    assert result.key.url.endswith("/debian12/x86_64/3bf863cc.pub")
    assert "blacklist nouveau" in content[driver_files.NOUVEAU]
    arm = plan(Request(), on(DEBIAN12, RTX4090, machine="aarch64"))
    assert arm.key
    assert "/debian12/sbsa/" in arm.key.url


def test_rpm_systems_pin_the_branch_by_stream_or_by_file() -> None:
    streams = files(on(ROCKY9, RTX4090))
    assert "stream=580-open\n" in streams["/etc/dnf/modules.d/nvidia-driver.module"]
    assert "stream=580-dkms\n" in files(on(ROCKY9, V100))["/etc/dnf/modules.d/nvidia-driver.module"]
    assert "includepkgs" not in streams[driver_files.YUM_REPOSITORY]
    assert "gpgcheck=1\n" in streams[driver_files.YUM_REPOSITORY]
    assert "includepkgs=*-580.* *:580.*\n" in files(on(FEDORA42, RTX4090))[driver_files.YUM_REPOSITORY]


def test_packages_of_debian_blacklist_nouveau() -> None:
    assert driver_files.NOUVEAU not in files(on(DEBIAN13, RTX4090))


def test_amds_repository_is_an_ubuntus_on_debian() -> None:
    content = files(on(DEBIAN13, MI300), amdgpu_dkms="31.50")
    amd = content["/etc/apt/sources.list.d/kaido-gpu-driver-amd.sources"]
    assert "URIs: https://repo.radeon.com/amdgpu/31.50/ubuntu\nSuites: noble\nComponents: main\n" in amd
    assert "non-free-firmware" in content[driver_files.APT_SOURCES]


def test_notes() -> None:
    target = on(DEBIAN13, RTX4090, mok_certificate="/etc/keys/mok.der", **SB)
    assert "mokutil --import /etc/keys/mok.der" in "; ".join(plan(Request(accept_mok=True), target).notes)
    assert plan(Request(), on(UBUNTU, RAPHAEL, RTX4090)).notes[:1] == ["GPUs of amd are left unchanged"]
    assert plan(Request(), on(DEBIAN13, RTX4090)).notes == []
