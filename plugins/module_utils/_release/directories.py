# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories of releases: changes by root, which are atomic and made by one run at a time.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
import typing as t

from .._core import command, fs
from .._core.errors import OllamaError
from .._core.owner import acting_as, open_regular, owner_of, replaceable_by
from .._core.progress import WAITING, Progress
from .._core.text import printable
from .download import disk_full, partial_path
from .release import MARKER, ReleaseRequest
from .unpack import write_synced

SELINUX = "/sys/fs/selinux/enforce"
_RELABEL_TIMEOUT = 600.0
_POLL = 0.2


@contextlib.contextmanager
def disk_errors(path: str) -> t.Iterator[None]:
    """Convert errors of the file system to ``disk_full`` or ``install_dir_unwritable``."""
    try:
        yield
    except (OSError, shutil.Error) as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path, str(exc.strerror)) from None
        where, why = printable(str(exc.filename or path)), exc.strerror or type(exc).__name__
        raise OllamaError("install_dir_unwritable", f"install_dir: cannot change {where}: {why}", path=path) from None


def check_owner(path: str) -> None:
    """Refuse a directory in which another user can replace programs that root runs.

    :raises OllamaError: ``install_dir_unsafe``.
    """
    try:
        uid = owner_of(os.path.abspath(path), ("releases", "download")).uid
        why = "" if uid in (0, os.geteuid()) else f"user {uid} can change it"
    except OllamaError as exc:
        why = f"other users can write to {exc.details['path']}"
    if why:
        raise OllamaError(
            "install_dir_unsafe",
            f"install_dir: invalid value {path}: {why}; expected a directory that only root can change",
            path=path,
        )


@contextlib.contextmanager
def readable_by_all() -> t.Iterator[None]:
    """Set a umask with which the service account can read new files."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def lock(install_dir: str, *, seconds: float = 0, progress: Progress | None = None) -> t.Iterator[None]:
    """Hold the lock of an installation.

    :param seconds: the time to wait for another run, which ``progress`` then reports.
    :raises OllamaError: ``lock_held`` if another run still holds it.
    """
    os.makedirs(os.path.join(install_dir, "releases"), exist_ok=True)
    with os.fdopen(open_regular(os.path.join(install_dir, ".lock"), os.O_RDWR | os.O_CREAT), "w") as file:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= end:
                    raise OllamaError("lock_held", f"{install_dir}: another run is changing it") from None
            if progress:
                progress.note(WAITING)
            time.sleep(_POLL)
        if progress:
            progress.note("")
        yield


def clean(request: ReleaseRequest) -> None:
    """Remove the files of interrupted runs, except partial downloads of the requested archives."""
    releases = os.path.join(request.install_dir, "releases")
    for name in fs.list_directory(releases):
        if name.startswith((".unpack-", ".remove-")):
            shutil.rmtree(os.path.join(releases, name), ignore_errors=True)
    downloads = os.path.join(request.install_dir, "download")
    requested = [partial_path(request.install_dir, checksum) for checksum in (request.archives or {}).values()]
    for name in fs.list_directory(downloads):
        if os.path.join(downloads, name) not in requested:
            fs.remove(os.path.join(downloads, name))
    for path in (os.path.join(request.install_dir, ".current.new"), os.path.join(request.bin_dir, ".ollama.new")):
        if os.path.islink(path):
            os.unlink(path)


def remove_downloads(request: ReleaseRequest) -> None:
    """Remove the downloaded archives of a request."""
    for checksum in (request.archives or {}).values():
        fs.remove(partial_path(request.install_dir, checksum))


def unpack_path(request: ReleaseRequest, version: str) -> str:
    """Return the directory in which a release is prepared before it gets its name."""
    return os.path.join(request.install_dir, "releases", f".unpack-{version}")


def switch_link(target: str, path: str) -> None:
    """Create or replace a symbolic link atomically. Owner and mode of its directory do not change."""
    directory, name = os.path.split(path)
    os.makedirs(directory, exist_ok=True)
    beside = os.path.join(directory, f".{name}.new")
    os.symlink(target, beside)
    try:
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
    fs.sync_directory(directory)


def set_aside(path: str) -> str:
    """Rename a release before its removal, so that an incomplete release never has its name; return the new path."""
    directory, name = os.path.split(path)
    aside = os.path.join(directory, f".remove-{name}")
    os.rename(path, aside)
    return aside


def mark_complete(path: str, version: str, archives: t.Mapping[str, str]) -> None:
    """Write the marker of a complete release, which is the last file of it."""
    marker = {"version": version, "archives": dict(archives)}
    write_synced(os.path.join(path, MARKER), [json.dumps(marker, indent=1).encode() + b"\n"], 0o644)
    fs.sync_directory(path)


def clone(source: str, target: str) -> None:
    """Copy a directory as a directory of root with hard links to its files."""
    shutil.copytree(source, target, symlinks=True, copy_function=link_or_copy)
    for folder, _folders, _files in os.walk(target):
        os.chmod(folder, 0o755)


def link_or_copy(source: str, target: str) -> None:
    """Create a hard link to a file that only root can change, otherwise a copy of root; skip other entries.

    If an account can replace the file or a directory above it by a link, only files that it can read are copied.
    """
    if not stat.S_ISREG(os.lstat(source).st_mode):
        return
    identity = replaceable_by(os.path.abspath(source)) if os.geteuid() == 0 else None
    if identity is None:
        with contextlib.suppress(OSError):
            os.link(source, target, follow_symlinks=False)
            return
    with acting_as(identity) if identity else contextlib.nullcontext():
        handle = open_regular(source)
    with os.fdopen(handle, "rb") as file:
        info = os.fstat(handle)
        write_synced(target, iter(lambda: file.read(fs.CHUNK), b""), 0o755 if info.st_mode & 0o100 else 0o644)


def relabel(path: str) -> None:
    """Give files the SELinux types that the policy of the host has for programs and libraries in this directory."""
    if not os.path.exists(SELINUX) or not command.find("restorecon"):
        return
    try:
        command.check(["restorecon", "-RF", path], timeout=_RELABEL_TIMEOUT)
    except OllamaError as exc:
        raise OllamaError("install_dir_unwritable", f"install_dir: {exc.message}", path=path) from None
