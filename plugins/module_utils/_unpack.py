# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack the archives of a release: root-owned, and nothing outside of the directory that was named.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import typing as t

from ._errors import OllamaError

_CHUNK = 1 << 20


def unpack(archives: t.Sequence[str], root: str) -> None:
    """Unpack .tar.zst files over each other as root-owned files; what would reach outside of the directory is refused.

    :raises OllamaError: ``bad_archive`` or ``no_zstd``.
    """
    zstd = shutil.which("zstd")
    if not zstd:
        raise OllamaError("no_zstd", "the program zstd is needed to unpack a release and is not installed")
    unpacker = _Unpacker(root)
    for archive in archives:
        _unpack(zstd, archive, unpacker)
    unpacker.check_links()


def _unpack(zstd: str, archive: str, unpacker: _Unpacker) -> None:
    with subprocess.Popen([zstd, "-dcq", archive], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        stdout = t.cast("t.IO[bytes]", process.stdout)
        try:
            with tarfile.open(fileobj=stdout, mode="r|", bufsize=_CHUNK) as tar:
                unpacker.run(tar)
            while stdout.read(_CHUNK):
                pass
        except (tarfile.TarError, EOFError) as exc:
            raise OllamaError("bad_archive", f"{os.path.basename(archive)} cannot be unpacked: {exc}") from exc
        finally:
            stdout.close()
    if process.returncode:
        raise OllamaError(
            "bad_archive", f"{os.path.basename(archive)} cannot be unpacked: zstd exited with {process.returncode}"
        )


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
                raise _bad(f"{member.name} is in it twice")
            own.add(name)
            if os.path.lexists(path):
                # An archive that lies over another one may replace its files.
                os.unlink(path)
                self.links.discard(name)
            if member.issym():
                os.symlink(member.linkname, path)
                self.links.add(name)
            elif member.islnk() and self._inside(member.linkname) in files:
                os.link(os.path.join(self.root, self._inside(member.linkname)), path)
            elif member.isreg():
                source = t.cast("t.IO[bytes]", tar.extractfile(member))
                mode = 0o755 if member.mode & 0o111 else 0o644
                write_synced(path, iter(lambda: source.read(_CHUNK), b""), mode)  # noqa: B023
                files.add(name)
            else:
                raise _bad(f"{member.name} is neither a file, a directory nor a link into the archive")

    def _inside(self, name: str) -> str:
        """Return the normal form of a member's path that stays inside and passes through no link."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise _bad(f"{name} leads out of it")
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in self.links:
                raise _bad(f"{name} passes through a link")
        return "/".join(parts)

    def check_links(self) -> None:
        root = os.path.realpath(self.root)
        for name in self.links:
            target = os.path.realpath(os.path.join(root, name))
            if target != root and not target.startswith(root + os.sep):
                raise _bad(f"the link {name} leads out of it")


def _bad(why: str) -> OllamaError:
    return OllamaError("bad_archive", f"the archive is refused: {why}")


def write_synced(path: str, chunks: t.Iterable[bytes], mode: int) -> None:
    """Write a file of a release, so that it is whole on the disk before anything refers to it."""
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
