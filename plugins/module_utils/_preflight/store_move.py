# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move a model store with all of its models to another directory while the server continues to use the first one.

`find` determines whether a host has a store to move. `fill` creates hard links of its files in the new directory, or
verified copies on another file system; it can be repeated and continues after an interruption. `switch` records that
the new directory is complete, and `finish` removes the files of the first one. Both directories belong to the service
account, so all work in them is done as that account.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import typing as t
from dataclasses import dataclass

from .._core import fs
from .._core.errors import OllamaError
from .._core.owner import Identity, acting_as, open_regular, owner_of, read_regular
from .._core.progress import human
from .opened import Opened, Unsafe
from .ownership import BLOB, MAX_ENTRIES, STORE_DIRECTORIES
from .paths import within

STATE_PATH = "/var/lib/kaido-ollama/store-move.json"
_COMPLETE_BLOB = re.compile(r"sha256-([0-9a-f]{64})\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z")
_TAG_DEPTH = 4
# The errors of file systems that do not support or allow a hard link.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)
# The maximum sizes of a manifest and of all backed up manifests, in bytes.
_MAX_MANIFEST, _MAX_BACKUP = 4 << 20, 256 << 20
# The bytes that copies leave free.
_RESERVE = 64 << 20


@dataclass(frozen=True)
class StoreMove:
    """The pending move of a store."""

    source: str
    target: str
    switched: bool = False
    """Whether the server already uses the target, so that only the files of the source must be removed."""
    files: int = 0
    bytes: int = 0
    missing: int = 0
    """The number of bytes to copy; 0 if both directories are on the same file system."""
    free: int = 0
    """The free bytes on the file system of the target."""

    @property
    def reason(self) -> str:
        if self.switched:
            return f"the files of the previous store {self.source} are removed"
        how = f", of which {human(self.missing)} are copied to another file system" if self.missing else ""
        return f"{self.files} files with {human(self.bytes)} move from {self.source} to {self.target}{how}"


def find(environment: t.Mapping[str, str] | None, models_dir: str, root: str = "/") -> StoreMove | None:
    """Return the store that must be moved to a directory of models, or None; changes nothing.

    :param environment: the variables in the environment file of a server of this collection; None for another server.
    :param root: the directory that stands for /; only tests set it.
    :raises OllamaError: ``value_invalid``, ``store_unreadable``, and the errors of `owner_of`.
    """
    used = (environment or {}).get("OLLAMA_MODELS")
    recorded = _recorded(root)
    switched = used == models_dir and recorded is not None and recorded["target"] == models_dir
    source = recorded["source"] if switched and recorded else used
    if not source or source == models_dir or not os.path.isdir(_at(root, source)):
        return None
    if os.path.exists(_at(root, models_dir)) and os.path.samefile(_at(root, source), _at(root, models_dir)):
        return None
    _check_place(source, models_dir, root)
    identity = owner_of(source, STORE_DIRECTORIES, root)
    try:
        with acting_as(identity):
            files = dict(_files(_at(root, source), partial=switched))
    except PermissionError as exc:
        raise OllamaError(
            "store_unreadable",
            f"{source}: its owner cannot read the current store ({exc.filename}: {exc.strerror}); the server requires "
            "search permission (o+x) for each directory above it, also to move its models",
            path=source,
        ) from None
    if not files:
        return None
    # Directories of both stores may be links to other disks.
    parts = {part: _existing(_at(root, f"{models_dir}/{part}")) for part in STORE_DIRECTORIES}
    devices = {part: os.stat(path).st_dev for part, path in parts.items()}
    copied = {name: info for name, info in files.items() if info.st_dev != devices[name.split("/")[0]]}
    have = {name for name in copied if os.path.exists(_at(root, f"{models_dir}/{name}"))}
    return StoreMove(
        source,
        models_dir,
        switched,
        files=len(files),
        bytes=sum(info.st_size for info in files.values()),
        missing=0 if switched else sum(info.st_size for name, info in copied.items() if name not in have),
        free=shutil.disk_usage(parts["blobs"]).free,
    )


def _check_place(source: str, target: str, root: str) -> None:
    """Refuse a target inside a directory of the source: its files would count as those of the source and be removed."""
    real = os.path.realpath(_at(root, target))
    for part in STORE_DIRECTORIES:
        if within(real, os.path.realpath(_at(root, f"{source}/{part}"))):
            raise OllamaError(
                "value_invalid",
                f"ollama_models_dir: invalid value {target!r}; expected a directory outside of {source}/{part}, which "
                "is a part of the current store",
                variable="ollama_models_dir",
            )


def check_space(move: StoreMove) -> None:
    """Refuse to copy a store to a file system with too little space. Pure.

    :raises OllamaError: ``disk_full``.
    """
    if move.missing and move.free < move.missing + _RESERVE:
        raise OllamaError(
            "disk_full",
            f"ollama_models_dir: invalid value {move.target!r}; expected a file system with {human(move.missing)} free "
            f"for the models in {move.source}, but {human(move.free)} are free",
            variable="ollama_models_dir",
            path=move.target,
        )


@dataclass
class Filled:
    """The result of `fill`."""

    files: int = 0
    copied: int = 0
    """The number of bytes that were copied, not linked."""
    damaged: tuple[str, ...] = ()
    """Blobs of the source whose content does not match their names; they are not moved."""


def fill(source: str, target: str, *, partial: bool = False, root: str = "/") -> Filled:
    """Create the files of the source that the target lacks. Complete files are never changed.

    :param partial: whether unfinished downloads are moved as well; only while the server is stopped.
    :raises OllamaError: ``store_unsafe`` if the directories have different owners.
    :raises OSError: if a file cannot be read or written.
    """
    result = Filled()
    damaged = []
    here, there = _at(root, source), _at(root, target)
    with acting_as(_common_owner(source, target, root)), _umask(0o027):
        for name, info in _files(here, partial=partial):
            path, copy = os.path.join(here, name), os.path.join(there, name)
            if _is_done(name, path, info, copy):
                continue
            _make_parents(here, there, name)
            try:
                result.copied += _link_or_copy(name, path, info, copy)
            except _Damaged:
                damaged.append(name)
                continue
            result.files += 1
    result.damaged = tuple(damaged)
    return result


def switch(source: str, target: str, damaged: t.Sequence[str], root: str = "/") -> None:
    """Record that the target is complete, before the settings of the server refer to it.

    :param damaged: the files that only the source has.
    """
    path = _at(root, STATE_PATH)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    state = {"source": source, "target": target, "damaged": list(damaged)}
    fs.write_atomic(path, json.dumps(state), 0o600, sync=True)


def finish(source: str, target: str, root: str = "/") -> tuple[int, list[str]]:
    """Remove the files of the source, all of which the target has since `switch`, and its empty directories.

    Return the number of removed files, and the damaged files, which are kept.

    :raises OllamaError: ``store_move_incomplete`` if the target is not recorded as complete, and the errors of `fill`.
    """
    recorded = _recorded(root)
    if recorded is None or (recorded["source"], recorded["target"]) != (source, target):
        raise OllamaError(
            "store_move_incomplete", f"{target} is not recorded as a complete copy of {source}; nothing was removed"
        )
    removed, kept = 0, []
    here = _at(root, source)
    with acting_as(_common_owner(source, target, root)):
        for name, _info in list(_files(here, partial=True)):
            if name in recorded["damaged"]:
                kept.append(os.path.join(source, name))
                continue
            os.unlink(os.path.join(here, name))
            removed += 1
        for part in STORE_DIRECTORIES:
            _remove_empty(os.path.join(here, part))
    # The directory is kept if it is a mount point or contains other files.
    with contextlib.suppress(OSError, Unsafe), Opened(os.path.dirname(source), root) as parent:
        if not parent.missing:
            os.rmdir(os.path.basename(source), dir_fd=parent.handle)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_at(root, STATE_PATH))
    return removed, kept


def back_up(source: str, target: str, root: str = "/") -> int:
    """Copy the manifests of a store to a directory of root, and return the number of missing or different ones.

    The owner of the store can place any file among them. Therefore they are read with the rights of the owner, and the
    size of each file and of all files is limited.

    :raises OllamaError: ``store_unsafe``.
    """
    here, identity = _at(root, source), owner_of(source, STORE_DIRECTORIES, root)
    with acting_as(identity):
        tags = [name for name, _info in _walk(f"{here}/manifests", "manifests", _TAG_DEPTH, False, [MAX_ENTRIES])]
    written, left = 0, _MAX_BACKUP
    for name in tags:
        with contextlib.suppress(OSError):
            with acting_as(identity):
                body = read_regular(os.path.join(here, name), _MAX_MANIFEST)
            left -= len(body)
            written += _write_if_changed(os.path.join(_at(root, target), name), body) if left >= 0 else 0
        if left < 0:
            raise OllamaError(
                "store_unsafe",
                f"{source}/manifests: manifests too large; expected {_MAX_BACKUP >> 20} MiB or less together",
                path=source,
            )
    return written


def _write_if_changed(path: str, body: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read(len(body) + 1) == body:
            return False
    with _umask(0o077):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    fs.write_atomic(path, body, 0o600)
    return True


class _Damaged(Exception):
    """The content of a blob in the source does not match the digest in its name."""


def _recorded(root: str) -> dict[str, t.Any] | None:
    try:
        data = json.loads(fs.read_text(_at(root, STATE_PATH)) or "null")
        return None if data is None else {name: data[name] for name in ("source", "target", "damaged")}
    except (ValueError, KeyError, TypeError):
        return None


def _at(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _common_owner(source: str, target: str, root: str) -> Identity:
    first, second = owner_of(source, STORE_DIRECTORIES, root), owner_of(target, STORE_DIRECTORIES, root)
    if first != second:
        raise OllamaError(
            "store_unsafe",
            f"{target} belongs to user {second.uid}; expected user {first.uid}, the owner of {source}",
            path=target,
        )
    return first


@contextlib.contextmanager
def _umask(mask: int) -> t.Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _files(store: str, *, partial: bool) -> t.Iterator[tuple[str, os.stat_result]]:
    """Yield the files of a store with relative names, blobs first, so that a tag is never without its blobs."""
    left = [MAX_ENTRIES]
    for part in STORE_DIRECTORIES:
        yield from _walk(os.path.join(store, part), part, 1 if part == "blobs" else _TAG_DEPTH, partial, left)


def _walk(path: str, name: str, depth: int, partial: bool, left: list[int]) -> t.Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(path) as found:
            items = sorted((item for _number, item in zip(range(left[0]), found)), key=lambda item: item.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    left[0] -= len(items)
    for item in items:
        info = item.stat(follow_symlinks=False)
        here = f"{name}/{item.name}"
        if depth > 1 and stat.S_ISDIR(info.st_mode) and _SEGMENT.match(item.name):
            yield from _walk(item.path, here, depth - 1, partial, left)
        elif depth == 1 and stat.S_ISREG(info.st_mode) and _is_moved(name, item.name, partial):
            yield here, info


def _is_moved(part: str, name: str, partial: bool) -> bool:
    if part != "blobs":
        return bool(_SEGMENT.match(name))
    return bool((BLOB if partial else _COMPLETE_BLOB).match(name))


def _is_done(name: str, path: str, info: os.stat_result, copy: str) -> bool:
    """Return whether the target already has a file: blobs get their names only when they are complete."""
    try:
        there = os.lstat(copy)
    except OSError:
        return False
    if (there.st_dev, there.st_ino) == (info.st_dev, info.st_ino):
        return True
    if not stat.S_ISREG(there.st_mode) or there.st_size != info.st_size:
        return False
    if _COMPLETE_BLOB.search(name):
        return True
    return _digest(path) == _digest(copy) if name.startswith("manifests") else False


def _digest(path: str) -> str:
    with os.fdopen(open_regular(path), "rb") as file:
        return fs.sha256(file)


def _make_parents(here: str, there: str, name: str) -> None:
    """Create the directories of a file with the modes of those in the source."""
    parts = name.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        part = "/".join(parts[:count])
        path = os.path.join(there, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, stat.S_IMODE(os.stat(os.path.join(here, part)).st_mode) & 0o755 | 0o700)


def _link_or_copy(name: str, path: str, info: os.stat_result, copy: str) -> int:
    """Create a file in the target, and return the number of copied bytes."""
    folder, base = os.path.split(copy)
    # In blobs, the server recognizes this suffix; among manifests, a name that begins with a dot is not a tag.
    temporary = copy + ".tmp" if name.startswith("blobs/") else os.path.join(folder, f".{base}.tmp")
    try:
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(temporary).st_ino == info.st_ino:
                os.unlink(temporary)
        if not os.path.lexists(temporary):
            os.link(path, temporary, follow_symlinks=False)
            os.replace(temporary, copy)
            # rename has no effect if both names are already links to the same file.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            return 0
    except OSError as exc:
        if exc.errno not in _NO_LINK:
            raise
    match = _COMPLETE_BLOB.search(name)
    copied = _copy(path, temporary, match.group(1) if match else None)
    os.chmod(temporary, stat.S_IMODE(info.st_mode) & 0o644 | 0o600)
    os.replace(temporary, copy)
    return copied


def _copy(path: str, temporary: str, digest: str | None) -> int:
    """Copy a file or continue an interrupted copy, and verify the content of a blob."""
    for resume in (True, False) if digest else (False,):
        with os.fdopen(open_regular(path), "rb") as source:
            flags = os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC)
            with os.fdopen(open_regular(temporary, flags, 0o640), "r+b") as target:
                hashed = hashlib.sha256()
                for chunk in iter(lambda: target.read(fs.CHUNK), b""):
                    hashed.update(chunk)
                had = target.tell()
                source.seek(had)
                copied = 0
                for chunk in iter(lambda: source.read(fs.CHUNK), b""):
                    hashed.update(chunk)
                    target.write(chunk)
                    copied += len(chunk)
                target.flush()
                os.fsync(target.fileno())
        if digest is None or hashed.hexdigest() == digest:
            return copied
        if not had:
            break
    os.unlink(temporary)
    raise _Damaged


def _remove_empty(path: str) -> None:
    """Remove a directory and those below it if they are empty; links are not followed."""
    with contextlib.suppress(OSError):
        if os.path.islink(path):
            return
        for name in os.listdir(path):
            below = os.path.join(path, name)
            if os.path.isdir(below) and not os.path.islink(below):
                _remove_empty(below)
        os.rmdir(path)
