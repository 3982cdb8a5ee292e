# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories of a model store. Its owner may be hostile: each access is limited, and no link is followed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import typing as t

from .._core.errors import OllamaError
from .._core.owner import open_named
from .._core.text import printable

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ_SIZE = 1 << 20
_MAX_ENTRIES = 100_000
_MAX_MANIFESTS = 256 << 20
# Each blob requires about a kilobyte of memory, and the same in a result that reports it as damaged.
_MAX_BLOBS = 300_000


class Budget:
    """The limits of one survey of a store."""

    def __init__(self) -> None:
        self._entries = _MAX_ENTRIES
        self._bytes = _MAX_MANIFESTS
        self._blobs = _MAX_BLOBS

    def list(self, path: str) -> None:
        """Count an entry of a directory; raise ``store_unsafe`` if there are too many."""
        self._entries -= 1
        if self._entries < 0:
            raise OllamaError("store_unsafe", f"{printable(path)}: too many files; expected {_MAX_ENTRIES} or fewer")

    def read(self, count: int, path: str) -> None:
        """Count bytes of manifests; raise ``store_unsafe`` if there are too many."""
        self._bytes -= count
        if self._bytes < 0:
            raise OllamaError(
                "store_unsafe",
                f"{printable(path)}: manifests too large; expected {_MAX_MANIFESTS >> 20} MiB or less together",
            )

    def name(self, count: int, path: str) -> None:
        """Count blobs in a manifest; raise ``store_unsafe`` if there are too many."""
        self._blobs -= count
        if self._blobs < 0:
            raise OllamaError(
                "store_unsafe",
                f"{printable(path)}: too many blobs in manifests; expected {_MAX_BLOBS} or fewer together",
            )


def in_the_way(path: str) -> OllamaError:
    what = "a symbolic link" if os.path.islink(path) else "not a directory"
    return OllamaError(
        "store_unsafe",
        f"{printable(path)} is {what}; expected a directory of the model store: remove it, or move its content here",
        path=printable(path),
    )


def list_directory(path: str, budget: Budget, *, follow: bool = False) -> list[str]:
    """Return the sorted names in a directory; an empty list for a missing directory or a file.

    :param follow: whether a symbolic link to a directory is accepted.
    :raises OllamaError: ``store_unsafe`` for other links and too many entries, ``store_unreadable``.
    """
    try:
        handle = os.open(path, DIRECTORY if follow else DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    except OSError as exc:
        if exc.errno in (errno.ENOTDIR, errno.ELOOP):
            if os.path.islink(path):
                raise in_the_way(path) from None
            return []
        raise OllamaError(
            "store_unreadable",
            f"cannot read {printable(path)}: {exc.strerror}; expected a directory that the owner of the store can read",
            path=printable(path),
        ) from exc
    names = []
    try:
        with os.scandir(handle) as items:
            for item in items:
                budget.list(path)
                names.append(item.name)
    finally:
        os.close(handle)
    return sorted(names)


def remove(path: str) -> None:
    try:
        try:
            os.unlink(path)
        except IsADirectoryError:
            os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        what = "a directory that is not empty" if exc.errno == errno.ENOTEMPTY else exc.strerror
        raise OllamaError(
            "store_unwritable", f"cannot remove {printable(path)}: {what}", path=printable(path)
        ) from None


def fingerprint(info: os.stat_result) -> list[int]:
    """Return the attributes of a file that change with its content."""
    return [info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev, info.st_ctime_ns]


def hash_file(path: str) -> str:
    """Return the digest ``sha256:…`` of a file that an operator specifies; ``""`` if it cannot be read."""
    try:
        with open_named(path) as file:
            return hash_stream(file)
    except OSError:
        return ""


def hash_stream(file: t.Any) -> str:
    hasher = hashlib.sha256()
    buffer = bytearray(READ_SIZE)
    view = memoryview(buffer)
    while True:
        count = file.readinto(buffer)
        if not count:
            return "sha256:" + hasher.hexdigest()
        hasher.update(view[:count])
