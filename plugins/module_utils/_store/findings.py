# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of the scheduled verification of a store, and the order in which it reads blobs.

An unprivileged account writes the findings. For a program of root, they may be a reason to read a blob again, but never
evidence that a blob is intact.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from dataclasses import dataclass, field

from .._core import fs
from .._core.http import parse_json
from .._core.owner import read_regular
from .audit import audit
from .files import fingerprint
from .layout import Blob
from .state import Memory
from .store import Store

DEFAULT_PATH = "/var/lib/kaido-ollama-monitoring/verification/findings.json"
SCHEMA = 1
_LIMIT = 16 << 20
# The maximum numbers of reported damaged models, and of problems of each.
_MAX_MODELS, _MAX_PROBLEMS = 200, 10
_LATEST = float(1 << 40)


@dataclass
class Finding:
    """The result of the last verification of a blob.

    :ivar seen: the fingerprint of the file at that time; a file with a different one counts as not verified.
    :ivar verified_at: seconds since the epoch.
    :ivar problem: the damage; None for an intact blob.
    """

    seen: list[int]
    verified_at: float
    problem: str | None = None


@dataclass
class Findings:
    """The findings of a store.

    :ivar blobs: the findings by digest.
    :ivar models: the problems of damaged models by name.
    :ivar finished: the end of the last verification in seconds since the epoch; 0 if there was none.
    """

    path: str
    blobs: dict[str, Finding] = field(default_factory=dict)
    models: dict[str, list[str]] = field(default_factory=dict)
    finished: float = 0.0

    @classmethod
    def load(cls, path: str) -> Findings:
        """Return the findings in a file. A missing or damaged file, or one with another schema, counts as empty."""
        found = cls(path)
        try:
            data = parse_json(read_regular(path, _LIMIT))
            if data["schema"] != SCHEMA:
                return found
            for digest, row in data["blobs"].items():
                problem = None if row["problem"] is None else str(row["problem"])
                found.blobs[str(digest)] = Finding([int(n) for n in row["seen"]], _time(row["verified_at"]), problem)
            models = sorted(data["models"].items())[:_MAX_MODELS]
            found.models = {str(name): [str(text) for text in texts[:_MAX_PROBLEMS]] for name, texts in models}
            found.finished = _time(data["finished"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return cls(path)
        return found

    def save(self) -> None:
        """Write the file atomically.

        :raises OSError: if it cannot be written.
        """
        blobs = {digest: vars(row) for digest, row in sorted(self.blobs.items())}
        data = {"schema": SCHEMA, "finished": self.finished, "models": self.models, "blobs": blobs}
        fs.write_atomic(self.path, json.dumps(data, indent=1, sort_keys=True) + "\n")

    def state(self, store: Store, blob: Blob) -> tuple[str, float]:
        """Return verified, damaged or unverified, and the time when the blob was last read or else last changed.

        The content is not read. A blob that is missing or has a different size is always damaged.
        """
        try:
            info = os.stat(store.blob_path(blob.digest))
        except OSError:
            return "damaged", 0.0
        row = self.blobs.get(blob.digest)
        known = row if row and row.seen == fingerprint(info) else None
        when = known.verified_at if known else info.st_ctime
        if store.stat_damage(blob) or (known and known.problem):
            return "damaged", when
        return ("verified" if known else "unverified"), when

    def verify(self, store: Store, blobs: t.Iterable[Blob], share: float, now: t.Callable[[], float]) -> int:
        """Verify blobs, the least recently verified first, save the findings after each, and return the number.

        :param share: the percentage of the bytes of the store after which no further blob is read; at least one is.
        :param now: returns the time in seconds since the epoch.
        """
        wanted = {blob.digest: blob for blob in blobs}
        self.blobs = {digest: row for digest, row in self.blobs.items() if digest in wanted}
        left = sum(blob.size for blob in wanted.values()) * share / 100

        def urgency(blob: Blob) -> tuple[bool, float]:
            state, when = self.state(store, blob)
            return state == "verified", when

        count = 0
        for blob in sorted(wanted.values(), key=urgency):
            if count and left < blob.size:
                break
            memory = Memory(os.devnull)
            damage = audit(store, [blob], memory, mode="full", threads=1).damage.get(blob.digest)
            with contextlib.suppress(OSError):
                seen = memory.verified.get(blob.digest) or fingerprint(os.stat(store.blob_path(blob.digest)))
                self.blobs[blob.digest] = Finding(seen, now(), str(damage) if damage else None)
            self.save()
            count += 1
            left -= blob.size
        return count


def _time(value: t.Any) -> float:
    """Return a valid time; raise ValueError for others, such as infinity."""
    seconds = float(value)
    if not 0 <= seconds < _LATEST:
        raise ValueError("no time")
    return seconds


def doubt(memory: Memory, path: str = DEFAULT_PATH) -> None:
    """Make the next audit read the blobs again that the scheduled verification found damaged."""
    for digest, row in Findings.load(path).blobs.items():
        if row.problem:
            memory.verified.pop(digest, None)
