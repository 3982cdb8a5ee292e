# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access files that an unprivileged account controls with that account's rights.

The owner of a directory can replace its entries by a symbolic link, a FIFO or a hard link between two system calls of
root. Checks before an access cannot prevent that. Therefore such a directory is accessed with the rights of its owner:
a link then gives access only to files that the owner can access anyway.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
import pwd
import stat
import struct
import typing as t
from dataclasses import dataclass

from .errors import OllamaError

# The numbers of setresuid, setresgid and setgroups. The wrappers of libc change all threads of the process; the system
# calls change the calling thread only, so that one thread can access a store while another one writes state as root.
_SYSCALLS = {"x86_64": (117, 119, 116), "aarch64": (147, 149, 159)}
_KEEP = -1


@dataclass(frozen=True)
class Identity:
    """A user ID and a group ID of this host."""

    uid: int
    gid: int


NOBODY = Identity(65534, 65534)


def is_writable_by_others(info: os.stat_result) -> bool:
    """Return whether users other than the owner can create or rename entries of a directory.

    The sticky bit prevents others from replacing existing entries, which is sufficient for path resolution.
    """
    return bool(info.st_mode & 0o022) and not info.st_mode & stat.S_ISVTX


def owner_of(path: str, children: t.Iterable[str] = (), root: str = "/") -> Identity:
    """Return the identity that must access a directory: that of the unprivileged account that controls it.

    That is the owner of the directory, else of one of its children or their targets, else of the first component of its
    path, including links, that does not belong to root. It is root only if all of these belong to root.

    :param path: an absolute path, which need not exist.
    :param children: names in the directory that count like the directory itself.
    :param root: the directory that stands for /; only tests set it.
    :raises OllamaError: ``store_unsafe`` if a path of root contains a component that another account can replace.
    """
    chain = list(_chain(path, root))
    inside = [part for name in children for part in list(_chain(os.path.join(path, name), root))[len(chain) :]]
    # The end of the chain is the resolved directory or, if it is missing, its nearest existing parent.
    for _item, info in [*chain[-1:], *inside, *chain]:
        if info.st_uid != 0:
            return Identity(info.st_uid, _group_of(info))
    for item, info in [*chain, *inside]:
        if stat.S_ISDIR(info.st_mode) and is_writable_by_others(info):
            raise OllamaError(
                "store_unsafe",
                f"{item} belongs to root, but other users can write to it (mode {stat.S_IMODE(info.st_mode):04o}); "
                f"change its owner to the service account, or run chmod go-w {item}",
                path=item,
            )
    return Identity(0, 0)


def replaceable_by(path: str, root: str = "/") -> Identity | None:
    """Return an account that can change or replace a file, or None if only root can.

    If a component belongs to root but is writable by others, it is the account nobody.

    :param path: an absolute path.
    :param root: the directory that stands for /; only tests set it.
    """
    chain = list(_chain(path, root))
    for _item, info in chain:
        if info.st_uid != 0:
            return Identity(info.st_uid, _group_of(info))
    writable = any(is_writable_by_others(info) for _item, info in chain if not stat.S_ISLNK(info.st_mode))
    return NOBODY if writable else None


def _group_of(info: os.stat_result) -> int:
    try:
        return pwd.getpwuid(info.st_uid).pw_gid
    except KeyError:
        return info.st_gid


def _chain(path: str, root: str) -> t.Iterator[tuple[str, os.stat_result]]:
    """Yield each component of a path with its lstat result, through symbolic links, up to the first missing one."""
    todo = [part for part in path.split("/") if part]
    here = root.rstrip("/")
    links = 0
    with contextlib.suppress(OSError):
        yield here or "/", os.lstat(here or "/")
        while todo:
            part = todo.pop(0)
            if part in (".", ""):
                continue
            if part == "..":
                here = os.path.dirname(here)
                continue
            item = os.path.join(here or "/", part)
            info = os.lstat(item)
            yield item, info
            if not stat.S_ISLNK(info.st_mode):
                here = item
                continue
            links += 1
            if links > 40:
                raise OllamaError("store_unsafe", f"{path}: too many levels of symbolic links", path=path)
            target = os.readlink(item)
            if target.startswith("/"):
                here = root.rstrip("/")
            todo = [piece for piece in target.split("/") if piece] + todo


@contextlib.contextmanager
def acting_as(identity: Identity) -> t.Iterator[None]:
    """Execute the calling thread, and no other, with the rights of an account and without supplementary groups.

    There is no effect if this process is not root or already has that identity. Threads that are started inside inherit
    the identity.

    :raises OllamaError: ``privileges_not_dropped`` if the system does not allow it, before any access.
    """
    if identity.uid == os.geteuid() or os.geteuid() != 0:
        yield
        return
    before = (os.getegid(), os.getgroups())
    try:
        _become(identity.uid, identity.gid, [])
        yield
    finally:
        _become(0, before[0], before[1])


def _become(uid: int, gid: int, groups: t.Sequence[int]) -> None:
    numbers = _SYSCALLS.get(platform.machine()) if struct.calcsize("P") == 8 else None
    if not numbers:
        raise OllamaError(
            "privileges_not_dropped", f"cannot act as user {uid} on {platform.machine()}: unsupported architecture"
        )
    setresuid, setresgid, setgroups = numbers
    array = (ctypes.c_uint32 * max(1, len(groups)))(*groups)
    change_user = (setresuid, _KEEP, uid, _KEEP)
    change_groups = ((setgroups, len(groups), ctypes.byref(array)), (setresgid, _KEEP, gid, _KEEP))
    # Only root may change groups.
    for call in (change_user, *change_groups) if uid == 0 else (*change_groups, change_user):
        _syscall(*call)
    if (os.geteuid(), os.getegid()) != (uid, gid):
        raise OllamaError("privileges_not_dropped", f"the kernel did not change the user ID to {uid}")


@functools.lru_cache(maxsize=None)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: t.Any) -> None:
    values = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    if _libc().syscall(ctypes.c_long(number), *values) != 0:
        code = ctypes.get_errno()
        raise OllamaError("privileges_not_dropped", f"cannot change the user ID: {os.strerror(code)}")


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """Open a regular file without following a link in the last component and without blocking; return its descriptor.

    :param dir_fd: the descriptor of the directory of a relative path.
    :raises OSError: ``ELOOP`` for a symbolic link, ``EINVAL`` for a directory, FIFO, socket or device.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def open_named(path: str) -> t.IO[bytes]:
    """Open a regular file that an operator specifies, with the rights of the account that controls it; follow links.

    If an account can replace the file by a link, only files that the account itself can read are opened.

    :raises OSError: ``EINVAL`` for other entries than a regular file, without blocking.
    :raises OllamaError: as `owner_of` does.
    """
    identity = owner_of(os.path.abspath(path)) if os.geteuid() == 0 else Identity(os.geteuid(), os.getegid())
    with acting_as(identity):
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return file


def read_regular(path: str, limit: int) -> bytes:
    """Return the content of a regular file.

    :raises OSError: as `open_regular` does, and ``EFBIG`` for more than ``limit`` bytes.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        body = file.read(limit + 1)
    if len(body) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes", path)
    return body
