# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan for AMD's driver: firmware for the driver of the kernel, or AMD's out-of-tree driver with DKMS. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from . import cards as cards_module
from . import driver_files
from .driver_nvidia import add_repositories, required_headers
from .driver_request import AMDGPU_VERSIONS, Card, DriverPlan, Request, Target, refuse
from .driver_systems import System
from .support import numbers

# Kernel 6.12.97 changed the function pci_resize_resource, which amdgpu 30.30 calls.
_CHANGED_KERNEL = (6, 12, 97)


def plan(request: Request, target: Target, system: System, cards: t.Sequence[Card], result: DriverPlan) -> DriverPlan:
    """Complete and return the plan of a host with AMD GPUs.

    The driver is part of the kernel, and ROCm is part of Ollama, so usually only firmware is missing.

    :raises OllamaError: if no driver is suitable, with the options.
    """
    if system.name == "debian12" and not request.amdgpu_dkms:
        new = [str(card) for card in cards if card.device in cards_module.NEW_AMD]
        if new:
            raise refuse(
                "firmware_too_old",
                f"{', '.join(new)} requires a newer kernel and firmware than those of Debian 12. Options: Debian 13; "
                "both from bookworm-backports with gpu_driver_vendor: none",
            )
    result.source, result.packages = "distribution", [system.amd_firmware]
    result.experimental = True
    result.files = driver_files.components(system, target.archive, ("non-free-firmware",))
    if not request.amdgpu_dkms:
        return _held(request, result)
    if all(card.integrated for card in cards):
        raise refuse(
            "amdgpu_integrated_unsupported",
            f"gpu_driver_amdgpu_dkms: invalid value {request.amdgpu_dkms!r}; expected an empty string, as AMD supports "
            "integrated GPUs with the kernel's own driver only",
        )
    if target.machine != "x86_64" or system.amdgpu is None:
        raise refuse(
            "amdgpu_system_unsupported",
            f"gpu_driver_amdgpu_dkms: invalid value {request.amdgpu_dkms!r}; expected an empty string, as AMD has no "
            f"repository for {system.label} on {target.machine}",
        )
    if request.amdgpu_dkms.startswith("30.") and numbers(result.kernel) >= _CHANGED_KERNEL:
        raise refuse(
            "amdgpu_kernel_unsupported",
            f"gpu_driver_amdgpu_dkms: invalid value {request.amdgpu_dkms!r}; expected an empty string or one of "
            f"{', '.join(version for version in AMDGPU_VERSIONS if not version.startswith('30.'))}, as it does not "
            f"build on kernel {result.kernel}",
        )
    if target.secure_boot and not target.key_enrolled and not request.accept_mok:
        raise refuse(
            "secure_boot_key_missing",
            f"gpu_driver_amdgpu_dkms: {request.amdgpu_dkms} builds its module on the host, and Secure Boot rejects it "
            "until the host's key is enrolled at the console. Options: gpu_driver_accept_mok: true; an empty string "
            "for the kernel's own driver",
        )
    result.source, result.dkms = "amd", True
    result.headers = required_headers(target, system, result.kernel)
    result.packages = [*result.headers, *result.packages, "amdgpu-dkms"]
    result.files += driver_files.amd_repository(system, request.amdgpu_dkms)
    result.key = driver_files.amd_key(system, request.fingerprint)
    add_repositories(target, system, result)
    return _held(request, result)


def _held(request: Request, result: DriverPlan) -> DriverPlan:
    if request.hold:
        result.held = [name for name in result.packages if name not in result.headers]
    return result
