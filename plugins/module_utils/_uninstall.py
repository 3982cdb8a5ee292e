# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a server off its host: only what this collection or Ollama itself made, and of models only the store's files.

`look` reads the host, `plan` says what goes and what stays, `Removal` does it; planning is pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
import typing as t
from dataclasses import dataclass

from . import _preflight, _release
from ._errors import OllamaError

STATE_DIR = "/var/lib/kaido-ollama"
# What the server itself writes into .ollama of its home, beside models.
_OWN_FILES = ("id_ed25519", "id_ed25519.pub", "server.json", "history")
_OWN_DIRECTORIES = ("cache", "logs")
_BLOB = re.compile(r"sha256-[0-9a-f]{64}(-partial(-\d+)?|\.tmp)?\Z")
_SYSTEM_UIDS = range(1, 1000)
_SHELLS = ("/nologin", "/false")


@dataclass(frozen=True)
class Wanted:
    """Where the server is, and whether its models go too."""

    remove_models: bool = False
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
    releases: _release.State
    has_releases: bool
    has_environment: bool
    has_state: bool
    user: pwd.struct_passwd | None
    group: grp.struct_group | None
    store: tuple[str, ...]
    """Paths of the store's own files and directories, deepest first."""
    own: tuple[str, ...]
    """Those that the server keeps beside the store."""
    store_bytes: int
    owned: int
    """How many files and directories of the home and the store belong to the account or its group."""


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

    shown = (systemctl or run_systemctl)("show", "--property=ActiveState,UnitFileState,FragmentPath", _preflight.UNIT)
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    store = tuple(_store_files(at(wanted.models_dir)))
    beside = os.path.join(at(wanted.home), ".ollama")
    user = _find(pwd.getpwnam, wanted.user)
    return Host(
        service=values.get("ActiveState") in ("active", "activating", "failed", "reloading")
        or values.get("UnitFileState") == "enabled",
        unit=_read(at(_preflight.UNIT_PATH)),
        drop_ins=_preflight.UNIT_PATH + ".d" if os.path.isdir(at(_preflight.UNIT_PATH + ".d")) else None,
        link=_readlink(os.path.join(at(wanted.bin_dir), "ollama")),
        releases=_release.look(at(wanted.install_dir), at(wanted.bin_dir)),
        has_releases=any(_release_files(at(wanted.install_dir))),
        has_environment=os.path.exists(at(_preflight.ENVIRONMENT_PATH)),
        has_state=os.path.isdir(at(STATE_DIR)),
        user=user,
        group=_find(grp.getgrnam, wanted.group),
        store=store,
        own=tuple(_own_files(beside)),
        store_bytes=sum(os.lstat(path).st_size for path in store if not os.path.isdir(path)),
        owned=len(_owned((at(wanted.home), at(wanted.models_dir)), user)),
    )


def plan(host: Host, wanted: Wanted) -> Plan:
    """Return what is to go, and what stays. Pure.

    :raises OllamaError: ``foreign_install``.
    """
    if host.unit is not None and "kaido.ollama" not in host.unit:
        raise OllamaError(
            "foreign_install",
            f"{_preflight.UNIT_PATH} was not written by this collection, so nothing of that installation is removed",
            path=_preflight.UNIT_PATH,
        )
    removable = host.user is not None and _is_ours(host.user, wanted)
    own_link = host.link == _release.binary(wanted.install_dir)
    sentences = {
        "service": (host.service, f"stop and disable {_preflight.UNIT}"),
        "unit": (host.unit is not None, f"remove {_preflight.UNIT_PATH}"),
        "link": (own_link, f"remove {wanted.bin_dir}/ollama"),
        "releases": (
            host.has_releases,
            f"remove {wanted.install_dir} with {', '.join(host.releases.releases) or 'no release'}",
        ),
        "environment": (host.has_environment, f"remove {_preflight.ENVIRONMENT_PATH}"),
        "state": (host.has_state, f"remove {STATE_DIR}"),
        "models": (
            wanted.remove_models and bool(host.store or host.own),
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
    kept: dict[str, str] = {}
    if host.drop_ins:
        kept[host.drop_ins] = "drop-ins are the user's"
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
            getattr(self, step)()
        self._remove_home()
        return self.kept

    def at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def service(self) -> None:
        self.execute("systemctl", "disable", "--now", _preflight.UNIT)

    def unit(self) -> None:
        os.unlink(self.at(_preflight.UNIT_PATH))
        self.execute("systemctl", "daemon-reload")
        # A unit that failed is otherwise remembered.
        self.execute("systemctl", "reset-failed", _preflight.UNIT, check=False)

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
        os.unlink(self.at(_preflight.ENVIRONMENT_PATH))
        self._rmdir(os.path.dirname(_preflight.ENVIRONMENT_PATH))

    def state(self) -> None:
        shutil.rmtree(self.at(STATE_DIR))

    def models(self) -> None:
        for path in (*self.host.store, *self.host.own):
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                os.unlink(path)
        for directory in (self.wanted.models_dir, os.path.join(self.wanted.home, ".ollama"), self.wanted.home):
            if os.path.isdir(self.at(directory)):
                self._rmdir(directory)

    def owner(self) -> None:
        for path in _owned((self.at(self.wanted.home), self.at(self.wanted.models_dir)), self.host.user):
            os.chown(path, 0, 0, follow_symlinks=False)

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
        if os.path.ismount(there):
            self.kept[path] = "it is a mount point"
        elif os.listdir(there):
            self.kept[path] = "there is something else in it: " + ", ".join(sorted(os.listdir(there))[:5])
        else:
            os.rmdir(there)


def _release_files(path: str) -> t.Iterator[str]:
    """Yield what the module release makes in its directory."""
    for name in _listdir(os.path.join(path, "releases")):
        release = os.path.join(path, "releases", name)
        if name.startswith((".unpack-", ".remove-")) or os.path.exists(os.path.join(release, _release.MARKER)):
            yield release
    for name in _listdir(os.path.join(path, "download")):
        if name.startswith("sha256-"):
            yield os.path.join(path, "download", name)
    yield from (
        entry
        for entry in (os.path.join(path, n) for n in (".lock", "current", ".current.new"))
        if os.path.lexists(entry)
    )


def _store_files(models: str) -> t.Iterator[str]:
    """Yield what belongs to a store, deepest first: manifests, blobs by their names, and their directories."""
    for tree in ("manifests", "manifests-v2"):
        yield from _walk(os.path.join(models, tree))
    blobs = os.path.join(models, "blobs")
    names = [name for name in _listdir(blobs) if _BLOB.match(name)]
    yield from (os.path.join(blobs, name) for name in names)
    if os.path.isdir(blobs) and names == _listdir(blobs):
        yield blobs


def _own_files(directory: str) -> t.Iterator[str]:
    """Yield what the server keeps beside the store, deepest first."""
    yield from (path for path in (os.path.join(directory, name) for name in _OWN_FILES) if os.path.lexists(path))
    for top in _OWN_DIRECTORIES:
        yield from _walk(os.path.join(directory, top))


def _walk(top: str) -> t.Iterator[str]:
    """Yield everything below a directory and itself, deepest first; links are not followed."""
    for directory, directories, files in os.walk(top, topdown=False):
        yield from (os.path.join(directory, name) for name in files)
        links = (os.path.join(directory, name) for name in directories)
        yield from (path for path in links if os.path.islink(path))
        yield directory


def _owned(tops: t.Iterable[str], user: pwd.struct_passwd | None) -> list[str]:
    """Return what belongs to an account or to its group."""
    if user is None:
        return []
    found = {path: os.lstat(path) for top in tops for path in _walk(top)}
    return [path for path, status in found.items() if status.st_uid == user.pw_uid or status.st_gid == user.pw_gid]


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
