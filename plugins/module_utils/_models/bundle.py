# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles: a directory or tar with blobs, manifests, release archives and their checksums.

``SHA256SUMS`` lists every file, in the format of sha256sum. Nothing in a bundle is trusted before all of it was read
and compared; nothing is written to a store before that. A tag that is a list of variants is carried as that list, with
those variants that are complete where it comes from; their manifests lie among the blobs, as in a store of 0.40.

Whoever can write to a bundle can change it at any time. Therefore its root, or its tar, is opened once, everything
below it is opened relative to that without following links, and what is copied is hashed while it is copied. Bundles
are read and written as root, stores as their owner.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
import tarfile
import threading
import typing as t
from dataclasses import dataclass, replace

from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name, parse
from .._core.owner import open_regular
from .._core.progress import human
from .._core.text import printable
from .._release.unpack import TAR_ERRORS
from .._store.audit import audit
from .._store.layout import MANIFEST, Blob, Entry, Manifest, Variant, parse_manifest
from .._store.state import Memory, default_state_dir, exclusive
from .._store.store import Store
from .._store.writer import StoreWriter
from .registry import Offer

SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)\Z")
_BLOB = re.compile(r"blobs/sha256-([0-9a-f]{64})\Z")
_RELEASE = re.compile(r"releases/v[0-9][0-9A-Za-z.-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_READ = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Directories below the root, as in manifests/<host>/<namespace>/<model>/<tag>; and more files than any store has.
_DEPTH = 4
_MAX_FILES = 100_000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# Seconds to wait for another export to the same place.
_WAIT = 600.0
Watch = t.Callable[[str, int], None]
"""Is told how many bytes of a blob have been copied, by its digest."""


def member_of(name: Name) -> str:
    """Return where a model's manifest lies in a bundle."""
    return f"manifests/{name.host}/{name.namespace}/{name.model}/{name.tag}"


def name_of(member: str) -> Name | None:
    """Return the model whose manifest a member is, or None where it is something else."""
    parts = member.split("/")
    if parts[0] != "manifests" or len(parts) != 5:
        return None
    try:
        name = parse(f"{'/'.join(parts[1:4])}:{parts[4]}", allow_cloud=True)
    except OllamaError:
        return None
    return name if member_of(name) == member else None


def _descend(root: int, parts: t.Iterable[str], *, create: bool = False) -> int:
    """Open a directory below another one, without following links, and return its descriptor; raises OSError."""
    here = os.dup(root)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
            below = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


class Bundle:
    """A bundle that exists: its files by name. Use it as a context manager.

    :raises OllamaError: ``bundle_unreadable``; ``bundle_tampered`` for anything that is neither file nor directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.sizes: dict[str, int] = {}
        self._root = -1
        self._file: t.IO[bytes] | None = None
        self._tar: tarfile.TarFile | None = None
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            with self.reading():
                try:
                    self._root = os.open(path, _DIRECTORY)
                except NotADirectoryError:
                    self._list_tar()
                else:
                    self._list_directory(self._root, "")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file:
            self._file.close()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    @contextlib.contextmanager
    def reading(self) -> t.Iterator[None]:
        """Turn what the disk and damaged tars raise into ``bundle_unreadable``."""
        try:
            yield
        except (OSError, *TAR_ERRORS) as exc:
            why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
            if isinstance(exc, OSError) and exc.errno == errno.ELOOP:
                why = "it is a symbolic link; expected a directory or a tar"
            raise OllamaError("bundle_unreadable", printable(f"cannot read {self.path} as a bundle: {why}")) from None

    def _list_tar(self) -> None:
        self._file = os.fdopen(open_regular(self.path), "rb")
        self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115 - its file is closed on exit
        for number, member in enumerate(self._tar):
            if number > _MAX_FILES:
                raise _refuse(self, "bundle_tampered", f"too many files; expected {_MAX_FILES} or fewer")
            if not member.isdir():
                self._members[member.name] = member
                # A sparse member reads as more bytes than the tar has.
                self._add(member.name, member.size, member.isreg() and not member.issparse() and member.size >= 0)

    def _list_directory(self, folder: int, prefix: str) -> None:
        for item in sorted(os.listdir(folder)):
            name = prefix + item
            info = os.stat(item, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode) or name.count("/") >= _DEPTH:
                self._add(name, info.st_size, stat.S_ISREG(info.st_mode))
                continue
            below = os.open(item, _DIRECTORY, dir_fd=folder)
            try:
                self._list_directory(below, name + "/")
            finally:
                os.close(below)

    def _add(self, name: str, size: int, regular: bool) -> None:
        if name in self.sizes:
            raise _refuse(self, "bundle_tampered", f"duplicate file {name}")
        if not regular:
            raise _refuse(self, "bundle_tampered", f"{name} is not a regular file")
        if len(self.sizes) > _MAX_FILES:
            raise _refuse(self, "bundle_tampered", f"too many files; expected {_MAX_FILES} or fewer")
        self.sizes[name] = size

    def open(self, name: str) -> _Member:
        """Open one file of the bundle for reading; reading raises ``bundle_unreadable``."""
        with self.reading():
            if self._tar:
                return _Member(self, t.cast("t.IO[bytes]", self._tar.extractfile(self._members[name])))
            *folders, item = name.split("/")
            folder = _descend(self._root, folders)
            try:
                return _Member(self, os.fdopen(open_regular(item, dir_fd=folder), "rb"))
            finally:
                os.close(folder)

    def read(self, name: str) -> bytes:
        """Return a small file of the bundle."""
        limit = 4 << 20
        with self.open(name) as file:
            body = file.read(limit + 1) if self.sizes[name] <= limit else b"x" * (limit + 1)
        if len(body) > limit:
            raise _refuse(self, "bundle_tampered", f"{name} is larger than {limit >> 20} MiB")
        return body


class _Member:
    """A file of a bundle, whose errors have a code."""

    def __init__(self, bundle: Bundle, file: t.IO[bytes]) -> None:
        self._bundle = bundle
        self._file = file

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        with self._bundle.reading():
            return self._file.read(size)


class _Source(t.Protocol):
    def read(self, size: int) -> bytes: ...


@dataclass(frozen=True)
class BundledModel(Offer):
    """What a bundle has under a tag, for servers of one kind.

    :ivar parts: the blobs that a store needs for it, manifests of variants included.
    """

    parts: tuple[Blob, ...] = ()

    def satisfies(self, pin: str) -> bool:
        """Return whether a store that has this has what a pin asks for."""
        return super().satisfies(pin) or pin in self.variants

    @property
    def blobs(self) -> dict[str, int]:
        """Digest and size of every blob."""
        return {blob.digest: blob.size for blob in self.parts}


@dataclass
class Contents:
    """What a bundle holds, after it was found complete and intact.

    :ivar checksum: of SHA256SUMS, and so of everything.
    :ivar lists: whether the models are for a server that reads lists of variants.
    """

    checksum: str
    lists: bool
    models: dict[Name, BundledModel]
    releases: list[str]


def check(bundle: Bundle, checksum: str | None = None, *, lists: bool = True, hash_all: bool = True) -> Contents:
    """Return what a bundle holds.

    :param checksum: what its SHA256SUMS must hash to, or None to compare the bundle with itself only.
    :param lists: whether the models are for a server that reads lists of variants.
    :param hash_all: False leaves the contents of blobs and archives unread.
    :raises OllamaError: ``bundle_incomplete``, ``bundle_tampered``.
    """
    if SUMS not in bundle.sizes:
        raise _refuse(bundle, "bundle_incomplete", f"it has no {SUMS}")
    text = bundle.read(SUMS)
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if checksum and found != checksum:
        raise _refuse(bundle, "bundle_tampered", f"its {SUMS} has {found}, expected {checksum}")
    sums = _parse_sums(bundle, text)
    contents = Contents(found, lists, {}, sorted(member for member in sums if _RELEASE.match(member)))
    for member in sorted(sums):
        name = name_of(member)
        if name:
            contents.models[name] = _carried(bundle, member, name, sums, lists)
    for member in sorted(sums) if hash_all else ():
        with bundle.open(member) as file:
            if _pour(file) != sums[member]:
                raise _refuse(bundle, "bundle_tampered", f"checksum mismatch of {member}")
    return contents


def _refuse(bundle: Bundle, code: str, why: str) -> OllamaError:
    return OllamaError(code, printable(f"{bundle.path}: {why}; nothing was written"))


def _parse_sums(bundle: Bundle, text: bytes) -> dict[str, str]:
    """Return the sums by file, after they were found to fit the files that there are."""
    lines = [_SUM.match(line) for line in text.decode("utf-8", "replace").splitlines()]
    if not lines or not all(lines):
        raise _refuse(bundle, "bundle_tampered", f"its {SUMS} is not a list of checksums")
    sums = {line.group(2): line.group(1) for line in lines if line}
    missing = sorted(sums.keys() - bundle.sizes.keys())
    if missing:
        raise _refuse(bundle, "bundle_incomplete", f"{missing[0]} is missing" + _and_more(missing))
    strange = sorted(bundle.sizes.keys() - sums.keys() - {SUMS})
    strange += [member for member in sums if not (_BLOB.match(member) or _RELEASE.match(member) or name_of(member))]
    if strange:
        raise _refuse(bundle, "bundle_tampered", f"unexpected file {strange[0]}" + _and_more(strange))
    for member in sums:
        blob = _BLOB.match(member)
        if blob and blob.group(1) != sums[member]:
            raise _refuse(bundle, "bundle_tampered", f"the checksum of {member} differs from its name")
    return sums


def _carried(bundle: Bundle, member: str, name: Name, sums: t.Mapping[str, str], lists: bool) -> BundledModel:
    """Return what a bundle has under one tag, after all of that was found to be there."""
    digest = f"sha256:{sums[member]}"
    parsed = _manifest(bundle, member, sums[member])
    if isinstance(parsed, Manifest):
        _have_blobs(bundle, name, parsed.blobs)
        return BundledModel(digest=digest, chosen=parsed, parts=parsed.blobs)
    whole: list[tuple[Variant, Manifest]] = []
    manifests: list[Blob] = []
    for variant in parsed:
        path = f"blobs/{variant.digest.replace(':', '-')}"
        if path in sums:
            manifest = _manifest(bundle, path, variant.digest[7:])
            if not isinstance(manifest, Manifest):
                raise _refuse(bundle, "bundle_tampered", f"{member} is a list that contains a list")
            _have_blobs(bundle, name, manifest.blobs)
            whole.append((variant, manifest))
            manifests.append(Blob(variant.digest, bundle.sizes[path], MANIFEST))
    if not whole:
        raise _refuse(bundle, "bundle_incomplete", f"of {member}, a list of variants, none is there")
    if lists:
        parts = [*manifests, *(blob for _variant, manifest in whole for blob in manifest.blobs)]
        known = tuple(manifest.digest for _variant, manifest in whole)
        unique = {blob.digest: blob for blob in parts}
        return BundledModel(digest=digest, chosen=whole[0][1], variants=known, parts=tuple(unique.values()))
    # Older servers run what newer ones convert from.
    chosen = next((manifest for variant, manifest in whole if variant.runner == "ggml"), whole[0][1])
    return BundledModel(digest=digest, chosen=chosen, parts=chosen.blobs)


def _have_blobs(bundle: Bundle, name: Name, blobs: t.Iterable[Blob]) -> None:
    for blob in blobs:
        size = bundle.sizes.get(f"blobs/{blob.file_name}")
        if size != blob.size:
            what = "is missing" if size is None else f"has {size} of {blob.size} bytes"
            raise _refuse(bundle, "bundle_incomplete", f"blobs/{blob.file_name} of {name} {what}")


def _manifest(bundle: Bundle, member: str, digest: str) -> Manifest | tuple[Variant, ...]:
    body = bundle.read(member)
    if hashlib.sha256(body).hexdigest() != digest:
        raise _refuse(bundle, "bundle_tampered", f"checksum mismatch of {member}")
    return parse_manifest(body)


def _and_more(items: t.Sequence[str]) -> str:
    return f", and {len(items) - 1} more" if len(items) > 1 else ""


def _pour(source: _Source, target: t.IO[bytes] | None = None) -> str:
    """Read a file to its end, copy it where a target is given, and return the sha256 of what was read."""
    hasher = hashlib.sha256()
    while True:
        data = source.read(_READ)
        if not data:
            return hasher.hexdigest()
        hasher.update(data)
        if target:
            target.write(data)


# --- writing a bundle


class File(t.NamedTuple):
    """A file that goes into a bundle: where it is, the sha256 that it must have, and its size in bytes."""

    path: str
    digest: str
    size: int


@dataclass
class Export:
    """What shall go into a bundle: the tags' manifests as bytes, everything else as files.

    :ivar models: the digests by name, as ``/api/tags`` has them.
    :ivar files: by member name; those below ``blobs/`` are the store's.
    """

    store: Store
    models: dict[Name, str]
    manifests: dict[str, bytes]
    files: dict[str, File]

    @property
    def sums(self) -> bytes:
        """The text of SHA256SUMS."""
        rows = {member: file.digest for member, file in self.files.items()}
        rows.update((member, hashlib.sha256(body).hexdigest()) for member, body in self.manifests.items())
        return "".join(f"{rows[member]}  {member}\n" for member in sorted(rows)).encode()

    @property
    def checksum(self) -> str:
        """The sha256 of SHA256SUMS."""
        return "sha256:" + hashlib.sha256(self.sums).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files but manifests."""
        return sum(file.size for file in self.files.values())

    def open(self, member: str) -> t.IO[bytes]:
        """Open a file that goes into the bundle: with the rights of the store's owner what is the store's."""
        file = self.files[member]
        try:
            if _BLOB.match(member):
                return self.store.open_blob(f"sha256:{file.digest}")
            return os.fdopen(open_regular(file.path), "rb")
        except OSError as exc:
            raise OllamaError("damaged", f"{file.path} cannot be read: {exc.strerror}; nothing was exported") from None


def collect(store: Store, names: t.Sequence[Name], releases: t.Mapping[str, File]) -> Export:
    """Return what a bundle of some models has to hold; of a list of variants those that are complete here.

    :param names: empty means all.
    :param releases: the archives of a release, by member name.
    :raises OllamaError: ``not_found``, ``damaged``.
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
    return OllamaError("damaged", f"{entry.name}: {why}; repair it first", name=str(entry.name))


def _entry(store: Store, name: Name) -> Entry:
    entry = store.find(name)
    if not entry:
        raise OllamaError("not_found", f"models: {name} is not in {store.root}", name=str(name))
    return entry


def _variants(store: Store, entry: Entry, variants: t.Iterable[Variant]) -> t.Iterator[Blob]:
    """Yield the blobs of the variant that this host runs, and of every other one that is complete here.

    There are others where a server of 0.40 has converted a model: its pin is the original's digest.
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
    """Return whether a bundle with exactly that content exists already; contents of blobs are not read."""
    if not os.path.lexists(dest):
        return False
    try:
        with Bundle(dest) as bundle:
            return check(bundle, export.checksum, hash_all=False).checksum == export.checksum
    except OllamaError:
        return False


def write(export: Export, dest: str, *, tar: bool, state_dir: str | None = None) -> bool:
    """Write a bundle that only its writer can read, and return whether it was needed.

    It grows in a private directory beside its place, and moves there when it is complete. One run at a time writes to
    a place; another one waits, and finds what it wants to write.

    :raises OllamaError: ``damaged`` where a file is not what its checksum says, ``dest_taken``, ``dest_unwritable``,
        ``disk_full``, ``busy``.
    """
    folder, name = os.path.split(os.path.abspath(dest))
    place = os.path.join(os.path.realpath(folder), name)
    key = hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    with exclusive(os.path.join(state_dir or default_state_dir(), f"export-{key}"), seconds=_WAIT) as alone:
        if not alone:
            raise OllamaError("busy", f"dest: another run is still writing {dest}")
        if is_written(export, dest):
            return False
        _check_dest(export, dest, folder)
        try:
            with _Stage(folder, f".kaido-export-{key}-") as stage:
                _fill(export, _TarWriter(stage.handle) if tar else _DirectoryWriter(stage.handle))
                stage.move_to(name)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OllamaError("disk_full", f"dest: no space left for {dest}") from None
            raise OllamaError("dest_unwritable", f"dest: cannot write {dest}: {exc.strerror or exc}") from None
    return True


def _fill(export: Export, target: _TarWriter | _DirectoryWriter) -> None:
    with target:
        small = {SUMS: export.sums, **dict(sorted(export.manifests.items()))}
        for member, body in small.items():
            target.add(member, _Hashing(io.BytesIO(body), len(body), member))
        for member, (path, digest, size) in sorted(export.files.items()):
            with export.open(member) as file:
                reader = _Hashing(file, size, path)
                target.add(member, reader)
            if reader.hasher.hexdigest() != digest:
                raise OllamaError("damaged", f"{path} has wrong content; nothing was exported")


def _check_dest(export: Export, dest: str, folder: str) -> None:
    if not os.path.isdir(folder):
        raise OllamaError("dest_unwritable", f"dest: there is no directory {folder}")
    if os.path.lexists(dest) and not _is_replaceable(dest):
        raise OllamaError("dest_taken", f"dest: {dest} exists and is not a bundle; expected a new path")
    try:
        info = os.statvfs(folder)
    except OSError as exc:
        raise OllamaError("dest_unwritable", f"dest: cannot write to {folder}: {exc.strerror}") from None
    if export.size > info.f_bavail * info.f_frsize:
        free = human(info.f_bavail * info.f_frsize)
        raise OllamaError("disk_full", f"the bundle needs {human(export.size)}, but {free} are free in {folder}")


def _is_replaceable(dest: str) -> bool:
    """Return whether a path is a bundle and nothing else, or an empty directory."""
    try:
        with Bundle(dest) as bundle:
            members = set(bundle.sizes)
    except OllamaError:
        return False
    ours = all(_BLOB.match(name) or _RELEASE.match(name) or name_of(name) for name in members - {SUMS})
    return ours and (SUMS in members or (not members and os.path.isdir(dest)))


class _Stage:
    """A directory of this account's alone, beside the place where a file or directory shall be. A context manager.

    Whoever owns the folder can rename what is in it, so that everything is done through descriptors.

    :param prefix: of its random name; what earlier runs left under such a name is removed.
    :raises OSError: where it cannot be created.
    """

    def __init__(self, folder: str, prefix: str) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = prefix + secrets.token_hex(8)
        try:
            os.mkdir(self._name, 0o700, dir_fd=self._folder)
            self.handle = os.open(self._name, _DIRECTORY, dir_fd=self._folder)
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
        handle = os.open(name, _DIRECTORY, dir_fd=self._folder)
        here, ours = os.fstat(handle), os.fstat(self.handle)
        # What somebody else has planted under such a name stays. Not every file system knows owners and modes.
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
        """Give what is complete its name; an older bundle goes with the stage."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, "old", src_dir_fd=self._folder, dst_dir_fd=self.handle)
        os.rename("new", name, src_dir_fd=self.handle, dst_dir_fd=self._folder)


def _empty(folder: int) -> None:
    for item in os.listdir(folder):
        try:
            os.unlink(item, dir_fd=folder)
        except IsADirectoryError:
            below = os.open(item, _DIRECTORY, dir_fd=folder)
            try:
                _empty(below)
            finally:
                os.close(below)
            os.rmdir(item, dir_fd=folder)


class _DirectoryWriter:
    """Writes a bundle as a directory of the name new; only its writer can read it."""

    def __init__(self, stage: int) -> None:
        self._root = _descend(stage, ["new"], create=True)

    def __enter__(self) -> _DirectoryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._root)

    def add(self, member: str, source: _Hashing) -> None:
        """Write one file."""
        *folders, item = member.split("/")
        folder = _descend(self._root, folders, create=True)
        try:
            with os.fdopen(open_regular(item, _CREATE, dir_fd=folder), "wb") as target:
                _pour(source, target)
        finally:
            os.close(folder)


class _TarWriter:
    """Writes a bundle as a tar of the name new; only its writer can read it."""

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
        """Write one file. Nothing but names and contents is kept."""
        info = tarfile.TarInfo(member)
        info.size, info.mode = source.left, 0o644
        self._tar.addfile(info, t.cast("t.IO[bytes]", source))


class _Hashing:
    """Reads exactly as many bytes of a file as it must have, and hashes them; raises ``damaged`` for fewer.

    The owner of a store can truncate a file, or let it grow without end, while it is copied.
    """

    def __init__(self, source: _Source, size: int, path: str) -> None:
        self.left = size
        self.hasher = hashlib.sha256()
        self._source = source
        self._path = path

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        try:
            data = self._source.read(size)
        except OSError as exc:
            raise OllamaError("damaged", f"{self._path} cannot be read: {exc.strerror}; nothing was exported") from None
        if len(data) < size:
            raise OllamaError("damaged", f"{self._path} is too short; nothing was exported")
        self.left -= len(data)
        self.hasher.update(data)
        return data


# --- bringing a bundle into a store


@dataclass
class MissingContent:
    """What a store lacks of a bundle: blobs, and models whose tag is another or not there.

    :ivar before: the models' digests, empty where they are not there.
    """

    blobs: dict[str, int]
    models: list[Name]
    before: dict[Name, str]


def compare(contents: Contents, store: Store, memory: Memory) -> MissingContent:
    """Return what has to be brought; blobs of the store that have changed since they were found right are hashed.

    A tag that the server has made another list of is still the bundle's, as long as that variant is in it.
    """
    parts = {blob.digest: blob for carried in contents.models.values() for blob in carried.parts}
    damage = audit(store, parts.values(), memory).damage
    lack = MissingContent({digest: parts[digest].size for digest in damage}, [], {})
    for name, carried in contents.models.items():
        entry = store.find(name)
        intact = entry if entry and not entry.problem else None
        lack.before[name] = intact.digest if intact else ""
        if not intact or (carried.chosen.digest != intact.digest and carried.digest not in memory.known_as(intact)):
            lack.models.append(name)
    return lack


def bring(
    bundle: Bundle,
    contents: Contents,
    lack: MissingContent,
    store: Store,
    memory: Memory,
    watch: Watch = lambda digest, count: None,
) -> None:
    """Copy what a store lacks, as its owner: blobs first, manifests last, each by one rename.

    :raises OllamaError: ``disk_full``, ``bundle_tampered`` where the bundle has changed since it was checked,
        ``store_unsafe``, ``store_unwritable``.
    """
    size, free = sum(lack.blobs.values()), store.free_bytes()
    if size > free:
        raise OllamaError(
            "disk_full", f"the bundle needs {human(size)}, but {human(free)} are free where {store.root} is"
        )

    def put(member: str, blob: str, source_member: str | None = None) -> None:
        with bundle.open(source_member or member) as source:
            seen = writer.put(member, t.cast("t.IO[bytes]", source), blob[7:], lambda count: watch(blob, count))
        if member.startswith("blobs/"):
            memory.verified[blob] = seen

    try:
        with StoreWriter(store) as writer:
            for digest in sorted(lack.blobs):
                put(f"blobs/{digest.replace(':', '-')}", digest)
            for name in lack.models:
                carried, member = contents.models[name], member_of(name)
                if contents.lists:
                    blob = f"blobs/{carried.digest.replace(':', '-')}"
                    put(blob, carried.digest, member)
                    host = "ollama.com" if name.host == DEFAULT_HOST else name.host.replace(":", "%3A")
                    writer.link(f"manifests-v2/{host}/{name.namespace}/{name.model}/{name.tag}", f"../../../../{blob}")
                elif carried.digest == carried.chosen.digest:
                    put(member, carried.digest)
                else:
                    put(member, carried.chosen.digest, f"blobs/{carried.chosen.digest.replace(':', '-')}")
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OllamaError("disk_full", f"models_dir: no space left in {store.root}") from None
        why = exc.strerror or type(exc).__name__
        raise OllamaError("store_unwritable", f"models_dir: cannot write to {store.root}: {why}") from None


def remember(contents: Contents, memory: Memory) -> None:
    """Note which tags the models are of: older stores keep of a list only the variant, newer servers may convert it."""
    for name, carried in contents.models.items():
        memory.origins[name.key] = {"registry": carried.digest, "variant": carried.chosen.digest}


class BundleSource:
    """A bundle that single models are taken from; it is not even opened before it is needed. A context manager."""

    def __init__(self, path: str, *, lists: bool) -> None:
        self.path = path
        self.lists = lists
        self._bundle: Bundle | None = None
        self._contents: Contents | None = None
        # A tar has one position, and a store one place to prepare files in.
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.path

    def __enter__(self) -> BundleSource:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bundle:
            self._bundle.__exit__()

    def read(self, *, hash_all: bool = False) -> tuple[Bundle, Contents]:
        """Return the bundle and what it holds; raises as `check`."""
        self._bundle = self._bundle or Bundle(self.path)
        if hash_all or not self._contents:
            self._contents = check(self._bundle, lists=self.lists, hash_all=hash_all)
        return self._bundle, self._contents

    def offer(self, wanted: Name) -> BundledModel:
        """Return what the bundle has under a name, whatever its case; raises ``tag_missing``."""
        for name, carried in self.read()[1].models.items():
            if name.key == wanted.key:
                return carried
        raise OllamaError("tag_missing", f"{wanted}: {self.path} has no such model", name=str(wanted))

    def bring(self, wanted: Name, store: Store, memory: Memory, watch: Watch) -> int:
        """Bring one model into a store, and return the bytes that were copied; raises as `bring`."""
        with self._lock:
            bundle, contents = self.read()
            one = {name: carried for name, carried in contents.models.items() if name.key == wanted.key}
            part = replace(contents, models=one)
            lack = compare(part, store, memory)
            bring(bundle, part, lack, store, memory, watch)
            remember(part, memory)
            return sum(lack.blobs.values())
