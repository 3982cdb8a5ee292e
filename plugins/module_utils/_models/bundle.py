# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a bundle: a directory or tar archive with blobs, manifests, release archives and their checksums.

``SHA256SUMS`` lists every file in the format of sha256sum. Nothing is written to a store before the complete bundle is
verified against it. A tag that is a list of variants is stored as that list, with the variants that were complete in
the exported store; their manifests are stored as blobs, as in a store of Ollama 0.40.

A user with write access to a bundle can change it at any time. Therefore its root directory or tar archive is opened
once, everything below it is opened relative to that descriptor without following links, and data is hashed while it is
copied. Bundles are read and written as root, stores as their owner.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tarfile
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .._core.owner import open_regular
from .._core.text import printable
from .._release.unpack import TAR_ERRORS
from .._store.layout import MANIFEST, Blob, Manifest, Variant, parse_manifest
from .registry import Offer

SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)\Z")
BLOB = re.compile(r"blobs/sha256-([0-9a-f]{64})\Z")
RELEASE = re.compile(r"releases/v[0-9][0-9A-Za-z.-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_READ = 1 << 20
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The depth of directories below the root, as in manifests/<host>/<namespace>/<model>/<tag>, and the limit for files.
_DEPTH = 4
_MAX_FILES = 100_000


def member_of(name: Name) -> str:
    """Return the name of the member with the manifest of a model."""
    return f"manifests/{name.host}/{name.namespace}/{name.model}/{name.tag}"


def name_of(member: str) -> Name | None:
    """Return the model whose manifest a member contains, or None if it is not a manifest."""
    parts = member.split("/")
    if parts[0] != "manifests" or len(parts) != 5:
        return None
    try:
        name = parse(f"{'/'.join(parts[1:4])}:{parts[4]}", allow_cloud=True)
    except OllamaError:
        return None
    return name if member_of(name) == member else None


def descend(root: int, parts: t.Iterable[str], *, create: bool = False) -> int:
    """Open a directory below another one without following links, and return its descriptor.

    :param create: whether missing directories are created.
    :raises OSError: if a directory cannot be opened or created.
    """
    here = os.dup(root)
    try:
        for part in parts:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
            below = os.open(part, DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


class Bundle:
    """An existing bundle, as a context manager.

    :raises OllamaError: ``bundle_unreadable``; ``bundle_tampered`` for an entry that is neither file nor directory.
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
                    self._root = os.open(path, DIRECTORY)
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
        """Convert errors of the disk and of damaged tar archives to ``bundle_unreadable``."""
        try:
            yield
        except (OSError, *TAR_ERRORS) as exc:
            why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
            if isinstance(exc, OSError) and exc.errno == errno.ELOOP:
                why = "it is a symbolic link; expected a directory or a tar"
            raise OllamaError("bundle_unreadable", printable(f"cannot read {self.path} as a bundle: {why}")) from None

    def _list_tar(self) -> None:
        self._file = os.fdopen(open_regular(self.path), "rb")
        self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115 - The file is closed on exit.
        for number, member in enumerate(self._tar):
            if number > _MAX_FILES:
                raise _refuse(self, "bundle_tampered", f"too many files; expected {_MAX_FILES} or fewer")
            if not member.isdir():
                self._members[member.name] = member
                # A sparse member expands to more bytes than the archive contains.
                self._add(member.name, member.size, member.isreg() and not member.issparse() and member.size >= 0)

    def _list_directory(self, folder: int, prefix: str) -> None:
        for item in sorted(os.listdir(folder)):
            name = prefix + item
            info = os.stat(item, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode) or name.count("/") >= _DEPTH:
                self._add(name, info.st_size, stat.S_ISREG(info.st_mode))
                continue
            below = os.open(item, DIRECTORY, dir_fd=folder)
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
        """Open a file of the bundle; its read errors are `OllamaError` ``bundle_unreadable``."""
        with self.reading():
            if self._tar:
                return _Member(self, t.cast("t.IO[bytes]", self._tar.extractfile(self._members[name])))
            *folders, item = name.split("/")
            folder = descend(self._root, folders)
            try:
                return _Member(self, os.fdopen(open_regular(item, dir_fd=folder), "rb"))
            finally:
                os.close(folder)

    def read(self, name: str) -> bytes:
        """Return the content of a small file of the bundle.

        :raises OllamaError: ``bundle_unreadable``, or ``bundle_tampered`` if the file is too large.
        """
        limit = 4 << 20
        with self.open(name) as file:
            body = file.read(limit + 1) if self.sizes[name] <= limit else b"x" * (limit + 1)
        if len(body) > limit:
            raise _refuse(self, "bundle_tampered", f"{name} is larger than {limit >> 20} MiB")
        return body


class _Member:
    """A file of a bundle; read errors are converted to `OllamaError`."""

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


class Readable(t.Protocol):
    """An open file or a part of one."""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""


@dataclass(frozen=True)
class BundledModel(Offer):
    """The content of a tag in a bundle, for one generation of servers.

    :ivar parts: the blobs that a store requires, including manifests of variants.
    """

    parts: tuple[Blob, ...] = ()

    def satisfies(self, pin: str) -> bool:
        """Return whether this model satisfies a pin."""
        return super().satisfies(pin) or pin in self.variants

    @property
    def blobs(self) -> dict[str, int]:
        """The sizes of all blobs in bytes, by digest."""
        return {blob.digest: blob.size for blob in self.parts}


@dataclass
class Contents:
    """The content of a complete and intact bundle.

    :ivar checksum: the sha256 of SHA256SUMS, which covers all files.
    :ivar lists: whether the models are for a server that reads lists of variants.
    """

    checksum: str
    lists: bool
    models: dict[Name, BundledModel]
    releases: list[str]


def check(bundle: Bundle, checksum: str | None = None, *, lists: bool = True, hash_all: bool = True) -> Contents:
    """Verify a bundle and return its content.

    :param checksum: the expected sha256 of SHA256SUMS, or None to verify the bundle by its own checksums only.
    :param lists: whether the models are for a server that reads lists of variants.
    :param hash_all: whether the contents of blobs and archives are read and hashed.
    :raises OllamaError: ``bundle_incomplete``, ``bundle_tampered``, ``bundle_unreadable``, ``manifest_invalid``.
    """
    if SUMS not in bundle.sizes:
        raise _refuse(bundle, "bundle_incomplete", f"{SUMS} is missing")
    text = bundle.read(SUMS)
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if checksum and found != checksum:
        raise _refuse(bundle, "bundle_tampered", f"the checksum of its {SUMS} is {found}; expected {checksum}")
    sums = _parse_sums(bundle, text)
    contents = Contents(found, lists, {}, sorted(member for member in sums if RELEASE.match(member)))
    for member in sorted(sums):
        name = name_of(member)
        if name:
            contents.models[name] = _bundled_model(bundle, member, name, sums, lists)
    for member in sorted(sums) if hash_all else ():
        with bundle.open(member) as file:
            if copy_hashed(file) != sums[member]:
                raise _refuse(bundle, "bundle_tampered", f"checksum mismatch of {member}")
    return contents


def _refuse(bundle: Bundle, code: str, why: str) -> OllamaError:
    return OllamaError(code, printable(f"{bundle.path}: {why}; nothing was written"))


def _parse_sums(bundle: Bundle, text: bytes) -> dict[str, str]:
    """Return the checksums by file, after verifying that they cover exactly the files of the bundle."""
    lines = [_SUM.match(line) for line in text.decode("utf-8", "replace").splitlines()]
    if not lines or not all(lines):
        raise _refuse(bundle, "bundle_tampered", f"its {SUMS} is not a list of checksums")
    sums = {line.group(2): line.group(1) for line in lines if line}
    missing = sorted(sums.keys() - bundle.sizes.keys())
    if missing:
        raise _refuse(bundle, "bundle_incomplete", f"{missing[0]} is missing" + _and_more(missing))
    strange = sorted(bundle.sizes.keys() - sums.keys() - {SUMS})
    strange += [member for member in sums if not (BLOB.match(member) or RELEASE.match(member) or name_of(member))]
    if strange:
        raise _refuse(bundle, "bundle_tampered", f"unexpected file {strange[0]}" + _and_more(strange))
    for member in sums:
        blob = BLOB.match(member)
        if blob and blob.group(1) != sums[member]:
            raise _refuse(bundle, "bundle_tampered", f"the checksum of {member} differs from its name")
    return sums


def _bundled_model(bundle: Bundle, member: str, name: Name, sums: t.Mapping[str, str], lists: bool) -> BundledModel:
    """Verify that a tag is complete, and return its content."""
    digest = f"sha256:{sums[member]}"
    parsed = _manifest(bundle, member, sums[member])
    if isinstance(parsed, Manifest):
        _require_blobs(bundle, name, parsed.blobs)
        return BundledModel(digest=digest, chosen=parsed, parts=parsed.blobs)
    whole: list[tuple[Variant, Manifest]] = []
    manifests: list[Blob] = []
    for variant in parsed:
        path = f"blobs/{variant.digest.replace(':', '-')}"
        if path in sums:
            manifest = _manifest(bundle, path, variant.digest[7:])
            if not isinstance(manifest, Manifest):
                raise _refuse(bundle, "bundle_tampered", f"{member} is a list that contains a list")
            _require_blobs(bundle, name, manifest.blobs)
            whole.append((variant, manifest))
            manifests.append(Blob(variant.digest, bundle.sizes[path], MANIFEST))
    if not whole:
        raise _refuse(bundle, "bundle_incomplete", f"{member} is a list of variants, and all of them are missing")
    if lists:
        parts = [*manifests, *(blob for _variant, manifest in whole for blob in manifest.blobs)]
        known = tuple(manifest.digest for _variant, manifest in whole)
        unique = {blob.digest: blob for blob in parts}
        return BundledModel(digest=digest, chosen=whole[0][1], variants=known, parts=tuple(unique.values()))
    # Older servers run the original, which newer servers convert.
    chosen = next((manifest for variant, manifest in whole if variant.runner == "ggml"), whole[0][1])
    return BundledModel(digest=digest, chosen=chosen, parts=chosen.blobs)


def _require_blobs(bundle: Bundle, name: Name, blobs: t.Iterable[Blob]) -> None:
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


def copy_hashed(source: Readable, target: t.IO[bytes] | None = None) -> str:
    """Read a file to its end, optionally copy it to a target, and return its sha256 in hexadecimal."""
    hasher = hashlib.sha256()
    while True:
        data = source.read(_READ)
        if not data:
            return hasher.hexdigest()
        hasher.update(data)
        if target:
            target.write(data)
