# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan for NVIDIA's driver: the branch, source and kernel modules that support all GPUs of a host. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from . import cards as cards_module
from . import driver_files, driver_systems, kernels
from .driver_request import Card, DriverPlan, Request, Target, refuse
from .driver_systems import Offer, System
from .support import numbers

# Order of preference: long-term branches in the order of their support, the production branch, then all others.
_PREFERRED = (580, 620, 595, 570, 550, 615, 610, 590, 575, 565, 560, 555)
# Since branch 615, NVIDIA's packages contain open kernel modules only.
_NEWEST_PROPRIETARY = 610
_KINDS = ("open", "proprietary")


@dataclass(frozen=True)
class _Range:
    oldest: int
    newest: int | None
    modules: tuple[str, ...]

    def holds(self, branch: int) -> bool:
        return self.oldest <= branch <= (self.newest or branch)


def _range(cards: t.Sequence[Card]) -> _Range:
    """Return the branches and kinds of modules that support all GPUs."""
    needs = [(card, cards_module.nvidia(card.device)) for card in cards]
    for card, need in needs:
        if not need.modules:
            raise refuse(
                "card_too_old",
                f"{card} is of generation {need.generation}, which Ollama does not support; set gpu_driver_vendor: "
                "none",
            )
    oldest = max(need.oldest for _card, need in needs)
    newest = min((need.newest for _card, need in needs if need.newest), default=None)
    modules = tuple(kind for kind in _KINDS if all(kind in need.modules for _card, need in needs))
    if not modules or (newest is not None and newest < oldest):
        each = "; ".join(f"{card} ({need.generation}) requires {_requirement(need)}" for card, need in needs)
        raise refuse(
            "cards_conflict",
            f"no driver supports all of these GPUs: {each}. Options: remove one of them; bind one to vfio-pci",
        )
    return _Range(oldest, newest, modules)


def _requirement(need: cards_module.Need) -> str:
    until = f" to {need.newest}" if need.newest else " or newer"
    return f"branch {need.oldest}{until} with {' or '.join(need.modules)} modules"


def plan(request: Request, target: Target, system: System, cards: t.Sequence[Card], result: DriverPlan) -> DriverPlan:
    """Complete and return the plan of a host with NVIDIA GPUs.

    :raises OllamaError: if no driver is suitable, with the options.
    """
    fits = _range(cards)
    if target.works and request.is_default and not target.ours and not request.cards:
        result.source, result.family = "present", system.family
        result.files = driver_files.boot(request.sleep_services)
        result.notes.append("the installed driver works and is left unchanged")
        return result
    if target.installer:
        raise refuse(
            "installation_foreign",
            "a driver was installed by NVIDIA's .run file, which package managers cannot replace. Options: run "
            "nvidia-uninstall; set gpu_driver_vendor: none",
        )
    if target.foreign:
        raise refuse(
            "repository_conflict",
            f"{', '.join(target.foreign)} configures another source of NVIDIA's driver, and mixed sources result in "
            "versions that do not match. Options: remove that source; set gpu_driver_vendor: none and manage the "
            "driver yourself",
        )
    offer, branch, modules = _choose(request, target, system, fits, result.kernel)
    result.source, result.branch, result.modules = offer.source, branch, modules
    result.dkms, result.experimental = not offer.signed, offer.experimental
    if offer.source == "nvidia":
        add_repositories(target, system, result)
    result.headers = required_headers(target, system, result.kernel) if result.dkms else []
    driver = driver_systems.packages(system, offer, branch, modules, result.kernel, target.packages)
    result.files = [
        *driver_files.repositories(system, offer, branch, modules, target.archive, target.machine),
        *driver_files.nouveau(system, offer),
        *driver_files.boot(request.sleep_services),
    ]
    if offer.source == "nvidia":
        result.key = _key(request, system, target.machine)
    result.services = [] if system.name.startswith("ubuntu") else ["nvidia-persistenced.service"]
    if target.nvswitches:
        driver.append(driver_systems.fabric_manager(system, offer, branch))
        result.services.append("nvidia-fabricmanager.service")
    result.packages = [*result.headers, *driver]
    if request.hold:
        _hold(result, driver)
    if target.secure_boot and not offer.signed and not target.key_enrolled:
        result.notes.append(
            f"Secure Boot is on: after this run `mokutil --import {target.mok_certificate}`, reboot, and confirm the "
            "key at the console"
        )
    return result


def _hold(result: DriverPlan, driver: t.Sequence[str]) -> None:
    """Exclude the driver from upgrades, but not the packages that contain the modules of each new kernel."""
    modules = [name for name in driver if name.startswith("linux-modules-")]
    result.held = [name for name in driver if name not in modules]
    if modules:
        result.notes.append(
            f"gpu_driver_hold: {', '.join(modules)} are not held, so that a new kernel gets its module; upgrade the "
            "kernel and the driver together"
        )


def required_headers(target: Target, system: System, kernel: str) -> list[str]:
    """Return the packages with the headers of a kernel.

    The packages of another vendor's kernel are unknown, so its headers must be installed already; the list is then
    empty.

    :raises OllamaError: ``gpu_kernel_headers_unknown``.
    """
    if kernels.is_known(system, kernel):
        return kernels.headers(system, kernel, target.packages)
    if kernel in target.with_headers:
        return []
    raise refuse(
        "kernel_headers_unknown",
        f"kernel {kernel} is not a kernel of {system.label}, so the package with its headers is unknown. Options: "
        f"install its headers from the source of that kernel, so that /lib/modules/{kernel}/build exists; boot a "
        "kernel of the distribution; set gpu_driver_vendor: none",
    )


def add_repositories(target: Target, system: System, result: DriverPlan) -> None:
    """Add to the plan the repositories that dkms requires: those of the distribution, and EPEL.

    :raises OllamaError: ``gpu_epel_missing`` on RHEL, which has no package that configures EPEL.
    """
    result.enablerepo = list(system.enablerepo)
    if "epel" not in result.enablerepo or target.epel:
        return
    if target.os_id == "rhel":
        raise refuse(
            "epel_missing",
            "the driver requires dkms from EPEL, and RHEL has no package epel-release. Options: configure EPEL on this "
            "host (https://docs.fedoraproject.org/en-US/epel/); set gpu_driver_vendor: none",
        )
    result.repository_packages = ["epel-release"]


def _key(request: Request, system: System, machine: str) -> driver_files.Key:
    fingerprint = request.fingerprint or system.fingerprint
    if not fingerprint:
        raise refuse(
            "key_unknown",
            f"this release has no fingerprint of NVIDIA's signing key for {system.label} ({system.key}). Options: set "
            "gpu_driver_key_fingerprint to the 40 digits that NVIDIA publishes; set gpu_driver_vendor: none",
        )
    return driver_files.key(system, machine, fingerprint)


def _choose(request: Request, target: Target, system: System, fits: _Range, kernel: str) -> tuple[Offer, int, str]:
    offers = [offer for offer in system.offers if request.source in ("auto", offer.source)]
    if not offers:
        there = ", ".join(offer.source for offer in system.offers)
        raise refuse(
            "source_unsuitable",
            f"gpu_driver_source: invalid value {request.source!r}; expected auto or {there} for {system.label}",
        )
    reasons = []
    for offer in offers:
        found = _suitable(request, target, system, offer, fits, kernel)
        if not isinstance(found, str):
            return (offer, *found)
        reasons.append(f"{offer.label} {found}")
    raise refuse(
        "driver_unavailable",
        f"no driver for this host ({system.label}, kernel {kernel}): {'; '.join(reasons)}. Options: "
        f"{'; '.join(_options(request, fits))}",
    )


def _suitable(
    request: Request, target: Target, system: System, offer: Offer, fits: _Range, kernel: str
) -> tuple[int, str] | str:
    """Return the branch and kind of modules of an offer for the host, or the reason why it has none, as a clause."""
    branches = _branches(request, offer, fits)
    if isinstance(branches, str):
        return branches
    if target.nvswitches and system.name.startswith("debian") and offer.source == "distribution":
        return "has no nvidia-fabricmanager, which the NVSwitches of this machine require"
    if offer.signed and not kernels.is_known(system, kernel):
        return f"has modules for kernels of {system.label} only, and the kernel is {kernel}"
    found = [(branch, _modules(request, offer, fits, branch, kernel)) for branch in branches]
    branch, modules = next((row for row in found if row[1] in _KINDS), found[0])
    if modules not in _KINDS:
        return modules
    if target.secure_boot and not offer.signed and not target.key_enrolled and not request.accept_mok:
        return (
            "builds its module on the host, and Secure Boot rejects it until the host's key is enrolled at the "
            "console, which gpu_driver_accept_mok: true accepts"
        )
    return branch, modules


def _options(request: Request, fits: _Range) -> list[str]:
    options = [
        f"{name}: auto"
        for name, value in (
            ("gpu_driver_source", request.source),
            ("gpu_driver_branch", request.branch),
            ("gpu_driver_modules", request.modules),
        )
        if value != "auto"
    ]
    if fits.newest:
        options.append("a release of the distribution with branch 580 (Debian 12, Ubuntu)")
    options.append("gpu_driver_vendor: none, and a driver that you manage yourself")
    return options


def _branches(request: Request, offer: Offer, fits: _Range) -> list[int] | str:
    """Return the suitable branches of an offer by preference, or the reason why there is none, as a clause."""
    has = offer.branches
    shown = f"has {'only ' if len(has) == 1 else ''}{', '.join(str(branch) for branch in has)}"
    good = [branch for branch in _PREFERRED if branch in has and fits.holds(branch)]
    if not good:
        wanted = f"{fits.oldest}" + (f" to {fits.newest}" if fits.newest else " or newer")
        return f"{shown}, and these cards require {wanted} for Ollama"
    if request.branch == "auto":
        return good
    branch = int(request.branch)
    if branch not in has:
        return f"{shown}, not {branch}"
    return [branch] if branch in good else f"has {branch}, but these cards require {fits.oldest} to {fits.newest}"


def _modules(request: Request, offer: Offer, fits: _Range, branch: int, kernel: str) -> str:
    """Return open or proprietary, or the reason why neither is suitable, as a clause."""
    good = [kind for kind in offer.modules if kind in fits.modules]
    if branch > _NEWEST_PROPRIETARY:
        good = [kind for kind in good if kind == "open"]
    if request.modules != "auto":
        good = [kind for kind in good if kind == request.modules]
    if not good:
        wanted = request.modules if request.modules != "auto" else " or ".join(fits.modules)
        return f"has no {wanted} modules of branch {branch} for these cards"
    broken = [offer.broken(kind, numbers(kernel)) for kind in good]
    if all(broken):
        return f"has {branch}, which {broken[0]}"
    return good[broken.index(None)]
