# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver that a host requires and its source, or the reason why there is none, with the options. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from . import driver_amd, driver_nvidia, driver_systems
from .driver_request import Card, DriverPlan, Request, Target, card, refuse, validate


def plan(request: Request, target: Target) -> DriverPlan:
    """Return the driver plan of a host.

    :raises OllamaError: with a code that begins with ``gpu_``, and the options.
    """
    validate(request)
    image = bool(request.kernel and request.kernel != target.kernel)
    cards = tuple(card(pci_id) for pci_id in request.cards) or target.cards
    vendor, notes = _vendor(request, cards)
    result = DriverPlan(vendor=vendor, kernel=request.kernel or target.kernel, image=image, notes=notes)
    if vendor == "none":
        return result
    if target.platform != "host" and not image:
        return _elsewhere(request, target, result)
    system = driver_systems.find(target.os_id, target.os_like, target.os_version)
    if system is None:
        raise refuse(
            "system_unsupported",
            f"unsupported system {target.os_id} {target.os_version or 'without a version'}; expected one of "
            f"{driver_systems.names()}. Options: install the driver yourself and set gpu_driver_vendor: none",
        )
    result.family = system.family
    if request.hold and system.family == "rpm":
        raise refuse(
            "package_held",
            f"gpu_driver_hold: invalid value true; expected false for {system.label}, where the repository file pins "
            "the branch",
        )
    mine = [card for card in cards if card.vendor == vendor]
    planner = driver_amd if vendor == "amd" else driver_nvidia
    result = planner.plan(request, target, system, mine, result)
    if result.experimental:
        result.notes.append(
            f"experimental: no test of kaido.ollama has installed the driver of this source on {system.label}"
        )
    return result


def _vendor(request: Request, cards: t.Sequence[Card]) -> tuple[str, list[str]]:
    """Return the vendor of the driver. NVIDIA has precedence: the drivers of AMD and Intel are part of the kernel."""
    there = {card.vendor for card in cards}
    if request.vendor == "none":
        return "none", []
    if request.vendor != "auto":
        if request.vendor not in there:
            has = ", ".join(str(card) for card in cards) or "no GPU"
            raise refuse(
                "vendor_missing",
                f"gpu_driver_vendor: invalid value {request.vendor!r}; expected auto or none, as this host has {has}. "
                "Options: set gpu_driver_cards to plan for another host",
            )
        return request.vendor, []
    for vendor in ("nvidia", "amd"):
        if vendor in there:
            others = sorted(there - {vendor})
            return vendor, [f"GPUs of {' and '.join(others)} are left unchanged"] if others else []
    return "none", ["no GPU of NVIDIA or AMD"]


_PLATFORMS = {
    "container": "a container uses the driver of its host: run this role on the host, and install in the container "
    "only NVIDIA's libraries of exactly the same version",
    "wsl2": "WSL2 uses the driver of Windows, and a Linux driver would break it",
    "jetson": "the driver of a Jetson is part of its Linux (L4T)",
    "dgx": "DGX OS contains and manages its driver",
}


def _elsewhere(request: Request, target: Target, result: DriverPlan) -> DriverPlan:
    why = _PLATFORMS[target.platform]
    if request.vendor != "auto":
        raise refuse(
            "platform_unsupported", f"gpu_driver_vendor: invalid value {request.vendor!r}; expected auto, as {why}"
        )
    return DriverPlan(kernel=result.kernel, notes=[why])
