# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls a model over the registry protocol: parts, resume, retries, and trust in whatever is already on disk."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import threading
import typing as t

from . import gojson, names, settings, store, web
from .download import Download, PullError

# Seconds between two lines of progress.
_TICK = 0.06

Report = t.Callable[[dict[str, t.Any]], None]
Log = t.Callable[[str, str], None]


def _silent(_line: dict[str, t.Any]) -> None:
    """Ignore the progress of content that a pull fetches without reporting it."""


class Puller:
    def __init__(self, blobs: store.Store, client: web.Client, log: Log, conf: settings.Settings) -> None:
        self.store = blobs
        self.client = client
        self.log = log
        self.scale = conf.time_scale
        self._conf = conf
        self._downloads: dict[str, Download] = {}
        self._lock = threading.Lock()

    def fetch(self, method: str, url: str, insecure: bool, accept: str = "", direct: bool = False) -> web.Reply:
        try:
            reply = self.client.request(method, url, insecure, accept, direct)
        except web.WebError as error:
            text = str(error).replace('"', '\\"')
            self.log("INFO", f'source=images.go:1314 msg="request failed: {text}"')
            raise PullError(str(error)) from None
        if reply.status == 404:
            reply.close()
            raise PullError("file does not exist")
        if reply.status >= 400:
            with reply:
                raise PullError(f"{reply.status}: {reply.read().decode('utf-8', 'replace')}")
        return reply

    def _origin(self, name: names.Name, insecure: bool) -> str:
        if name.host == names.DEFAULT_HOST and self._conf.upstream:
            return self._conf.upstream
        return f"{'http' if insecure else 'https'}://{name.host}"

    def forget(self, download: Download) -> None:
        with self._lock:
            self._downloads.pop(download.digest, None)

    def pull(self, name: names.Name, insecure: bool, report: Report, gone: t.Callable[[], bool]) -> None:
        """Report each line; raise PullError for errors and web.Canceled when `gone` returns true."""
        replaced: set[str] = set()
        with contextlib.suppress(OSError, ValueError, store.StoreError):
            path = self.store.find(name)
            if path:
                with open(path, "rb") as stream:
                    replaced = self.store.referenced(stream.read())
        report({"status": "pulling manifest"})
        base = f"{self._origin(name, insecure)}/v2/{name.namespace}/{name.model}"
        raw = self._manifest(f"{base}/manifests/{name.tag}", insecure)
        try:
            chosen = self._choose(raw, base, insecure, gone)
        except gojson.GoJSONError as error:
            raise PullError(f"pull model manifest: {error}") from None
        fetched = self._config_first(chosen, base, insecure, gone) if self.store.generation == 2 else set()
        needed = chosen.all_layers
        fresh = []
        for layer in needed:
            if layer.digest in fetched or not self._blob(layer.digest, base, insecure, report, gone):
                fresh.append(layer)
        report({"status": "verifying sha256 digest"})
        for layer in fresh:
            self._verify(layer.digest)
        report({"status": "writing manifest"})
        with self.store.lock:
            self.store.write_manifest(name, raw)
            if self._conf.anchor and self.store.generation == 2:
                self.store.write_anchor(name, raw)
        if self.store.generation == 1:
            replaced -= {layer.digest for layer in needed}
        if replaced and not self._conf.noprune:
            report({"status": "removing unused layers"})
            self.store.remove_unused(replaced)
        report({"status": "success"})

    def _manifest(self, url: str, insecure: bool) -> bytes:
        accept = store.MANIFEST
        if self.store.generation == 2:
            accept = f"{store.MANIFEST_LIST}, {accept}"
        try:
            with self.fetch("GET", url, insecure, accept) as reply:
                return reply.read()
        except (PullError, OSError, http.client.HTTPException) as error:
            raise PullError(f"pull model manifest: {error or 'EOF'}") from None

    def _choose(self, raw: bytes, base: str, insecure: bool, gone: t.Callable[[], bool]) -> store.Manifest:
        data = gojson.loads(raw)
        if self.store.generation == 1 or data.get("mediaType") != store.MANIFEST_LIST:
            return store.parse_manifest(raw)
        children = sorted(
            (child for child in data.get("manifests") or [] if child.get("runner") in store.RUNNERS),
            key=lambda child: store.RUNNERS.index(child["runner"]),
        )
        if not children:
            raise PullError("no compatible manifest found")
        child = children[0]
        if self.store.has_blob(child["digest"]):
            self.fetch("HEAD", f"{base}/blobs/{child['digest']}", insecure).close()
        else:
            self._blob(child["digest"], base, insecure, _silent, gone)
            self._verify(child["digest"])
        return store.parse_manifest(self.store.read_blob(child["digest"]), child["runner"], child.get("format", ""))

    def _config_first(
        self, manifest: store.Manifest, base: str, insecure: bool, gone: t.Callable[[], bool]
    ) -> set[str]:
        """From 0.40, fetch the config first, since it may require a newer server. A failure is only logged."""
        if not manifest.config:
            return set()
        fetched = set()
        if not self.store.has_blob(manifest.config.digest):
            try:
                self._blob(manifest.config.digest, base, insecure, _silent, gone)
                self._verify(manifest.config.digest)
            except (PullError, OSError, http.client.HTTPException) as error:
                self.log("WARN", f'msg="could not prefetch config" error="{error}"')
                return set()
            fetched.add(manifest.config.digest)
        with contextlib.suppress(OSError, ValueError):
            requires = gojson.loads(self.store.read_blob(manifest.config.digest)).get("requires", "")
            wanted = tuple(int(part) for part in requires.lstrip("v").split("."))
            if wanted > self.client.version:
                current = ".".join(map(str, self.client.version))
                raise PullError(
                    f"model requires ollama version {requires.lstrip('v')} or newer (current version is v{current})"
                )
        return fetched

    def _blob(self, digest: str, base: str, insecure: bool, report: Report, gone: t.Callable[[], bool]) -> bool:
        """Return whether the blob exists; its content is not checked."""
        line = {"status": f"pulling {digest[7:19]}", "digest": digest}

        def progress(total: int, completed: int) -> None:
            report({**line, **({"total": total} if total else {}), **({"completed": completed} if completed else {})})

        if self.store.has_blob(digest):
            size = os.path.getsize(self.store.blob_path(digest))
            progress(size, size)
            return True
        with self._lock:
            download = self._downloads.get(digest)
            new = download is None
            if download is None:
                download = self._downloads[digest] = Download(self, digest, f"{base}/blobs/{digest}", insecure)
            download.waiting += 1
        try:
            if new:
                try:
                    download.prepare()
                except Exception:
                    self.forget(download)
                    download.error = PullError("download failed")
                    download.done.set()
                    raise
                download.start()
            while not download.done.wait(_TICK):
                if gone():
                    raise web.Canceled
                progress(download.total, download.completed)
            if isinstance(download.error, web.Canceled) and not gone():
                raise PullError("context canceled")
            if download.error:
                raise download.error
        finally:
            with self._lock:
                download.waiting -= 1
                last = not download.waiting
            if last and not download.done.is_set():
                download.cancel()
                download.done.wait(10)
        return False

    def _verify(self, digest: str) -> None:
        """Verify the blobs that this pull downloaded. Remove the first damaged one; later ones stay unnoticed."""
        path = self.store.blob_path(digest)
        sha256 = hashlib.sha256()
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                sha256.update(block)
        got = "sha256:" + sha256.hexdigest()
        if got != digest:
            os.unlink(path)
            raise PullError(f"digest mismatch, file must be downloaded again: want {digest}, got {got}")
