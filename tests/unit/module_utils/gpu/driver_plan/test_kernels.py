# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels: of distributions and of other vendors, their headers and prebuilt modules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_systems, kernels
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import plan
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import Request, Target

from tests.unit.module_utils.gpu.driver_plan.hosts import (
    ALMA10,
    DEBIAN12,
    DEBIAN13,
    FEDORA42,
    PVE12,
    PVE13,
    ROCKY8,
    ROCKY9,
    RTX4090,
    UBUNTU,
    XANMOD,
    named,
    on,
)


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
    assert caught.value.message.startswith(f"kernel {kernel} is not a kernel of ")
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
