# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of the modules about a store between runs, and the lock that allows one run at a time.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
import typing as t
from dataclasses import dataclass, field

from .._core import fs
from .._core.owner import open_regular
from .layout import Entry
from .store import Store

# Bytes. The records of a store with a thousand models have less than 1 MB.
_MEMORY_LIMIT = 64 << 20


def _is_integer(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: t.Any) -> t.Iterable[tuple[str, t.Any]]:
    return value.items() if isinstance(value, dict) else ()


@dataclass
class Memory:
    """The records of the modules about a store between runs, in a file that only the modules may write.

    :ivar verified: the fingerprints of verified files by digest.
    :ivar verified_at: the time when each content was last hashed, in seconds since the epoch, by digest.
    :ivar origins: the pulled content by model key: the digest of the tag in the registry, and that of the chosen
        variant. A server of 0.40 may later replace the tag by its own list, whose digest no registry knows.
    :ivar pending: temporary names that a pull through a mirror has created and not yet removed.
    :ivar recipes: the builds of custom models by model key: the digests of the recipe, of the resulting manifest and of
        the manifest of the base at that time, and the files of the recipe with digest and fingerprint.
    """

    path: str
    verified: dict[str, list[int]] = field(default_factory=dict)
    verified_at: dict[str, int] = field(default_factory=dict)
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    recipes: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    _loaded: str = ""
    _intact_before: frozenset[str] = frozenset()

    @classmethod
    def of(cls, store: Store, state_dir: str | None = None) -> Memory:
        """Load the records of a store.

        A file that another account could have written counts as missing. Valid entries of a damaged file are kept.
        """
        return cls.load(memory_path(store, state_dir))

    @classmethod
    def load(cls, path: str) -> Memory:
        """Load the records from a file, as `of` does."""
        memory = cls(path)
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                info = os.fstat(file.fileno())
                if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022:
                    return memory
                text = file.read(_MEMORY_LIMIT + 1)
            data = json.loads(text) if len(text) <= _MEMORY_LIMIT else None
        except (OSError, ValueError, RecursionError):
            return memory
        if not isinstance(data, dict):
            return memory
        for key, value in _mapping(data.get("verified")):
            if isinstance(value, list) and all(_is_integer(number) for number in value):
                memory.verified[key] = value
        for key, value in _mapping(data.get("verified_at")):
            if _is_integer(value) and key in memory.verified:
                memory.verified_at[key] = value
        for key, value in _mapping(data.get("origins")):
            if isinstance(value, dict):
                memory.origins[key] = {name: text for name, text in value.items() if isinstance(text, str)}
        pending = data.get("pending")
        memory.pending = [name for name in pending if isinstance(name, str)] if isinstance(pending, list) else []
        for key, value in _mapping(data.get("recipes")):
            if isinstance(value, dict) and all(
                isinstance(row, list) and row for _path, row in _mapping(value.get("files"))
            ):
                memory.recipes[key] = {**value, "files": dict(_mapping(value.get("files")))}
        memory._loaded = memory._dump()
        memory._intact_before = frozenset(memory.verified)
        return memory

    def save_verified(self, *, seconds: float) -> None:
        """Merge only the new records about blobs into the file, which other runs may have written meanwhile.

        :param seconds: the time to wait for another run; after that the file is not changed, so that the blobs are
            hashed again later.
        """
        with exclusive(self.path, seconds=seconds) as alone:
            if alone:
                now = Memory.load(self.path)
                for digest in self._intact_before - self.verified.keys():
                    now.verified.pop(digest, None)
                now.verified.update(self.verified)
                for digest, when in self.verified_at.items():
                    now.verified_at[digest] = max(when, now.verified_at.get(digest, 0))
                now.save()

    def record_verified(self, digest: str, seen: list[int]) -> None:
        """Record that the content of a blob has just been hashed and matches its digest."""
        self.verified[digest] = seen
        self.verified_at[digest] = int(time.time())

    def known_as(self, entry: Entry) -> frozenset[str]:
        """Return the digests of a tag, including that of the registry if the tag still contains the pulled variant."""
        origin = self.origins.get(entry.name.key, {})
        return entry.digests | {origin["registry"]} if origin.get("variant") in entry.digests else entry.digests

    def save(self) -> None:
        """Write the file atomically if a record changed. A failure is not an error: blobs are then hashed again."""
        text = self._dump()
        if text == self._loaded:
            return
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            fs.write_atomic(self.path, text, 0o600)
            self._loaded = text
        except OSError:
            pass

    def _dump(self) -> str:
        return json.dumps(
            {
                "verified": self.verified,
                "verified_at": {key: when for key, when in self.verified_at.items() if key in self.verified},
                "origins": self.origins,
                "pending": self.pending,
                "recipes": self.recipes,
            },
            sort_keys=True,
        )


def memory_path(store: Store, state_dir: str | None = None) -> str:
    """Return the path of the file with the records of a store."""
    key = hashlib.sha256(os.path.realpath(store.root).encode()).hexdigest()[:16]
    return os.path.join(state_dir or default_state_dir(), f"store-{key}.json")


@contextlib.contextmanager
def exclusive(path: str, *, seconds: float) -> t.Iterator[bool]:
    """Lock a store for one run; yield false if another run still holds the lock after the seconds.

    Concurrent runs would not damage the store, but each would remove names that the other one uses.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = os.fdopen(open_regular(f"{path}.lock", os.O_RDWR | os.O_CREAT), "w")
    except OSError:
        # A process that cannot write a state file cannot create a lock either.
        yield True
        return
    with file:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= end:
                    yield False
                    return
                time.sleep(0.2)
            else:
                yield True
                return


def lock_users(path: str) -> list[int]:
    """Return the IDs of the other processes that hold a lock or wait for it.

    In some containers, root cannot read the open files of a process that has acted as another account; the kernel
    always lists the holder of the lock.
    """
    try:
        path = os.path.realpath(f"{path}.lock")
        info = os.stat(path)
    except OSError:
        return []
    processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = {
        *_holders(fs.readable_text("/proc/locks"), info),
        *(pid for pid in processes if _has_open(pid, path, info)),
    }
    return sorted(found - {os.getpid()})


def _holders(locks: str, info: os.stat_result) -> set[int]:
    """Return the processes that have a lock on a file, from the text of /proc/locks."""
    # NUMBER: [->] FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END
    place = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    rows = [line.replace(" -> ", " ").split() for line in locks.splitlines()]
    return {int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == place and row[4].isdigit()}


def _has_open(pid: int, path: str, info: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{descriptor}"
            with contextlib.suppress(OSError):
                # The name is compared first, as access to a file on an unresponsive network disk would block.
                same_name = os.path.basename(os.readlink(link)) == os.path.basename(path)
                if same_name and os.path.samestat(os.stat(link), info):
                    return True
    return False


def default_state_dir() -> str:
    """Return the directory of the state files: in /var/lib for root, otherwise in the state directory of the user."""
    if os.geteuid() == 0:
        return "/var/lib/kaido-ollama"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "kaido-ollama")
