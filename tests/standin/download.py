# SPDX-License-Identifier: GPL-3.0-or-later
"""The download of a blob as Ollama does it: in parts, resumed, retried, shared by several pulls."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import http.client
import json
import os
import threading
import time
import typing as t
import urllib.parse

from . import gojson, store, web

if t.TYPE_CHECKING:
    from .pull import Puller

_PARTS, _MIN_PART, _MAX_PART = 16, 100_000_000, 1_000_000_000
_TRIES = 6
_STALL, _DIRECT_TIMEOUT = 30.0, 30.0
_CHUNK = 1 << 16


class PullError(Exception):
    """The text is that of the real server."""


class _Stalled(Exception):
    pass


def human_size(count: int) -> str:
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if count >= unit:
            value = count / unit
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"
    return f"{count} B"


@dataclasses.dataclass
class Part:
    number: int
    offset: int
    size: int
    completed: int = 0
    updated: float = 0.0

    def save(self, path: str) -> None:
        data = {"N": self.number, "Offset": self.offset, "Size": self.size, "Completed": self.completed}
        with store.create(f"{path}-partial-{self.number}") as stream:
            stream.write(gojson.dumps(data).encode())


class Download:
    """The download of one blob; all pulls that need it share it, and the last one to leave cancels it."""

    def __init__(self, puller: Puller, digest: str, url: str, insecure: bool) -> None:
        self._puller = puller
        self._path = puller.store.blob_path(digest)
        self._url = url
        self._insecure = insecure
        self.digest = digest
        self.total = 0
        self.completed = 0
        self.waiting = 0
        self.done = threading.Event()
        self.error: Exception | None = None
        self._canceled = threading.Event()
        self._lock = threading.Lock()
        self._parts: list[Part] = []
        self._open: set[web.Reply] = set()

    def prepare(self) -> None:
        for path in glob.glob(glob.escape(self._path) + "-partial-*"):
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            try:
                saved = json.loads(text)
            except ValueError:
                raise PullError("unexpected EOF" if text else "EOF") from None
            self._parts.append(Part(saved["N"], saved["Offset"], saved["Size"], saved["Completed"]))
        self.total = sum(part.size for part in self._parts)
        self.completed = sum(part.completed for part in self._parts)
        if not self._parts:
            with self._puller.fetch("HEAD", self._url, self._insecure) as reply:
                self.total = int(reply.headers.get("Content-Length") or 0)
            size = min(max(self.total // _PARTS, _MIN_PART), _MAX_PART)
            for offset in range(0, self.total, size):
                part = Part(len(self._parts), offset, min(size, self.total - offset))
                part.save(self._path)
                self._parts.append(part)
        if self._parts:
            what = f"{len(self._parts)} {human_size(self._parts[0].size)} part(s)"
            self._puller.log("INFO", f'source=download.go:181 msg="downloading {self.digest[7:19]} in {what}"')

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def cancel(self) -> None:
        self._canceled.set()
        with self._lock:
            for reply in self._open:
                reply.abort()

    def _run(self) -> None:
        try:
            self._transfer()
        except Exception as error:  # handed to every pull that waits
            self.error = error
        finally:
            self._puller.forget(self)
            self.done.set()

    def _transfer(self) -> None:
        partial = self._path + "-partial"
        with open(partial, "r+b") if os.path.exists(partial) else store.create(partial) as stream:
            stream.truncate(self.total)
            url = self._direct_url()
            todo = [part for part in self._parts if part.completed < part.size]
            errors: list[Exception] = []

            def work() -> None:
                while todo and not errors:
                    with self._lock:
                        part = todo.pop() if todo else None
                    if part is None:
                        return
                    try:
                        self._fetch_part(part, url, stream.fileno())
                    except Exception as error:
                        errors.append(error)
                        self.cancel()

            threads = [threading.Thread(target=work, daemon=True) for _index in todo[:_PARTS]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if errors:
            # If one part fails, the others are cancelled, and the pull ends with the error of the latter.
            raise next((error for error in errors if isinstance(error, web.Canceled)), errors[0])
        for part in self._parts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{partial}-{part.number}")
        os.replace(partial, self._path)

    def _direct_url(self) -> str:
        """Return the URL of the bytes: the Location of a 307 to another host, or of a 200."""
        deadline = time.monotonic() + _DIRECT_TIMEOUT * self._puller.scale
        wait = 0.1
        while not self._canceled.is_set():
            try:
                reply = self._puller.fetch("GET", self._url, self._insecure, direct=True)
            except PullError as error:
                text = str(error).replace('"', '\\"')
                self._puller.log("WARN", f'msg="failed to get direct URL; backing off and retrying" err="{text}"')
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PullError("context deadline exceeded") from None
                self._canceled.wait(min(wait * self._puller.scale, left))
                wait = min(wait * 2, 10)
                continue
            with reply:
                if reply.status not in (200, 307):
                    raise PullError(f"unexpected status code {reply.status}")
                location = reply.headers.get("Location")
                if not location:
                    raise PullError("http: no Location header in response")
                target = urllib.parse.urljoin(reply.url, location)
            self._puller.client.check_target(self._url, target, self._insecure)
            return target
        raise web.Canceled

    def _fetch_part(self, part: Part, url: str, fd: int) -> None:
        attempt = 0
        while True:
            try:
                return self._fetch_once(part, url, fd)
            except (_Stalled, web.TimedOut):
                text = f"{self.digest[7:19]} part {part.number} stalled; retrying."
                self._puller.log("INFO", f'msg="{text}"')
            except (web.WebError, OSError, http.client.HTTPException) as error:
                if self._canceled.is_set():
                    raise web.Canceled from None
                if isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError)):
                    raise PullError(f"write {self._path}-partial: {(error.strerror or '').lower()}") from None
                text = f"{self.digest[7:19]} part {part.number} attempt {attempt} failed: {error}"
                self._puller.log("INFO", f'msg="{text}, retrying in {2**attempt}s"')
                self._canceled.wait(2**attempt * self._puller.scale)
                if self._canceled.is_set():
                    raise web.Canceled from None
                attempt += 1
                if attempt == _TRIES:
                    raise PullError(f"max retries exceeded: {error}") from None

    def _fetch_once(self, part: Part, url: str, fd: int) -> None:
        """Copy the missing bytes. Bytes before a broken connection count, bytes before a premature end do not."""
        if self._canceled.is_set():
            raise web.Canceled
        reply = self._puller.client.get_range(url, part.offset + part.completed, part.offset + part.size - 1)
        part.updated = time.monotonic()
        stalled = threading.Event()
        finished = threading.Event()
        threading.Thread(target=self._watch, args=(part, reply, stalled, finished), daemon=True).start()
        with self._lock:
            self._open.add(reply)
        got, want = 0, part.size - part.completed
        keep = False
        try:
            while got < want:
                try:
                    data = reply.read(min(_CHUNK, want - got))
                except (OSError, http.client.HTTPException):
                    data = b""
                if not data:
                    keep = self._canceled.is_set() or reply.missing > 0
                    if stalled.is_set():
                        raise _Stalled
                    if self._canceled.is_set():
                        raise web.Canceled
                    raise web.WebError("unexpected EOF" if keep else "EOF")
                os.pwrite(fd, data, part.offset + part.completed + got)
                got += len(data)
                part.updated = time.monotonic()
                with self._lock:
                    self.completed += len(data)
            keep = True
        finally:
            finished.set()
            with self._lock:
                self._open.discard(reply)
                if not keep:
                    self.completed -= got
            reply.close()
            if keep:
                part.completed += got
                part.save(self._path)

    def _watch(self, part: Part, reply: web.Reply, stalled: threading.Event, finished: threading.Event) -> None:
        limit = _STALL * self._puller.scale
        while not finished.wait(min(1.0, limit / 4)):
            if time.monotonic() - part.updated > limit:
                stalled.set()
                reply.abort()
                return
