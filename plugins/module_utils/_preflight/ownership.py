# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ownership of the files in a model store and in the home of the service account.

The service account controls its home and its store, and root changes the owner of files there. Only directories and
files with the names of store entries are ever given to the account. `inspect` reads, `mend` changes.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import stat
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.owner import Identity, acting_as
from .opened import Opened, Unsafe, name_of, open_directory, shown

STORE_DIRECTORIES = ("blobs", "manifests", "manifests-v2")
# The files that the server writes to .ollama in its home, in addition to models.
OWN_FILES = ("id_ed25519", "id_ed25519.pub", "server.json", "history")
OWN_DIRECTORIES = ("cache", "logs")
BLOB = re.compile(r"sha256-[0-9a-f]{64}(-partial(-\d+)?|\.tmp)?\Z")
# The maximum number of entries; a store with many models has a few thousand.
MAX_ENTRIES = 200_000
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z")
# HOST/NAMESPACE/MODEL/TAG
_TAG_DEPTH = 4
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Problem:
    """The reason why a directory cannot be used: the code and the message of an error."""

    code: str
    message: str
    path: str


@dataclass(frozen=True)
class Owner:
    """The owner that a store must have."""

    account: Identity | None
    """None if the account does not exist yet."""
    former: frozenset[int] = frozenset()
    """The user IDs of earlier accounts of the server, whose files may be given to the account like those of root."""
    shared: bool = False
    """Whether the group of the account can read the store."""

    def accepts(self, uid: int) -> bool:
        """Return whether files of a user may be given to the account: those of root, a former or no account."""
        if uid == 0 or uid in self.former or (self.account is not None and uid == self.account.uid):
            return True
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return True
        return False

    def is_right(self, info: os.stat_result, *, private: bool) -> bool:
        """Return whether owner, group and mode are correct.

        :param private: whether only the account may read the file.
        """
        if self.account is None or info.st_uid != self.account.uid or info.st_mode & 0o022:
            return False
        if private or not self.shared:
            return True
        needed = _group_bits(info)
        return info.st_gid == self.account.gid and info.st_mode & needed == needed


@dataclass(frozen=True)
class Entry:
    """A directory or file with the name of a store entry."""

    path: str
    info: os.stat_result
    handle: int | None
    """The descriptor of a directory; None for a file."""
    parent: int
    """The descriptor of the directory that contains a file."""
    private: bool = False
    """Whether only the account may read it."""


def _group_bits(info: os.stat_result) -> int:
    return 0o050 if stat.S_ISDIR(info.st_mode) else 0o040


def entries(home: str, models_dir: str, root: str = "/") -> t.Iterator[Entry]:
    """Yield the existing entries of a store and of its home, directories before their content.

    :raises Unsafe: for an entry that must not be opened.
    """
    count = [0]
    with _existing(home, root) as top:
        if top is not None:
            yield _directory(home, top.handle)
    with _existing(home + "/.ollama", root) as top:
        if top is not None:
            yield _directory(home + "/.ollama", top.handle)
            yield from _own(home + "/.ollama", top.handle)
    with _existing(models_dir, root) as top:
        if top is not None:
            yield _directory(models_dir, top.handle)
    for name in STORE_DIRECTORIES:
        path = f"{models_dir}/{name}"
        with _existing(path, root) as top:
            if top is not None:
                yield _directory(path, top.handle)
                yield from _part(path, top.handle, 1 if name == "blobs" else _TAG_DEPTH, count)


@contextlib.contextmanager
def _existing(path: str, root: str) -> t.Iterator[Opened | None]:
    with Opened(path, root) as opened:
        yield None if opened.missing else opened


def _directory(path: str, handle: int) -> Entry:
    return Entry(path, os.fstat(handle), handle, handle)


def _own(path: str, handle: int) -> t.Iterator[Entry]:
    for name in (*OWN_FILES, *OWN_DIRECTORIES):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            info = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if name in OWN_FILES and stat.S_ISREG(info.st_mode):
                yield Entry(f"{path}/{name}", info, None, handle, private=not name.endswith(".pub"))
            elif name in OWN_DIRECTORIES and stat.S_ISDIR(info.st_mode):
                with _open(name, handle) as below:
                    yield _directory(f"{path}/{name}", below)


@contextlib.contextmanager
def _open(name: str, parent: int) -> t.Iterator[int]:
    handle = open_directory(name, parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _part(path: str, handle: int, depth: int, count: list[int]) -> t.Iterator[Entry]:
    """Yield the entries of blobs (one level) or of a tree of manifests (four levels)."""
    in_blobs = path.endswith("/blobs")
    with os.scandir(handle) as found:
        names = []
        for item in found:
            count[0] += 1
            if count[0] > MAX_ENTRIES:
                raise Unsafe(path, f"and the store around it have more than {MAX_ENTRIES} entries")
            names.append(item.name)
    for name in sorted(names):
        here = f"{path}/{name}"
        try:
            info = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if depth == 1:
            if stat.S_ISREG(info.st_mode) and (BLOB if in_blobs else _SEGMENT).match(name):
                yield Entry(here, info, None, handle)
        elif stat.S_ISLNK(info.st_mode) and info.st_uid != 0:
            raise Unsafe(
                shown(here),
                f"is a symbolic link of user {name_of(info.st_uid)} where a store has a directory; remove it",
            )
        elif stat.S_ISDIR(info.st_mode) and _SEGMENT.match(name):
            try:
                with _open(name, handle) as below:
                    yield _directory(here, below)
                    yield from _part(here, below, depth - 1, count)
            except (FileNotFoundError, NotADirectoryError):
                continue


def inspect(home: str, models_dir: str, owner: Owner, root: str = "/") -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Return the paths that must be created or get another owner or mode, and the problems; changes nothing."""
    wrong = []
    problems = []
    try:
        for path in (home, models_dir):
            with Opened(path, root) as opened:
                if opened.missing:
                    wrong.append(path)
        for entry in entries(home, models_dir, root):
            why = _in_the_way(entry, owner)
            if why:
                problems.append(Problem("store_unsafe", f"{entry.path} {why}", entry.path))
            elif not owner.is_right(entry.info, private=entry.private):
                wrong.append(entry.path)
    except Unsafe as exc:
        problems.append(Problem("store_unsafe", f"{shown(exc.path)} {exc.message}", exc.path))
    except OSError as exc:
        problems.append(Problem("store_unsafe", f"{models_dir} cannot be read: {exc.strerror}", models_dir))
    # A store below the home is visited twice.
    return tuple(dict.fromkeys(wrong)), tuple(problems)


def _in_the_way(entry: Entry, owner: Owner) -> str | None:
    """Return why an entry cannot be given to the account, or None."""
    info = entry.info
    if not owner.accepts(info.st_uid):
        return f"belongs to user {name_of(info.st_uid)}; give it to the service account, or remove it"
    if entry.handle is None and info.st_nlink != 1 and not owner.is_right(info, private=True):
        return (
            f"has {info.st_nlink} hard links, so it may be a file of another account; replace it by a copy, or "
            "remove it"
        )
    return None


def mend(home: str, models_dir: str, owner: Owner, root: str = "/") -> list[str]:
    """Create the directories of a server, give all entries of its store to the account, and return the changed paths.

    :raises OllamaError: ``store_unsafe`` for an entry that must not be changed, ``owner_not_changed`` if the file
        system refuses the change.
    """
    # The role ollama creates the account before this call.
    account = t.cast("Identity", owner.account)
    changed = []
    try:
        for path in (home, models_dir):
            if _create(path, account, root):
                changed.append(path)
        for entry in entries(home, models_dir, root):
            if owner.is_right(entry.info, private=entry.private):
                continue
            why = _in_the_way(entry, owner)
            if why:
                raise Unsafe(entry.path, why)
            try:
                _give(entry, owner, account)
            except OSError as exc:
                raise OSError(exc.errno, exc.strerror, entry.path) from None
            changed.append(entry.path)
    except Unsafe as exc:
        raise OllamaError("store_unsafe", f"{shown(exc.path)} {exc.message}", path=exc.path) from None
    except OSError as exc:
        where = shown(str(exc.filename or models_dir))
        raise OllamaError("owner_not_changed", f"{where}: cannot set its owner: {exc.strerror}", path=where) from None
    return list(dict.fromkeys(changed))


def _create(path: str, account: Identity, root: str) -> bool:
    with Opened(path, root) as opened:
        todo = opened.missing
        for number, name in enumerate(todo):
            last = number == len(todo) - 1
            here = opened.path.rstrip("/") + "/" + name
            parent = os.fstat(opened.handle)
            # In a directory of the account, the account creates it: an entry of root could be exchanged there.
            if parent.st_uid == account.uid:
                with acting_as(account):
                    os.mkdir(name, 0o750, dir_fd=opened.handle)
                opened.enter(name, here)
                continue
            os.mkdir(name, 0o750 if last else 0o755, dir_fd=opened.handle)
            opened.enter(name, here)
            info = os.fstat(opened.handle)
            if info.st_uid != os.geteuid() or os.listdir(opened.handle):
                raise Unsafe(here, "was replaced while it was created")
            os.fchmod(opened.handle, 0o750 if last else 0o755)
            if last:
                os.fchown(opened.handle, account.uid, account.gid)
        return bool(todo)


def _give(entry: Entry, owner: Owner, account: Identity) -> None:
    if entry.handle is not None:
        _set(entry.handle, entry, owner, account)
        return
    handle = os.open(os.path.basename(entry.path), _FILE, dir_fd=entry.parent)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or _in_the_way(Entry(entry.path, info, None, entry.parent), owner):
            raise Unsafe(entry.path, "was replaced while its owner was set")
        _set(handle, entry, owner, account)
    finally:
        os.close(handle)


def _set(handle: int, entry: Entry, owner: Owner, account: Identity) -> None:
    info = os.fstat(handle)
    directory = stat.S_ISDIR(info.st_mode)
    mode = (stat.S_IMODE(info.st_mode) & 0o777 | (0o700 if directory else 0o600)) & ~0o022
    if entry.private:
        mode &= 0o700
    elif owner.shared:
        mode |= _group_bits(info)
    os.fchmod(handle, mode)
    os.fchown(handle, account.uid, account.gid)
    if not owner.is_right(os.fstat(handle), private=entry.private):
        raise OSError(errno.EOPNOTSUPP, "the file system does not keep owners or modes", entry.path)
