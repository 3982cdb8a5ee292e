# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input and the result of a driver plan: the role's variables, a host, and the driver. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from . import driver_files
from .support import FLOOR

BRANCHES = (535, 550, 555, 560, 565, 570, 575, 580, 590, 595, 610, 615, 620)
AMDGPU_VERSIONS = ("30.30", "30.30.1", "30.30.2", "30.30.3", "30.30.4", "31.20", "31.40.1", "31.50")
_VENDORS = {"10de": "nvidia", "1002": "amd", "8086": "intel"}
_CARD = re.compile(r"(10de|1002|8086):[0-9a-f]{4}", re.IGNORECASE)
_KERNEL = re.compile(r"[0-9][A-Za-z0-9._+~-]{0,127}")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
# These names become part of a shell script.
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@-]{0,255}")


@dataclass(frozen=True)
class Request:
    """The role's variables."""

    vendor: str = "auto"
    source: str = "auto"
    branch: str = "auto"
    modules: str = "auto"
    kernel: str = ""
    cards: tuple[str, ...] = ()
    hold: bool = False
    accept_mok: bool = False
    amdgpu_dkms: str = ""
    key_fingerprint: str = ""
    sleep_services: tuple[str, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether the role selects source, branch and modules."""
        return (self.source, self.branch, self.modules) == ("auto", "auto", "auto")

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the repository's key in canonical form."""
        return self.key_fingerprint.replace(" ", "").upper()


@dataclass(frozen=True)
class Card:
    """The properties of a GPU on which a plan depends."""

    vendor: str
    pci_id: str
    name: str | None = None
    integrated: bool = False

    @property
    def device(self) -> int:
        return int(self.pci_id[5:], 16)

    def __str__(self) -> str:
        return f"{self.name} ({self.pci_id})" if self.name else self.pci_id


def card(pci_id: str) -> Card:
    """Return the GPU with a valid PCI ID, such as 10de:2684."""
    return Card(_VENDORS[pci_id[:4].lower()], pci_id.lower())


@dataclass(frozen=True)
class Target:
    """The properties of a host on which a plan depends."""

    os_id: str
    os_version: str
    kernel: str
    os_like: tuple[str, ...] = ()
    codename: str = ""
    machine: str = "x86_64"
    platform: str = "host"
    secure_boot: bool = False
    key_enrolled: bool = False
    mok_certificate: str = "/var/lib/dkms/mok.pub"
    cards: tuple[Card, ...] = ()
    works: bool = False
    """Whether all NVIDIA GPUs of the host are usable already."""
    ours: bool = False
    """Whether this collection has installed the driver."""
    installer: bool = False
    nvswitches: int = 0
    foreign: tuple[str, ...] = ()
    """Files that configure another source of NVIDIA's drivers."""
    archive: tuple[driver_files.AptSource, ...] = ()
    """The distribution's own entries in the package sources of apt."""
    packages: frozenset[str] = frozenset()
    """Names of installed packages, which indicate the kernel series of the host."""
    with_headers: frozenset[str] = frozenset()
    """The kernels whose headers are installed, from any source."""
    epel: bool = False
    """Whether EPEL is among the repositories of dnf."""


@dataclass
class DriverPlan:
    """The driver that a host requires, and its files and packages."""

    vendor: str = "none"
    source: str = "none"
    branch: int | None = None
    modules: str | None = None
    kernel: str = ""
    family: str = ""
    dkms: bool = False
    packages: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """The packages that are excluded from upgrades."""
    files: list[driver_files.DriverFile] = field(default_factory=list)
    key: driver_files.Key | None = None
    enablerepo: list[str] = field(default_factory=list)
    repository_packages: list[str] = field(default_factory=list)
    """The packages that configure missing repositories, installed before the others."""
    services: list[str] = field(default_factory=list)
    image: bool = False
    """Whether the plan is for a system image that is not running, so that nothing can be loaded or started."""
    experimental: bool = False
    """Whether no test of this collection has installed this driver on this system."""
    notes: list[str] = field(default_factory=list)


def refuse(code: str, message: str, **details: t.Any) -> OllamaError:
    """Return an error that is raised before anything changes; its code begins with ``gpu_``."""
    return OllamaError(f"gpu_{code}", message, **details)


def _invalid(code: str, variable: str, value: t.Any, expected: str) -> OllamaError:
    return refuse(code, f"gpu_driver_{variable}: invalid value {value!r}; expected {expected}")


def validate(request: Request) -> None:
    """Raise :class:`OllamaError` for the first value that is invalid on every host."""
    supported = [str(branch) for branch in BRANCHES if branch >= FLOOR]
    if request.branch != "auto" and request.branch not in supported:
        known = request.branch in [str(branch) for branch in BRANCHES]
        old = ", as Ollama uses the CPU with older drivers" if known else ""
        raise _invalid(
            "branch_too_old" if known else "branch_unknown",
            "branch",
            request.branch,
            f"auto or one of {', '.join(supported)}{old}",
        )
    if request.kernel and (not _KERNEL.fullmatch(request.kernel) or ".." in request.kernel):
        raise _invalid(
            "kernel_invalid", "kernel", request.kernel, "the output of uname -r, for example 6.12.117+deb13-amd64"
        )
    for pci_id in request.cards:
        if not _CARD.fullmatch(pci_id):
            raise _invalid(
                "card_invalid",
                "cards",
                pci_id,
                "PCI IDs of GPUs of NVIDIA (10de), AMD (1002) or Intel (8086), such as 10de:2684",
            )
    if request.amdgpu_dkms and request.amdgpu_dkms not in AMDGPU_VERSIONS:
        expected = f"an empty string for the kernel's own driver, or one of {', '.join(AMDGPU_VERSIONS)}, in quotes"
        raise _invalid("amdgpu_version_unknown", "amdgpu_dkms", request.amdgpu_dkms, expected)
    if request.key_fingerprint and not _FINGERPRINT.fullmatch(request.fingerprint):
        raise _invalid("key_fingerprint_invalid", "key_fingerprint", request.key_fingerprint, "40 hexadecimal digits")
    for unit in request.sleep_services:
        if not _UNIT.fullmatch(unit):
            raise _invalid(
                "sleep_services_invalid", "sleep_services", unit, "names of systemd units, such as ollama.service"
            )
