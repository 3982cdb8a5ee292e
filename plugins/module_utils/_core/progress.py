# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of pulls in a small file that the action plugin of the controller reads; human-readable sizes.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import typing as t

from . import fs
from . import text as text_module

DETACH = "KAIDO_OLLAMA_DETACH"
"""An environment variable that the action plugin sets: return before any step that takes long."""
PROGRESS_FILE = "KAIDO_OLLAMA_PROGRESS_FILE"
"""An environment variable that the action plugin sets: the path of the progress file."""
RESULT_PATH_SUFFIX = ".job"
"""The suffix of the file, next to the progress file, with the path of Ansible's own job file."""
WAITING = "waiting for another run on this host to end"
_EVERY = 1.0


def human(size: float) -> str:
    """Return a human-readable size in decimal units, such as ``2.0 GB``, as Ollama does."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


class Progress:
    """Collects the progress of several pulls in a file. It is thread-safe. Without a path, nothing is written.

    The file is written every second, even without progress: its ``time`` indicates that the writer is running.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, t.Any]] = {}
        self._blobs: dict[str, dict[str, int]] = {}
        self._note = ""
        self._finished = threading.Event()
        if path:
            threading.Thread(target=self._beat, daemon=True).start()

    def expect(self, pulls: t.Iterable[tuple[str, int]]) -> None:
        """Set the expected pulls: names and sizes in bytes."""
        with self._lock:
            for name, size in pulls:
                self._models[name] = {"total": size, "completed": 0, "status": "waiting"}

    def update(self, name: str, size: int, event: t.Mapping[str, t.Any]) -> None:
        """Record one event of the stream of a pull."""
        with self._lock:
            blobs = self._blobs.setdefault(name, {})
            if event.get("digest"):
                blobs[event["digest"]] = event.get("completed", 0)
            done = sum(blobs.values())
            self._models[name] = {
                "total": max(size, done),
                "completed": done,
                "status": text_module.message(event.get("status", "")),
            }

    def note(self, text: str) -> None:
        """Set the message for the user, which replaces the previous one."""
        with self._lock:
            self._note = text_module.message(text)

    def finish(self) -> None:
        """Mark the operation as finished."""
        self._finished.set()
        self._write()

    def _beat(self) -> None:
        while not self._finished.is_set():
            self._write()
            self._finished.wait(_EVERY)

    def _write(self) -> None:
        if not self.path:
            return
        with self._lock:
            text = json.dumps(
                {"models": self._models, "note": self._note, "finished": self._finished.is_set(), "time": time.time()}
            )
            # A failure to write the progress does not stop a pull.
            with contextlib.suppress(OSError):
                fs.write_atomic(self.path, text, 0o600)
