# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a bundle with models and a release in the format that `bundle` reads.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import tarfile
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.owner import open_regular
from .._core.progress import human
from .._store.layout import MANIFEST, Blob, Entry, Manifest, Variant, parse_manifest
from .._store.state import default_state_dir, exclusive
from .._store.store import Store
from .bundle import (
    BLOB,
    DIRECTORY,
    RELEASE,
    SUMS,
    Bundle,
    Readable,
    check,
    copy_hashed,
    descend,
    member_of,
    name_of,
)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# Seconds to wait for another export to the same path.
_WAIT = 600.0


class File(t.NamedTuple):
    """A file to export: its path, the expected sha256 and its size in bytes."""

    path: str
    digest: str
    size: int


@dataclass
class Export:
    """The content to export: manifests of tags as bytes, everything else as files.

    :ivar models: the digests by name, as in ``/api/tags``.
    :ivar manifests: the manifests by member name.
    :ivar files: the other files by member name; those below ``blobs/`` belong to the store.
    """

    store: Store
    models: dict[Name, str]
    manifests: dict[str, bytes]
    files: dict[str, File]

    @property
    def sums(self) -> bytes:
        """The content of SHA256SUMS."""
        rows = {member: file.digest for member, file in self.files.items()}
        rows.update((member, hashlib.sha256(body).hexdigest()) for member, body in self.manifests.items())
        return "".join(f"{rows[member]}  {member}\n" for member in sorted(rows)).encode()

    @property
    def checksum(self) -> str:
        """The sha256 of SHA256SUMS in hexadecimal."""
        return "sha256:" + hashlib.sha256(self.sums).hexdigest()

    @property
    def size(self) -> int:
        """The size of all files except manifests, in bytes."""
        return sum(file.size for file in self.files.values())

    def open(self, member: str) -> t.IO[bytes]:
        """Open a file to export. A file of the store is opened with the rights of the store's owner.

        :raises OllamaError: ``model_damaged`` if it cannot be read.
        """
        file = self.files[member]
        try:
            if BLOB.match(member):
                return self.store.open_blob(f"sha256:{file.digest}")
            return os.fdopen(open_regular(file.path), "rb")
        except OSError as exc:
            raise OllamaError(
                "model_damaged", f"{file.path} cannot be read: {exc.strerror}; nothing was exported"
            ) from None


def collect(store: Store, names: t.Sequence[Name], releases: t.Mapping[str, File]) -> Export:
    """Return the content of a bundle of models. Lists of variants contain those that are complete in the store.

    :param names: the models; empty means all.
    :param releases: the archives of a release, by member name.
    :raises OllamaError: ``model_missing``, ``model_damaged``.
    """
    export = Export(store, {}, {}, dict(releases))
    entries = [_entry(store, name) for name in names] if names else store.entries()
    for entry in entries:
        if entry.problem:
            raise _damaged(entry, entry.problem)
        body = store.read_tag(entry)
        export.models[entry.name] = entry.digest
        export.manifests[member_of(entry.name)] = body
        parsed = parse_manifest(body)
        for blob in parsed.blobs if isinstance(parsed, Manifest) else _variants(store, entry, parsed):
            damage = store.stat_damage(blob)
            if damage:
                raise _damaged(entry, str(damage))
            export.files[f"blobs/{blob.file_name}"] = File(store.blob_path(blob.digest), blob.digest[7:], blob.size)
    return export


def _damaged(entry: Entry, why: str) -> OllamaError:
    return OllamaError("model_damaged", f"{entry.name}: {why}; repair it first", name=str(entry.name))


def _entry(store: Store, name: Name) -> Entry:
    entry = store.find(name)
    if not entry:
        raise OllamaError("model_missing", f"models: {name} is not in {store.root}", name=str(name))
    return entry


def _variants(store: Store, entry: Entry, variants: t.Iterable[Variant]) -> t.Iterator[Blob]:
    """Yield the blobs of the variant that this host runs and of every other complete variant.

    Other variants exist if a server of 0.40 has converted a model; pins contain the digest of the original.
    """
    for variant in variants:
        if variant.digest in entry.digests:
            try:
                body = store.read_blob(variant.digest)
            except OSError as exc:
                raise _damaged(entry, f"cannot read {variant.digest[:19]}: {exc.strerror}") from None
            manifest = parse_manifest(body)
            blobs = manifest.blobs if isinstance(manifest, Manifest) else ()
            if variant.digest == entry.digest or not any(map(store.stat_damage, blobs)):
                yield Blob(variant.digest, len(body), MANIFEST)
                yield from blobs


def is_written(export: Export, dest: str) -> bool:
    """Return whether a bundle with exactly this content exists. The contents of blobs are not read."""
    if not os.path.lexists(dest):
        return False
    try:
        with Bundle(dest) as bundle:
            return check(bundle, export.checksum, hash_all=False).checksum == export.checksum
    except OllamaError:
        return False


def write(export: Export, dest: str, *, tar: bool, state_dir: str | None = None) -> bool:
    """Write a bundle that only the current user can read, and return whether it was written.

    The bundle is written to a private directory next to its destination and moved there when it is complete. Concurrent
    runs with the same destination are serialized; a later run finds the bundle of the first.

    :param tar: whether the bundle is a tar archive instead of a directory.
    :param state_dir: the directory of the lock; None for the default.
    :raises OllamaError: ``model_damaged`` if a file does not match its checksum, ``dest_taken``, ``dest_unwritable``,
        ``disk_full``, ``lock_held``.
    """
    folder, name = os.path.split(os.path.abspath(dest))
    place = os.path.join(os.path.realpath(folder), name)
    key = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    with exclusive(os.path.join(state_dir or default_state_dir(), f"export-{key}"), seconds=_WAIT) as alone:
        if not alone:
            raise OllamaError("lock_held", f"dest: another run is writing {dest}")
        if is_written(export, dest):
            return False
        _check_dest(export, dest, folder)
        try:
            with _Stage(folder, f".kaido-export-{key}-") as stage:
                _write_members(export, _TarWriter(stage.handle) if tar else _DirectoryWriter(stage.handle))
                stage.move_to(name)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OllamaError("disk_full", f"dest: no space left for {dest}") from None
            raise OllamaError("dest_unwritable", f"dest: cannot write {dest}: {exc.strerror or exc}") from None
    return True


def _write_members(export: Export, target: _TarWriter | _DirectoryWriter) -> None:
    with target:
        small = {SUMS: export.sums, **dict(sorted(export.manifests.items()))}
        for member, body in small.items():
            target.add(member, _Hashing(io.BytesIO(body), len(body), member))
        for member, (path, digest, size) in sorted(export.files.items()):
            with export.open(member) as file:
                reader = _Hashing(file, size, path)
                target.add(member, reader)
            if reader.hasher.hexdigest() != digest:
                raise OllamaError("model_damaged", f"{path} has wrong content; nothing was exported")


def _check_dest(export: Export, dest: str, folder: str) -> None:
    if not os.path.isdir(folder):
        raise OllamaError("dest_unwritable", f"dest: directory {folder} does not exist")
    if os.path.lexists(dest) and not _is_replaceable(dest):
        raise OllamaError("dest_taken", f"dest: {dest} exists and is not a bundle; expected a new path")
    try:
        info = os.statvfs(folder)
    except OSError as exc:
        raise OllamaError("dest_unwritable", f"dest: cannot write to {folder}: {exc.strerror}") from None
    if export.size > info.f_bavail * info.f_frsize:
        free = human(info.f_bavail * info.f_frsize)
        raise OllamaError("disk_full", f"dest: the bundle needs {human(export.size)}; {free} are free in {folder}")


def _is_replaceable(dest: str) -> bool:
    """Return whether a path is an empty directory, or a bundle without other files."""
    try:
        with Bundle(dest) as bundle:
            members = set(bundle.sizes)
    except OllamaError:
        return False
    ours = all(BLOB.match(name) or RELEASE.match(name) or name_of(name) for name in members - {SUMS})
    return ours and (SUMS in members or (not members and os.path.isdir(dest)))


class _Stage:
    """A private directory next to the destination of a file or directory, as a context manager.

    The owner of the folder can rename its entries, so all operations use descriptors.

    :param prefix: the prefix of its random name; directories that earlier runs left with such a name are removed.
    :raises OSError: if it cannot be created.
    """

    def __init__(self, folder: str, prefix: str) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = prefix + secrets.token_hex(8)
        try:
            os.mkdir(self._name, 0o700, dir_fd=self._folder)
            self.handle = os.open(self._name, DIRECTORY, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise
        if os.listdir(self.handle):
            os.close(self.handle)
            os.close(self._folder)
            raise OSError(errno.EPERM, "another user has replaced the directory in which the bundle is written")
        for item in os.listdir(self._folder):
            if item.startswith(prefix) and item != self._name:
                with contextlib.suppress(OSError):
                    self._remove_leftover(item)

    def _remove_leftover(self, name: str) -> None:
        handle = os.open(name, DIRECTORY, dir_fd=self._folder)
        here, ours = os.fstat(handle), os.fstat(self.handle)
        # A directory of another user is kept. Some file systems support neither owners nor modes.
        if (here.st_uid, here.st_mode) == (ours.st_uid, ours.st_mode):
            self._remove(name, handle)
        else:
            os.close(handle)

    def _remove(self, name: str, handle: int) -> None:
        try:
            _empty(handle)
        finally:
            os.close(handle)
        os.rmdir(name, dir_fd=self._folder)

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._remove(self._name, self.handle)
        os.close(self._folder)

    def move_to(self, name: str) -> None:
        """Move the complete bundle to its destination. An earlier bundle is removed together with this directory."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, "old", src_dir_fd=self._folder, dst_dir_fd=self.handle)
        os.rename("new", name, src_dir_fd=self.handle, dst_dir_fd=self._folder)


def _empty(folder: int) -> None:
    for item in os.listdir(folder):
        try:
            os.unlink(item, dir_fd=folder)
        except IsADirectoryError:
            below = os.open(item, DIRECTORY, dir_fd=folder)
            try:
                _empty(below)
            finally:
                os.close(below)
            os.rmdir(item, dir_fd=folder)


class _DirectoryWriter:
    """Writes a bundle as the directory ``new``, which only the current user can read."""

    def __init__(self, stage: int) -> None:
        self._root = descend(stage, ["new"], create=True)

    def __enter__(self) -> _DirectoryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._root)

    def add(self, member: str, source: _Hashing) -> None:
        """Add a file."""
        *folders, item = member.split("/")
        folder = descend(self._root, folders, create=True)
        try:
            with os.fdopen(open_regular(item, _CREATE, dir_fd=folder), "wb") as target:
                copy_hashed(source, target)
        finally:
            os.close(folder)


class _TarWriter:
    """Writes a bundle as the tar archive ``new``, which only the current user can read."""

    def __init__(self, stage: int) -> None:
        self._file = os.fdopen(open_regular("new", _CREATE, dir_fd=stage), "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def __enter__(self) -> _TarWriter:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        with self._file:
            if not kind:
                self._tar.close()

    def add(self, member: str, source: _Hashing) -> None:
        """Add a file without owner and time."""
        info = tarfile.TarInfo(member)
        info.size, info.mode = source.left, 0o644
        self._tar.addfile(info, t.cast("t.IO[bytes]", source))


class _Hashing:
    """Reads exactly the expected number of bytes of a file and hashes them.

    The owner of a store can truncate or extend a file while it is copied. A file that is too short raises
    ``model_damaged``.
    """

    def __init__(self, source: Readable, size: int, path: str) -> None:
        self.left = size
        self.hasher = hashlib.sha256()
        self._source = source
        self._path = path

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        try:
            data = self._source.read(size)
        except OSError as exc:
            raise OllamaError(
                "model_damaged", f"{self._path} cannot be read: {exc.strerror}; nothing was exported"
            ) from None
        if len(data) < size:
            raise OllamaError("model_damaged", f"{self._path} is too short; nothing was exported")
        self.left -= len(data)
        self.hasher.update(data)
        return data
