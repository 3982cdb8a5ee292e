# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Linux distribution provides: branches, packages, headers, keys. Tables and their accessors. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from . import kernels

Broken = t.Callable[[str, "tuple[int, ...]"], "str | None"]
"""Returns the reason why a kind of modules does not build on a kernel, as a clause, or None."""


def _never_broken(kind: str, kernel: tuple[int, ...]) -> str | None:
    return None


def _debian_550(kind: str, kernel: tuple[int, ...]) -> str | None:
    """Return why branch 550 of Debian does not build; tested with Debian's archive of November 2026."""
    if kind == "open" and kernel >= (6, 12, 97):
        return "does not build with open modules on kernel 6.12.97 and later"
    if kernel[:2] > (6, 12):
        return f"does not build on kernels after 6.12 (this is {'.'.join(str(part) for part in kernel)})"
    return None


@dataclass(frozen=True)
class Offer:
    """One source of NVIDIA's driver."""

    source: str
    label: str
    branches: tuple[int, ...]
    modules: tuple[str, ...]
    signed: bool = False
    """Whether the modules are prebuilt and signed for Secure Boot."""
    experimental: bool = True
    """Whether no test of this collection has installed it."""
    broken: Broken = _never_broken


@dataclass(frozen=True)
class System:
    """One release of a distribution."""

    name: str
    label: str
    family: str
    offers: tuple[Offer, ...]
    folder: str
    """The directory of the system in NVIDIA's repository."""
    key: str
    """The file name of the signing key in that directory."""
    fingerprint: str
    amd_firmware: str
    enablerepo: tuple[str, ...] = ()
    """Disabled repositories of the distribution that dkms requires."""
    amdgpu: str | None = None
    """The directory of AMD's own driver for the system, relative to that of a version; None if there is none."""


_OPEN, _BOTH = ("open",), ("open", "proprietary")
_VENDOR = (570, 580, 590, 595, 610, 615, 620)
_CUDATOOLS = "EB693B3035CD5710E231E123A4B469963BF863CC"
_RHEL = "610C7B14E068A878070DA4E99CD0A493D42D0685"
_ARCHIVE = "the distribution's own archive"
_NVIDIA = "NVIDIA's repository"


def _nvidia(branches: tuple[int, ...] = _VENDOR, modules: tuple[str, ...] = _BOTH) -> Offer:
    return Offer("nvidia", _NVIDIA, branches, modules)


def _ubuntu(number: str, codename: str, key: str, fingerprint: str) -> System:
    name = "ubuntu" + number.replace(".", "")
    return System(
        name,
        f"Ubuntu {number}",
        "deb",
        # 570 is a transitional package to 580 without signed modules.
        (Offer("distribution", _ARCHIVE, (580, 595), _BOTH, signed=True), _nvidia((580, 590, 595, 610, 615, 620))),
        name,
        key,
        fingerprint,
        "linux-firmware",
        amdgpu=codename,
    )


def _el(number: str, key: str, fingerprint: str, builder: str, amdgpu: str | None) -> System:
    firmware = "amd-gpu-firmware" if number == "10" else "linux-firmware"
    return System(
        f"el{number}",
        f"RHEL {number} and derivatives",
        "rpm",
        # The module streams of 8 and 9 are named after branch and kind. Proprietary modules for 10 are unconfirmed.
        (_nvidia(modules=_BOTH if number != "10" else _OPEN),),
        f"rhel{number}",
        key,
        fingerprint,
        firmware,
        # RHEL has a different name for the builder repository; dnf ignores missing repositories.
        ("epel", builder, f"codeready-builder-for-rhel-{number}-*64-rpms"),
        amdgpu,
    )


def _fedora(number: str, key: str, fingerprint: str) -> System:
    label, folder = f"Fedora {number}", f"fedora{number}"
    offers = (_nvidia((580, 590, 595, 610, 615, 620), _OPEN),)
    return System(folder, label, "rpm", offers, folder, key, fingerprint, "amd-gpu-firmware")


_SYSTEMS = {
    system.name: system
    for system in (
        System(
            "debian12",
            "Debian 12",
            "deb",
            (Offer("distribution", _ARCHIVE, (535,), ("proprietary",)), _nvidia()),
            "debian12",
            "3bf863cc.pub",
            _CUDATOOLS,
            "firmware-amd-graphics",
            amdgpu="jammy",
        ),
        System(
            "debian13",
            "Debian 13",
            "deb",
            (
                Offer(
                    "distribution",
                    _ARCHIVE,
                    (550,),
                    ("proprietary", "open"),
                    experimental=False,
                    broken=_debian_550,
                ),
                _nvidia((590, 595, 610, 615, 620)),
            ),
            "debian13",
            "8793F200.pub",
            "02182E60104FCDC26EAE1B8597A5D4CB8793F200",
            "firmware-amd-graphics",
            amdgpu="noble",
        ),
        _ubuntu("22.04", "jammy", "3bf863cc.pub", _CUDATOOLS),
        _ubuntu("24.04", "noble", "3bf863cc.pub", _CUDATOOLS),
        _ubuntu("26.04", "resolute", "60DF8A40.pub", "14BAFBC7562AD710CA04E69905FBB6DA60DF8A40"),
        _el("8", "D42D0685.pub", _RHEL, "powertools", None),
        _el("9", "D42D0685.pub", _RHEL, "crb", "el/9.6"),
        _el("10", "CDF6BA43.pub", "", "crb", "el/10"),
        _fedora("42", "D42D0685.pub", _RHEL),
        _fedora("43", "1940C73E.pub", ""),
        _fedora("44", "73CD9B30.pub", ""),
    )
}


def find(os_id: str, os_like: t.Sequence[str], os_version: str) -> System | None:
    """Return the system with these values of os-release, or None. Derivatives of RHEL count as RHEL."""
    major = os_version.split(".")[0]
    if os_id in ("debian", "fedora"):
        return _SYSTEMS.get(f"{os_id}{major}")
    if os_id == "ubuntu":
        return _SYSTEMS.get("ubuntu" + os_version.replace(".", ""))
    return _SYSTEMS.get(f"el{major}") if os_id == "rhel" or "rhel" in os_like else None


def names() -> str:
    """Return the labels of the supported systems in one line."""
    return ", ".join(system.label for system in _SYSTEMS.values())


def packages(
    system: System, offer: Offer, branch: int, modules: str, kernel: str, installed: t.Collection[str]
) -> list[str]:
    """Return the packages of the driver for computing, without X11 and OpenGL."""
    is_open = modules == "open"
    if system.family == "rpm":
        # In the module streams of 8 and 9, the name of the package with proprietary modules contains "latest".
        return ["nvidia-driver-cuda", "kmod-nvidia-open-dkms" if is_open else "kmod-nvidia-latest-dkms"]
    if system.name.startswith("ubuntu"):
        return _ubuntu_packages(offer, branch, is_open, kernel, kernels.series(system, kernel, installed))
    if offer.source == "nvidia":
        return ["nvidia-driver-cuda", "nvidia-kernel-open-dkms" if is_open else "nvidia-kernel-dkms"]
    module = "nvidia-open-kernel-dkms" if is_open else "nvidia-kernel-dkms"
    return [module, "libcuda1", "nvidia-smi", "nvidia-persistenced"]


def _ubuntu_packages(offer: Offer, branch: int, is_open: bool, kernel: str, series: str) -> list[str]:
    suffix = "-open" if is_open else ""
    if offer.source == "nvidia":
        # Up to branch 580, the names of NVIDIA's packages contain the branch.
        if branch < 590:
            return [f"libnvidia-compute-{branch}", f"nvidia-dkms-{branch}{suffix}", f"nvidia-utils-{branch}"]
        return ["libnvidia-compute", f"nvidia-dkms{suffix}", "nvidia-utils"]
    return [
        f"nvidia-headless-no-dkms-{branch}-server{suffix}",
        f"nvidia-utils-{branch}-server",
        f"linux-modules-nvidia-{branch}-server{suffix}-{kernel}",
        f"linux-modules-nvidia-{branch}-server{suffix}-{series}",
    ]


def fabric_manager(system: System, offer: Offer, branch: int) -> str:
    """Return the name of the package for NVSwitches, whose version must equal that of the driver."""
    # The names of packages in Ubuntu's own archive always contain the branch.
    named = system.family == "deb" and (branch < 590 or offer.source == "distribution")
    return f"nvidia-fabricmanager-{branch}" if named else "nvidia-fabricmanager"
