# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a host before anything changes: is the wish sound, can it be met here, and which steps are missing.

`look` reads the host, `judge` refuses, `todo` compares; the last two are pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import difflib
import grp
import json
import os
import platform
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._core import sockets
from .._core.address import Address
from .._core.errors import OllamaError
from .._core.owner import Identity, acting_as, owner_of, read_regular
from .._models.declaration import parse_models
from .._models.registry import parse_mirror
from .._release import release as release_module
from .._release import unpack
from .._server import settings as settings_module
from .._service import units
from . import ownership

UNIT = "ollama.service"
UNIT_PATH = "/etc/systemd/system/ollama.service"
ENVIRONMENT_PATH = "/etc/ollama/ollama.env"
OLDEST_SAFE = (0, 35, 0)
# The path traversal in /api/pull is in these; older versions have other vulnerabilities.
CVE = "CVE-2026-103663"
FIRST_WITH_CVE = (0, 34, 2)
FIRST_WITH_NEW_STORE = (0, 40, 0)
# 0.40 keeps what it converts beside what it makes of it, and wants a quarter of it free before it begins.
MIGRATION_FACTOR = 2.25

# Those for which ansible-core has a module; pacman's, zypper's and apk's are in another collection.
_PACKAGE_MANAGERS = ("apt-get", "dnf")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VENDOR_GROUPS = ("video", "render")
_DEVICES = ("dev/kfd", "dev/dri", "dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")
# Where a package of the distribution, or somebody who unpacked a release by hand, puts the program.
_OTHER_PROGRAM = "/usr/bin/ollama"
_SHELLS = ("/nologin", "/false")
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")
# Accounts that others share, and groups whose rights are those of root.
_USERS_OF_OTHERS = ("root", "nobody")
_GROUPS_OF_OTHERS = (
    *("root", "wheel", "sudo", "adm", "admin", "disk", "kmem", "shadow", "docker", "lxd", "libvirt", "nogroup"),
    "nobody",
)
_NOBODY = Identity(65534, 65534)
_GENERATIONS = (("v2", "manifests-v2"), ("v1", "manifests"))
_MANIFEST_BYTES = 4 << 20
_MAX_MODEL_BYTES = 1 << 60

_AMOUNT = r"infinity|\d+(\.\d+)?[KMGT]?|\d{1,2}(\.\d+)?%|100%"
_SET = r"\d+(-\d+)?([ ,]\d+(-\d+)?)*"
_WEIGHT = r"[1-9]\d{0,3}|10000"
# Directive of ollama_unit_limits -> its values, and an example for people.
LIMITS: dict[str, tuple[str, str]] = {
    "AllowedCPUs": (_SET, "0-7"),
    "AllowedMemoryNodes": (_SET, "0"),
    "CPUQuota": (r"[1-9]\d*%", "400%"),
    "CPUWeight": (_WEIGHT, "50"),
    "IOWeight": (_WEIGHT, "50"),
    "LimitMEMLOCK": (_AMOUNT, "infinity"),
    "LimitNOFILE": (r"infinity|\d+(:\d+)?", "65536"),
    "MemoryHigh": (_AMOUNT, "24G"),
    "MemoryMax": (_AMOUNT, "32G"),
    "MemorySwapMax": (_AMOUNT, "0"),
    "Nice": (r"-?([0-9]|1[0-9])|-20", "5"),
    "OOMScoreAdjust": (r"-?([0-9]{1,3}|1000)", "500"),
    "TasksMax": (r"infinity|\d+%?", "512"),
}


@dataclass(frozen=True)
class Wanted:
    """What the role's variables ask for."""

    version: str
    unit: str
    models_dir: str
    checksum: str | None = None
    checksums: t.Mapping[str, str] = field(default_factory=dict)
    fetch_checksum: bool = False
    variants: t.Sequence[str] = ()
    base_url: str = release_module.BASE_URL
    ca_path: str | None = None
    settings: t.Mapping[str, t.Any] = field(default_factory=dict)
    environment: t.Mapping[str, t.Any] = field(default_factory=dict)
    limits: t.Mapping[str, t.Any] = field(default_factory=dict)
    models: t.Sequence[t.Any] = ()
    lock: t.Mapping[str, str] = field(default_factory=dict)
    mirrors: t.Sequence[str] = ()
    models_mount_required: bool | str = False
    """A text is the mount point that must be there."""
    shared: bool = False
    """Whether the group is to read the store, for a mirror."""
    platforms: t.Mapping[str, t.Mapping[str, t.Any]] = field(default_factory=dict)
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

    address: Address
    environment: dict[str, str]
    raw_environment: dict[str, str]


@dataclass(frozen=True)
class Account:
    """A user as the host knows it."""

    uid: int
    groups: frozenset[str]
    group: str = "ollama"
    """The primary group."""
    home: str = "/usr/share/ollama"
    shell: str = "/usr/sbin/nologin"
    local: bool = True
    """Whether it is in /etc/passwd, not in a directory service."""
    processes: tuple[str, ...] = ()
    """What else runs as this account, for accounts that were not made for the server."""


@dataclass(frozen=True)
class Service:
    """What systemd says about the unit."""

    active: bool = False
    enabled: bool = False
    started: float = 0.0
    user: str = ""
    environment: t.Mapping[str, str] = field(default_factory=dict)
    """What the unit, its drop-ins and their files set, as far as systemd tells."""
    drop_ins: tuple[str, ...] = ()
    """Paths of the drop-ins that systemd has read."""
    replaced: str | None = None
    """Which library of the running server was replaced, as a sentence."""


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
class Store:
    """The model store that is there."""

    generation: str | None = None
    """v1, v2 or None."""
    largest: int = 0
    """Bytes of the largest model; looked for only when 0.40 is about to be crossed."""
    free: int = 0
    mounted: bool = True
    """Whether the directory that has to be a mount point is one."""


@dataclass(frozen=True)
class Host:
    """What there is."""

    machine: str
    has_systemd: bool
    has_zstd: bool
    package_manager: str | None
    releases: release_module.State
    account: Account | None
    device_groups: tuple[str, ...]
    directories: ownership.Survey
    unit: str | None
    drop_ins: dict[str, str]
    """Name -> text."""
    environment: dict[str, str] | None
    environment_is_private: bool
    configured: float
    """When the unit, a drop-in, the environment file or the release in use was last changed."""
    service: Service
    listeners: tuple[Listener, ...]
    store: Store
    other_program: str | None
    """A program ollama at a place where neither we nor the vendor's script would put it."""
    platform: str
    """The key of Wanted.platforms that fits, or ''."""


def check(wanted: Wanted) -> Checked:
    """Refuse a wish that no host could meet. Pure.

    :raises OllamaError: naming the variable, the value and what is allowed.
    """
    version = release_module.parse_version(wanted.version, what="ollama_version")
    if version < OLDEST_SAFE and not wanted.allow_vulnerable_version:
        raise OllamaError(
            "vulnerable_version",
            f"ollama_version: invalid value {wanted.version!r}; expected 0.35.0 or newer, because older versions have "
            f"known vulnerabilities ({CVE}), or ollama_allow_vulnerable_version: true",
            variable="ollama_version",
        )
    if wanted.keep < 1:
        raise OllamaError(
            "bad_option", f"ollama_release_keep: {wanted.keep} is not allowed; allowed is a number of at least 1"
        )
    ownership.check_paths(wanted.models_dir, wanted.install_dir, wanted.home)
    _check_mount(wanted)
    _check_names(wanted)
    check_limits(wanted.limits)
    address = settings_module.address(wanted.settings, allow_open_network=wanted.allow_open_network)
    environment, raw = settings_module.merge(wanted.settings, wanted.environment, wanted.models_dir)
    check_models(wanted, allow_cloud=environment.get("OLLAMA_NO_CLOUD") == "0")
    return Checked(address, environment, raw)


def _check_mount(wanted: Wanted) -> None:
    point = wanted.models_mount_required
    if isinstance(point, bool) or (point and (wanted.models_dir + "/").startswith(point.rstrip("/") + "/")):
        return
    raise OllamaError(
        "bad_option",
        f"ollama_models_mount_required: invalid value {point!r}; expected true, false, or the path of a mount point "
        f"that is {wanted.models_dir} or above it",
        variable="ollama_models_mount_required",
    )


def _check_names(wanted: Wanted) -> None:
    for variable, name, others in (
        ("ollama_user", wanted.user, _USERS_OF_OTHERS),
        ("ollama_group", wanted.group, _GROUPS_OF_OTHERS),
    ):
        if not _USER_NAME.match(name) or name in others:
            what = "group" if variable == "ollama_group" else "system account"
            raise OllamaError(
                "bad_option",
                f"{variable}: invalid value {name!r}; expected the name of a {what} that is for this server alone",
                variable=variable,
            )


def vulnerability(version: str | None) -> str | None:
    """Return what is to be known about a release that was found on a host, or None. Pure."""
    with contextlib.suppress(OllamaError):
        if version and FIRST_WITH_CVE <= release_module.parse_version(version) < OLDEST_SAFE:
            return (
                f"Ollama {version} is vulnerable ({CVE}: path traversal in /api/pull); 0.35.0 is the first without it"
            )
    return None


def check_models(wanted: Wanted, *, allow_cloud: bool) -> None:
    """Refuse models, pins and mirrors that the module model would refuse after the server has been changed."""
    try:
        parse_models(
            wanted.models, state="present", allow_cloud=allow_cloud, locked=wanted.lock, variable="ollama_models"
        )
    except OllamaError as exc:
        if exc.code != "cloud_model":
            raise
        text = exc.message.replace("allow_cloud: true", "ollama_settings.no_cloud: false")
        raise OllamaError(exc.code, text, **exc.details) from None
    for url in wanted.mirrors:
        parse_mirror(url, what="ollama_mirrors")


def check_limits(limits: t.Mapping[str, t.Any]) -> None:
    """Refuse a directive of ollama_unit_limits that systemd would ignore or that would do something else."""
    for name, value in limits.items():
        where = f"ollama_unit_limits.{name}"
        if name not in LIMITS:
            close = difflib.get_close_matches(str(name), LIMITS, n=1)
            hint = f"did you mean {close[0]}?" if close else "allowed are " + ", ".join(LIMITS)
            raise OllamaError("unknown_limit", f"{where}: {hint} (anything else goes into a drop-in)", variable=where)
        pattern, example = LIMITS[name]
        if isinstance(value, bool) or not re.match(f"({pattern})\\Z", str(value)):
            raise OllamaError(
                "bad_limit", f"{where}: {value!r} is not allowed; allowed is for example {example}", variable=where
            )


def checksums_of(wanted: Wanted, host: Host, fetched: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the checksums that the release's archives must have, the base one first. Pure.

    What was fetched once is recorded with the release, and holds from then on.

    :param fetched: what the site itself says; None when it was not asked.
    :raises OllamaError: ``unknown_checksum``, ``invalid_checksum``, ``unsupported_architecture``…
    """
    assets = release_module.assets(host.machine, wanted.variants)
    known = dict(wanted.checksums)
    if wanted.fetch_checksum:
        known = {**(fetched or {}), **host.releases.releases.get(wanted.version, {}), **known}
    if wanted.checksum:
        known[assets[0]] = release_module.parse_checksum(wanted.checksum, what="ollama_release_checksum")
    for asset in assets:
        if asset not in known:
            raise OllamaError(
                "unknown_checksum",
                f"ollama_version: {wanted.version!r} has no known checksum for {asset}; allowed is a version of "
                "roles/ollama/vars/checksums.yml, or put what the release's sha256sum.txt says into "
                "ollama_release_checksums",
                variable="ollama_version",
                archive=asset,
            )
    return {asset: release_module.parse_checksum(known[asset], what="checksum of " + asset) for asset in assets}


def judge(
    wanted: Wanted, checked: Checked, host: Host, fetched: t.Mapping[str, str] | None = None
) -> release_module.Wanted:
    """Refuse what cannot be met on this host; returns the release that is wanted on it. Pure.

    :raises OllamaError: naming what is in the way.
    """
    if not host.has_systemd:
        raise OllamaError(
            "unsupported_init", "this host does not run systemd as its init system; allowed are hosts that do"
        )
    release = release_module.Wanted(
        version=wanted.version,
        archives=checksums_of(wanted, host, fetched),
        base_url=wanted.base_url,
        install_dir=wanted.install_dir,
        bin_dir=wanted.bin_dir,
        keep=wanted.keep,
    )
    _judge_account(wanted, host)
    _judge_adoption(wanted, host)
    for problem in host.directories.problems:
        raise OllamaError(problem.code, problem.message, path=problem.path)
    _judge_store(wanted, host)
    if wanted.models_mount_required and not host.store.mounted:
        point = wanted.models_dir if wanted.models_mount_required is True else wanted.models_mount_required
        raise OllamaError(
            "not_mounted",
            f"ollama_models_dir: {point} is not a mount point; mount its file system, set ollama_models_mount_required "
            "to the directory above it where that is mounted, or to false",
            variable="ollama_models_dir",
        )
    if not host.has_zstd and not host.package_manager and "install" in release_module.plan(host.releases, release):
        raise OllamaError(
            "no_zstd",
            "the program zstd is needed to unpack a release, and there is neither apt nor dnf to install it with; "
            "install it on this host first",
        )
    for listener in host.listeners:
        if sockets.overlap(listener.address, checked.address) and not _is_ours(listener, host):
            who = f"{listener.program} (pid {listener.pid})" if listener.program else "a program that cannot be seen"
            raise OllamaError(
                "port_taken",
                f"ollama_settings.host: {str(checked.address)!r} is in use: "
                f"{who} listens on port {checked.address.port}; stop it, or choose another port",
                program=listener.program,
                pid=listener.pid,
            )
    return release


# The account


def _is_managed(account: Account, wanted: Wanted) -> bool:
    """Return whether an account was made for a server, by this collection or by the vendor's script."""
    return account.local and 0 < account.uid < 1000 and account.home == wanted.home


def _judge_account(wanted: Wanted, host: Host) -> None:
    _judge_unit_account(wanted, host)
    account = host.account
    if account is None:
        return
    text = None
    if account.uid == 0 or not account.shell.endswith(_SHELLS):
        text = (
            f"it is a login account (uid {account.uid}, shell {account.shell or '/bin/sh'}, home {account.home}); "
            "expected a system account without a shell, or a name that does not exist yet"
        )
    elif account.group != wanted.group:
        text = (
            f"its primary group is {account.group}; expected ollama_group: {account.group}, or another ollama_user "
            "(existing accounts are not changed)"
        )
    elif account.processes:
        text = f"{', '.join(account.processes[:3])} runs as it; expected an account for this server alone"
    elif not account.local and missing_groups(host):
        groups = missing_groups(host)
        commands = " && ".join(f"gpasswd -a {wanted.user} {group}" for group in groups)
        text = (
            f"it is in a directory service and not in the groups of the GPU devices; expected membership in "
            f"{', '.join(groups)}, for example by: {commands}"
        )
    if text:
        raise OllamaError(
            "account_unsuitable", f"ollama_user: invalid value {wanted.user!r}; {text}", variable="ollama_user"
        )


def _judge_unit_account(wanted: Wanted, host: Host) -> None:
    """Refuse another account than the one that the server has, and drop-ins that set another one."""
    before = account_of(host.unit or "")
    for key, variable, name in (("User", "ollama_user", wanted.user), ("Group", "ollama_group", wanted.group)):
        if not _is_foreign(host.unit) and before.get(key, name) != name:
            raise OllamaError(
                "account_changed",
                f"{variable}: invalid value {name!r}; expected {before[key]!r}, as which the server on this host runs; "
                f"to change it, run playbook kaido.ollama.uninstall with {variable}: {before[key]} (models stay), then "
                "this one again",
                variable=variable,
            )
        for drop_in, text in sorted(host.drop_ins.items()):
            found = account_of(text)
            if found.get(key, name) != name or found.get("DynamicUser", "no").lower() in ("yes", "true", "on", "1"):
                wrong = f"{key}={found[key]}" if found.get(key, name) != name else "DynamicUser="
                raise OllamaError(
                    "drop_in_account",
                    f"{drop_in if '/' in drop_in else f'{UNIT_PATH}.d/{drop_in}'}: {wrong} conflicts with {variable}: "
                    f"{name}, to which the models belong; remove that line",
                    variable=variable,
                )


def account_of(text: str) -> dict[str, str]:
    """Return what a unit or a drop-in sets of User, Group and DynamicUser. Pure."""
    found = re.findall(r"^[ \t]*(User|Group|DynamicUser)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return {key: value for key, value in found if value}


def unit_for(unit: str, targets: t.Sequence[str]) -> str:
    """Return the unit's text with the directories to which links of the store lead. Pure."""
    if not targets:
        return unit
    listed = " ".join(targets)
    homes = [path for path in targets if path.startswith(("/home/", "/root/"))]
    lines = []
    for line in unit.splitlines():
        if line == "ProtectHome=true" and homes:
            line = "ProtectHome=tmpfs"
        lines.append(line)
        if line.startswith(("RequiresMountsFor=", "ReadWritePaths=")):
            lines.append(f"{line.split('=')[0]}={listed}")
        if line == "ProtectHome=tmpfs" and homes:
            lines.append(f"BindPaths={' '.join(homes)}")
    return "\n".join(lines) + "\n"


# Taking over what the vendor's script installed


def _is_foreign(unit: str | None) -> bool:
    return unit is not None and "kaido.ollama" not in unit


def _judge_adoption(wanted: Wanted, host: Host) -> None:
    release_module.check_foreign(host.releases, wanted.install_dir, wanted.bin_dir)
    if host.other_program:
        raise OllamaError(
            "foreign_install",
            f"{host.other_program} was installed by a package or by hand; remove that installation first (its models "
            "stay usable)",
            path=host.other_program,
        )
    if not _is_foreign(host.unit):
        return
    program = os.path.join(wanted.bin_dir, "ollama")
    starts = re.findall(r"^\s*ExecStart\s*=\s*(\S+)\s+serve\s*$", host.unit or "", re.MULTILINE)
    if starts != [program]:
        raise OllamaError(
            "foreign_install",
            f"{UNIT_PATH} was written neither by this collection nor by Ollama's own script, it does not start "
            f"{program}; remove that installation first (its models stay usable)",
            path=UNIT_PATH,
        )
    store = foreign_store(host)
    if store and not _is_same(store, wanted.models_dir):
        if ownership.PATH.match(ownership.normal(store)):
            way = f"expected {store}, or move them first"
        else:
            way = (
                f"they are in {store!r}, a path that units of systemd cannot hold; make another path for it with "
                f"{ownership.bind_mount(store, '/srv/ollama-models')} (and in /etc/fstab), then set "
                "ollama_models_dir: /srv/ollama-models"
            )
        raise OllamaError(
            "foreign_store",
            f"ollama_models_dir: invalid value {wanted.models_dir!r}; the server on this host keeps its models "
            f"elsewhere: {way}",
            variable="ollama_models_dir",
            store=store,
        )


def _is_same(path: str, other: str) -> bool:
    # A bind mount is the same directory under another path.
    with contextlib.suppress(OSError):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def foreign_store(host: Host) -> str | None:
    """Return where a server that we did not set up keeps its models."""
    if "OLLAMA_MODELS" in host.service.environment:
        return host.service.environment["OLLAMA_MODELS"]
    with contextlib.suppress(KeyError):
        home = host.service.environment.get("HOME") or pwd.getpwnam(host.service.user or "root").pw_dir
        return os.path.join(home, ".ollama", "models")
    return None


def adoption(checked: Checked, host: Host) -> dict[str, t.Any] | None:
    """Return what is taken over and what of it will not apply any more; None when there is nothing. Pure."""
    vendor = host.releases.vendor
    foreign = _is_foreign(host.unit)
    if not foreign and not vendor:
        return None
    own = {*checked.environment, *checked.raw_environment}
    unit = {*environment_of(host.unit or "")} - {"PATH", "HOME"} if foreign else set()
    # EnvironmentFile= of our unit wins over Environment= of a drop-in.
    overridden = {name for text in host.drop_ins.values() for name in environment_of(text)} & own
    return {
        "version": vendor.version if vendor else None,
        "unit": foreign,
        "drop_ins": sorted(host.drop_ins),
        "dropped": sorted((unit - own) | (overridden - checked.raw_environment.keys())),
    }


def environment_of(text: str) -> dict[str, str]:
    """Return the variables that the Environment= lines of a unit set."""
    found = {}
    for line in re.findall(r"^\s*Environment\s*=(.*)$", text, re.MULTILINE):
        with contextlib.suppress(ValueError):
            for word in shlex.split(line):
                name, equals, value = word.partition("=")
                if equals:
                    found[name] = value
    return found


def crosses(wanted: Wanted, releases: release_module.State, generation: str | None) -> str | None:
    """Return up or down when a store that is there would pass the line between 0.35 and 0.40. Pure."""
    new = release_module.parse_version(wanted.version) >= FIRST_WITH_NEW_STORE
    used = releases.used
    if used and (release_module.parse_version(used) >= FIRST_WITH_NEW_STORE) == new:
        return None
    if new and generation == "v1":
        return "up"
    return "down" if not new and generation == "v2" else None


def _judge_store(wanted: Wanted, host: Host) -> None:
    crossing = crosses(wanted, host.releases, host.store.generation)
    if not crossing:
        return
    if not wanted.accept_store_migration:
        if crossing == "up":
            why = (
                "0.40 and newer rewrite the models that an older version stored, and need up to 2.25 times their space"
            )
        else:
            why = "a version before 0.40 may remove models that a newer version stored"
        raise OllamaError(
            "store_migration",
            f"ollama_version: {wanted.version!r} is refused: {why}, and there is no simple way back; allowed is a "
            f"version {'before' if crossing == 'up' else 'from'} 0.40, or ollama_accept_store_migration: true",
            variable="ollama_version",
            store=wanted.models_dir,
        )
    # The model itself is there already.
    needed = int(host.store.largest * (MIGRATION_FACTOR - 1))
    if crossing == "up" and host.store.free < needed:
        raise OllamaError(
            "disk_full",
            f"ollama_version: {wanted.version!r} rewrites models, for the largest of which {needed >> 20} MiB must be "
            f"free in {wanted.models_dir}; {host.store.free >> 20} MiB are",
            path=wanted.models_dir,
        )


def _is_ours(listener: Listener, host: Host) -> bool:
    # Where root is not allowed to look into other processes (a container), the account must do.
    same_account = host.account is not None and host.account.uid == listener.uid
    return listener.unit or (listener.pid is None and same_account and host.service.active)


def todo(wanted: Wanted, checked: Checked, host: Host, release: release_module.Wanted) -> dict[str, str]:
    """Return the steps that are missing, in order, each with a reason for people. Pure."""
    steps: dict[str, str] = {}
    actions = release_module.plan(host.releases, release)
    if "install" in actions and not host.has_zstd:
        steps["packages"] = "zstd is not installed"
    if actions:
        steps["release"] = ", ".join(actions.values())
    if "release" in steps and crosses(wanted, host.releases, host.store.generation) == "up":
        steps["backup"] = f"{wanted.version} rewrites models: the manifests are copied first"
    groups = missing_groups(host)
    if host.account is None:
        steps["account"] = f"there is no user {wanted.user}"
    elif groups:
        steps["account"] = f"user {wanted.user} is not in {', '.join(groups)}"
    wrong = host.directories.wrong
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        unreadable = " or not readable by its group" if wanted.shared else ""
        steps["directories"] = f"{listed}: missing, not owned by {wanted.user}, writable by others{unreadable}"
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


def _restart_reason(host: Host, release: release_module.Wanted, steps: t.Mapping[str, str]) -> str | None:
    changed = [step for step in ("account", "unit", "environment") if step in steps]
    if not host.service.active:
        return "the server is not running"
    if host.releases.current != release.version or not host.releases.has(release):
        return "the server runs another release"
    if changed:
        return f"{', '.join(changed)} will have changed"
    if host.service.started < host.configured < time.time():
        return "the server was started before its release, unit, drop-ins or settings were changed"
    if not host.service.enabled:
        return "the server does not start at boot"
    return host.service.replaced


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
    configuration = (UNIT_PATH, ENVIRONMENT_PATH, current, os.path.join(current, release_module.MARKER))
    releases = release_module.look(at(wanted.install_dir), at(wanted.bin_dir))
    service = _server(systemctl or _systemctl, root)
    unit = _read(at(UNIT_PATH))
    entry = _passwd(wanted.user)
    other = at(_OTHER_PROGRAM)
    return Host(
        machine=platform.machine(),
        has_systemd=os.path.isdir(at("/run/systemd/system")),
        has_zstd=unpack.has_zstd(path),
        package_manager=next((name for name in _PACKAGE_MANAGERS if shutil.which(name, path=path)), None),
        releases=releases,
        account=None if entry is None else _account(entry, wanted, root),
        device_groups=_device_groups(root),
        directories=ownership.survey(
            wanted.models_dir, wanted.install_dir, wanted.home, _store_owner(wanted, entry, unit, service), root
        ),
        unit=unit,
        drop_ins={
            **{path: _read(at(path)) or "" for path in service.drop_ins if not path.startswith(UNIT_PATH + ".d/")},
            **{os.path.basename(path): _read(at(path)) or "" for path in _drop_ins(root)[1:]},
        },
        environment=None if environment is None else settings_module.parse_environment_file(environment),
        environment_is_private=_is_private(at(ENVIRONMENT_PATH)),
        configured=max(_mtime(at(path)) for path in (*configuration, *_drop_ins(root))),
        service=service,
        listeners=tuple(_listeners(port, root)),
        store=_store(wanted, releases, root),
        # On systems where /usr/local/bin is /usr/bin, or the like, it is the same program.
        other_program=_OTHER_PROGRAM
        if os.path.exists(other) and os.path.realpath(other) != os.path.realpath(at(wanted.bin_dir) + "/ollama")
        else None,
        platform=platform_of(_read(at("/etc/os-release")) or "", wanted.platforms),
    )


def platform_of(os_release: str, platforms: t.Container[str]) -> str:
    """Return the key that fits best: debian12, then debian, then what it is like; '' when none does. Pure."""
    values = {}
    for line in os_release.splitlines():
        name, _equals, value = line.partition("=")
        values[name] = value.strip().strip("\"'")
    own, version = values.get("ID", ""), values.get("VERSION_ID", "")
    keys = [own + version, own + version.split(".")[0], own, *values.get("ID_LIKE", "").split()]
    return next((key for key in keys if key in platforms), "")


def _systemctl() -> str:
    properties = (
        "ActiveState,UnitFileState,ExecMainStartTimestampMonotonic,User,Environment,EnvironmentFiles,DropInPaths"
    )
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


def _server(systemctl: t.Callable[[], str], root: str) -> Service:
    values: dict[str, str] = {}
    files: dict[str, str] = {}
    for name, _equals, value in (line.partition("=") for line in systemctl().splitlines()):
        if name == "EnvironmentFiles":
            path = value.split(" (")[0]
            files.update(settings_module.parse_environment_file(_read(path) or "", strict=False))
        values[name] = value
    started = int(values.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    return Service(
        active=values.get("ActiveState") == "active",
        enabled=values.get("UnitFileState") == "enabled",
        started=time.time() - (time.monotonic() - started),
        user=values.get("User", ""),
        drop_ins=tuple(values.get("DropInPaths", "").split()),
        environment={**environment_of("Environment=" + values.get("Environment", "")), **files},
        replaced=units.replaced(units.processes(root).get(UNIT, []), root=root),
    )


def _drop_ins(root: str) -> list[str]:
    """Return the directory of drop-ins and what is in it: NeedDaemonReload would say nothing of a new one."""
    directory = UNIT_PATH + ".d"
    try:
        names = os.listdir(os.path.join(root, directory.lstrip("/")))
    except FileNotFoundError:
        return []
    return [directory, *(os.path.join(directory, name) for name in names)]


def _passwd(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def _account(entry: pwd.struct_passwd, wanted: Wanted, root: str) -> Account:
    names = (_group_name(gid) for gid in os.getgrouplist(entry.pw_name, entry.pw_gid))
    local = any(line.split(":")[0] == entry.pw_name for line in (_read(root + "/etc/passwd") or "").splitlines())
    account = Account(
        uid=entry.pw_uid,
        groups=frozenset(name for name in names if name),
        group=_group_name(entry.pw_gid) or str(entry.pw_gid),
        home=entry.pw_dir,
        shell=entry.pw_shell,
        local=local,
    )
    if _is_managed(account, wanted):
        return account
    return replace(account, processes=tuple(_processes(entry.pw_uid, root)))


def _processes(uid: int, root: str) -> t.Iterator[str]:
    """Yield the processes of an account that do not belong to the server."""
    proc = os.path.join(root, "proc")
    for pid in sorted(name for name in _names(proc) if name.isdigit()):
        with contextlib.suppress(OSError):
            if os.stat(f"{proc}/{pid}").st_uid == uid and f"/{UNIT}" not in (_read(f"{proc}/{pid}/cgroup") or ""):
                yield f"{(_read(f'{proc}/{pid}/comm') or '?').strip()} (pid {pid})"


def former_user(wanted: Wanted, host: Host) -> str:
    """Return the account of a server that is taken over, where it is another one than the wanted one. Pure."""
    return _former_user(wanted, host.unit, host.service)


def _former_user(wanted: Wanted, unit: str | None, service: Service) -> str:
    return service.user if _is_foreign(unit) and service.user not in ("root", wanted.user) else ""


def _store_owner(
    wanted: Wanted, entry: pwd.struct_passwd | None, unit: str | None, service: Service
) -> ownership.Owner:
    former = _passwd(_former_user(wanted, unit, service))
    return ownership.Owner(
        account=None if entry is None else Identity(entry.pw_uid, entry.pw_gid),
        former=frozenset() if former is None else frozenset({former.pw_uid}),
        shared=wanted.shared,
    )


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
    for found in sockets.listening(root):
        if found.port != port:
            continue
        pid = sockets.owner(found.inode, root)
        yield Listener(
            address=found.address,
            uid=found.uid,
            pid=pid,
            program=(_read(os.path.join(root, "proc", str(pid), "comm")) or "").strip() or None,
            unit=f"/{UNIT}" in (_read(os.path.join(root, "proc", str(pid), "cgroup")) or ""),
        )


def _store(wanted: Wanted, releases: release_module.State, root: str) -> Store:
    path = os.path.join(root, wanted.models_dir.lstrip("/"))
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    required = wanted.models_mount_required
    point = required if isinstance(required, str) else wanted.models_dir
    largest = 0
    # Its owner could replace anything in it by a link: what that reaches, the owner can reach anyway.
    with acting_as(_reader(wanted, root)):
        generation = next((name for name, part in _GENERATIONS if next(_tags(os.path.join(path, part)), None)), None)
        if crosses(wanted, releases, generation) == "up":
            largest = max(map(_model_size, _tags(os.path.join(path, "manifests"))), default=0)
    return Store(
        generation=generation,
        largest=largest,
        free=shutil.disk_usage(there).free,
        mounted=not required or _is_mount_point(os.path.join(root, point.lstrip("/"))),
    )


def _reader(wanted: Wanted, root: str) -> Identity:
    try:
        return owner_of(wanted.models_dir, ownership.STORE_DIRECTORIES, root)
    except OllamaError:
        # Everybody may write to it.
        return _NOBODY


def _tags(tree: str) -> t.Iterator[str]:
    """Yield the files where manifests are, HOST/NAMESPACE/MODEL/TAG; only an administrator's link is followed."""
    with contextlib.suppress(OSError):
        info = os.lstat(tree)
        if not stat.S_ISLNK(info.st_mode) or info.st_uid == 0:
            yield from _leaves(tree, 4, [ownership.MAX_ENTRIES])


def _leaves(path: str, depth: int, left: list[int]) -> t.Iterator[str]:
    try:
        with os.scandir(path) as found:
            items = [item for _number, item in zip(range(left[0]), found)]
    except OSError:
        return
    left[0] -= len(items)
    for item in items:
        if depth > 1 and item.is_dir(follow_symlinks=False):
            yield from _leaves(item.path, depth - 1, left)
        elif depth == 1 and (item.is_symlink() or item.is_file(follow_symlinks=False)):
            yield item.path


def _model_size(manifest: str) -> int:
    """Return the bytes of a model; 0 for what is not a manifest."""
    try:
        layers = json.loads(read_regular(manifest, _MANIFEST_BYTES))["layers"]
        return min(sum(max(0, int(layer["size"])) for layer in layers), _MAX_MODEL_BYTES)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0


def _is_mount_point(path: str) -> bool:
    """Return whether a file system of its own begins at a directory: a mount, a bind mount, or a subvolume."""
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        if os.stat(real).st_dev != os.stat(os.path.dirname(real)).st_dev:
            return True
        mounts = (_read("/proc/self/mountinfo") or "").splitlines()
        return real in (
            re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[4]) for line in mounts
        )
    return False


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


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


def _is_private(path: str) -> bool:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    return status.st_uid == 0 and status.st_mode & 0o077 == 0
