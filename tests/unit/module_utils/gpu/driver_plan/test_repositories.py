# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories and the files that a plan writes."""

from __future__ import annotations

import fnmatch
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import driver_files
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import plan
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import Request, Target

from tests.unit.module_utils.gpu.driver_plan.hosts import (
    DEBIAN12,
    DEBIAN13,
    FEDORA42,
    MI300,
    MIRROR,
    RHEL9,
    ROCKY8,
    ROCKY9,
    RTX4090,
    RX7900,
    V100,
    on,
)


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
