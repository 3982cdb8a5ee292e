# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far pulls are: kept in a small file that the controller's action plugin reads, and written for people.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import json
import os
import threading
import time
import typing as t

_EVERY = 0.5


def human(size: float) -> str:
    """Return bytes as people write them, in powers of 1000 as Ollama does: ``2.0 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


class Progress:
    """Collect the progress of several pulls; thread-safe. Without a path it keeps nothing."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, t.Any]] = {}
        self._blobs: dict[str, dict[str, int]] = {}
        self._notes: list[str] = []
        self._written = 0.0

    def expect(self, pulls: t.Iterable[tuple[str, int]]) -> None:
        """Say what will be pulled: names and sizes in bytes."""
        with self._lock:
            for name, size in pulls:
                self._models[name] = {"total": size, "completed": 0, "status": "waiting"}
            self._write(force=True)

    def update(self, name: object, size: int, event: t.Mapping[str, t.Any]) -> None:
        """Take one line of a pull's stream."""
        if not self.path:
            return
        with self._lock:
            blobs = self._blobs.setdefault(str(name), {})
            if event.get("digest"):
                blobs[str(event["digest"])] = int(event.get("completed") or 0)
            done = sum(blobs.values())
            self._models[str(name)] = {
                "total": max(size, done),
                "completed": done,
                "status": str(event.get("status", "")),
            }
            self._write()

    def note(self, text: str) -> None:
        """Keep a sentence for the user."""
        with self._lock:
            self._notes.append(text)
            self._write(force=True)

    def _write(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self.path or (not force and now - self._written < _EVERY):
            return
        self._written = now
        temporary = f"{self.path}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"models": self._models, "notes": self._notes, "time": time.time()}, file)
            os.replace(temporary, self.path)
        except OSError:
            # Progress is a courtesy: it may not stop a pull.
            self.path = None
