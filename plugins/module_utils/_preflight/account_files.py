# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count the files of the service account, remove them or give them to root, without following its links.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import typing as t

from .._core.errors import OllamaError
from .._core.owner import acting_as, owner_of
from . import ownership
from .opened import Opened, Unsafe, link_at

_MAX_DEPTH = 64


class AccountFiles:
    """The files in the store and the home of the account. Only links of root are followed."""

    def __init__(self, home: str, models_dir: str, root: str) -> None:
        self.home, self.models_dir, self.root = home, models_dir, root
        self.unsafe: dict[str, str] = {}
        self.bytes = 0

    def remove(self, what: str, *, dry: bool = False) -> int:
        """Remove the files of the store, or the other files of the server; return their number.

        The account can exchange its files meanwhile, so its own rights are used first, and those of root only for the
        rest.

        :param what: ``store`` for the files of the store.
        :param dry: whether files are only counted.
        """
        if dry:
            return self._pass(what, dry=True)
        try:
            owner = owner_of(self.models_dir, ownership.STORE_DIRECTORIES, self.root)
        except OllamaError:
            owner = None
        removed = 0
        before = dict(self.unsafe)
        if owner is not None:
            with acting_as(owner):
                removed = self._pass(what, dry=False)
            # Files that the account cannot open are not a problem yet.
            self.unsafe = before
        return removed + self._pass(what, dry=False)

    def _pass(self, what: str, *, dry: bool) -> int:
        return self._store(dry) if what == "store" else self._own(dry)

    def _store(self, dry: bool) -> int:
        count = 0
        self.bytes = 0
        for name in ownership.STORE_DIRECTORIES:
            with self._open(self.models_dir, name) as top:
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
                count += self._top(self.models_dir, name, dry)
        return count

    def _own(self, dry: bool) -> int:
        count = 0
        beside = self.home + "/.ollama"
        with self._open(self.home, ".ollama") as top:
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
        """Open a directory, or record why it is kept."""
        try:
            opened = Opened(f"{parent}/{name}", self.root)
        except Unsafe as exc:
            self.unsafe[exc.path] = exc.message
            yield None
            return
        except OSError:
            yield None
            return
        with opened:
            yield None if opened.missing else opened.handle

    def _top(self, parent: str, name: str, dry: bool) -> int:
        """Remove a directory of the store, or the link of an administrator in its place."""
        with self._open(*os.path.split(parent)) as handle:
            info = None if handle is None else _lstat(name, handle)
            if handle is None or info is None:
                return 0
            # The account can exchange the entry meanwhile; an entry that is no longer a link is kept.
            with contextlib.suppress(OSError):
                if stat.S_ISLNK(info.st_mode):
                    _info, target = link_at(name, handle)
                    self.unsafe[target] = f"only the link {parent}/{name} to it and the store's files in it are removed"
                    if not dry:
                        os.unlink(name, dir_fd=handle)
                elif not dry:
                    os.rmdir(name, dir_fd=handle)
                return 1
        return 0

    def _entry(self, parent: int, name: str, dry: bool, depth: int = 0) -> int:
        """Remove an entry with its content, and return the number of files and directories."""
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
        # Entries that the account cannot remove are removed in the second pass, or reported if that fails as well.
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(info.st_mode):
                os.rmdir(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)
            return count + 1
        return count

    def give_to_root(self, user: pwd.struct_passwd, *, dry: bool = False) -> int:
        """Give the entries of the account or its group to root, and return their number."""
        count = 0
        for path in (self.home, self.models_dir):
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
        # The account can exchange the entry, also by a hard link: the owner is read and set by one descriptor.
        with contextlib.suppress(OSError):
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                info = os.fstat(handle)
                if info.st_uid == user.pw_uid or info.st_gid == user.pw_gid:
                    if not dry:
                        os.chown(f"/proc/self/fd/{handle}", 0, 0)
                    count += 1
            finally:
                os.close(handle)
        return count


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
