# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uninstall a server: only files that this collection or Ollama created are removed, and only if requested its models.

`gather` reads the host, `plan` returns what is removed and what is kept, and `Removal` removes it.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import typing as t
from dataclasses import dataclass

from .._core import command, fs, systemd
from .._core.errors import OllamaError
from .._core.host import find_group, find_user
from .._core.progress import human
from .._core.server import ENVIRONMENT_PATH, UNIT, UNIT_PATH, Server
from .._release import release as release_module
from .._service import units
from .account_files import AccountFiles
from .opened import shown

STATE_DIR = "/var/lib/kaido-ollama"
# The other services of this collection. Units are removed last, so that a run after an interrupted one finds them.
OTHER_SERVICES = tuple(service.unit[: -len(".service")] for service in units.SERVICES.values() if service.unit)
_OTHER_PLACES = ("/etc/{}", "/var/cache/{}", "/var/lib/{}")
_CLIENT_FILES = (*units.SERVICES["client"].trees, *units.SERVICES["client"].files)
_STOP_TIMEOUT = 300.0
_SYSTEM_UIDS = range(1, 1000)
_SHELLS = ("/nologin", "/false")


@dataclass(frozen=True)
class UninstallRequest(Server):
    """A server to remove, and whether its models are removed as well."""

    remove_models: bool = False
    server: bool = True
    """Whether the server is removed; otherwise only the other services of this collection are."""


@dataclass(frozen=True)
class InstalledFacts:
    """The parts of a server on a host."""

    service: bool
    """Whether the unit is loaded, enabled or running."""
    unit: str | None
    drop_ins: str | None
    link: str | None
    releases: release_module.State
    has_releases: bool
    has_environment: bool
    has_state: bool
    user: pwd.struct_passwd | None
    group: grp.struct_group | None
    others: dict[str, tuple[str, ...]]
    """The other services of this collection with their directories."""
    staying: tuple[tuple[str, str], ...]
    """The paths that are always kept, with the reason."""
    store: int
    """The number of files and directories of the store."""
    own: int
    """The number of other files and directories of the server."""
    store_bytes: int
    owned: int
    """The number of files and directories in the home and the store that belong to the account or its group."""
    unsafe: tuple[tuple[str, str], ...] = ()
    """Links that are kept, and targets of links of root, with the reason."""


@dataclass(frozen=True)
class UninstallPlan:
    """The removals in order, and the paths that are kept, with the reasons."""

    steps: dict[str, str]
    kept: dict[str, str]


def gather(request: UninstallRequest, root: str = "/", properties: t.Mapping[str, str] | None = None) -> InstalledFacts:
    """Return the parts of a server on this host; changes nothing.

    :param root: the directory that stands for /; only tests set it.
    :param properties: the properties of the unit; only tests set them.
    """

    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    values = systemd.show(UNIT, ["ActiveState", "UnitFileState"]) if properties is None else properties
    tree = AccountFiles(request.home, request.models_dir, root)
    user = find_user(request.user)
    return InstalledFacts(
        service=values.get("ActiveState") in ("active", "activating", "failed", "reloading")
        or values.get("UnitFileState") == "enabled",
        unit=fs.read_text(at(UNIT_PATH)),
        drop_ins=UNIT_PATH + ".d" if os.path.isdir(at(UNIT_PATH + ".d")) else None,
        link=fs.read_link(os.path.join(at(request.bin_dir), "ollama")),
        releases=release_module.read_state(at(request.install_dir), at(request.bin_dir)),
        has_releases=any(_release_files(at(request.install_dir))),
        has_environment=os.path.exists(at(ENVIRONMENT_PATH)),
        has_state=os.path.isdir(at(STATE_DIR)),
        user=user,
        group=find_group(request.group),
        others={
            name: tuple(path for path in (place.format(name) for place in _OTHER_PLACES) if os.path.lexists(at(path)))
            for name in OTHER_SERVICES
            if _is_of_ours(name, at)
        },
        staying=tuple(_staying(at)),
        store=tree.remove("store", dry=True),
        own=tree.remove("own", dry=True),
        store_bytes=tree.bytes,
        owned=0 if user is None else tree.give_to_root(user, dry=True),
        unsafe=tuple(tree.unsafe.items()),
    )


def plan(host: InstalledFacts, request: UninstallRequest) -> UninstallPlan:
    """Return what is removed and what is kept. Pure.

    :raises OllamaError: ``installation_foreign``.
    """
    if request.server and host.unit is not None and "kaido.ollama" not in host.unit:
        raise OllamaError(
            "installation_foreign",
            f"{UNIT_PATH} was not written by this collection, so that installation is not removed",
            path=UNIT_PATH,
        )
    removable = host.user is not None and _is_ours(host.user, request)
    own_link = host.link == release_module.binary(request.install_dir)
    others = {
        f"other:{name}": (
            True,
            f"stop {name}.service, remove {', '.join((_unit_path(name), *places))} and user {name}",
        )
        for name, places in host.others.items()
    }
    sentences = {
        **others,
        "service": (host.service, f"stop and disable {UNIT}"),
        "unit": (host.unit is not None, f"remove {UNIT_PATH}"),
        "link": (own_link, f"remove {request.bin_dir}/ollama"),
        "releases": (
            host.has_releases,
            f"remove {request.install_dir} with {', '.join(host.releases.releases) or 'no release'}",
        ),
        "environment": (host.has_environment, f"remove {ENVIRONMENT_PATH}"),
        "state": (host.has_state, f"remove {STATE_DIR}"),
        "models": (
            request.remove_models and host.store + host.own > 0,
            f"remove the models in {request.models_dir}, {human(host.store_bytes)}",
        ),
        "owner": (
            removable and bool(host.owned),
            f"give the remaining files in {request.home} and {request.models_dir} to root",
        ),
        "user": (removable, f"remove user {request.user}"),
        "group": (
            host.group is not None and (removable or host.user is None),
            f"remove group {request.group}",
        ),
    }
    if not request.server:
        return UninstallPlan({name: text for name, (_needed, text) in others.items()}, dict(host.staying))
    kept: dict[str, str] = {}
    if host.drop_ins:
        kept[host.drop_ins] = "drop-ins belong to the user"
    kept.update(host.staying)
    kept.update(host.unsafe)
    if host.link is not None and not own_link:
        kept[os.path.join(request.bin_dir, "ollama")] = "this collection did not create it"
    if host.store and not request.remove_models:
        kept[request.models_dir] = f"models, {human(host.store_bytes)}; ollama_remove_models: true removes them"
    if host.user is not None and not removable:
        kept[f"user {request.user}"] = f"it is not a system account with the home {request.home} and no shell"
    return UninstallPlan({name: text for name, (needed, text) in sentences.items() if needed}, kept)


def _is_ours(user: pwd.struct_passwd, request: UninstallRequest) -> bool:
    """Return whether an account was created for the server, by this collection or by the vendor's script."""
    return user.pw_uid in _SYSTEM_UIDS and user.pw_dir == request.home and user.pw_shell.endswith(_SHELLS)


class Removal:
    """Applies a plan; each step has a method.

    :param run: runs a program; only tests set it.
    """

    def __init__(
        self, host: InstalledFacts, request: UninstallRequest, root: str = "/", run: t.Callable[..., None] | None = None
    ) -> None:
        self.host, self.request, self.root = host, request, root
        self.execute = run or _execute
        self.kept: dict[str, str] = {}
        """The paths that could not be removed, with the reason."""

    def apply(self, steps: t.Iterable[str]) -> dict[str, str]:
        for step in steps:
            name, _colon, what = step.partition(":")
            getattr(self, name)(*([what] if what else []))
        if self.request.server:
            self._remove_home()
        return self.kept

    def at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def other(self, name: str) -> None:
        """Remove another service of this collection: a mirror, gateway, balancer or forwarder."""
        unit = self.at(_unit_path(name))
        if os.path.exists(unit):
            self.execute("systemctl", "disable", "--now", f"{name}.service")
        for path in self.host.others[name]:
            if os.path.islink(self.at(path)) or not os.path.isdir(self.at(path)):
                os.unlink(self.at(path))
            else:
                shutil.rmtree(self.at(path))
        if os.path.exists(unit):
            os.unlink(unit)
            self.execute("systemctl", "daemon-reload")
            self.execute("systemctl", "reset-failed", f"{name}.service", check=False)
        user = find_user(name)
        if user is not None and user.pw_uid in _SYSTEM_UIDS and user.pw_shell.endswith(_SHELLS):
            self.execute("userdel", name)

    def service(self) -> None:
        self.execute("systemctl", "disable", "--now", UNIT)

    def unit(self) -> None:
        os.unlink(self.at(UNIT_PATH))
        self.execute("systemctl", "daemon-reload")
        # Otherwise systemd continues to list a failed unit.
        self.execute("systemctl", "reset-failed", UNIT, check=False)

    def link(self) -> None:
        os.unlink(os.path.join(self.at(self.request.bin_dir), "ollama"))

    def releases(self) -> None:
        for path in _release_files(self.at(self.request.install_dir)):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        for name in ("releases", "download", ""):
            path = os.path.join(self.request.install_dir, name).rstrip("/")
            if os.path.isdir(self.at(path)):
                self._rmdir(path)

    def environment(self) -> None:
        os.unlink(self.at(ENVIRONMENT_PATH))
        self._rmdir(os.path.dirname(ENVIRONMENT_PATH))

    def state(self) -> None:
        shutil.rmtree(self.at(STATE_DIR))

    def models(self) -> None:
        tree = AccountFiles(self.request.home, self.request.models_dir, self.root)
        tree.remove("store")
        tree.remove("own")
        self.kept.update(tree.unsafe)
        for directory in (self.request.models_dir, os.path.join(self.request.home, ".ollama"), self.request.home):
            if os.path.isdir(self.at(directory)):
                self._rmdir(directory)

    def owner(self) -> None:
        if self.host.user is not None:
            AccountFiles(self.request.home, self.request.models_dir, self.root).give_to_root(self.host.user)

    def user(self) -> None:
        self.execute("userdel", self.request.user)

    def group(self) -> None:
        # userdel may have removed the group already; the primary group of another account is kept.
        if find_group(self.request.group):
            self.execute("groupdel", self.request.group, check=False)
            if find_group(self.request.group):
                self.kept[f"group {self.request.group}"] = "it is the primary group of another account"

    def _remove_home(self) -> None:
        home = self.at(self.request.home)
        if os.path.isdir(home) and not os.listdir(home):
            os.rmdir(home)

    def _rmdir(self, path: str) -> None:
        there = self.at(path)
        if os.path.islink(there):
            self.kept[path] = "it is a symbolic link"
        elif os.path.ismount(there):
            self.kept[path] = "it is a mount point"
        elif os.listdir(there):
            names = [shown(name) for name in sorted(os.listdir(there))[:5]]
            self.kept[path] = "it contains other files: " + ", ".join(names)
        else:
            os.rmdir(there)


def _release_files(path: str) -> t.Iterator[str]:
    """Yield the files that the module release creates in its directory."""
    for name in fs.list_directory(os.path.join(path, "releases")):
        release = os.path.join(path, "releases", name)
        if name.startswith((".unpack-", ".remove-")) or os.path.exists(os.path.join(release, release_module.MARKER)):
            yield release
    for name in fs.list_directory(os.path.join(path, "download")):
        if name.startswith("sha256-"):
            yield os.path.join(path, "download", name)
    yield from (
        entry
        for entry in (os.path.join(path, n) for n in (".lock", "current", ".current.new"))
        if os.path.lexists(entry)
    )


def _staying(at: t.Callable[[str], str]) -> t.Iterator[tuple[str, str]]:
    for name in OTHER_SERVICES:
        unit = _unit_path(name)
        if os.path.lexists(at(unit)) and not _is_of_ours(name, at):
            yield unit, "this collection did not write it"
        if os.path.lexists(at(unit + ".d")):
            yield unit + ".d", "drop-ins belong to the user"
    for path in _CLIENT_FILES:
        if os.path.lexists(at(path)):
            yield path, "settings and keys of clients on this host, written by role ollama_client"


def _is_of_ours(name: str, at: t.Callable[[str], str]) -> bool:
    """Return whether this collection wrote a unit or, if there is none, the files in the directory in /etc."""
    unit = fs.read_text(at(_unit_path(name)))
    if unit is not None:
        return units.MARKER in unit
    directory = at(f"/etc/{name}")
    # The private authority of a gateway that was disabled.
    paths = [f"{directory}/{item}" for item in fs.list_directory(directory)]
    files = [path for path in paths if os.path.isfile(path)]
    return any(path.endswith("/ca.key") or units.MARKER in (fs.read_text(path) or "") for path in files)


def _unit_path(name: str) -> str:
    return f"/etc/systemd/system/{name}.service"


def _execute(*argv: str, check: bool = True) -> None:
    """Run a program; systemctl can take as long as the unit takes to stop."""
    if check:
        command.check(argv, timeout=_STOP_TIMEOUT)
    else:
        command.attempt(argv, timeout=_STOP_TIMEOUT)
