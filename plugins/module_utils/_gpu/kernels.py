# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages with the headers of a kernel, and the kernel series that a host follows. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .support import numbers

if t.TYPE_CHECKING:
    from .driver_systems import System

_DEBIAN = re.compile(r"\d+(?:\.\d+)+(?:-\d|\+deb|\+bpo)[0-9a-z.+~]*(?:-cloud|-rt)?-(?:amd64|arm64|arm64-16k)")
_PROXMOX = re.compile(r"\d+(?:\.\d+)+-\d+(?:-bpo\d+)?-pve")
# Mainline builds have an ABI number of six digits, and other vendors have their own flavours.
_UBUNTU = re.compile(
    r"\d+(?:\.\d+)+-\d{1,4}-(?:generic|lowlatency|realtime|aws|azure|gcp|gke|gkeop|ibm|intel|kvm|nvidia|oem|oracle|raspi)"
    r"(?:-[a-z0-9-]+)?"
)
_RPM = re.compile(r"[\d.]+-[\d.]+\.(?:el\d+|fc\d+)\w*\.(?:x86_64|aarch64)(?:\+64k)?")
_PROXMOX_SERIES = re.compile(r"proxmox-kernel-\d+\.\d+")
# Up to kernel 6.2, the packages of Proxmox VE have a different prefix.
_PROXMOX_RENAMED = (6, 5)


def is_known(system: System, kernel: str) -> bool:
    """Return whether a kernel is from the distribution or Proxmox VE, so that its header packages are known."""
    if system.family == "rpm":
        return _RPM.fullmatch(kernel) is not None
    if system.name.startswith("debian"):
        return any(pattern.fullmatch(kernel) for pattern in (_DEBIAN, _PROXMOX))
    return _UBUNTU.fullmatch(kernel) is not None


def series(system: System, kernel: str, packages: t.Collection[str]) -> str:
    """Return the kernel series that a host follows, such as amd64, cloud-amd64, generic, generic-hwe-24.04 or aws."""
    if system.name.startswith("debian"):
        tail = "arm64-16k" if kernel.endswith("-arm64-16k") else kernel.rsplit("-", 1)[-1]
        return next((f"{kind}-{tail}" for kind in ("cloud", "rt") if f"-{kind}-" in kernel), tail)
    tail = kernel.split("-", 2)[-1]
    followed = (name[len("linux-image-") :] for name in packages if name.startswith(f"linux-image-{tail}"))
    return max((name for name in followed if name == tail or name.startswith(f"{tail}-hwe-")), key=len, default=tail)


def headers(system: System, kernel: str, packages: t.Collection[str]) -> list[str]:
    """Return the packages with the headers of a known kernel and of its successors."""
    if kernel.endswith("-pve"):
        return _proxmox(kernel, packages)
    if system.family == "deb":
        return [f"linux-headers-{kernel}", f"linux-headers-{series(system, kernel, packages)}"]
    if "uek" in kernel:
        return [f"kernel-uek-devel-{kernel}"]
    version, _plus, flavour = kernel.partition("+")
    name = f"kernel-{flavour}-devel" if flavour else "kernel-devel"
    # The first package is for this kernel, which often is not the newest one; the second one follows new kernels.
    matched = [] if system.name == "el8" else [f"{name}-matched"]
    return [f"{name}-{version}", *matched, "kernel-headers"]


def _proxmox(kernel: str, packages: t.Collection[str]) -> list[str]:
    if numbers(kernel)[:2] < _PROXMOX_RENAMED:
        return [f"pve-headers-{kernel}", "pve-headers"]
    number = ".".join(kernel.split(".")[:2])
    followed = {name for name in packages if _PROXMOX_SERIES.fullmatch(name)}
    # The package of the default kernel depends on one series; an administrator has chosen any other.
    chosen = len(followed) > 1 or "proxmox-default-kernel" not in packages
    if f"proxmox-kernel-{number}" in followed and chosen:
        return [f"proxmox-headers-{kernel}", f"proxmox-headers-{number}"]
    return [f"proxmox-headers-{kernel}", "proxmox-default-headers"]
