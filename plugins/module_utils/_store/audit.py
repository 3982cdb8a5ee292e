# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the blobs of a store with their digests.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import os
import typing as t
from dataclasses import dataclass

from .layout import Blob, Damage
from .state import Memory
from .store import Store


@dataclass
class Audit:
    """The result of `audit`: damage by digest, and the amount of data that was read."""

    damage: dict[str, Damage]
    hashed_blobs: int = 0
    hashed_bytes: int = 0


def audit(
    store: Store, blobs: t.Iterable[Blob], memory: Memory, *, mode: str = "changed", threads: int | None = None
) -> Audit:
    """Compare blobs with their digests.

    :param mode: ``none`` checks existence and size only; ``changed`` also hashes files that have not been verified in
        their current state (size, mtime, inode, device, ctime); ``full`` hashes all files.
    :param threads: the number of hashing threads; by default the number of processors.
    """
    result = Audit({})
    todo: list[Blob] = []
    with store.acting():
        for blob in {blob.digest: blob for blob in blobs}.values():
            damage, seen = store.check_size(blob)
            if damage:
                result.damage[blob.digest] = damage
                memory.verified.pop(blob.digest, None)
            elif mode == "full" or (mode != "none" and memory.verified.get(blob.digest) != seen):
                todo.append(blob)
    if not todo:
        return result
    todo.sort(key=lambda blob: -blob.size)
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        hashes = list(pool.map(lambda blob: store.hash_blob(blob.digest), todo))
    for blob, (digest, seen) in zip(todo, hashes):
        result.hashed_blobs += 1
        result.hashed_bytes += blob.size
        if digest == blob.digest:
            memory.record_verified(blob.digest, seen)
        else:
            memory.verified.pop(blob.digest, None)
            # During a pull, the server removes blobs that do not match their digests.
            gone = not digest and store.blob_info(blob.digest) is None
            result.damage[blob.digest] = Damage(blob, "missing" if gone else "content" if digest else "unreadable")
    return result
