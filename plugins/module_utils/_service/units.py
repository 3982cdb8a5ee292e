# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services made of a distribution's program, some files and one unit: what is missing, what runs, and their removal.

`look` reads the host, `judge` refuses, `todo` compares; the last two are pure. `SERVICES` lists what this collection
runs on a host beside the Ollama server, `found` and `listening` return what of it there is, and `remove` removes it.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
import time
import typing as t
from dataclasses import dataclass, field

from ansible.module_utils.urls import open_url

from .._core import sockets as sockets_module
from .._core.address import SERVER_PORT, Address
from .._core.errors import OllamaError
from .._server import settings

UNIT_DIRECTORY = "/etc/systemd/system"
MARKER = "kaido.ollama"
"""Is in each unit file that this collection writes."""
SERVER_UNIT = "ollama.service"
_SERVER_ENVIRONMENT = "/etc/ollama/ollama.env"
# Below these directories only root can create a file, so that no service account can fake a replaced library.
_SYSTEM_DIRECTORIES = ("/usr/", "/lib", "/bin/", "/sbin/", "/opt/")
_DELETED = " (deleted)"
_SYSTEM_UIDS = range(1, 1000)


@dataclass(frozen=True)
class Service:
    """What this collection creates on a host for one of its services; nothing else is removed with it."""

    unit: str | None = None
    files: tuple[str, ...] = ()
    """Configuration and secrets, the secrets first."""
    trees: tuple[str, ...] = ()
    """Directories that are removed with everything in them."""
    directories: tuple[str, ...] = ()
    """Directories that are removed if nothing else is in them."""
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
    listen: t.Sequence[Address] = ()
    health: str | None = None
    """A URL on this host that answers 200 while all is well. Its certificate is for other names: it is not checked."""

    @property
    def unit_path(self) -> str | None:
        return f"/etc/systemd/system/{self.unit}" if self.unit else None


@dataclass(frozen=True)
class Listener:
    """Somebody on a wanted address who is not the service."""

    address: Address
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
    replaced: str | None = None
    """Which file of the running program was replaced, as a sentence."""
    sockets: tuple[sockets_module.Socket, ...] = ()
    """Where the unit accepts connections; empty also if that cannot be determined."""
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
    return host.replaced or _wrong_sockets(wanted, host) or host.sick


def _wrong_sockets(wanted: Wanted, host: Host) -> str | None:
    """Return why the sockets want a restart: nginx cannot change from 0.0.0.0 to one address by a reload."""
    asked = {str(address.ip): address for address in wanted.listen}
    if not host.sockets or "None" in asked:
        return None
    there = {(socket.address, socket.port) for socket in host.sockets}
    missing = [address for ip, address in asked.items() if (ip, address.port) not in there]
    expected = {(ip, address.port) for ip, address in asked.items()}
    more = [s for s in host.sockets if not s.is_loopback and (s.address, s.port) not in expected]
    if not asked or not (missing or more):
        return None
    return f"{wanted.unit} listens on {', '.join(sorted(str(s) for s in host.sockets))}"


def look(wanted: Wanted) -> Host:
    """Read what there is on this host; changes nothing."""
    missing = tuple(path for path in wanted.programs if not os.access(path, os.X_OK))
    properties = _systemctl(wanted.unit) if wanted.unit else {}
    active = properties.get("ActiveState") == "active"
    differing = tuple(path for path, file in wanted.files.items() if _differs(path, file))
    started = _since_boot(properties.get("ExecMainStartTimestampMonotonic"))
    pids = processes().get(wanted.unit or "", []) if active else []
    return Host(
        missing=missing,
        has_user=wanted.user is None or _uid(wanted.user) is not None,
        differing=differing,
        changed={path: os.stat(path).st_mtime for path in (*wanted.files, *wanted.reads) if os.path.exists(path)},
        active=active,
        enabled=properties.get("UnitFileState") == "enabled",
        started=started,
        # Each end of a reload is a change of the unit's state.
        reloaded=_since_boot(properties.get("StateChangeTimestampMonotonic")),
        listeners=tuple(_others(wanted)),
        replaced=replaced(pids, wanted.programs, started) if active else None,
        sockets=tuple(_sockets_of(pids)),
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
    for socket in sockets_module.listening():
        for address in wanted.listen:
            if socket.port != address.port or not sockets_module.overlap(socket.address, address):
                continue
            pid = sockets_module.owner(socket.inode)
            if pid is None:
                # Root may not look into other processes everywhere (a container): the account must do.
                if wanted.user and socket.uid in (0, _uid(wanted.user)):
                    continue
            elif wanted.unit and _unit_of(_cgroups(pid, "/"), _cgroups(1, "/")) == wanted.unit:
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


def processes(root: str = "/") -> dict[str, list[int]]:
    """Return the process IDs by unit, for the server and for each service of this collection.

    :param root: the directory that stands for /; only tests set it.
    """
    units = {SERVER_UNIT, *(service.unit for service in SERVICES.values() if service.unit)}
    init = _cgroups(1, root)
    found: dict[str, list[int]] = {}
    for pid in sorted(int(name) for name in _names(os.path.join(root, "proc")) if name.isdigit()):
        unit = _unit_of(_cgroups(pid, root), init)
        if unit in units:
            found.setdefault(unit, []).append(pid)
    return found


def _cgroups(pid: int, root: str) -> dict[str, str]:
    """Return the control group of a process by hierarchy."""
    lines = _read(os.path.join(root, "proc", str(pid), "cgroup")).splitlines()
    fields = (line.split(":", 2) for line in lines)
    return {field[1]: field[2] for field in fields if len(field) == 3}


def _unit_of(cgroups: t.Mapping[str, str], init: t.Mapping[str, str]) -> str:
    """Return the unit of this system that a process belongs to; '' for none.

    Users can give their own units and containers any name; these are below a service or a scope.

    :param init: the control groups of process 1, which in a container may not begin at the top.
    """
    for hierarchy, path in cgroups.items():
        top = os.path.dirname(init.get(hierarchy, "/")).rstrip("/") + "/"
        *slices, unit = path[len(top) :].split("/") if path.startswith(top) else [""]
        if unit.endswith(".service") and all(name.endswith(".slice") for name in slices):
            return unit
    return ""


def replaced(
    pids: t.Iterable[int], programs: t.Iterable[str] = (), started: float = 0.0, root: str = "/"
) -> str | None:
    """Return which file that running processes execute was replaced since; None if none was, or if it is unknown.

    :param pids: the processes of the unit, workers included.
    :param programs: the programs that the unit starts.
    :param started: when the unit was started, in seconds since the epoch.
    :param root: the directory that stands for /; only tests set it.
    """
    running = set()
    programs = tuple(programs)
    for pid in pids:
        process = os.path.join(root, "proc", str(pid))
        for line in _read(os.path.join(process, "maps")).splitlines():
            fields = line.split(None, 5)
            if len(fields) < 6 or "x" not in fields[1] or not fields[5].endswith(_DELETED):
                continue
            path = fields[5][: -len(_DELETED)]
            if path in programs or path.startswith(_SYSTEM_DIRECTORIES):
                return f"{path} was replaced after process {pid} had loaded it"
        # What another user runs, root may not see everywhere: in a container, for example.
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(process, "exe"))
            running.add((status.st_dev, status.st_ino))
    for program in programs:
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(root, program.lstrip("/")))
            if (status.st_dev, status.st_ino) not in running and 0 < started < status.st_ctime < time.time():
                return f"{program} was replaced after its start"
    return None


def _sockets_of(pids: t.Sequence[int], root: str = "/") -> list[sockets_module.Socket]:
    """Return the listening sockets of processes: those that they hold, or else those of their users."""
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
            except PermissionError:  # as root in a container that may not trace processes
                with contextlib.suppress(OSError):
                    uids.add(os.stat(directory).st_uid)
            except OSError:
                continue
    sockets = list(sockets_module.listening(root)) if pids else []
    held = [socket for socket in sockets if f"socket:[{socket.inode}]" in inodes]
    # A user whose processes are hidden: its sockets are known by its number, unless it is root.
    return held or [socket for socket in sockets if socket.uid in uids - {0}]


def listening(root: str = "/") -> list[dict[str, str]]:
    """Return each TCP address at which the server and the services of this collection accept connections, as seen.

    :param root: the directory that stands for /; only tests set it.
    :returns: rows with ``service`` (``server`` or a name of SERVICES) and ``address``.
    """
    running = processes(root)
    rows = []
    for name, unit in (("server", SERVER_UNIT), *((name, service.unit) for name, service in SERVICES.items())):
        sockets = _sockets_of(running.get(unit or "", []), root)
        if name == "server":
            port = _server_port(root)
            # The runners of the server listen on random ports of loopback.
            sockets = [socket for socket in sockets if socket.port == port or not socket.is_loopback]
        addresses = {(socket.port, str(socket)) for socket in sockets}
        rows += [{"service": name, "address": address} for _port, address in sorted(addresses)]
    return rows


def _server_port(root: str) -> int:
    text = _read(os.path.join(root, _SERVER_ENVIRONMENT.lstrip("/")))
    host = settings.parse_environment_file(text, strict=False).get("OLLAMA_HOST", "")
    try:
        return settings.parse_host(host).port
    except ValueError:
        return SERVER_PORT


def found(root: str = "/") -> list[str]:
    """Return the names of the services of this collection of which anything is on this host.

    A unit file of the same name without the marker of this collection belongs to somebody else, and so does the rest.

    :param root: the directory that stands for /; only tests set it.
    """
    running = processes(root)
    return [name for name, service in SERVICES.items() if _remains(service, running, root)]


def _remains(service: Service, running: t.Mapping[str, list[int]], root: str) -> bool:
    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    if service.unit_path and os.path.lexists(at(service.unit_path)):
        return MARKER in _read(at(service.unit_path))
    return (service.unit or "") in running or any(os.path.lexists(at(path)) for path in _files(service))


def _files(service: Service) -> tuple[str, ...]:
    """Return what is removed; an interrupted write leaves a file with the suffix .new."""
    return (*(path + suffix for path in service.files for suffix in ("", ".new")), *service.trees)


class Removal:
    """Stops and disables services of this collection and removes their files and accounts.

    The unit files are removed last, so that a run after an interrupted one finds them.

    :param names: of SERVICES; those of which nothing is on the host are ignored.
    :param check_mode: only predict.
    :param root: the directory that stands for /; only tests set it.
    :param execute: runs a program and returns its exit status; only tests give one.
    """

    def __init__(
        self,
        names: t.Iterable[str],
        *,
        check_mode: bool = False,
        root: str = "/",
        execute: t.Callable[..., int] | None = None,
    ) -> None:
        self.check_mode, self.root, self.execute = check_mode, root, execute or _execute
        there = found(root)
        names = set(names)
        self.services = [SERVICES[name] for name in SERVICES if name in names and name in there]
        self.others = {SERVICES[name].user for name in there if name not in names}
        self.actions: list[str] = []
        """What was done, or would be, in order."""
        self.kept: dict[str, str] = {}
        """What stays, and why."""

    def apply(self) -> None:
        """Remove, or predict the removal.

        :raises OllamaError: ``service_running`` if systemd does not stop a unit, ``command_failed`` if an account
            cannot be removed.
        """
        for service in self.services:
            if service.unit:
                self._stop(service.unit)
            for path in _files(service):
                self._delete(path)
        for service in self.services:
            for path in service.directories:
                self._remove_directory(path)
            if service.user and service.user not in self.others and _is_own(service.user):
                self._remove_user(service.user)
        for service in self.services:
            if service.unit_path:
                if os.path.isdir(self._at(service.unit_path + ".d")):
                    self.kept[service.unit_path + ".d"] = "drop-ins are the user's"
                self._delete(service.unit_path)
        if any(service.unit for service in self.services) and not self.check_mode:
            self.execute("systemctl", "daemon-reload")

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def _stop(self, unit: str) -> None:
        self.actions.append(f"stop and disable {unit}")
        if self.check_mode:
            return
        self.execute("systemctl", "stop", unit)
        self.execute("systemctl", "disable", unit)
        # Otherwise systemd remembers a unit that failed.
        self.execute("systemctl", "reset-failed", unit)
        if processes(self.root).get(unit):
            raise OllamaError("service_running", f"{unit} does not stop; see systemctl status {unit}", unit=unit)
        # Without a unit file systemctl disables nothing.
        _delete(self._at(f"{UNIT_DIRECTORY}/multi-user.target.wants/{unit}"))

    def _delete(self, path: str) -> None:
        if os.path.lexists(self._at(path)):
            self.actions.append(f"remove {path}")
            if not self.check_mode:
                _delete(self._at(path))

    def _remove_directory(self, path: str) -> None:
        there = self._at(path)
        if os.path.islink(there) or not os.path.isdir(there):
            return
        # What a prediction would have removed is still there.
        predicted = {own for service in self.services for own in _files(service)} if self.check_mode else set()
        left = [name for name in sorted(os.listdir(there)) if os.path.join(path, name) not in predicted]
        if left:
            self.kept[path] = f"it contains {', '.join(left[:5])}"
            return
        self.actions.append(f"remove {path}")
        if not self.check_mode:
            os.rmdir(there)

    def _remove_user(self, user: str) -> None:
        self.actions.append(f"remove user {user}")
        if not self.check_mode and self.execute("userdel", user):
            raise OllamaError("command_failed", f"userdel {user} failed; see the journal of the host", user=user)


def _is_own(user: str) -> bool:
    """Return whether an account is as the roles of this collection create it."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return False
    return entry.pw_uid in _SYSTEM_UIDS and entry.pw_dir == "/nonexistent" and entry.pw_shell.endswith("/nologin")


def _delete(path: str) -> None:
    """Remove a file, a link or a directory with its content; links are not followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _execute(*command: str) -> int:
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return 127
    return done.returncode


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
