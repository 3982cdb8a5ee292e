# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a host. `gather` reads it once and changes nothing.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import grp
import os
import platform
import pwd
import typing as t
from dataclasses import dataclass, field, replace

from .._core import command, fs, sockets, systemd
from .._core.errors import OllamaError
from .._core.host import find_user, platform_of
from .._core.owner import Identity, open_named
from .._core.server import ENVIRONMENT_PATH, UNIT, UNIT_PATH
from .._release import release as release_module
from .._release import unpack
from .._server import settings as settings_module
from .._service import units
from . import ownership
from .host_request import HostRequest
from .store_facts import StoreFacts, gather_store
from .store_move import StoreMove
from .store_move import find as find_move
from .survey import Survey, survey
from .unit_file import environment_of, is_foreign, values_of

# The package managers with a module in ansible-core.
_PROPERTIES = (
    *("ActiveState", "UnitFileState", "ExecMainStartTimestampMonotonic", "User", "Environment", "EnvironmentFiles"),
    *("DropInPaths", "FragmentPath"),
)
_ENVIRONMENT_LIMIT = 1 << 20
_PACKAGE_MANAGERS = ("apt-get", "dnf")
_VENDOR_GROUPS = ("video", "render")
_DEVICES = ("dev/kfd", "dev/dri", "dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")
# The path that packages use; the vendor's script uses it if PATH lacks /usr/local/bin.
_OTHER_PROGRAM = "/usr/bin/ollama"


@dataclass(frozen=True)
class AccountFacts:
    """An account of the host."""

    uid: int
    groups: frozenset[str]
    group: str = "ollama"
    """The primary group."""
    home: str = "/usr/share/ollama"
    shell: str = "/usr/sbin/nologin"
    local: bool = True
    """Whether the account is in /etc/passwd and not in a directory service."""
    processes: tuple[str, ...] = ()
    """Other processes of the account; read only for accounts that were not created for a server."""


@dataclass(frozen=True)
class ServerFacts:
    """The properties of the unit."""

    active: bool = False
    enabled: bool = False
    masked: bool = False
    path: str = ""
    """The path of the unit that systemd has read."""
    started: float = 0.0
    user: str = ""
    environment: t.Mapping[str, str] = field(default_factory=dict)
    """The environment that the unit, its drop-ins and their files define, as far as systemd reports it."""
    drop_ins: tuple[str, ...] = ()
    """The paths of the drop-ins that systemd has read."""
    replaced: str | None = None
    """The replaced file of the running server, as a sentence."""


@dataclass(frozen=True)
class PortListener:
    """A program that listens on the requested port."""

    address: str
    uid: int
    pid: int | None = None
    program: str | None = None
    unit: bool = False
    """Whether the process belongs to the unit of the server; false without a pid."""


@dataclass(frozen=True)
class HostFacts:
    """The state of a host."""

    machine: str
    has_systemd: bool
    has_zstd: bool
    package_manager: str | None
    releases: release_module.State
    account: AccountFacts | None
    device_groups: tuple[str, ...]
    directories: Survey
    unit: str | None
    drop_ins: dict[str, str]
    """The texts of the drop-ins by name."""
    environment: dict[str, str] | None
    environment_is_private: bool
    configured: float
    """The time of the last change of unit, drop-ins, environment file or release in use, in seconds since the epoch."""
    service: ServerFacts
    listeners: tuple[PortListener, ...]
    store: StoreFacts
    move: StoreMove | None
    """The store that must be moved to the requested directory."""
    other_program: str | None
    """A program ollama in a directory that neither this collection nor the adopted script uses."""
    platform: str
    """The matching key of HostRequest.platforms, or ''."""
    drop_in_files: t.Mapping[str, t.Mapping[str, str]] = field(default_factory=dict)
    """The variables in the files of EnvironmentFile=, by name of the drop-in."""
    forwarded: bool = False
    """Whether the requested address accepts connections, although no program of this host listens there."""
    authority_problem: str | None = None
    """Why the file with the authorities of the server cannot be used."""


def gather(
    request: HostRequest, port: int, root: str = "/", properties: t.Mapping[str, str] | None = None
) -> HostFacts:
    """Return the state of this host.

    :param port: the requested port of the server.
    :param root: the directory that stands for /; only tests set it.
    :param properties: the properties of the unit; only tests set them.
    """

    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    environment = fs.read_text(at(ENVIRONMENT_PATH))
    values = None if environment is None else settings_module.parse_environment_file(environment)
    current = os.path.join(request.install_dir, "current")
    configuration = (UNIT_PATH, ENVIRONMENT_PATH, current, os.path.join(current, release_module.MARKER))
    releases = release_module.read_state(at(request.install_dir), at(request.bin_dir))
    service = _server(systemd.show(UNIT, _PROPERTIES) if properties is None else properties, root)
    unit = fs.read_text(at(UNIT_PATH))
    entry = find_user(request.user)
    other = at(_OTHER_PROGRAM)
    listeners = tuple(_listeners(port, root))
    address = settings_module.address(request.settings, allow_open_network=True)
    drop_ins = {
        (os.path.basename(path) if path.startswith(UNIT_PATH + ".d/") else path): fs.read_text(at(path)) or ""
        for path in (*service.drop_ins, *_drop_ins(root)[1:])
    }
    return HostFacts(
        machine=platform.machine(),
        has_systemd=os.path.isdir(at("/run/systemd/system")),
        has_zstd=unpack.has_zstd(),
        package_manager=next((name for name in _PACKAGE_MANAGERS if command.find(name)), None),
        releases=releases,
        account=None if entry is None else _account(entry, request, root),
        device_groups=_device_groups(root),
        directories=survey(
            request.models_dir, request.install_dir, request.home, _store_owner(request, entry, unit, service), root
        ),
        unit=unit,
        drop_ins=drop_ins,
        drop_in_files={name: _environment_files(text, root) for name, text in drop_ins.items()},
        environment=values,
        environment_is_private=_is_private(at(ENVIRONMENT_PATH)),
        configured=max(_mtime(at(path)) for path in (*configuration, *_drop_ins(root))),
        service=service,
        listeners=listeners,
        forwarded=root == "/" and not listeners and sockets.accepts(address.local),
        authority_problem=_authority_problem(request, root),
        store=gather_store(request, releases, root),
        move=None if values is None or is_foreign(unit) else find_move(values, request.models_dir, root),
        # On some systems /usr/local/bin is a link to /usr/bin, so that it is the same program.
        other_program=_OTHER_PROGRAM
        if os.path.exists(other) and os.path.realpath(other) != os.path.realpath(at(request.bin_dir) + "/ollama")
        else None,
        platform=platform_of(fs.read_text(at("/etc/os-release")) or "", request.platforms),
    )


def _server(values: t.Mapping[str, str], root: str) -> ServerFacts:
    files: dict[str, str] = {}
    for line in values.get("EnvironmentFiles", "").splitlines():
        text = _environment_file(os.path.join(root, line.split(" (")[0].lstrip("/")))
        files.update(settings_module.parse_environment_file(text, strict=False))
    return ServerFacts(
        active=values.get("ActiveState") == "active",
        enabled=values.get("UnitFileState") == "enabled",
        masked=values.get("UnitFileState") == "masked",
        path=values.get("FragmentPath", ""),
        started=systemd.since_boot(values.get("ExecMainStartTimestampMonotonic")),
        user=values.get("User", ""),
        drop_ins=tuple(values.get("DropInPaths", "").split()),
        environment={**environment_of("Environment=" + values.get("Environment", "")), **files},
        replaced=units.replaced(units.processes(root).get(UNIT, []), root=root),
    )


def _environment_file(path: str) -> str:
    """Return the text of an environment file of a unit; empty if it is missing or not a regular file.

    An administrator may keep it in a directory of another account, which can put a FIFO or a link in its place.
    """
    try:
        with open_named(path) as file:
            return file.read(_ENVIRONMENT_LIMIT).decode("utf-8", "replace")
    except (OSError, OllamaError):
        return ""


def _environment_files(text: str, root: str) -> dict[str, str]:
    """Return the variables in the environment files of a drop-in; an unreadable file defines none."""
    found: dict[str, str] = {}
    for value in values_of(text, "EnvironmentFile"):
        path = value.strip("\"'").lstrip("-").strip("\"'")
        text = _environment_file(os.path.join(root, path.lstrip("/"))) if path else ""
        found.update(settings_module.parse_environment_file(text, strict=False))
    return found


def _authority_problem(request: HostRequest, root: str) -> str | None:
    option = "ollama_settings.ssl_cert_file"
    path = request.settings.get("ssl_cert_file")
    if not path:
        option, path = "ollama_environment.SSL_CERT_FILE", request.environment.get("SSL_CERT_FILE")
    if not path or os.path.isfile(os.path.join(root, str(path).lstrip("/"))):
        return None
    return f"{option}: invalid value {str(path)!r}; expected a file on this host with the authorities to trust"


def _drop_ins(root: str) -> list[str]:
    """Return the directory of drop-ins and its files: NeedDaemonReload does not report new ones."""
    directory = UNIT_PATH + ".d"
    try:
        names = os.listdir(os.path.join(root, directory.lstrip("/")))
    except FileNotFoundError:
        return []
    return [directory, *(os.path.join(directory, name) for name in names)]


def is_managed(account: AccountFacts, request: HostRequest) -> bool:
    """Return whether an account was created for a server, by this collection or by the vendor's script."""
    return account.local and 0 < account.uid < 1000 and account.home == request.home


def _account(entry: pwd.struct_passwd, request: HostRequest, root: str) -> AccountFacts:
    names = (_group_name(gid) for gid in os.getgrouplist(entry.pw_name, entry.pw_gid))
    local = any(line.split(":")[0] == entry.pw_name for line in (fs.read_text(root + "/etc/passwd") or "").splitlines())
    account = AccountFacts(
        uid=entry.pw_uid,
        groups=frozenset(name for name in names if name),
        group=_group_name(entry.pw_gid) or str(entry.pw_gid),
        home=entry.pw_dir,
        shell=entry.pw_shell,
        local=local,
    )
    if is_managed(account, request):
        return account
    return replace(account, processes=tuple(_processes(entry.pw_uid, root)))


def _processes(uid: int, root: str) -> t.Iterator[str]:
    """Yield the processes of an account that do not belong to the server."""
    proc = os.path.join(root, "proc")
    for pid in sorted(name for name in fs.list_directory(proc) if name.isdigit()):
        with contextlib.suppress(OSError):
            if os.stat(f"{proc}/{pid}").st_uid == uid and systemd.unit_of(int(pid), root) != UNIT:
                yield f"{fs.readable_text(f'{proc}/{pid}/comm').strip() or '?'} (pid {pid})"


def former_user(request: HostRequest, host: HostFacts) -> str:
    """Return the account of an adopted server, if it is not the requested one. Pure."""
    return former_user_of(request, host.unit, host.service)


def former_user_of(request: HostRequest, unit: str | None, service: ServerFacts) -> str:
    return service.user if is_foreign(unit) and service.user not in ("root", request.user) else ""


def _store_owner(
    request: HostRequest, entry: pwd.struct_passwd | None, unit: str | None, service: ServerFacts
) -> ownership.Owner:
    former = find_user(former_user_of(request, unit, service))
    return ownership.Owner(
        account=None if entry is None else Identity(entry.pw_uid, entry.pw_gid),
        former=frozenset() if former is None else frozenset({former.pw_uid}),
        shared=request.shared,
    )


def _group_name(group: str | int) -> str | None:
    try:
        return (grp.getgrgid(group) if isinstance(group, int) else grp.getgrnam(group)).gr_name
    except KeyError:
        return None


def _device_groups(root: str) -> tuple[str, ...]:
    """Return the groups that own GPU devices, and those to which the vendor's script adds the account."""
    gids = set()
    for name in _DEVICES:
        path = os.path.join(root, name)
        for device in [os.path.join(path, entry) for entry in os.listdir(path)] if os.path.isdir(path) else [path]:
            with contextlib.suppress(OSError):
                gids.add(os.stat(device).st_gid)
    names = {_group_name(gid) for gid in gids - {0}} | {_group_name(name) for name in _VENDOR_GROUPS}
    return tuple(sorted(name for name in names if name))


def _listeners(port: int, root: str) -> t.Iterator[PortListener]:
    for found in sockets.listening(root):
        if found.port != port:
            continue
        pid = sockets.owner(found.inode, root)
        yield PortListener(
            address=found.address,
            uid=found.uid,
            pid=pid,
            program=fs.readable_text(os.path.join(root, "proc", str(pid), "comm")).strip() or None,
            unit=pid is not None and systemd.unit_of(pid, root) == UNIT,
        )


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _is_private(path: str) -> bool:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    return status.st_uid == 0 and status.st_mode & 0o077 == 0


def missing_groups(host: HostFacts) -> list[str]:
    """Return the groups of GPU devices on this host of which the account is not a member."""
    return [group for group in host.device_groups if host.account is None or group not in host.account.groups]
