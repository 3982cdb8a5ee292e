# SPDX-License-Identifier: GPL-3.0-or-later
"""The model store on disk: `manifests/` files up to 0.35, `manifests-v2/` links to manifest blobs from 0.40.

Blobs are trusted because they exist: nothing here ever hashes one that is already stored. From 0.40 a manifest (not its
blobs) is hashed on every read, as the real server does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import threading
import time
import typing as t

from . import gojson, names

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.ollama.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
RUNNERS = ("llamacpp", "ggml", "mlx")  # in the order a Linux host prefers them
GRACE_SECONDS = 3600

_BLOB_NAME = re.compile(r"sha256-[0-9a-f]{64}")
_DIGEST_REFERENCE = re.compile(r"(?:(?:sha256[:-]|ggml:|llamacpp:|mlx:))?([0-9a-f]{12,64})")


class StoreError(Exception):
    """The text is that of the real server."""


@dataclasses.dataclass(frozen=True)
class Layer:
    media_type: str
    digest: str
    size: int
    source: str = ""

    @property
    def kind(self) -> str:
        return self.media_type.rpartition(".")[2]

    def to_json(self) -> dict[str, t.Any]:
        fields: dict[str, t.Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**fields, "from": self.source} if self.source else fields


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One readable manifest; for a list, the chosen child."""

    raw: bytes
    config: Layer | None
    layers: list[Layer]
    runner: str = ""
    format: str = ""
    selected: bool = True

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.all_layers)

    @property
    def all_layers(self) -> list[Layer]:
        return self.layers + ([self.config] if self.config and self.config.digest else [])

    def first(self, kind: str) -> Layer | None:
        return next((layer for layer in self.layers if layer.kind == kind), None)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tag as tags and ps list it."""

    name: names.Name
    manifest: Manifest
    modified: float


def parse_manifest(raw: bytes, runner: str = "", fmt: str = "", selected: bool = True) -> Manifest:
    data = gojson.loads(raw)
    if not isinstance(data, dict):
        raise gojson.GoJSONError("json: cannot unmarshal value into Go value of type manifest.Manifest")

    def layer(item: dict[str, t.Any]) -> Layer:
        fields = (item.get("mediaType", ""), item.get("digest", ""), item.get("size", 0), item.get("from", ""))
        return Layer(*fields)

    config = layer(data["config"]) if data.get("config") else None
    layers = [layer(item) for item in data.get("layers") or []]
    return Manifest(raw, config, layers, data.get("runner", "") or runner, data.get("format", "") or fmt, selected)


def create(path: str) -> t.BinaryIO:
    """A file of mode 0644, less the umask."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), "w+b")


def write_atomic(path: str, data: bytes) -> None:
    temporary = os.path.join(os.path.dirname(path), f"sha256-{secrets.randbits(32)}")
    with create(temporary) as stream:
        stream.write(data)
    os.replace(temporary, path)


class Store:
    def __init__(self, root: str, generation: int, row_per_child: bool = False) -> None:
        self.root = root
        self.generation = generation
        self.row_per_child = row_per_child
        self.lock = threading.RLock()
        self.blobs = os.path.join(root, "blobs")
        os.makedirs(self.blobs, 0o755, exist_ok=True)

    # -- blobs ---------------------------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> str:
        return os.path.join(self.blobs, digest.replace(":", "-"))

    def has_blob(self, digest: str) -> bool:
        return os.path.exists(self.blob_path(digest))

    def read_blob(self, digest: str) -> bytes:
        with open(self.blob_path(digest), "rb") as stream:
            return stream.read()

    def add_blob(self, data: bytes) -> tuple[str, bool]:
        """Return the digest and whether the blob is new. An existing file of that name stays unchanged."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if self.has_blob(digest):
            return digest, False
        write_atomic(self.blob_path(digest), data)
        return digest, True

    # -- where manifests are -------------------------------------------------------------------------------------

    @property
    def _trees(self) -> list[str]:
        return ["manifests-v2", "manifests"] if self.generation == 2 else ["manifests"]

    def _paths(self, name: names.Name) -> list[str]:
        """Return the paths of the manifest of a name, the one to write to first."""
        if self.generation == 1:
            return [os.path.join(self.root, "manifests", *name.parts)]
        public = name.host in names.PUBLIC_HOSTS
        v2_host = "ollama.com" if public else name.host.replace(":", "%3A")
        legacy_hosts = names.PUBLIC_HOSTS if public else (name.host,)
        rest = name.parts[1:]
        return [os.path.join(self.root, "manifests-v2", v2_host, *rest)] + [
            os.path.join(self.root, "manifests", host, *rest) for host in legacy_hosts
        ]

    def find(self, name: names.Name) -> str | None:
        return next((path for path in self._paths(name) if os.path.lexists(path)), None)

    def tags(self) -> list[names.Name]:
        found: dict[names.Name, None] = {}
        for tree in self._trees:
            base = os.path.join(self.root, tree)
            for directory, _dirs, files in os.walk(base):
                parts = os.path.relpath(directory, base).split(os.sep)
                if len(parts) != 3:
                    continue
                host = parts[0].replace("%3A", ":") if tree == "manifests-v2" else parts[0]
                if host in names.PUBLIC_HOSTS:
                    host = names.DEFAULT_HOST
                for tag in files:
                    name = names.Name(host, parts[1], parts[2], tag)
                    if name.valid:
                        found[name] = None
        return sorted(found, key=lambda name: name.parts)

    def canonical(self, name: names.Name) -> names.Name:
        return names.fold_to_existing(name, self.tags())

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, path: str) -> bytes:
        with open(path, "rb") as stream:
            raw = stream.read()
        target = os.path.basename(os.path.realpath(path))
        genuine = _BLOB_NAME.fullmatch(target) and hashlib.sha256(raw).hexdigest() == target[7:]
        if os.path.islink(path) and not genuine:
            raise StoreError("digest mismatch")
        return raw

    def children(self, raw: bytes) -> list[Manifest]:
        """Return the local manifests of a tag; the one to use is marked as selected."""
        data = gojson.loads(raw)
        if not isinstance(data, dict) or data.get("mediaType") != MANIFEST_LIST:
            return [parse_manifest(raw)]
        local = []
        for child in data.get("manifests") or []:
            with contextlib.suppress(OSError):
                body = self.read_blob(child["digest"])
                if hashlib.sha256(body).hexdigest() != child["digest"].split(":")[1]:
                    raise StoreError("digest mismatch")
                local.append(parse_manifest(body, child.get("runner", ""), child.get("format", ""), selected=False))
        if not local:
            raise FileNotFoundError("no local manifest")
        best = min(local, key=lambda m: RUNNERS.index(m.runner) if m.runner in RUNNERS else len(RUNNERS))
        return [dataclasses.replace(child, selected=child is best) for child in local]

    def manifest(self, name: names.Name, runner: str = "") -> Manifest:
        """Return the manifest to use; raise FileNotFoundError, StoreError or GoJSONError."""
        children = self.all_manifests(name)
        if runner:
            if runner not in RUNNERS:
                raise StoreError(f'unknown runner "{runner}"')
            children = [child for child in children if (child.runner or "ggml") == runner]
            if not children:
                raise StoreError(f"no compatible manifest found for runners: {runner}")
            return children[0]
        return next(child for child in children if child.selected)

    def all_manifests(self, name: names.Name) -> list[Manifest]:
        path = self.find(name)
        if path is None:
            raise FileNotFoundError(name.display)
        return self.children(self._read(path))

    def modified(self, name: names.Name) -> float:
        """The manifest's mtime; a link is followed, so tags of one manifest share it."""
        path = self.find(name)
        return os.stat(path).st_mtime if path else 0.0

    def by_digest(self, text: str) -> names.Name | None:
        """From 0.40 a digest (or 12 digits of one) names a model: the tag that holds it."""
        match = _DIGEST_REFERENCE.fullmatch(text)
        if self.generation == 1 or not match:
            return None
        for name in self.tags():
            with contextlib.suppress(OSError, ValueError, StoreError):
                path = self.find(name)
                raw = self._read(path) if path else b""
                digests = [hashlib.sha256(raw).hexdigest()] + [child.digest for child in self.children(raw)]
                if any(digest.startswith(match[1]) for digest in digests):
                    return name
        return None

    def entries(self) -> list[Entry]:
        """Return every tag with a readable manifest, newest first (by seconds, as the server sorts)."""
        found = []
        for name in self.tags():
            with contextlib.suppress(OSError, ValueError, StoreError):
                children = self.all_manifests(name)
                rows = children if self.row_per_child else [child for child in children if child.selected]
                found += [Entry(name, child, self.modified(name)) for child in rows]
        return sorted(found, key=lambda entry: -int(entry.modified))

    # -- writing -------------------------------------------------------------------------------------------------

    def write_manifest(self, name: names.Name, raw: bytes) -> None:
        path = self._paths(name)[0]
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if self.generation == 1:
            with create(path) as stream:  # not atomic, as in the real server
                stream.write(raw)
            return
        digest = "sha256:" + hashlib.sha256(raw).hexdigest()
        if not self.has_blob(digest) or self.read_blob(digest) != raw:
            write_atomic(self.blob_path(digest), raw)
        temporary = f"{path}.{threading.get_ident()}"
        os.symlink(os.path.relpath(self.blob_path(digest), os.path.dirname(path)), temporary)
        os.replace(temporary, path)

    def write_anchor(self, name: names.Name, raw: bytes) -> None:
        """The legacy manifest that keeps an older server from pruning what a 0.40 pull brought."""
        chosen = next(child for child in self.children(raw) if child.selected)
        data = json.loads(chosen.raw)
        for digest, media_type in {hashlib.sha256(raw).hexdigest(): MANIFEST_LIST, chosen.digest: MANIFEST}.items():
            path = self.blob_path(f"sha256:{digest}")
            data["layers"].append(Layer(media_type, f"sha256:{digest}", os.path.getsize(path)).to_json())
        path = self._paths(name)[1]
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with create(path) as stream:
            stream.write(gojson.dumps(data).encode())

    def convert(self, name: names.Name, manifest: Manifest) -> None:
        """Convert a model as 0.40 does in the background: a list of the original and a variant with other bytes."""
        old = manifest.first("model")
        assert old is not None
        data = self.read_blob(old.digest) + b"\0" * 32
        digest, _new = self.add_blob(data)
        copied = json.loads(manifest.raw)
        for layer in copied["layers"]:
            if layer["digest"] == old.digest:
                layer.update(digest=digest, size=len(data))
        converted = gojson.dumps({**copied, "runner": "llamacpp", "format": "gguf"}).encode()
        rows = []
        for runner, raw in (("ggml", manifest.raw), ("llamacpp", converted)):
            child, _new = self.add_blob(raw)
            rows.append({"mediaType": MANIFEST, "digest": child, "size": len(raw), "runner": runner, "format": "gguf"})
        listed = {"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": rows}
        with self.lock:
            self.write_manifest(name, gojson.dumps(listed).encode())

    def remove(self, name: names.Name) -> None:
        """Remove the tag, then the blobs that no readable manifest needs."""
        candidates = self.referenced(self._raw(name))
        for path in self._paths(name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                self._remove_empty(os.path.dirname(path))
        self.remove_unused(candidates)

    def _raw(self, name: names.Name) -> bytes:
        path = self.find(name)
        if path is None:
            raise FileNotFoundError(name.display)
        return self._read(path)

    def referenced(self, raw: bytes) -> set[str]:
        """Return every blob that a tag needs, from 0.40 with manifests."""
        digests = set()
        if self.generation == 2:
            digests.add("sha256:" + hashlib.sha256(raw).hexdigest())
        for child in self.children(raw):
            digests |= {layer.digest for layer in child.all_layers}
            if self.generation == 2:
                digests.add("sha256:" + child.digest)
        return digests

    def in_use(self, strict: bool = False) -> set[str]:
        used: set[str] = set()
        for name in self.tags():
            try:
                used |= self.referenced(self._raw(name))
            except (OSError, ValueError, StoreError):
                if strict:
                    raise
        return used

    def remove_unused(self, digests: t.Iterable[str]) -> int:
        removed = 0
        used = self.in_use()
        for digest in set(digests) - used:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.blob_path(digest))
                removed += 1
        return removed

    def _remove_empty(self, directory: str) -> None:
        while os.path.dirname(directory) != self.root and directory.startswith(self.root):
            try:
                os.rmdir(directory)
            except OSError:
                return
            directory = os.path.dirname(directory)

    def prune(self, log: t.Callable[[str, str], None]) -> None:
        """At start, remove unknown files in blobs/ and unreferenced blobs that are older than an hour."""
        present = os.listdir(self.blobs)
        log("INFO", f'source=images.go:919 msg="total blobs: {len(present)}"')
        try:
            used = self.in_use(strict=True)
        except (OSError, ValueError, StoreError):
            log("WARN", 'msg="corrupt manifests detected, skipping prune operation.  Re-pull or delete to clear"')
            return
        removed = 0
        for filename in present:
            path = os.path.join(self.blobs, filename)
            if _BLOB_NAME.fullmatch(filename) and filename.replace("-", ":") in used:
                continue
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(path).st_mtime > GRACE_SECONDS:
                    os.unlink(path)
                    removed += 1
        log("INFO", f'source=images.go:926 msg="total unused blobs removed: {removed}"')
        for tree in self._trees:
            for directory, _dirs, _files in os.walk(os.path.join(self.root, tree), topdown=False):
                self._remove_empty(directory)
