# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a host before anything changes: is the wish sound, can it be met here, and which steps are missing.

`look` reads the host, `judge` refuses, `todo` compares; the last two are pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import platform
import pwd
import re
import shutil
import subprocess
import time
import typing as t
from dataclasses import dataclass, field

from . import _name, _release, _settings
from ._errors import OllamaError

UNIT = "ollama.service"
UNIT_PATH = "/etc/systemd/system/ollama.service"
ENVIRONMENT_PATH = "/etc/ollama/ollama.env"
OLDEST_SAFE = (0, 34, 3)
FIRST_WITH_NEW_STORE = (0, 40, 0)

_PATH = re.compile(r"/[A-Za-z0-9/._+:@-]*[A-Za-z0-9._+:@-]\Z")
_PACKAGE_MANAGERS = ("apt-get", "dnf", "yum", "zypper", "pacman", "apk")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VENDOR_GROUPS = ("video", "render")
_DEVICES = ("dev/kfd", "dev/dri", "dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")


@dataclass(frozen=True)
class Wanted:
    """What the role's variables ask for."""

    version: str
    unit: str
    models_dir: str
    checksum: str | None = None
    checksums: t.Mapping[str, str] = field(default_factory=dict)
    base_url: str = _release.BASE_URL
    settings: t.Mapping[str, t.Any] = field(default_factory=dict)
    environment: t.Mapping[str, t.Any] = field(default_factory=dict)
    models: t.Sequence[t.Any] = ()
    keep: int = 2
    install_dir: str = "/opt/ollama"
    bin_dir: str = "/usr/local/bin"
    home: str = "/usr/share/ollama"
    user: str = "ollama"
    group: str = "ollama"
    allow_vulnerable_version: bool = False
    allow_open_network: bool = False
    accept_store_migration: bool = False


@dataclass(frozen=True)
class Checked:
    """A wish that is sound in itself, with what follows from it."""

    address: _settings.Address
    environment: dict[str, str]
    raw_environment: dict[str, str]


@dataclass(frozen=True)
class Account:
    """A user as the host knows it."""

    uid: int
    groups: frozenset[str]


@dataclass(frozen=True)
class Service:
    """What systemd says about the unit."""

    active: bool = False
    enabled: bool = False
    started: float = 0.0


@dataclass(frozen=True)
class Listener:
    """A program that listens on the wanted port."""

    address: str
    uid: int
    pid: int | None = None
    program: str | None = None
    unit: bool = False
    """Whether the process belongs to our unit; without a pid nothing is known."""


@dataclass(frozen=True)
class Host:
    """What there is."""

    machine: str
    has_systemd: bool
    has_zstd: bool
    package_manager: str | None
    releases: _release.State
    account: Account | None
    has_group: bool
    device_groups: tuple[str, ...]
    directories: dict[str, int | None]
    """Directory -> uid of its owner, None when it is missing."""
    unit: str | None
    environment: dict[str, str] | None
    environment_is_private: bool
    configured: float
    """When the unit, a drop-in, the environment file or the release in use was last changed."""
    service: Service
    listeners: tuple[Listener, ...]
    store: str | None
    """Which generation of the model store is there: v1, v2 or None."""


def check(wanted: Wanted) -> Checked:
    """Refuse a wish that no host could meet. Pure.

    :raises OllamaError: naming the variable, the value and what is allowed.
    """
    version = _release.parse_version(wanted.version, what="ollama_version")
    if version < OLDEST_SAFE and not wanted.allow_vulnerable_version:
        raise OllamaError(
            "vulnerable_version",
            f"ollama_version: {wanted.version!r} has known security holes; allowed is 0.34.3 or newer, "
            "or ollama_allow_vulnerable_version: true",
            variable="ollama_version",
        )
    if wanted.keep < 1:
        raise OllamaError(
            "bad_option", f"ollama_release_keep: {wanted.keep} is not allowed; allowed is a number of at least 1"
        )
    for variable, path in (("ollama_models_dir", wanted.models_dir), ("ollama_install_dir", wanted.install_dir)):
        if not _PATH.match(path):
            raise OllamaError(
                "bad_option",
                f"{variable}: {path!r} is not allowed; allowed is an absolute path of letters, digits and /._+:@-",
            )
    address = _settings.address(wanted.settings, allow_open_network=wanted.allow_open_network)
    environment, raw = _settings.merge(wanted.settings, wanted.environment, wanted.models_dir)
    check_models(wanted.models)
    return Checked(address, environment, raw)


def check_models(models: t.Sequence[t.Any]) -> None:
    """Refuse an entry of ollama_models whose name or shape is wrong; the module model looks at the rest."""
    for index, entry in enumerate(models):
        what = f"ollama_models[{index}]"
        name = entry.get("name") if isinstance(entry, dict) else entry
        allow_cloud = bool(entry.get("allow_cloud")) if isinstance(entry, dict) else False
        _name.parse(name, allow_cloud=allow_cloud, what=what + ".name" if isinstance(entry, dict) else what)


def checksum_of(wanted: Wanted, asset: str) -> str:
    """Return the checksum that the archive must have.

    :raises OllamaError: ``unknown_checksum`` or ``invalid_checksum``.
    """
    if wanted.checksum:
        return _release.parse_checksum(wanted.checksum, what="ollama_release_checksum")
    if asset in wanted.checksums:
        return _release.parse_checksum(wanted.checksums[asset])
    raise OllamaError(
        "unknown_checksum",
        f"ollama_version: {wanted.version!r} has no known checksum for {asset}; allowed is a version of "
        "roles/ollama/vars/checksums.yml, or set ollama_release_checksum from the release's sha256sum.txt",
        variable="ollama_version",
    )


def judge(wanted: Wanted, checked: Checked, host: Host) -> _release.Wanted:
    """Refuse what cannot be met on this host; returns the release that is wanted on it. Pure.

    :raises OllamaError: naming what is in the way.
    """
    if not host.has_systemd:
        raise OllamaError(
            "unsupported_init", "this host does not run systemd as its init system; allowed are hosts that do"
        )
    asset = _release.asset(host.machine)
    release = _release.Wanted(
        version=wanted.version,
        checksum=checksum_of(wanted, asset),
        url=_release.url_of(wanted.base_url, wanted.version, asset),
        install_dir=wanted.install_dir,
        bin_dir=wanted.bin_dir,
        keep=wanted.keep,
    )
    _release.check_foreign(host.releases, wanted.install_dir, wanted.bin_dir)
    if host.unit is not None and not host.releases.releases and "kaido.ollama" not in host.unit:
        raise OllamaError(
            "foreign_install",
            f"{UNIT_PATH} was not written by this collection; remove that installation first (its models stay usable)",
            path=UNIT_PATH,
        )
    _judge_store(wanted, host)
    if not host.has_zstd and not host.package_manager and "install" in _release.plan(host.releases, release):
        raise OllamaError(
            "no_zstd",
            "the program zstd is needed to unpack a release, and there is no package manager to install it with",
        )
    for listener in host.listeners:
        if _overlap(listener.address, checked.address) and not _is_ours(listener, host):
            who = f"{listener.program} (pid {listener.pid})" if listener.program else "a program that cannot be seen"
            raise OllamaError(
                "port_taken",
                f"ollama_settings.host: {str(checked.address)!r} is in use: "
                f"{who} listens on port {checked.address.port}; stop it, or choose another port",
                program=listener.program,
                pid=listener.pid,
            )
    return release


def _judge_store(wanted: Wanted, host: Host) -> None:
    if wanted.accept_store_migration:
        return
    new = _release.parse_version(wanted.version) >= FIRST_WITH_NEW_STORE
    used = host.releases.current
    if used and (_release.parse_version(used) >= FIRST_WITH_NEW_STORE) == new:
        return
    if new and host.store == "v1":
        why = "0.40 and newer rewrite the models that an older version stored, and need up to 2.25 times their space"
    elif not new and host.store == "v2":
        why = "a version before 0.40 may remove models that a newer version stored"
    else:
        return
    raise OllamaError(
        "store_migration",
        f"ollama_version: {wanted.version!r} is refused: {why}, and there is no simple way back; "
        f"allowed is a version {'before' if new else 'from'} 0.40, or ollama_accept_store_migration: true",
        variable="ollama_version",
        store=wanted.models_dir,
    )


def _is_ours(listener: Listener, host: Host) -> bool:
    # Where root is not allowed to look into other processes (a container), the account must do.
    same_account = host.account is not None and host.account.uid == listener.uid
    return listener.unit or (listener.pid is None and same_account and host.service.active)


def _overlap(listening: str, address: _settings.Address) -> bool:
    """Return whether a socket on one address keeps another off the same port."""
    if listening in ("0.0.0.0", "::"):
        return True
    ip = address.ip
    if ip is None:
        return address.host != "localhost" or listening in ("127.0.0.1", "::1")
    return ip.is_unspecified or str(ip) == listening


def todo(wanted: Wanted, checked: Checked, host: Host, release: _release.Wanted) -> dict[str, str]:
    """Return the steps that are missing, in order, each with a reason for people. Pure."""
    steps: dict[str, str] = {}
    actions = _release.plan(host.releases, release)
    if "install" in actions and not host.has_zstd:
        steps["packages"] = "zstd is not installed"
    if actions:
        steps["release"] = ", ".join(actions.values())
    groups = missing_groups(host)
    if host.account is None or not host.has_group:
        steps["account"] = f"there is no {'group ' + wanted.group if host.account else 'user ' + wanted.user}"
    elif groups:
        steps["account"] = f"user {wanted.user} is not in {', '.join(groups)}"
    wrong = [
        path
        for path, owner in host.directories.items()
        if owner is None or host.account is None or owner != host.account.uid
    ]
    if wrong:
        steps["directories"] = f"{', '.join(wrong)}: missing, or not owned by {wanted.user}"
    if host.unit != wanted.unit:
        steps["unit"] = f"{UNIT_PATH} {'is missing' if host.unit is None else 'differs'}"
    environment = {**checked.environment, **checked.raw_environment}
    if host.environment != environment:
        before = host.environment or {}
        names = sorted(name for name in {*before, *environment} if before.get(name) != environment.get(name))
        steps["environment"] = f"{ENVIRONMENT_PATH} differs in {', '.join(names)}"
    elif not host.environment_is_private:
        steps["environment"] = f"{ENVIRONMENT_PATH} is not 0600 root"
    restart = _restart_reason(host, release, steps)
    if restart:
        steps["service"] = restart
    return steps


def missing_groups(host: Host) -> list[str]:
    """Return the groups that open this host's GPU devices and that the account is not in yet."""
    return [group for group in host.device_groups if host.account is None or group not in host.account.groups]


def _restart_reason(host: Host, release: _release.Wanted, steps: t.Mapping[str, str]) -> str | None:
    changed = [step for step in ("account", "unit", "environment") if step in steps]
    if not host.service.active:
        return "the server is not running"
    if host.releases.current != release.version or not host.releases.has(release.version, release.checksum):
        return "the server runs another release"
    if changed:
        return f"{', '.join(changed)} will have changed"
    if host.service.started < host.configured < time.time():
        return "the server was started before its release, unit, drop-ins or settings were changed"
    if not host.service.enabled:
        return "the server does not start at boot"
    return None


# Looking


def look(wanted: Wanted, port: int, root: str = "/", systemctl: t.Callable[[], str] | None = None) -> Host:
    """Read what there is on this host; changes nothing.

    :param root: where the file system of the host begins; only tests say anything else than /.
    :param systemctl: what prints the properties of the unit; only tests give one.
    """

    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    path = os.environ.get("PATH", "") + os.pathsep + _SYSTEM_PATH
    environment = _read(at(ENVIRONMENT_PATH))
    current = os.path.join(wanted.install_dir, "current")
    configuration = (UNIT_PATH, ENVIRONMENT_PATH, current, os.path.join(current, _release.MARKER))
    return Host(
        machine=platform.machine(),
        has_systemd=os.path.isdir(at("/run/systemd/system")),
        has_zstd=shutil.which("zstd", path=path) is not None,
        package_manager=next((name for name in _PACKAGE_MANAGERS if shutil.which(name, path=path)), None),
        releases=_release.look(at(wanted.install_dir), at(wanted.bin_dir)),
        account=_account(wanted.user),
        has_group=_group_name(wanted.group) is not None,
        device_groups=_device_groups(root),
        directories={directory: _owner(at(directory)) for directory in (wanted.home, wanted.models_dir)},
        unit=_read(at(UNIT_PATH)),
        environment=None if environment is None else _settings.parse_environment_file(environment),
        environment_is_private=_is_private(at(ENVIRONMENT_PATH)),
        configured=max(_mtime(at(path)) for path in (*configuration, *_drop_ins(root))),
        service=_service(systemctl or _systemctl),
        listeners=tuple(_listeners(port, root)),
        store=_store_generation(at(wanted.models_dir)),
    )


def _systemctl() -> str:
    properties = "ActiveState,UnitFileState,ExecMainStartTimestampMonotonic"
    try:
        done = subprocess.run(
            ["systemctl", "show", "--property", properties, UNIT],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _service(systemctl: t.Callable[[], str]) -> Service:
    values = dict(line.split("=", 1) for line in systemctl().splitlines() if "=" in line)
    started = int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    return Service(
        active=values.get("ActiveState") == "active",
        enabled=values.get("UnitFileState") == "enabled",
        started=time.time() - (time.monotonic() - started),
    )


def _drop_ins(root: str) -> list[str]:
    """Return the directory of drop-ins and what is in it: NeedDaemonReload would say nothing of a new one."""
    directory = UNIT_PATH + ".d"
    try:
        names = os.listdir(os.path.join(root, directory.lstrip("/")))
    except FileNotFoundError:
        return []
    return [directory, *(os.path.join(directory, name) for name in names)]


def _account(user: str) -> Account | None:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    names = (_group_name(gid) for gid in os.getgrouplist(user, entry.pw_gid))
    return Account(entry.pw_uid, frozenset(name for name in names if name))


def _group_name(group: str | int) -> str | None:
    try:
        return (grp.getgrgid(group) if isinstance(group, int) else grp.getgrnam(group)).gr_name
    except KeyError:
        return None


def _device_groups(root: str) -> tuple[str, ...]:
    """Return the groups that own GPU devices, whatever their names, and those that the vendor's script joins."""
    gids = set()
    for name in _DEVICES:
        path = os.path.join(root, name)
        for device in [os.path.join(path, entry) for entry in os.listdir(path)] if os.path.isdir(path) else [path]:
            with contextlib.suppress(OSError):
                gids.add(os.stat(device).st_gid)
    names = {_group_name(gid) for gid in gids - {0}} | {_group_name(name) for name in _VENDOR_GROUPS}
    return tuple(sorted(name for name in names if name))


def _listeners(port: int, root: str) -> t.Iterator[Listener]:
    for family in ("tcp", "tcp6"):
        text = _read(os.path.join(root, "proc", "net", family)) or ""
        for line in text.splitlines()[1:]:
            fields = line.split()
            hexadecimal, _colon, hex_port = fields[1].partition(":")
            if fields[3] != "0A" or int(hex_port, 16) != port:
                continue
            pid = _socket_owner(fields[9], root)
            yield Listener(
                address=_decode_address(hexadecimal),
                uid=int(fields[7]),
                pid=pid,
                program=(_read(os.path.join(root, "proc", str(pid), "comm")) or "").strip() or None,
                unit=f"/{UNIT}" in (_read(os.path.join(root, "proc", str(pid), "cgroup")) or ""),
            )


def _decode_address(text: str) -> str:
    """Return an address of /proc/net/tcp, which holds it as little-endian 32-bit words."""
    raw = bytes.fromhex(text)
    words = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    ip = ipaddress.ip_address(words)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _socket_owner(inode: str, root: str) -> int | None:
    proc = os.path.join(root, "proc")
    for pid in os.listdir(proc):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError):
            directory = os.path.join(proc, pid, "fd")
            for descriptor in os.listdir(directory):
                with contextlib.suppress(OSError):
                    if os.readlink(os.path.join(directory, descriptor)) == f"socket:[{inode}]":
                        return int(pid)
    return None


def _store_generation(path: str) -> str | None:
    for generation, name in (("v2", "manifests-v2"), ("v1", "manifests")):
        for _directory, _subdirectories, files in os.walk(os.path.join(path, name)):
            if files:
                return generation
    return None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _owner(path: str) -> int | None:
    return os.stat(path).st_uid if os.path.isdir(path) else None


def _is_private(path: str) -> bool:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    return status.st_uid == 0 and status.st_mode & 0o077 == 0
