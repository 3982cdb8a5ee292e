# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a service, its state on a host, and the pending steps. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from .._core.address import Address
from .._core.errors import OllamaError
from .._core.sockets import Socket
from .units import UNIT_DIRECTORY


@dataclass(frozen=True)
class ManagedFile:
    """A file with the owner root."""

    content: str | None = None
    """None, if there is no source either: the file must not exist."""
    mode: str = "0644"
    group: str = "root"
    source: str | None = None
    """The path of the file on the host that is copied, instead of a content."""


@dataclass(frozen=True)
class ServiceSpec:
    """The requested parts of a service."""

    unit: str | None = None
    """The name of the unit; the unit file is one of the files."""
    user: str | None = None
    programs: t.Sequence[str] = ()
    files: t.Mapping[str, ManagedFile] = field(default_factory=dict)
    reads: t.Sequence[str] = ()
    """Files that the service reads and another program writes: a newer file requires a reload."""
    listen: t.Sequence[Address] = ()
    health: str | None = None
    """A URL on this host that must answer with status 200. Its certificate is for other names and is not verified."""

    @property
    def unit_path(self) -> str | None:
        return f"{UNIT_DIRECTORY}/{self.unit}" if self.unit else None


@dataclass(frozen=True)
class Listener:
    """A program other than the service that listens on an address of the service."""

    address: Address
    program: str | None
    pid: int | None


@dataclass(frozen=True)
class ServiceState:
    """The state of a service on a host."""

    missing: tuple[str, ...] = ()
    """The programs that are not installed."""
    has_user: bool = True
    differing: tuple[str, ...] = ()
    """The files that are missing, obsolete, or differ in content, owner, group or mode."""
    changed: t.Mapping[str, float] = field(default_factory=dict)
    """The time of the last change of each file, in seconds since the epoch."""
    active: bool = False
    enabled: bool = False
    started: float = 0.0
    reloaded: float = 0.0
    """The time of the start, and of the last start or reload, in seconds since the epoch; 0 if unknown."""
    listeners: tuple[Listener, ...] = ()
    replaced: str | None = None
    """The replaced file of the running program, as a sentence."""
    sockets: tuple[Socket, ...] = ()
    """The sockets on which the unit accepts connections; also empty if they cannot be determined."""
    unhealthy: str | None = None
    """The reason why the health check fails."""


def check_listeners(state: ServiceState, variable: str) -> None:
    """Refuse a service whose port is in use. Pure.

    :param variable: the role variable with the port.
    :raises OllamaError: ``port_taken``.
    """
    for listener in state.listeners:
        program = f"{listener.program} (pid {listener.pid})" if listener.program else "a program that is not visible"
        raise OllamaError(
            "port_taken",
            f"{variable}: port {listener.address.port} is in use by {program}; stop that program or set another port",
            program=listener.program,
            pid=listener.pid,
        )


def pending_steps(spec: ServiceSpec, state: ServiceState) -> dict[str, str]:
    """Return the pending steps in order, each with its reason. Pure."""
    steps: dict[str, str] = {}
    if state.missing:
        steps["packages"] = f"{', '.join(state.missing)}: not installed"
    if spec.user and not state.has_user:
        steps["account"] = f"user {spec.user}: missing"
    if state.differing:
        steps["files"] = f"{', '.join(state.differing)}: missing or different"
    if not spec.unit:
        return steps
    restart = _restart_reason(spec, state, steps)
    if restart:
        steps["restart"] = restart
        return steps
    newer = [path for path, when in state.changed.items() if state.reloaded < when < time.time()]
    if state.differing or newer:
        steps["reload"] = f"{', '.join(state.differing or newer)}: changed since it was last read"
    return steps


def _restart_reason(spec: ServiceSpec, state: ServiceState, steps: t.Mapping[str, str]) -> str | None:
    unit = str(spec.unit_path)
    if not state.active:
        return f"{spec.unit} is not running"
    if not state.enabled:
        return f"{spec.unit} does not start at boot"
    if "packages" in steps or "account" in steps or unit in state.differing:
        return f"the program, account or unit of {spec.unit} changes"
    if state.started < state.changed.get(unit, 0.0) < time.time():
        return f"{spec.unit} was changed after its start"
    # A pending configuration can remove these causes; a restart reads the configuration as well.
    return state.replaced or _wrong_sockets(spec, state) or state.unhealthy


def _wrong_sockets(spec: ServiceSpec, state: ServiceState) -> str | None:
    """Return why the sockets require a restart: a reload of nginx cannot change 0.0.0.0 to a single address."""
    wanted = {str(address.ip): address for address in spec.listen}
    if not state.sockets or "None" in wanted:
        return None
    there = {(socket.address, socket.port) for socket in state.sockets}
    missing = [address for ip, address in wanted.items() if (ip, address.port) not in there]
    expected = {(ip, address.port) for ip, address in wanted.items()}
    more = [s for s in state.sockets if not s.is_loopback and (s.address, s.port) not in expected]
    if not wanted or not (missing or more):
        return None
    return f"{spec.unit} listens on {', '.join(sorted(str(s) for s in state.sockets))}"
