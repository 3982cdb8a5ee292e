# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the directories of a server, and the reasons why one cannot be used. Nothing is changed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import typing as t
from dataclasses import dataclass

from .._core.owner import NOBODY
from .opened import Opened, Unsafe, name_of, shown
from .ownership import BLOB, MAX_ENTRIES, STORE_DIRECTORIES, Owner, Problem, inspect
from .paths import PATH, bind_mount, place, within

# Entries of file systems in their top directory.
_OF_FILE_SYSTEMS = re.compile(r"lost\+found|\.snapshots?|\.zfs|\.Trash-\d+|\$RECYCLE\.BIN|System Volume Information")
_OF_RELEASES = re.compile(r"releases|download|current|\.current\.new|\.lock")


@dataclass(frozen=True)
class Survey:
    """The state of the directories of a server."""

    wrong: tuple[str, ...] = ()
    """The directories to create, and the paths whose owner or mode must be changed."""
    problems: tuple[Problem, ...] = ()
    targets: tuple[str, ...] = ()
    """The resolved targets of an administrator's links to directories outside of home and store."""
    read_only: tuple[str, ...] = ()
    """The variables whose directories are on read-only file systems."""


def survey(models_dir: str, install_dir: str, home: str, owner: Owner, root: str = "/") -> Survey:
    """Return the state of the directories of a server.

    :param root: the directory that stands for /; only tests set it.
    """
    problems: list[Problem] = []
    targets: set[str] = set()
    read_only: list[str] = []
    try:
        for variable, path in (("ollama_install_dir", install_dir), ("ollama_models_dir", models_dir)):
            with Opened(path, root) as opened:
                flags = os.fstatvfs(opened.handle).f_flag
                # The last component is the directory of models; missing directories are created.
                own = () if opened.missing else (opened.path,)
                read_only += [variable] if flags & os.ST_RDONLY else []
                if variable == "ollama_install_dir" and flags & os.ST_NOEXEC:
                    problems.append(_bad(variable, path, f"{opened.path} is on a file system that is mounted noexec"))
        problems += _install_problems(install_dir, root)
        problems += _models_problems(models_dir, owner, root, home)
        tops = (home, home + "/.ollama", models_dir, *(f"{models_dir}/{name}" for name in STORE_DIRECTORIES))
        for path in tops:
            with Opened(path, root) as opened:
                if opened.dangling:
                    problems.append(_dangling(path, opened))
                problems += _closed_parents(models_dir, opened, owner, (home, *own))
                outside = not any(within(opened.path, base) for base in (home, models_dir))
                if opened.linked and outside and not opened.missing:
                    targets.add(opened.path)
                    problems += _target_problems(path, opened, owner)
    except Unsafe as exc:
        problems.append(Problem("store_unsafe", f"{shown(exc.path)} {exc.message}", exc.path))
    wrong, found = inspect(home, models_dir, owner, root)
    outer = tuple(sorted(path for path in targets if not any(path != o and within(path, o) for o in targets)))
    return Survey(wrong, tuple(dict.fromkeys([*problems, *found])), outer, tuple(read_only))


def _bad(variable: str, path: str, why: str) -> Problem:
    return Problem("value_invalid", f"{variable}: invalid value {path!r}; {why}", path)


def _install_problems(path: str, root: str) -> t.Iterator[Problem]:
    with Opened(path, root) as opened:
        for item, info in opened.chain:
            if info.st_uid != 0 or (info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX):
                yield _bad(
                    "ollama_install_dir",
                    path,
                    f"expected a path that only root can change, but {item} belongs to user {name_of(info.st_uid)} "
                    f"and has mode {stat.S_IMODE(info.st_mode):04o}",
                )
                return
        why = place(opened.path) if opened.linked and not opened.missing else None
        if why:
            yield _bad("ollama_install_dir", path, f"it leads to {opened.path}; {why}")
        names = [] if opened.missing else _listdir(opened.handle)
    foreign = [name for name in names if not _OF_RELEASES.fullmatch(name) and not _OF_FILE_SYSTEMS.fullmatch(name)]
    if foreign and "releases" not in names:
        yield _bad("ollama_install_dir", path, _occupied(foreign))


def _models_problems(path: str, owner: Owner, root: str, home: str) -> t.Iterator[Problem]:
    with Opened(path, root) as opened:
        if opened.missing:
            return
        info, resolved, names = os.fstat(opened.handle), opened.path, _listdir(opened.handle)
    why = place(resolved)
    if why:
        yield _bad("ollama_models_dir", path, f"it leads to {resolved}; {why}")
        return
    homes = {entry.pw_dir.rstrip("/"): entry.pw_name for entry in pwd.getpwall()}
    if homes.get(resolved) and resolved != home:
        yield _bad("ollama_models_dir", path, f"it is the home directory of user {homes[resolved]}")
    elif not owner.accepts(info.st_uid):
        yield _bad(
            "ollama_models_dir",
            path,
            f"it belongs to user {name_of(info.st_uid)}; expected a directory of root or the account",
        )
    else:
        foreign = _foreign(names, STORE_DIRECTORIES)
        ours = info.st_uid != 0 or within(path, home)
        known = ours and any(name in names for name in STORE_DIRECTORIES)
        if foreign and not known:
            yield _bad("ollama_models_dir", path, _occupied(foreign))


def _closed_parents(models_dir: str, opened: Opened, owner: Owner, own: tuple[str, ...]) -> t.Iterator[Problem]:
    """Yield the problem of a directory that the account cannot enter; the mode of its own ones is set later."""
    exempt = own if opened.missing else (*own, opened.path)
    closed = opened.closed_to(owner.account or NOBODY, exempt)
    if closed:
        path, info = closed
        why = (
            f"expected a path that the account of the server can enter, but {shown(path)} has mode "
            f"{stat.S_IMODE(info.st_mode):04o} and belongs to user {name_of(info.st_uid)}"
        )
        yield _bad("ollama_models_dir", models_dir, why)


def _target_problems(path: str, opened: Opened, owner: Owner) -> t.Iterator[Problem]:
    """Yield why the target of an administrator's link cannot be part of the store."""
    info, resolved = os.fstat(opened.handle), opened.path
    names = _listdir(opened.handle)
    part = os.path.basename(path)
    foreign = [name for name in names if not BLOB.match(name)] if part == "blobs" else []
    foreign = [name for name in foreign if not _OF_FILE_SYSTEMS.fullmatch(name)]
    why = place(resolved)
    if not why and not PATH.match(resolved):
        why = f"systemd units treat such a path specially; use {bind_mount(resolved, path)} instead of the link"
    if not why and foreign and not (owner.account and info.st_uid == owner.account.uid):
        why = _occupied(foreign)
    if why:
        yield Problem("store_unsafe", f"{path} is a link to {shown(resolved)}: {why}", path)


def _dangling(path: str, opened: Opened) -> Problem:
    target = shown(opened.path.rstrip("/") + "/" + "/".join(opened.missing))
    message = f"{path} leads to {target}, which does not exist; mount its file system, or create the directory"
    return Problem("directory_not_mounted", message, path)


def _foreign(names: t.Iterable[str], known: t.Container[str]) -> list[str]:
    return [name for name in names if name not in known and not _OF_FILE_SYSTEMS.fullmatch(name)]


def _occupied(foreign: t.Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in foreign[:3]) + (", …" if len(foreign) > 3 else "")
    return f"expected an empty directory or one of this server, but it contains {listed}"


def _listdir(handle: int) -> list[str]:
    with os.scandir(handle) as found:
        return sorted(item.name for _number, item in zip(range(MAX_ENTRIES), found))
