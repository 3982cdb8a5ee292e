# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of this collection other than the server: their files, processes and sockets.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t
from dataclasses import dataclass

from .._core import sockets as sockets_module
from .._core import systemd
from .._core.address import SERVER_PORT
from .._core.fs import readable_text
from .._core.server import ENVIRONMENT_PATH, UNIT
from .._server import settings

UNIT_DIRECTORY = "/etc/systemd/system"
MARKER = "kaido.ollama"
"""The text that each unit file of this collection contains."""
# Only root can create files below these directories, so no service account can pretend that a library was replaced.
_SYSTEM_DIRECTORIES = ("/usr/", "/lib", "/bin/", "/sbin/", "/opt/")
_DELETED = " (deleted)"


@dataclass(frozen=True)
class Service:
    """The objects that this collection creates on a host for one of its services; only these are removed with it."""

    unit: str | None = None
    files: tuple[str, ...] = ()
    """Configuration and secrets, the secrets first."""
    trees: tuple[str, ...] = ()
    """Directories that are removed with their content."""
    directories: tuple[str, ...] = ()
    """Directories that are removed if they contain nothing else."""
    user: str | None = None

    @property
    def unit_path(self) -> str | None:
        return f"{UNIT_DIRECTORY}/{self.unit}" if self.unit else None


SERVICES: dict[str, Service] = {
    "mirror": Service(
        unit="ollama-mirror.service",
        files=tuple(f"/etc/ollama-mirror/{name}" for name in ("tls.key", "tls.crt", "nginx.conf")),
        trees=("/var/cache/ollama-mirror",),
        directories=("/etc/ollama-mirror",),
        user="ollama-mirror",
    ),
    "balancer": Service(
        unit="ollama-balancer.service",
        files=tuple(f"/etc/ollama-gateway/{name}" for name in ("peers.map", "haproxy.cfg", "models.map", "wait.lua")),
        user="ollama-balancer",
    ),
    "gateway": Service(
        unit="ollama-gateway.service",
        files=tuple(
            f"/etc/ollama-gateway/{name}"
            for name in (
                "tokens.conf",
                "peers.conf",
                "tls.key",
                "tls.key.pending",
                "ca.key",
                "ca.key.pending",
                "tls.crt",
                "ca.crt",
                "nginx.conf",
            )
        ),
        trees=("/var/cache/ollama-gateway",),
        directories=("/etc/ollama-gateway",),
        user="ollama-gateway",
    ),
    "forwarder": Service(
        unit="ollama-forwarder.service",
        files=tuple(f"/etc/ollama-forwarder/{name}" for name in ("token.conf", "nginx.conf")),
        trees=("/var/cache/ollama-forwarder",),
        directories=("/etc/ollama-forwarder",),
        user="ollama-forwarder",
    ),
    "client": Service(files=("/etc/profile.d/kaido-ollama.sh",), trees=("/etc/kaido-ollama",)),
}
"""The services in the order in which they are removed: the balancer keeps its files in the directory of the gateway."""


def processes(root: str = "/") -> dict[str, list[int]]:
    """Return the process IDs of the server and of each service of this collection, by unit.

    :param root: the directory that stands for /; only tests set it.
    """
    units = {UNIT, *(service.unit for service in SERVICES.values() if service.unit)}
    found: dict[str, list[int]] = {}
    for pid in sorted(int(name) for name in _names(os.path.join(root, "proc")) if name.isdigit()):
        unit = systemd.unit_of(pid, root)
        if unit in units:
            found.setdefault(unit, []).append(pid)
    return found


def replaced(
    pids: t.Iterable[int], programs: t.Iterable[str] = (), started: float = 0.0, root: str = "/"
) -> str | None:
    """Return which file was replaced after running processes had loaded it, as a sentence; None if none or unknown.

    :param pids: the processes of the unit, workers included.
    :param programs: the programs that the unit starts.
    :param started: the time of the unit's start in seconds since the epoch; 0 if unknown.
    :param root: the directory that stands for /; only tests set it.
    """
    running = set()
    programs = tuple(programs)
    for pid in pids:
        process = os.path.join(root, "proc", str(pid))
        for line in readable_text(os.path.join(process, "maps")).splitlines():
            fields = line.split(None, 5)
            if len(fields) < 6 or "x" not in fields[1] or not fields[5].endswith(_DELETED):
                continue
            path = fields[5][: -len(_DELETED)]
            if path in programs or path.startswith(_SYSTEM_DIRECTORIES):
                return f"{path} was replaced after process {pid} had loaded it"
        # Root cannot read the processes of other users everywhere, for example not in some containers.
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(process, "exe"))
            running.add((status.st_dev, status.st_ino))
    for program in programs:
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(root, program.lstrip("/")))
            if (status.st_dev, status.st_ino) not in running and 0 < started < status.st_ctime < time.time():
                return f"{program} was replaced after its start"
    return None


def sockets_of(pids: t.Sequence[int], root: str = "/") -> list[sockets_module.Socket]:
    """Return the listening sockets that processes hold or, if this cannot be determined, those of their users."""
    inodes: set[str] = set()
    uids: set[int] = set()
    for pid in pids:
        directory = os.path.join(root, "proc", str(pid))
        try:
            descriptors = os.listdir(os.path.join(directory, "fd"))
        except PermissionError:
            with contextlib.suppress(OSError):
                uids.add(os.stat(directory).st_uid)
            continue
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                inodes.add(os.readlink(os.path.join(directory, "fd", descriptor)))
            except PermissionError:  # For root in a container without the right to trace processes.
                with contextlib.suppress(OSError):
                    uids.add(os.stat(directory).st_uid)
            except OSError:
                continue
    sockets = list(sockets_module.listening(root)) if pids else []
    held = [socket for socket in sockets if f"socket:[{socket.inode}]" in inodes]
    # The sockets of a user with hidden processes are identified by the user ID, unless the user is root.
    return held or [socket for socket in sockets if socket.uid in uids - {0}]


def listening(root: str = "/") -> list[dict[str, str]]:
    """Return each TCP address on which the server and the services of this collection are observed to listen.

    :param root: the directory that stands for /; only tests set it.
    :returns: rows with ``service`` (``server`` or a name of SERVICES) and ``address``.
    """
    running = processes(root)
    rows = []
    for name, unit in (("server", UNIT), *((name, service.unit) for name, service in SERVICES.items())):
        sockets = sockets_of(running.get(unit or "", []), root)
        if name == "server":
            port = _server_port(root)
            # The runners of the server listen on random ports of the loopback interface.
            sockets = [socket for socket in sockets if socket.port == port or not socket.is_loopback]
        addresses = {(socket.port, str(socket)) for socket in sockets}
        rows += [{"service": name, "address": address} for _port, address in sorted(addresses)]
    return rows


def _server_port(root: str) -> int:
    text = readable_text(os.path.join(root, ENVIRONMENT_PATH.lstrip("/")))
    host = settings.parse_environment_file(text, strict=False).get("OLLAMA_HOST", "")
    try:
        return settings.parse_host(host).port
    except ValueError:
        return SERVER_PORT


def found(root: str = "/") -> list[str]:
    """Return the names of the services of this collection that have any file or process on this host.

    If a unit file of the same name lacks the marker of this collection, the unit and its files are foreign.

    :param root: the directory that stands for /; only tests set it.
    """
    running = processes(root)
    return [name for name, service in SERVICES.items() if _remains(service, running, root)]


def _remains(service: Service, running: t.Mapping[str, list[int]], root: str) -> bool:
    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    if service.unit_path and os.path.lexists(at(service.unit_path)):
        return MARKER in readable_text(at(service.unit_path))
    return (service.unit or "") in running or any(os.path.lexists(at(path)) for path in files_of(service))


def files_of(service: Service) -> tuple[str, ...]:
    """Return the paths that are removed, including files with the suffix .new from an interrupted write."""
    return (*(path + suffix for path in service.files for suffix in ("", ".new")), *service.trees)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
