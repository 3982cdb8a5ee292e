# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service made of a distribution's program, some files and one unit still lacks on this host.

`look` reads the host, `judge` refuses, `todo` compares; the last two are pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import time
import typing as t
from dataclasses import dataclass, field

from ansible.module_utils.urls import open_url

from . import _settings, _sockets
from ._errors import OllamaError

_PROPERTIES = "ActiveState,UnitFileState,ExecMainStartTimestampMonotonic,StateChangeTimestampMonotonic"


@dataclass(frozen=True)
class File:
    """A file of root's: what it is to hold."""

    content: str | None
    """None: there must be nothing of this name."""
    mode: str = "0644"
    group: str = "root"


@dataclass(frozen=True)
class Wanted:
    """What the service is made of."""

    unit: str | None = None
    """Name of the unit; its text is among the files."""
    user: str | None = None
    programs: t.Sequence[str] = ()
    files: t.Mapping[str, File] = field(default_factory=dict)
    reads: t.Sequence[str] = ()
    """Files that others write and the service reads: newer ones want a reload."""
    listen: t.Sequence[_settings.Address] = ()
    health: str | None = None
    """A URL on this host that answers 200 while all is well. Its certificate is for other names: it is not checked."""

    @property
    def unit_path(self) -> str | None:
        return f"/etc/systemd/system/{self.unit}" if self.unit else None


@dataclass(frozen=True)
class Listener:
    """Somebody on a wanted address who is not the service."""

    address: _settings.Address
    program: str | None
    pid: int | None


@dataclass(frozen=True)
class Host:
    """What there is."""

    missing: tuple[str, ...] = ()
    """The programs that are not there."""
    has_user: bool = True
    differing: tuple[str, ...] = ()
    """The files that are missing or differ in content, owner, group or mode, or must go."""
    changed: t.Mapping[str, float] = field(default_factory=dict)
    """When each of the files was last changed, seconds since the epoch."""
    active: bool = False
    enabled: bool = False
    started: float = 0.0
    reloaded: float = 0.0
    """When the service was started, and when it was last started or reloaded; seconds since the epoch."""
    listeners: tuple[Listener, ...] = ()
    sick: str | None = None
    """Why it does not answer as it should."""


def judge(host: Host, variable: str) -> None:
    """Refuse to start what could not listen. Pure.

    :param variable: the role's variable to name.
    :raises OllamaError: ``port_taken``.
    """
    for listener in host.listeners:
        who = f"{listener.program} (pid {listener.pid})" if listener.program else "a program that cannot be seen"
        raise OllamaError(
            "port_taken",
            f"{variable}: {listener.address.port} is in use: {who} listens there; stop it, or choose another port",
            program=listener.program,
            pid=listener.pid,
        )


def todo(wanted: Wanted, host: Host) -> dict[str, str]:
    """Return the steps that are missing, in order, each with a reason for people. Pure."""
    steps: dict[str, str] = {}
    if host.missing:
        steps["packages"] = f"{', '.join(host.missing)}: not installed"
    if wanted.user and not host.has_user:
        steps["account"] = f"there is no user {wanted.user}"
    if host.differing:
        steps["files"] = f"{', '.join(host.differing)}: missing or different"
    if not wanted.unit:
        return steps
    restart = _restart_reason(wanted, host, steps)
    if restart:
        steps["restart"] = restart
        return steps
    newer = [path for path, when in host.changed.items() if host.reloaded < when < time.time()]
    if host.differing or newer:
        steps["reload"] = f"{', '.join(host.differing or newer)}: changed since it was last read"
    return steps


def _restart_reason(wanted: Wanted, host: Host, steps: t.Mapping[str, str]) -> str | None:
    unit = str(wanted.unit_path)
    if not host.active:
        return f"{wanted.unit} is not running"
    if not host.enabled:
        return f"{wanted.unit} does not start at boot"
    if "packages" in steps or "account" in steps or unit in host.differing:
        return "what it is made of will have changed"
    if host.started < host.changed.get(unit, 0.0) < time.time():
        return f"{wanted.unit} was started before it was changed"
    # A configuration that is about to change may be what ails it, and a restart reads it as well as a reload.
    return host.sick


def look(wanted: Wanted) -> Host:
    """Read what there is on this host; changes nothing."""
    missing = tuple(path for path in wanted.programs if not os.access(path, os.X_OK))
    properties = _systemctl(wanted.unit) if wanted.unit else {}
    active = properties.get("ActiveState") == "active"
    differing = tuple(path for path, file in wanted.files.items() if _differs(path, file))
    return Host(
        missing=missing,
        has_user=wanted.user is None or _uid(wanted.user) is not None,
        differing=differing,
        changed={path: os.stat(path).st_mtime for path in (*wanted.files, *wanted.reads) if os.path.exists(path)},
        active=active,
        enabled=properties.get("UnitFileState") == "enabled",
        started=_since_boot(properties.get("ExecMainStartTimestampMonotonic")),
        # Each end of a reload is a change of the unit's state.
        reloaded=_since_boot(properties.get("StateChangeTimestampMonotonic")),
        listeners=tuple(_others(wanted)),
        sick=_sickness(wanted.health) if wanted.health and active else None,
    )


def _systemctl(unit: str) -> dict[str, str]:
    done = subprocess.run(
        ["systemctl", "show", "--property", _PROPERTIES, unit],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _since_boot(microseconds: str | None) -> float:
    return time.time() - (time.monotonic() - int(microseconds or 0) / 1e6)


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _differs(path: str, file: File) -> bool:
    if file.content is None:
        return os.path.lexists(path)
    try:
        gid = grp.getgrnam(file.group).gr_gid
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read()
    except (KeyError, FileNotFoundError, NotADirectoryError):
        return True
    there = (content, status.st_uid, status.st_gid, status.st_mode & 0o7777)
    return there != (file.content, 0, gid, int(file.mode, 8))


def _others(wanted: Wanted) -> t.Iterator[Listener]:
    """Yield who is in the way; processes of the unit are not."""
    for socket in _sockets.listening():
        for address in wanted.listen:
            if socket.port != address.port or not _sockets.overlap(socket.address, address):
                continue
            pid = _sockets.owner(socket.inode)
            if pid is None:
                # Root may not look into other processes everywhere (a container): the account must do.
                if wanted.user and socket.uid in (0, _uid(wanted.user)):
                    continue
            elif f"/{wanted.unit}" in _read(f"/proc/{pid}/cgroup"):
                continue
            yield Listener(address, _read(f"/proc/{pid}/comm").strip() or None if pid else None, pid)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _sickness(url: str) -> str | None:
    try:
        open_url(url, timeout=10, use_proxy=False, validate_certs=False).read()
    except Exception as exc:  # whatever kind of failure: it is told, and mended by a restart
        return f"{url} does not answer as it should: {exc}"
    return None
