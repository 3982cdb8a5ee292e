# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which driver a host is to get and from where, or why it gets none and what to do about that. Pure.

`plan` takes a wish and a target and returns a plan or refuses; nothing here reads a host.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from . import cards as cards_module
from . import driver_files, driver_systems
from .driver_systems import Offer, System
from .support import FLOOR, numbers

BRANCHES = (535, 550, 555, 560, 565, 570, 575, 580, 590, 595, 610, 615, 620)
# The long-term branch first, then the production branch; the rest only where a source has nothing else.
_PREFERRED = (580, 595, 570, 550, 615, 610, 620, 590, 575, 565, 560, 555)
# From 615 on NVIDIA's packages hold open kernel modules only.
_NEWEST_PROPRIETARY = 610
AMDGPU_VERSIONS = ("30.30", "30.30.1", "30.30.2", "30.30.3", "30.30.4", "31.20", "31.40.1", "31.50")
# Kernel 6.12.97 changed pci_resize_resource, which older open modules and amdgpu 30.30 call.
_CHANGED_KERNEL = (6, 12, 97)


@dataclass(frozen=True)
class Wish:
    """What the role's variables ask for."""

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
    def open_to_what_works(self) -> bool:
        """Whether nothing particular is asked for."""
        return (self.source, self.branch, self.modules) == ("auto", "auto", "auto")


@dataclass(frozen=True)
class Card:
    """A GPU as the planner needs it."""

    vendor: str
    pci_id: str
    name: str | None = None
    integrated: bool = False

    @property
    def device(self) -> int:
        return int(self.pci_id[5:], 16)

    def __str__(self) -> str:
        return f"{self.name} ({self.pci_id})" if self.name else self.pci_id


@dataclass(frozen=True)
class Target:
    """The host that the plan is for."""

    os_id: str
    os_version: str
    kernel: str
    os_like: tuple[str, ...] = ()
    codename: str = ""
    machine: str = "x86_64"
    platform: str = "host"
    secure_boot: bool = False
    key_enrolled: bool = False
    cards: tuple[Card, ...] = ()
    works: bool = False
    """Whether all its cards are usable as they are."""
    ours: bool = False
    """Whether this collection has installed its driver."""
    installer: bool = False
    nvswitches: int = 0
    foreign: tuple[str, ...] = ()
    """Files that configure a source of NVIDIA's drivers and are not ours."""
    archive: tuple[driver_files.Source, ...] = ()
    """The distribution's own entries in apt's sources."""
    packages: frozenset[str] = frozenset()
    """Names of installed packages: they tell which kernels this host follows."""
    epel: bool = False
    """Whether EPEL is among dnf's repositories."""


@dataclass
class Plan:
    """What is to be there."""

    vendor: str = "none"
    source: str = "none"
    branch: int | None = None
    modules: str | None = None
    kernel: str = ""
    family: str = ""
    dkms: bool = False
    packages: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    files: list[driver_files.File] = field(default_factory=list)
    key: driver_files.Key | None = None
    enablerepo: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    hold: bool = False
    image: bool = False
    """Whether this is for a system that is not the one that runs, so nothing can be loaded or started."""
    notes: list[str] = field(default_factory=list)


def refuse(code: str, message: str, **details: t.Any) -> OllamaError:
    """Return a refusal; nothing has been changed when it is raised."""
    return OllamaError(f"gpu_{code}", message, **details)


def plan(wish: Wish, target: Target) -> Plan:
    """Return what is to be there on that host.

    :raises OllamaError: with a code that begins with ``gpu_``, and what to do.
    """
    _check(wish)
    image = bool(wish.kernel and wish.kernel != target.kernel)
    cards = tuple(Card(_vendor_of(card), card.lower()) for card in wish.cards) or target.cards
    vendor, notes = _vendor(wish, cards)
    result = Plan(vendor=vendor, kernel=wish.kernel or target.kernel, image=image, notes=notes)
    if vendor == "none":
        return result
    if target.platform != "host" and not image:
        return _elsewhere(wish, target, result)
    system = driver_systems.find(target.os_id, target.os_like, target.os_version)
    if system is None:
        raise refuse(
            "system",
            f"gpu_driver_vendor: {wish.vendor}: this collection has no plan for {target.os_id} "
            f"{target.os_version or 'without a version'}; allowed are {driver_systems.names()}, or install the driver "
            "yourself and set gpu_driver_vendor: none",
        )
    result.family, result.hold = system.family, wish.hold
    if wish.hold and system.family == "rpm":
        raise refuse(
            "hold",
            f"gpu_driver_hold: true is not there for {system.label}, where the repository file keeps the branch; "
            "allowed is false",
        )
    mine = [card for card in cards if card.vendor == vendor]
    if vendor == "amd":
        return _amd(wish, target, system, mine, result)
    return _nvidia(wish, target, system, mine, result)


def _check(wish: Wish) -> None:
    if wish.branch != "auto":
        known = ", ".join(str(branch) for branch in BRANCHES if branch >= FLOOR)
        if not wish.branch.isdigit() or int(wish.branch) not in BRANCHES:
            raise refuse(
                "branch_unknown", f"gpu_driver_branch: {wish.branch!r} is no known branch; allowed are auto, {known}"
            )
        if int(wish.branch) < FLOOR:
            raise refuse(
                "branch_too_old",
                f"gpu_driver_branch: {wish.branch} is too old, Ollama would use the CPU; allowed are auto, {known}",
            )
    for card in wish.cards:
        if len(card) != 9 or card[4] != ":" or any(digit not in "0123456789abcdef:" for digit in card.lower()):
            raise refuse("card", f"gpu_driver_cards: {card!r} is no PCI id; allowed is for example 10de:2684")
    if wish.amdgpu_dkms and wish.amdgpu_dkms not in AMDGPU_VERSIONS:
        raise refuse(
            "amdgpu_version",
            f"gpu_driver_amdgpu_dkms: {wish.amdgpu_dkms!r} is no known version; allowed are "
            f"{', '.join(AMDGPU_VERSIONS)}, or empty for the kernel's own driver",
        )


def _vendor_of(card: str) -> str:
    return {"10de": "nvidia", "1002": "amd"}.get(card[:4].lower(), "other")


def _vendor(wish: Wish, cards: t.Sequence[Card]) -> tuple[str, list[str]]:
    """Return whose driver it is about. NVIDIA's comes first: AMD's and Intel's are in the kernel."""
    there = {card.vendor for card in cards}
    if wish.vendor == "none":
        return "none", []
    if wish.vendor != "auto":
        if wish.vendor not in there:
            has = ", ".join(str(card) for card in cards) or "none at all"
            raise refuse(
                "vendor_missing",
                f"gpu_driver_vendor: {wish.vendor}, but this host has no such GPU (it has {has}); allowed are auto "
                "and none, or name the cards of another host in gpu_driver_cards",
            )
        return wish.vendor, []
    for vendor in ("nvidia", "amd"):
        if vendor in there:
            others = sorted(there - {vendor})
            return vendor, [f"GPUs of {' and '.join(others)} are left as they are"] if others else []
    return "none", ["no GPU of NVIDIA or AMD"]


_PLATFORMS = {
    "container": "a container uses its host's driver: run this role on the host, and in here install only NVIDIA's "
    "libraries of exactly the host's version",
    "wsl2": "WSL2 uses the Windows driver, and a Linux one would break it",
    "jetson": "a Jetson's driver comes with its Linux (L4T)",
    "dgx": "DGX OS brings and manages its driver",
}


def _elsewhere(wish: Wish, target: Target, result: Plan) -> Plan:
    why = _PLATFORMS[target.platform]
    if wish.vendor != "auto":
        raise refuse("platform", f"gpu_driver_vendor: {wish.vendor} is refused here: {why}; allowed are auto and none")
    return Plan(kernel=result.kernel, notes=[why])


# NVIDIA


@dataclass(frozen=True)
class _Range:
    oldest: int
    newest: int | None
    modules: tuple[str, ...]

    def holds(self, branch: int) -> bool:
        return self.oldest <= branch <= (self.newest or branch)


def _range(cards: t.Sequence[Card]) -> _Range:
    """Return what runs all of the cards."""
    needs = [(card, cards_module.nvidia(card.device)) for card in cards]
    for card, need in needs:
        if not need.modules:
            raise refuse(
                "card_too_old",
                f"{card} is of generation {need.generation}, which Ollama cannot use; set gpu_driver_vendor: none",
            )
    oldest = max(need.oldest for _card, need in needs)
    newest = min((need.newest for _card, need in needs if need.newest), default=None)
    modules = tuple(kind for kind in ("open", "proprietary") if all(kind in need.modules for _card, need in needs))
    if not modules or (newest is not None and newest < oldest):
        each = "; ".join(f"{card} ({need.generation}) needs {_words(need)}" for card, need in needs)
        raise refuse("cards_conflict", f"no driver runs all of these: {each}. Take one out, or give it to vfio-pci")
    return _Range(oldest, newest, modules)


def _words(need: cards_module.Need) -> str:
    until = f" to {need.newest}" if need.newest else " or newer"
    return f"branch {need.oldest}{until} with {' or '.join(need.modules)} modules"


def _nvidia(wish: Wish, target: Target, system: System, cards: t.Sequence[Card], result: Plan) -> Plan:
    fits = _range(cards)
    if target.works and wish.open_to_what_works and not target.ours and not wish.cards:
        result.source, result.family = "present", system.family
        result.files = driver_files.boot(wish.sleep_services)
        result.notes.append("the driver that is there works and is left as it is")
        return result
    if target.installer:
        raise refuse(
            "foreign_install",
            "a driver was installed by NVIDIA's .run file, which package managers neither see nor replace: run "
            "nvidia-uninstall first, or set gpu_driver_vendor: none",
        )
    if target.foreign:
        raise refuse(
            "repository_conflict",
            f"{', '.join(target.foreign)} configures another source of NVIDIA's driver, and mixing sources ends in "
            "versions that do not fit: remove it, or set gpu_driver_vendor: none and keep your own driver",
        )
    offer, branch, modules = _choose(wish, target, system, fits, result.kernel)
    result.source, result.branch, result.modules = offer.source, branch, modules
    result.dkms = not offer.signed
    result.headers = driver_systems.headers(system, result.kernel, target.packages) if result.dkms else []
    result.packages = driver_systems.packages(system, offer, branch, modules, result.kernel, target.packages)
    result.enablerepo = _enablerepo(target, system) if offer.source == "nvidia" else []
    result.files = [
        *driver_files.repositories(system, offer, branch, modules, target.archive, target.machine),
        *driver_files.nouveau(system, offer),
        *driver_files.boot(wish.sleep_services),
    ]
    if offer.source == "nvidia":
        result.key = _key(wish, system, target.machine)
    result.services = [] if system.name.startswith("ubuntu") else ["nvidia-persistenced.service"]
    if target.nvswitches:
        result.packages.append(driver_systems.fabric_manager(system, offer, branch))
        result.services.append("nvidia-fabricmanager.service")
    if target.secure_boot and not offer.signed and not target.key_enrolled:
        result.notes.append(
            "Secure Boot is on: after this run `mokutil --import /var/lib/dkms/mok.pub`, reboot, and confirm the key "
            "at the console"
        )
    return result


def _enablerepo(target: Target, system: System) -> list[str]:
    if "epel" in system.enablerepo and target.os_id == "rhel" and not target.epel:
        raise refuse(
            "epel",
            "the driver is built by dkms, which is in EPEL, and RHEL has no package epel-release as its kin have: set "
            "EPEL up on this host (https://docs.fedoraproject.org/en-US/epel/), or set gpu_driver_vendor: none",
        )
    return list(system.enablerepo)


def _key(wish: Wish, system: System, machine: str) -> driver_files.Key:
    fingerprint = (wish.key_fingerprint or system.fingerprint).replace(" ", "").upper()
    if not fingerprint:
        raise refuse(
            "key_unknown",
            f"NVIDIA's signing key for {system.label} ({system.key}) is not known to this release: compare it with "
            "NVIDIA's own word, and give its 40 digits as gpu_driver_key_fingerprint",
        )
    return driver_files.key(system, machine, fingerprint)


def _choose(wish: Wish, target: Target, system: System, fits: _Range, kernel: str) -> tuple[Offer, int, str]:
    offers = [offer for offer in system.offers if wish.source in ("auto", offer.source)]
    if not offers:
        there = ", ".join(offer.source for offer in system.offers)
        raise refuse(
            "source",
            f"gpu_driver_source: {wish.source} is not there for {system.label}; allowed are auto and {there}",
        )
    reasons = []
    for offer in offers:
        branch = _branch(wish, offer, fits)
        if isinstance(branch, str):
            reasons.append(f"{offer.label} {branch}")
            continue
        if target.nvswitches and system.name.startswith("debian") and offer.source == "distribution":
            reasons.append(f"{offer.label} has no nvidia-fabricmanager, which the NVSwitches of this machine need")
            continue
        modules = _modules(wish, offer, fits, branch, kernel)
        if modules not in ("open", "proprietary"):
            reasons.append(f"{offer.label} {modules}")
        elif target.secure_boot and not offer.signed and not target.key_enrolled and not wish.accept_mok:
            reasons.append(
                f"{offer.label} builds its module on the host, and Secure Boot is on: it would be rejected until a "
                "person enrols the host's key at the console, which gpu_driver_accept_mok: true accepts"
            )
        else:
            return offer, branch, modules
    raise refuse(
        "no_driver",
        f"no driver for this host ({system.label}, kernel {kernel}): {'; '.join(reasons)}{_out(wish, fits)}",
    )


def _out(wish: Wish, fits: _Range) -> str:
    ways = [
        f"{name}: auto"
        for name, value in (
            ("gpu_driver_source", wish.source),
            ("gpu_driver_branch", wish.branch),
            ("gpu_driver_modules", wish.modules),
        )
        if value != "auto"
    ]
    if fits.newest:
        ways.append("a release of the distribution that still has branch 580 (Debian 12, Ubuntu)")
    ways.append("gpu_driver_vendor: none, and a driver of your own")
    return f". Ways out: {'; '.join(ways)}"


def _branch(wish: Wish, offer: Offer, fits: _Range) -> int | str:
    """Return the branch to take from an offer, or why it has none, as a clause."""
    has = offer.branches
    shown = f"has {'only ' if len(has) == 1 else ''}{', '.join(str(branch) for branch in has)}"
    good = [branch for branch in has if fits.holds(branch)]
    if not good:
        wanted = f"{fits.oldest}" + (f" to {fits.newest}" if fits.newest else " or newer")
        return f"{shown}, and these cards need {wanted} for Ollama"
    if wish.branch == "auto":
        return next(branch for branch in _PREFERRED if branch in good)
    branch = int(wish.branch)
    if branch not in has:
        return f"{shown}, not {branch}"
    return branch if branch in good else f"has {branch}, but these cards need {fits.oldest} to {fits.newest}"


def _modules(wish: Wish, offer: Offer, fits: _Range, branch: int, kernel: str) -> str:
    """Return open or proprietary, or why neither goes, as a clause."""
    good = [kind for kind in offer.modules if kind in fits.modules]
    if branch > _NEWEST_PROPRIETARY:
        good = [kind for kind in good if kind == "open"]
    if wish.modules != "auto":
        good = [kind for kind in good if kind == wish.modules]
    if not good:
        wanted = wish.modules if wish.modules != "auto" else " or ".join(fits.modules)
        return f"has no {wanted} modules of branch {branch} for these cards"
    broken = [offer.broken(kind, numbers(kernel)) for kind in good]
    if all(broken):
        return f"has {branch}, which {broken[0]}"
    return good[broken.index(None)]


# AMD


def _amd(wish: Wish, target: Target, system: System, cards: t.Sequence[Card], result: Plan) -> Plan:
    """The driver is in the kernel and Ollama brings ROCm: firmware is what usually lacks."""
    if system.name == "debian12" and not wish.amdgpu_dkms:
        new = [str(card) for card in cards if card.device in cards_module.NEW_AMD]
        if new:
            raise refuse(
                "firmware",
                f"{', '.join(new)} is newer than the firmware and kernel of Debian 12: install both from "
                "bookworm-backports and set gpu_driver_vendor: none, or use Debian 13",
            )
    result.source, result.packages = "distribution", [system.amd_firmware]
    result.files = driver_files.components(system, target.archive, ("non-free-firmware",))
    if not wish.amdgpu_dkms:
        return result
    if all(card.integrated for card in cards):
        raise refuse(
            "amdgpu_integrated",
            f"gpu_driver_amdgpu_dkms: {wish.amdgpu_dkms} is refused: AMD supports integrated GPUs with the kernel's "
            "own driver only; allowed is empty",
        )
    if target.machine != "x86_64" or system.amdgpu is None:
        raise refuse(
            "amdgpu_system",
            f"gpu_driver_amdgpu_dkms: {wish.amdgpu_dkms} is refused: AMD has no repository for {system.label} on "
            f"{target.machine}; allowed is empty",
        )
    if wish.amdgpu_dkms.startswith("30.") and numbers(result.kernel) >= _CHANGED_KERNEL:
        raise refuse(
            "amdgpu_kernel",
            f"gpu_driver_amdgpu_dkms: {wish.amdgpu_dkms} does not build on kernel {result.kernel}; allowed are "
            f"{', '.join(version for version in AMDGPU_VERSIONS if not version.startswith('30.'))}, or empty",
        )
    if target.secure_boot and not target.key_enrolled and not wish.accept_mok:
        raise refuse(
            "secure_boot",
            f"gpu_driver_amdgpu_dkms: {wish.amdgpu_dkms} builds its module on the host, and Secure Boot is on: it "
            "would be rejected until a person enrols the host's key at the console, which gpu_driver_accept_mok: true "
            "accepts; or leave it empty for the kernel's own driver",
        )
    result.source, result.dkms = "amd", True
    result.headers = driver_systems.headers(system, result.kernel, target.packages)
    result.packages = [*result.headers, *result.packages, "amdgpu-dkms"]
    result.files += driver_files.amd_repository(system, wish.amdgpu_dkms)
    result.key = driver_files.amd_key(system)
    result.enablerepo = _enablerepo(target, system)
    return result
