# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack the archives of a release. All files belong to root and are below one directory.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import tarfile
import typing as t

from .._core import command
from .._core.errors import OllamaError
from .._core.owner import open_regular
from .._core.text import printable

Archive = t.Tuple[str, t.IO[bytes]]
"""The name of an archive for messages, and its open file, whose content is already verified."""

# The exceptions of tarfile for a damaged or malicious archive, which differ between versions of Python.
TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, OverflowError, LookupError, RecursionError)

_CHUNK = 1 << 20
# The errors of system calls that are caused by names in an archive, not by the disk.
_BAD_NAMES = (
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.EINVAL,
    errno.EILSEQ,
    errno.ELOOP,
    errno.EMLINK,
)


def has_zstd() -> bool:
    """Return whether this host can unpack a release: with the program zstd, or with libzstd."""
    return command.find("zstd") is not None or _load_library() is not None


def unpack(archives: t.Sequence[Archive], root: str) -> None:
    """Unpack .tar.zst files over each other as files of root. Members outside of the directory are refused.

    :raises OllamaError: ``archive_invalid`` or ``program_missing``.
    :raises OSError: if the directory is not writable.
    """
    unpacker = _Unpacker(root)
    for name, file in archives:
        file.seek(0)
        with _decompress(name, file) as stream:
            try:
                with tarfile.open(fileobj=t.cast("t.IO[bytes]", stream), mode="r|", bufsize=_CHUNK) as tar:
                    unpacker.run(tar)
                while stream.read(_CHUNK):
                    pass
            except TAR_ERRORS as exc:
                raise _broken(name, str(exc)) from None
            except OSError as exc:
                if exc.errno in _BAD_NAMES:
                    raise _broken(name, f"invalid member name: {exc.strerror}") from None
                raise
    unpacker.check_links()


def _broken(name: str, why: str) -> OllamaError:
    return OllamaError("archive_invalid", f"{name}: cannot unpack the archive: {why}")


class _Readable(t.Protocol):
    """A stream of decompressed bytes."""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""


@contextlib.contextmanager
def _decompress(name: str, file: t.IO[bytes]) -> t.Iterator[_Readable]:
    """Yield the decompressed content of an open file, which is never opened again by its name."""
    if not command.find("zstd"):
        library = _load_library()
        if not library:
            raise OllamaError("program_missing", "neither the program zstd nor libzstd.so.1 is installed; install zstd")
        yield _Chunks(_stream(library, name, file))
        return
    with command.stream(["zstd", "-dcq"], stdin=file) as running:
        yield running.stdout
    if running.status:
        raise _broken(name, f"zstd failed with exit status {running.status}")


class _Buffer(ctypes.Structure):
    """The structures ZSTD_inBuffer and ZSTD_outBuffer."""

    _fields_: t.ClassVar = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t)]


class _Chunks:
    """A readable stream for tarfile."""

    def __init__(self, chunks: t.Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self, size: int) -> bytes:
        """Return the next chunk, regardless of its size."""
        return next(self._chunks, b"")


def _load_library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libzstd.so.1")
        library.ZSTD_createDStream.restype = ctypes.c_void_p
        library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
        library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer)]
        library.ZSTD_decompressStream.restype = ctypes.c_size_t
        library.ZSTD_isError.argtypes = [ctypes.c_size_t]
        library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
        library.ZSTD_getErrorName.restype = ctypes.c_char_p
    except (OSError, AttributeError):
        return None
    return library


def _stream(library: ctypes.CDLL, name: str, file: t.IO[bytes]) -> t.Iterator[bytes]:
    stream = library.ZSTD_createDStream()
    target = ctypes.create_string_buffer(_CHUNK)
    left = 1
    try:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            source = _Buffer(ctypes.cast(ctypes.c_char_p(chunk), ctypes.c_void_p), len(chunk), 0)
            full = True
            while full or source.position < source.size:
                out = _Buffer(ctypes.cast(target, ctypes.c_void_p), _CHUNK, 0)
                left = library.ZSTD_decompressStream(stream, ctypes.byref(out), ctypes.byref(source))
                if library.ZSTD_isError(left):
                    raise _broken(name, library.ZSTD_getErrorName(left).decode())
                full = out.position == _CHUNK
                if out.position:
                    yield ctypes.string_at(target, out.position)
        if left:
            raise _broken(name, "it is truncated")
    finally:
        library.ZSTD_freeDStream(stream)


def open_archive(path: str) -> tuple[t.IO[bytes], bool]:
    """Open an archive on this host, and return it with whether only this account can change it while it is read.

    A path may refer to a member of a tar archive: ``/srv/bundle.tar/releases/v0.35.1/ollama-linux-amd64.tar.zst``.

    :raises OSError: as `open_regular` does, and ``ENOENT`` for a tar archive without that member.
    """
    try:
        # Unbuffered: zstd inherits the position of the descriptor.
        file = os.fdopen(open_regular(path), "rb", buffering=0)
    except NotADirectoryError:
        return _open_member(path), False
    info = os.fstat(file.fileno())
    return file, info.st_uid in (0, os.geteuid()) and not info.st_mode & 0o022


def _open_member(path: str) -> t.IO[bytes]:
    outer = path
    while outer != "/" and not os.path.isfile(outer):
        outer = os.path.dirname(outer)
    name = os.path.relpath(path, outer)
    file = os.fdopen(open_regular(outer), "rb")
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - The caller reads it.
        member = tar.getmember(name)
        if not member.isreg() or member.issparse():
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        return t.cast("t.IO[bytes]", tar.extractfile(member))
    except TAR_ERRORS:
        file.close()
        raise OSError(errno.ENOENT, f"{outer} is not a bundle that contains this file", path) from None


class _Unpacker:
    def __init__(self, root: str) -> None:
        self.root = root
        self.links = {
            os.path.relpath(os.path.join(directory, name), root)
            for directory, directories, files in os.walk(root)
            for name in (*directories, *files)
            if os.path.islink(os.path.join(directory, name))
        }

    def run(self, tar: tarfile.TarFile) -> None:
        files: set[str] = set()
        own: set[str] = set()
        for member in tar:
            name = self._inside(member.name)
            path = os.path.join(self.root, name)
            if member.isdir():
                os.makedirs(path, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if name in own or (os.path.isdir(path) and not os.path.islink(path)):
                raise _bad(f"duplicate entry {member.name}")
            own.add(name)
            if os.path.lexists(path):
                # A variant can replace files of the base archive.
                os.unlink(path)
                self.links.discard(name)
            if member.issym():
                os.symlink(member.linkname, path)
                self.links.add(name)
            elif member.islnk() and self._inside(member.linkname) in files:
                os.link(os.path.join(self.root, self._inside(member.linkname)), path)
            elif member.isreg() and not member.issparse():
                source = t.cast("t.IO[bytes]", tar.extractfile(member))
                mode = 0o755 if member.mode & 0o111 else 0o644
                write_synced(path, iter(lambda: source.read(_CHUNK), b""), mode)  # noqa: B023
                files.add(name)
            else:
                raise _bad(f"{member.name} is not a file, a directory or a link inside the archive")

    def _inside(self, name: str) -> str:
        """Return the normalized path of a member. One outside of the directory or behind a link is refused."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise _bad(f"{name} leaves the directory")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in self.links:
                raise _bad(f"{name} passes through a link")
        return "/".join(parts)

    def check_links(self) -> None:
        root = os.path.realpath(self.root)
        for name in self.links:
            target = os.path.realpath(os.path.join(root, name))
            if target != root and not target.startswith(root + os.sep):
                raise _bad(f"the link {name} leaves the directory")


def _bad(why: str) -> OllamaError:
    return OllamaError("archive_invalid", f"invalid archive: {printable(why)}")


def write_synced(path: str, chunks: t.Iterable[bytes], mode: int) -> None:
    """Write a file of a release, and return when it is completely on the disk."""
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
