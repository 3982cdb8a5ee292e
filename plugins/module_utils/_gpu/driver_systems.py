# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each Linux distribution offers: branches, packages, headers, keys. Tables, and what reads them. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Broken = t.Callable[[str, "tuple[int, ...]"], "str | None"]
"""Why modules of that kind do not build on that kernel, as a clause; None where nothing is known against it."""


def _never_broken(kind: str, kernel: tuple[int, ...]) -> str | None:
    return None


def _debian_550(kind: str, kernel: tuple[int, ...]) -> str | None:
    """As tried against Debian's archive of November 2026."""
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
    """Modules come built and signed for Secure Boot."""
    broken: Broken = _never_broken


@dataclass(frozen=True)
class System:
    """One release of a distribution."""

    name: str
    label: str
    family: str
    offers: tuple[Offer, ...]
    folder: str
    """Its folder in NVIDIA's repository."""
    key: str
    """The file of the key there."""
    fingerprint: str
    amd_firmware: str
    enablerepo: tuple[str, ...] = ()
    """Repositories that come with the distribution, switched off: dkms needs them."""
    amdgpu: str | None = None
    """Where AMD's own driver is for it, below a version's folder."""


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
        # 570 has become an empty package that leads to 580, and no modules are signed for it any more.
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
        f"RHEL {number} and its kin",
        "rpm",
        # Streams of 8 and 9 are named after branch and kind; proprietary modules for 10 are not proven.
        (_nvidia(modules=_BOTH if number != "10" else _OPEN),),
        f"rhel{number}",
        key,
        fingerprint,
        firmware,
        # RHEL has its own name for the builder's repository; dnf passes over what is not there.
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
                Offer("distribution", _ARCHIVE, (550,), ("proprietary", "open"), broken=_debian_550),
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
    """Return the system of an os-release; relatives of RHEL count as it."""
    major = os_version.split(".")[0]
    if os_id in ("debian", "fedora"):
        return _SYSTEMS.get(f"{os_id}{major}")
    if os_id == "ubuntu":
        return _SYSTEMS.get("ubuntu" + os_version.replace(".", ""))
    return _SYSTEMS.get(f"el{major}") if os_id == "rhel" or "rhel" in os_like else None


def names() -> str:
    """Return what there are plans for."""
    return ", ".join(system.label for system in _SYSTEMS.values())


def flavour(system: System, kernel: str, packages: t.Collection[str]) -> str:
    """Return which series of kernels a host follows: amd64, cloud-amd64, generic, generic-hwe-24.04, aws."""
    if system.name.startswith("debian"):
        tail = kernel.rsplit("-", 1)[-1]
        return next((f"{kind}-{tail}" for kind in ("cloud", "rt") if f"-{kind}-" in kernel), tail)
    tail = kernel.split("-", 2)[-1]
    followed = (name[len("linux-image-") :] for name in packages if name.startswith(f"linux-image-{tail}"))
    return max((name for name in followed if name == tail or name.startswith(f"{tail}-hwe-")), key=len, default=tail)


def headers(system: System, kernel: str, packages: t.Collection[str]) -> list[str]:
    """Return what holds the headers of the kernel that will run, and of those that replace it."""
    if system.family == "deb":
        return [f"linux-headers-{kernel}", f"linux-headers-{flavour(system, kernel, packages)}"]
    if system.name == "el8":
        return [f"kernel-devel-{kernel}", "kernel-headers"]
    if "uek" in kernel:
        return [f"kernel-uek-devel-{kernel}"]
    return ["kernel-64k-devel-matched" if kernel.endswith("+64k") else "kernel-devel-matched", "kernel-headers"]


def packages(
    system: System, offer: Offer, branch: int, modules: str, kernel: str, installed: t.Collection[str]
) -> list[str]:
    """Return the compute-only set, headers included: no X11, no GL."""
    before = headers(system, kernel, installed) if not offer.signed else []
    is_open = modules == "open"
    if system.family == "rpm":
        # The streams of 8 and 9 call proprietary modules latest.
        return [*before, "nvidia-driver-cuda", "kmod-nvidia-open-dkms" if is_open else "kmod-nvidia-latest-dkms"]
    if system.name.startswith("ubuntu"):
        return [*before, *_ubuntu_packages(system, offer, branch, is_open, kernel, installed)]
    if offer.source == "nvidia":
        return [*before, "nvidia-driver-cuda", "nvidia-kernel-open-dkms" if is_open else "nvidia-kernel-dkms"]
    module = "nvidia-open-kernel-dkms" if is_open else "nvidia-kernel-dkms"
    return [*before, module, "libcuda1", "nvidia-smi", "nvidia-persistenced"]


def _ubuntu_packages(
    system: System, offer: Offer, branch: int, is_open: bool, kernel: str, installed: t.Collection[str]
) -> list[str]:
    suffix = "-open" if is_open else ""
    if offer.source == "nvidia":
        # NVIDIA's names lost the branch at 590.
        if branch < 590:
            return [f"libnvidia-compute-{branch}", f"nvidia-dkms-{branch}{suffix}", f"nvidia-utils-{branch}"]
        return ["libnvidia-compute", f"nvidia-dkms{suffix}", "nvidia-utils"]
    series = flavour(system, kernel, installed)
    return [
        f"nvidia-headless-no-dkms-{branch}-server{suffix}",
        f"nvidia-utils-{branch}-server",
        f"linux-modules-nvidia-{branch}-server{suffix}-{kernel}",
        f"linux-modules-nvidia-{branch}-server{suffix}-{series}",
    ]


def fabric_manager(system: System, offer: Offer, branch: int) -> str:
    """Return what drives NVSwitches; its version has to be the driver's."""
    # Ubuntu's own archive always names the branch.
    named = system.family == "deb" and (branch < 590 or offer.source == "distribution")
    return f"nvidia-fabricmanager-{branch}" if named else "nvidia-fabricmanager"
