# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uninstall a server: only what this collection or Ollama itself made, and of models only the store's files.

`look` reads the host, `plan` returns what is removed and what stays, `Removal` removes it; planning is pure.
In directories of the service account nothing is opened by path: no link is followed that does not belong to root.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import stat
import subprocess
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.owner import acting_as, owner_of
from .._release import release as release_module
from . import ownership, preflight

STATE_DIR = "/var/lib/kaido-ollama"
# What the roles of this collection run beside the server. The unit is removed last: until then another run finds it.
OTHER_SERVICES = ("ollama-forwarder", "ollama-mirror", "ollama-balancer", "ollama-gateway")
MARKER = "kaido.ollama"
_OTHER_PLACES = ("/etc/{}", "/var/cache/{}", "/var/lib/{}")
_CLIENT_FILES = ("/etc/kaido-ollama", "/etc/profile.d/kaido-ollama.sh")
_MAX_DEPTH = 64
_SYSTEM_UIDS = range(1, 1000)
_SHELLS = ("/nologin", "/false")


@dataclass(frozen=True)
class Wanted:
    """Where the server is, and whether its models go too."""

    remove_models: bool = False
    server: bool = True
    """Whether the server is removed; otherwise only what else this collection runs on the host."""
    models_dir: str = "/usr/share/ollama/.ollama/models"
    install_dir: str = "/opt/ollama"
    bin_dir: str = "/usr/local/bin"
    home: str = "/usr/share/ollama"
    user: str = "ollama"
    group: str = "ollama"


@dataclass(frozen=True)
class Host:
    """What there is of it."""

    service: bool
    """Whether systemd has the unit loaded, enabled or running."""
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
    """Other services whose units this collection wrote, with their directories."""
    staying: tuple[tuple[str, str], ...]
    """What stays in any case, and why."""
    store: int
    """How many files and directories are the store's own."""
    own: int
    """How many the server keeps beside the store."""
    store_bytes: int
    owned: int
    """How many files and directories of the home and the store belong to the account or its group."""
    unsafe: tuple[tuple[str, str], ...] = ()
    """Links in the way, which stay, and directories to which links of root lead, with the reason."""


@dataclass(frozen=True)
class Plan:
    """What goes, in order and in words, and what stays and why."""

    steps: dict[str, str]
    kept: dict[str, str]


def look(wanted: Wanted, root: str = "/", systemctl: t.Callable[..., str] | None = None) -> Host:
    """Read what there is on this host; changes nothing.

    :param root: where the file system of the host begins; only tests say anything else than /.
    :param systemctl: runs systemctl and returns what it prints; only tests give one.
    """

    def at(path: str) -> str:
        return os.path.join(root, path.lstrip("/"))

    shown = (systemctl or run_systemctl)("show", "--property=ActiveState,UnitFileState,FragmentPath", preflight.UNIT)
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    tree = _Tree(wanted, root)
    user = _find(pwd.getpwnam, wanted.user)
    return Host(
        service=values.get("ActiveState") in ("active", "activating", "failed", "reloading")
        or values.get("UnitFileState") == "enabled",
        unit=_read(at(preflight.UNIT_PATH)),
        drop_ins=preflight.UNIT_PATH + ".d" if os.path.isdir(at(preflight.UNIT_PATH + ".d")) else None,
        link=_readlink(os.path.join(at(wanted.bin_dir), "ollama")),
        releases=release_module.read_state(at(wanted.install_dir), at(wanted.bin_dir)),
        has_releases=any(_release_files(at(wanted.install_dir))),
        has_environment=os.path.exists(at(preflight.ENVIRONMENT_PATH)),
        has_state=os.path.isdir(at(STATE_DIR)),
        user=user,
        group=_find(grp.getgrnam, wanted.group),
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


def plan(host: Host, wanted: Wanted) -> Plan:
    """Return what is to go, and what stays. Pure.

    :raises OllamaError: ``foreign_install``.
    """
    if wanted.server and host.unit is not None and "kaido.ollama" not in host.unit:
        raise OllamaError(
            "foreign_install",
            f"{preflight.UNIT_PATH} was not written by this collection, so nothing of that installation is removed",
            path=preflight.UNIT_PATH,
        )
    removable = host.user is not None and _is_ours(host.user, wanted)
    own_link = host.link == release_module.binary(wanted.install_dir)
    others = {
        f"other:{name}": (
            True,
            f"stop {name}.service, remove {', '.join((_unit_path(name), *places))} and user {name}",
        )
        for name, places in host.others.items()
    }
    sentences = {
        **others,
        "service": (host.service, f"stop and disable {preflight.UNIT}"),
        "unit": (host.unit is not None, f"remove {preflight.UNIT_PATH}"),
        "link": (own_link, f"remove {wanted.bin_dir}/ollama"),
        "releases": (
            host.has_releases,
            f"remove {wanted.install_dir} with {', '.join(host.releases.releases) or 'no release'}",
        ),
        "environment": (host.has_environment, f"remove {preflight.ENVIRONMENT_PATH}"),
        "state": (host.has_state, f"remove {STATE_DIR}"),
        "models": (
            wanted.remove_models and host.store + host.own > 0,
            f"remove the models in {wanted.models_dir}, {host.store_bytes >> 20} MiB",
        ),
        "owner": (
            removable and bool(host.owned),
            f"give what stays in {wanted.home} and {wanted.models_dir} to root",
        ),
        "user": (removable, f"remove user {wanted.user}"),
        "group": (
            host.group is not None and (removable or host.user is None),
            f"remove group {wanted.group}",
        ),
    }
    if not wanted.server:
        return Plan({name: text for name, (_needed, text) in others.items()}, dict(host.staying))
    kept: dict[str, str] = {}
    if host.drop_ins:
        kept[host.drop_ins] = "drop-ins are the user's"
    kept.update(host.staying)
    kept.update(host.unsafe)
    if host.link is not None and not own_link:
        kept[os.path.join(wanted.bin_dir, "ollama")] = "this collection did not make it"
    if host.store and not wanted.remove_models:
        kept[wanted.models_dir] = f"models, {host.store_bytes >> 20} MiB; ollama_remove_models: true removes them"
    if host.user is not None and not removable:
        kept[f"user {wanted.user}"] = f"it is not a system account with the home {wanted.home} and no shell"
    return Plan({name: text for name, (needed, text) in sentences.items() if needed}, kept)


def _is_ours(user: pwd.struct_passwd, wanted: Wanted) -> bool:
    """Return whether an account was made for the server, by this collection or by the vendor's script."""
    return user.pw_uid in _SYSTEM_UIDS and user.pw_dir == wanted.home and user.pw_shell.endswith(_SHELLS)


class Removal:
    """Carries out a plan: one method a step.

    :param run: runs a program; only tests give one.
    """

    def __init__(self, host: Host, wanted: Wanted, root: str = "/", run: t.Callable[..., str] | None = None) -> None:
        self.host, self.wanted, self.root = host, wanted, root
        self.execute = run or _run
        self.kept: dict[str, str] = {}
        """What turned out to stay, and why."""

    def apply(self, steps: t.Iterable[str]) -> dict[str, str]:
        for step in steps:
            name, _colon, what = step.partition(":")
            getattr(self, name)(*([what] if what else []))
        if self.wanted.server:
            self._remove_home()
        return self.kept

    def at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def other(self, name: str) -> None:
        """Remove a service that this collection runs beside the server: a mirror, gateway, balancer or forwarder."""
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
        user = _find(pwd.getpwnam, name)
        if user is not None and user.pw_uid in _SYSTEM_UIDS and user.pw_shell.endswith(_SHELLS):
            self.execute("userdel", name)

    def service(self) -> None:
        self.execute("systemctl", "disable", "--now", preflight.UNIT)

    def unit(self) -> None:
        os.unlink(self.at(preflight.UNIT_PATH))
        self.execute("systemctl", "daemon-reload")
        # A unit that failed is otherwise remembered.
        self.execute("systemctl", "reset-failed", preflight.UNIT, check=False)

    def link(self) -> None:
        os.unlink(os.path.join(self.at(self.wanted.bin_dir), "ollama"))

    def releases(self) -> None:
        for path in _release_files(self.at(self.wanted.install_dir)):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        for name in ("releases", "download", ""):
            path = os.path.join(self.wanted.install_dir, name).rstrip("/")
            if os.path.isdir(self.at(path)):
                self._rmdir(path)

    def environment(self) -> None:
        os.unlink(self.at(preflight.ENVIRONMENT_PATH))
        self._rmdir(os.path.dirname(preflight.ENVIRONMENT_PATH))

    def state(self) -> None:
        shutil.rmtree(self.at(STATE_DIR))

    def models(self) -> None:
        tree = _Tree(self.wanted, self.root)
        tree.remove("store")
        tree.remove("own")
        self.kept.update(tree.unsafe)
        for directory in (self.wanted.models_dir, os.path.join(self.wanted.home, ".ollama"), self.wanted.home):
            if os.path.isdir(self.at(directory)):
                self._rmdir(directory)

    def owner(self) -> None:
        assert self.host.user is not None
        _Tree(self.wanted, self.root).give_to_root(self.host.user)

    def user(self) -> None:
        self.execute("userdel", self.wanted.user)

    def group(self) -> None:
        # userdel may have removed it already; where it is somebody's main group, it must stay.
        if _find(grp.getgrnam, self.wanted.group):
            self.execute("groupdel", self.wanted.group, check=False)
            if _find(grp.getgrnam, self.wanted.group):
                self.kept[f"group {self.wanted.group}"] = "it is another account's main group"

    def _remove_home(self) -> None:
        home = self.at(self.wanted.home)
        if os.path.isdir(home) and not os.listdir(home):
            os.rmdir(home)

    def _rmdir(self, path: str) -> None:
        there = self.at(path)
        if os.path.islink(there):
            self.kept[path] = "it is a symbolic link"
        elif os.path.ismount(there):
            self.kept[path] = "it is a mount point"
        elif os.listdir(there):
            names = [ownership.shown(name) for name in sorted(os.listdir(there))[:5]]
            self.kept[path] = "it holds other files: " + ", ".join(names)
        else:
            os.rmdir(there)


def _release_files(path: str) -> t.Iterator[str]:
    """Yield what the module release makes in its directory."""
    for name in _listdir(os.path.join(path, "releases")):
        release = os.path.join(path, "releases", name)
        if name.startswith((".unpack-", ".remove-")) or os.path.exists(os.path.join(release, release_module.MARKER)):
            yield release
    for name in _listdir(os.path.join(path, "download")):
        if name.startswith("sha256-"):
            yield os.path.join(path, "download", name)
    yield from (
        entry
        for entry in (os.path.join(path, n) for n in (".lock", "current", ".current.new"))
        if os.path.lexists(entry)
    )


class _Tree:
    """The files of the account: its store and its home, opened without following links of anybody but root."""

    def __init__(self, wanted: Wanted, root: str) -> None:
        self.wanted, self.root = wanted, root
        self.unsafe: dict[str, str] = {}
        self.bytes = 0

    def remove(self, what: str, *, dry: bool = False) -> int:
        """Remove the store's own files, or what the server keeps beside it; returns how many.

        The account can exchange its files meanwhile, so the account's rights are used as far as they reach.
        """
        if dry:
            return self._pass(what, dry=True)
        try:
            owner = owner_of(self.wanted.models_dir, ownership.STORE_DIRECTORIES, self.root)
        except OllamaError:
            owner = None
        removed = 0
        before = dict(self.unsafe)
        if owner is not None:
            with acting_as(owner):
                removed = self._pass(what, dry=False)
            # What the account cannot open is no problem yet.
            self.unsafe = before
        return removed + self._pass(what, dry=False)

    def _pass(self, what: str, *, dry: bool) -> int:
        return self._store(dry) if what == "store" else self._own(dry)

    def _store(self, dry: bool) -> int:
        count = 0
        self.bytes = 0
        for name in ownership.STORE_DIRECTORIES:
            with self._open(self.wanted.models_dir, name) as top:
                if top is None:
                    continue
                if name == "blobs":
                    names = _names(top)
                    blobs = [item for item in names if ownership.BLOB.match(item)]
                    count += sum(self._entry(top, item, dry) for item in blobs)
                    empty = blobs == names
                else:
                    count += sum(self._entry(top, item, dry) for item in _names(top))
                    empty = True
            if empty:
                count += self._top(self.wanted.models_dir, name, dry)
        return count

    def _own(self, dry: bool) -> int:
        count = 0
        beside = self.wanted.home + "/.ollama"
        with self._open(self.wanted.home, ".ollama") as top:
            if top is None:
                return 0
            for name in ownership.OWN_FILES:
                if _lstat(name, top) is not None:
                    count += self._entry(top, name, dry)
        for name in ownership.OWN_DIRECTORIES:
            with self._open(beside, name) as below:
                if below is not None:
                    count += sum(self._entry(below, item, dry) for item in _names(below))
            if below is not None:
                count += self._top(beside, name, dry)
        return count

    @contextlib.contextmanager
    def _open(self, parent: str, name: str) -> t.Iterator[int | None]:
        """Open a directory, or note why it is left alone."""
        try:
            opened = ownership.Opened(f"{parent}/{name}", self.root)
        except ownership.Unsafe as exc:
            self.unsafe[exc.path] = exc.message
            yield None
            return
        except OSError:
            yield None
            return
        with opened:
            yield None if opened.missing else opened.handle

    def _top(self, parent: str, name: str, dry: bool) -> int:
        """Remove a directory of the store itself, or the link that an administrator put in its place."""
        with self._open(*os.path.split(parent)) as handle:
            info = None if handle is None else _lstat(name, handle)
            if handle is None or info is None:
                return 0
            if stat.S_ISLNK(info.st_mode):
                target = os.readlink(name, dir_fd=handle)
                self.unsafe[target] = f"only the link {parent}/{name} to it and the store's files in it are removed"
            if dry:
                return 1
            with contextlib.suppress(OSError):
                if stat.S_ISLNK(info.st_mode):
                    os.unlink(name, dir_fd=handle)
                else:
                    os.rmdir(name, dir_fd=handle)
                return 1
        return 0

    def _entry(self, parent: int, name: str, dry: bool, depth: int = 0) -> int:
        """Remove something with all that is in it; returns how many files and directories."""
        info = _lstat(name, parent)
        if info is None or depth > _MAX_DEPTH:
            return 0
        count = 0
        if stat.S_ISDIR(info.st_mode):
            try:
                handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            except OSError:
                return 0
            try:
                count += sum(self._entry(handle, item, dry, depth + 1) for item in _names(handle))
            finally:
                os.close(handle)
        else:
            self.bytes += info.st_size
        if dry:
            return count + 1
        # What the account may not remove is removed in the second pass, what cannot be removed at all is reported.
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(info.st_mode):
                os.rmdir(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)
            return count + 1
        return count

    def give_to_root(self, user: pwd.struct_passwd, *, dry: bool = False) -> int:
        """Give to root what belongs to the account or its group; returns how much."""
        count = 0
        for path in (self.wanted.home, self.wanted.models_dir):
            with self._open(os.path.dirname(path), ".") as parent:
                if parent is not None:
                    count += self._give(parent, os.path.basename(path), user, dry)
        return count

    def _give(self, parent: int, name: str, user: pwd.struct_passwd, dry: bool, depth: int = 0) -> int:
        info = _lstat(name, parent)
        if info is None or depth > _MAX_DEPTH:
            return 0
        count = 0
        if stat.S_ISDIR(info.st_mode):
            with contextlib.suppress(OSError):
                handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                try:
                    count += sum(self._give(handle, item, user, dry, depth + 1) for item in _names(handle))
                finally:
                    os.close(handle)
        if info.st_uid == user.pw_uid or info.st_gid == user.pw_gid:
            if not dry:
                os.chown(name, 0, 0, dir_fd=parent, follow_symlinks=False)
            count += 1
        return count


def _staying(at: t.Callable[[str], str]) -> t.Iterator[tuple[str, str]]:
    for name in OTHER_SERVICES:
        unit = _unit_path(name)
        if os.path.lexists(at(unit)) and not _is_of_ours(name, at):
            yield unit, "this collection did not write it"
        if os.path.lexists(at(unit + ".d")):
            yield unit + ".d", "drop-ins are the user's"
    for path in _CLIENT_FILES:
        if os.path.lexists(at(path)):
            yield path, "settings and keys of clients on this host, written by role ollama_client"


def _is_of_ours(name: str, at: t.Callable[[str], str]) -> bool:
    """Return whether this collection wrote a unit, or, where there is none, what is in the directory in /etc."""
    unit = _read(at(_unit_path(name)))
    if unit is not None:
        return MARKER in unit
    directory = at(f"/etc/{name}")
    # The private authority of a gateway that was turned off.
    files = [f"{directory}/{item}" for item in _listdir(directory)]
    return any(path.endswith("/ca.key") or MARKER in (_read(path) or "") for path in files if os.path.isfile(path))


def _unit_path(name: str) -> str:
    return f"/etc/systemd/system/{name}.service"


def _lstat(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return None


def _names(handle: int) -> list[str]:
    try:
        return sorted(os.listdir(handle))
    except OSError:
        return []


def run_systemctl(*arguments: str) -> str:
    """Return what systemctl prints; nothing on a host without it."""
    try:
        return _run("systemctl", *arguments, check=False)
    except FileNotFoundError:
        return ""


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, check=False)
    if check and done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OllamaError("command_failed", f"{' '.join(command)}: {said[-1] if said else done.returncode}")
    return done.stdout.decode("utf-8", "replace")


_T = t.TypeVar("_T")


def _find(function: t.Callable[[str], _T], name: str) -> _T | None:
    try:
        return function(name)
    except KeyError:
        return None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _readlink(path: str) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _listdir(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
