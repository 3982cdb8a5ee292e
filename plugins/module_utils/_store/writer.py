# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files to a model store under their final names.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import typing as t

from .._core.errors import OllamaError
from .files import DIRECTORY, READ_SIZE, fingerprint, in_the_way
from .store import Store

_STAGE = ".kaido-import-"


class StoreWriter:
    """Creates files in a store under their final names when they are complete, as a context manager.

    All files are created with the rights of the store's owner, so a malicious link leads only to places where that
    account can write anyway.

    :raises OllamaError: ``store_unwritable`` if the store cannot be opened.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._stages: dict[int, int] = {}
        self._tops: dict[str, int] = {}
        self._name = _STAGE + secrets.token_hex(8)
        try:
            with store.acting():
                self._root = os.open(store.root, DIRECTORY)
        except OSError as exc:
            raise OllamaError(
                "store_unwritable", f"models_dir: cannot open {store.root}: {exc.strerror}", path=store.root
            ) from None
        info = os.fstat(self._root)
        self._mode = stat.S_IMODE(info.st_mode)
        self._device = info.st_dev

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove incomplete files."""
        with self.store.acting():
            for base, stage in self._stages.items():
                os.close(stage)
                _remove_stage(base, self._name)
        for handle in {*self._tops.values(), self._root}:
            os.close(handle)
        self._stages, self._tops, self._root = {}, {}, -1

    def put(
        self, member: str, source: t.IO[bytes], digest: str, tell: t.Callable[[int], None] = lambda count: None
    ) -> list[int]:
        """Write a file, and return its fingerprint.

        :param member: the path below the store, with ``/``.
        :param source: the content; it is read with the rights of the caller, not of the store's owner.
        :param digest: the expected sha256, 64 hexadecimal digits.
        :param tell: called with the number of bytes written so far, with the rights of the caller.
        :raises OllamaError: ``bundle_tampered`` for different content, ``store_unsafe`` for a link in the path.
        :raises OSError: if the store cannot be written.
        """
        with self._parent(member) as (folder, stage):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = secrets.token_hex(8)
            with self.store.acting():
                handle = os.open(new, flags, 0o600, dir_fd=stage)
            try:
                if self._pour(source, handle, tell) != digest:
                    raise OllamaError("bundle_tampered", f"{member} has changed since the bundle was checked")
                with self.store.acting():
                    os.fchmod(handle, self._mode & 0o666)
                    os.fsync(handle)
                    os.rename(new, os.path.basename(member), src_dir_fd=stage, dst_dir_fd=folder)
                return fingerprint(os.fstat(handle))
            except BaseException:
                with self.store.acting(), contextlib.suppress(OSError):
                    os.unlink(new, dir_fd=stage)
                raise
            finally:
                os.close(handle)

    def link(self, member: str, target: str) -> None:
        """Create a symbolic link.

        :raises OllamaError: as `put` does.
        """
        with self._parent(member) as (folder, stage), self.store.acting():
            new = secrets.token_hex(8)
            os.symlink(target, new, dir_fd=stage)
            os.rename(new, os.path.basename(member), src_dir_fd=stage, dst_dir_fd=folder)

    def _pour(self, source: t.IO[bytes], handle: int, tell: t.Callable[[int], None]) -> str:
        hasher = hashlib.sha256()
        count = 0
        while True:
            data = source.read(READ_SIZE)
            if not data:
                return hasher.hexdigest()
            hasher.update(data)
            view = memoryview(data)
            with self.store.acting():
                while view:
                    view = view[os.write(handle, view) :]
            count += len(data)
            tell(count)

    @contextlib.contextmanager
    def _parent(self, member: str) -> t.Iterator[tuple[int, int]]:
        """Open or create the directory of a member, and a staging directory on its file system."""
        parts = member.split("/")[:-1]
        with self.store.acting():
            top = self._top(parts[0])
            stage = self._stage(top)
            folder = os.dup(top)
            try:
                for index, part in enumerate(parts[1:], 2):
                    below = self._enter(folder, part, os.path.join(self.store.root, *parts[:index]))
                    os.close(folder)
                    folder = below
            except BaseException:
                os.close(folder)
                raise
        try:
            yield folder, stage
        finally:
            os.close(folder)

    def _top(self, name: str) -> int:
        """Open a directory of the store, which an administrator may have linked to another disk."""
        if name not in self._tops:
            self._make(self._root, name)
            self._tops[name] = os.open(name, DIRECTORY, dir_fd=self._root)
        return self._tops[name]

    def _enter(self, folder: int, name: str, path: str) -> int:
        self._make(folder, name)
        try:
            return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise in_the_way(path) from None
            raise

    def _make(self, folder: int, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
            handle = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.fchmod(handle, self._mode)
            finally:
                os.close(handle)

    def _stage(self, top: int) -> int:
        """Open the staging directory below the root, as a starting server deletes unknown files in ``blobs``.

        If a directory is on another file system, the staging directory is below it, as a rename cannot cross file
        systems.
        """
        base = self._root if os.fstat(top).st_dev == self._device else top
        if base not in self._stages:
            for name in os.listdir(base):
                # An interrupted run has left the directory, as the lock of the store allows one run at a time.
                if name.startswith(_STAGE):
                    _remove_stage(base, name)
            os.mkdir(self._name, 0o700, dir_fd=base)
            self._stages[base] = os.open(self._name, DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        return self._stages[base]


def _remove_stage(base: int, name: str) -> None:
    """Remove a staging directory, which contains files only; other entries are kept."""
    with contextlib.suppress(OSError):
        handle = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        try:
            for item in os.listdir(handle):
                os.unlink(item, dir_fd=handle)
        finally:
            os.close(handle)
        os.rmdir(name, dir_fd=base)
