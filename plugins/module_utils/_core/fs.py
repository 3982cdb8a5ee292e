# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write files in directories that only root controls.

For directories that another account controls, see `owner`, which follows no links and does not block.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import typing as t

CHUNK = 1 << 20


def read_text(path: str) -> str | None:
    """Return the text of a file, or None if it does not exist. Bytes that are not UTF-8 are replaced."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def readable_text(path: str) -> str:
    """Return the text of a file, or an empty string if it cannot be read, as files in ``/proc`` can disappear."""
    try:
        return read_text(path) or ""
    except OSError:
        return ""


def list_directory(path: str) -> list[str]:
    """Return the sorted names in a directory; an empty list if it does not exist."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_link(path: str) -> str | None:
    """Return the target of a symbolic link; ``""`` for other entries, None if the path does not exist."""
    try:
        return os.readlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return ""


def write_atomic(path: str, content: str | bytes, mode: int = 0o644, *, sync: bool = False) -> None:
    """Replace a file atomically: readers get the old or the new content, and a failure leaves no temporary file.

    :param sync: whether the function returns only after content and directory are on the disk.
    :raises OSError: if the directory is not writable.
    """
    directory = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_directory(directory)


def sync_directory(path: str) -> None:
    """Write the entries of a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove a file, a symbolic link or a directory with its content, if it exists; links are not followed."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def sha256(file: t.IO[bytes]) -> str:
    """Return the digest of the complete content of an open file as ``sha256:<64 hex>``."""
    digest = hashlib.sha256()
    file.seek(0)
    for chunk in iter(lambda: file.read(CHUNK), b""):
        digest.update(chunk)
    return "sha256:" + digest.hexdigest()
