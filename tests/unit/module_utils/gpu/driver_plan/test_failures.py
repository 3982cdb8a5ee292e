# SPDX-License-Identifier: GPL-3.0-or-later
"""Combinations of system and GPU that have no plan, and the options in the message."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_plan import plan
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.driver_request import Request, Target

from tests.unit.module_utils.gpu.driver_plan.hosts import (
    ALMA10,
    ARCH,
    DEBIAN12,
    DEBIAN13,
    DEBIAN13_BPO,
    FEDORA42,
    FORKY,
    H100,
    K40,
    M40,
    MI300,
    P40,
    RHEL9,
    ROCKY8,
    ROCKY9,
    RTX4090,
    RTX5090,
    RX7800,
    RX7900,
    SB,
    STRIX,
    UBUNTU,
    UBUNTU26,
    V100,
    named,
    on,
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
        "no driver supports all of these GPUs: 10de:1db4 (Volta) requires branch 550",
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
        "invalid value '7.2'; expected an empty string",
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
        "Options: gpu_driver_accept_mok: true; an empty string",
    ),
]


@pytest.mark.parametrize(("target", "asked", "code", "says"), REFUSALS, ids=named)
def test_a_failure_contains_the_options(target: Target, asked: dict[str, t.Any], code: str, says: str) -> None:
    with pytest.raises(OllamaError) as caught:
        plan(Request(**asked), target)
    assert caught.value.code == f"gpu_{code}"
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert any(words in caught.value.message for words in ("; expected ", "Options: ", "set gpu_driver_vendor: none"))
