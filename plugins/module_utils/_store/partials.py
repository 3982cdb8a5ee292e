# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unfinished downloads in a store.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
import typing as t

from .._core.owner import read_regular
from .files import remove
from .layout import PARTIAL_FILE, checked_size
from .store import Store, as_owner


@as_owner
def partials_of(store: Store) -> list[dict[str, t.Any]]:
    """Return the interrupted downloads: path, digest, completed bytes, bytes on disk, age in seconds."""
    found: dict[str, dict[str, t.Any]] = {}
    now = time.time()
    for item, info in store.blob_files():
        match = PARTIAL_FILE.match(item)
        if not match or not stat.S_ISREG(info.st_mode):
            continue
        digest = match.group(1).replace("-", ":", 1)
        part = found.setdefault(
            digest, {"digest": digest, "files": [], "completed": 0, "disk_bytes": 0, "age_seconds": 0.0}
        )
        part["files"].append(item)
        part["disk_bytes"] += info.st_blocks * 512
        part["age_seconds"] = max(part["age_seconds"], round(now - info.st_mtime, 1))
        if match.group(3):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                body = read_regular(os.path.join(store.root, "blobs", item), 1 << 16)
                part["completed"] += checked_size(json.loads(body)["Completed"])
    return list(found.values())


@as_owner
def remove_broken_partials(store: Store, digests: t.Iterable[str]) -> list[str]:
    """Remove the unfinished downloads with unreadable progress, and return their digests.

    A power failure can leave such files, and no pull of the blob succeeds until they are removed.
    """
    folder = os.path.join(store.root, "blobs")
    wanted = {digest.replace(":", "-"): digest for digest in digests}
    files: dict[str, list[str]] = {}
    broken = []
    for item, info in store.blob_files():
        match = PARTIAL_FILE.match(item)
        if not match or match.group(1) not in wanted or not stat.S_ISREG(info.st_mode):
            continue
        files.setdefault(match.group(1), []).append(os.path.join(folder, item))
        if match.group(3) and not _has_progress(files[match.group(1)][-1]):
            broken.append(match.group(1))
    for path in (path for name in set(broken) for path in files[name]):
        remove(path)
    return sorted({wanted[name] for name in broken})


def _has_progress(path: str) -> bool:
    """Return whether a server can read the recorded progress of a part; true if the file was just removed."""
    try:
        return isinstance(json.loads(read_regular(path, 1 << 16)), dict)
    except (ValueError, RecursionError):
        return False
    except OSError as exc:
        return exc.errno != errno.EFBIG
