# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama's model store on disk, both generations: tags, manifests, blobs, and whether they are what they claim to be.

Up to 0.35 a tag is a file ``manifests/<host>/<namespace>/<model>/<tag>``. From 0.40 it is a symbolic link (or copy)
``manifests-v2/<host>/<namespace>/<model>/<tag>`` to a manifest that lies among the blobs and may be a list of variants;
``manifests/`` then only holds what a downgrade needs. Ollama itself never checks a blob again once its file exists.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
import time
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name
from .._core.owner import Identity, acting_as, open_named, open_regular, owner_of, read_regular
from .._core.text import printable

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.ollama.manifest.list.v2+json"
DEFAULT_MODELS_DIR = "/usr/share/ollama/.ollama/models"

_PUBLIC_HOSTS = (DEFAULT_HOST, "ollama.com")
# The order in which a server on Linux chooses among the variants of a list.
_RUNNERS = ("llamacpp", "ggml", "mlx")
_BLOB_FILE = re.compile(r"sha256-[0-9a-f]{64}\Z")
_PARTIAL_FILE = re.compile(r"(sha256-[0-9a-f]{64})(-partial(-\d+)?|\.tmp)\Z")
# 0.40.0 leaves files like library/llamacpp/<64 hex> for converted models: they are no models of anybody's.
_SHADOW_TAG = re.compile(r"[0-9a-f]{64}\Z")
_TREES = ("manifests-v2", "manifests")
_STAGE = ".kaido-import-"
_READ = 1 << 20
_MANIFEST_LIMIT = 4 << 20
# A store is written by an account that may be hostile: looking into it ends, whatever it holds.
_MAX_ENTRIES = 100_000
_MAX_MANIFESTS = 256 << 20
_MAX_SIZE = 1 << 62
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Blob:
    """A content-addressed file: what a manifest says of it."""

    digest: str
    size: int
    media_type: str = ""

    @property
    def file_name(self) -> str:
        """The file's name in ``blobs/``."""
        return self.digest.replace(":", "-")


@dataclass(frozen=True)
class Manifest:
    """What one variant of a model is made of."""

    digest: str
    blobs: tuple[Blob, ...]

    @property
    def size(self) -> int:
        """Bytes of the config and all layers, as ``/api/tags`` counts them."""
        return sum(blob.size for blob in self.blobs if blob.media_type not in (MANIFEST, MANIFEST_LIST))


@dataclass(frozen=True)
class Variant:
    """A child of a manifest list."""

    digest: str
    runner: str
    size: int = 0


def parse_manifest(body: bytes) -> Manifest | tuple[Variant, ...]:
    """Read a manifest, or the children of a manifest list in the order of the server's preference.

    :raises OllamaError: ``bad_manifest``, saying what is wrong.
    """
    try:
        data = json.loads(body)
        if data.get("mediaType") == MANIFEST_LIST or "manifests" in data:
            variants = [
                Variant(_digest(c["digest"]), printable(str(c.get("runner", "")))[:80], _size(c.get("size", 0)))
                for c in data["manifests"]
            ]
            if not variants:
                raise ValueError("the list of variants is empty")
            rank = {runner: index for index, runner in enumerate(_RUNNERS)}
            return tuple(sorted(variants, key=lambda v: rank.get(v.runner, len(_RUNNERS))))
        parts = [data["config"]] if data.get("config") else []
        blobs = tuple(
            Blob(_digest(p["digest"]), _size(p["size"]), printable(str(p.get("mediaType", "")))[:120])
            for p in parts + list(data["layers"])
        )
        if not blobs:
            raise ValueError("it names no layer")
        return Manifest(_sha256(body), blobs)
    except RecursionError:
        raise OllamaError("bad_manifest", "unreadable manifest: it is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        what = "it is empty" if not body else f"missing {exc}" if isinstance(exc, KeyError) else printable(str(exc))
        raise OllamaError("bad_manifest", f"unreadable manifest: {what}") from None


def _digest(text: t.Any) -> str:
    digest = str(text)
    # The digest becomes a path: only its exact form may pass.
    if not _BLOB_FILE.match(digest.replace("sha256:", "sha256-", 1)):
        raise ValueError(f"{digest[:80]!r} is not a digest")
    return digest.replace("sha256-", "sha256:", 1)


def _size(value: t.Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SIZE:
        raise ValueError(f"invalid size {str(value)[:80]!r}")
    return value


def _sha256(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


@dataclass
class Entry:
    """A tag of the store.

    :ivar digest: of the manifest that the server runs: the tag's own, or the chosen variant's; as ``/api/tags`` has it.
    :ivar digests: everything that the tag can rightly be called: its own manifest and its variants that are here.
    :ivar blobs: what must be on the disk for this tag, manifests that are blobs included.
    :ivar problem: why the tag cannot be read, or None.
    """

    name: Name
    path: str
    digest: str = ""
    size: int = 0
    digests: frozenset[str] = frozenset()
    blobs: tuple[Blob, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Damage:
    """A blob that is not what its name says."""

    blob: Blob
    kind: str
    found: int | None = None

    def __str__(self) -> str:
        label = f"{self.blob.media_type.rsplit('.', 1)[-1] or 'blob'} {self.blob.digest[:19]}"
        if self.kind in ("short", "long"):
            return f"{label} is too {self.kind}: {self.found} of {self.blob.size} bytes"
        return {
            "missing": f"{label} is missing",
            "content": f"{label} has wrong content",
            "unreadable": f"{label} cannot be read",
        }[self.kind]

    def to_dict(self) -> dict[str, t.Any]:
        """Return the damage as part of a module's result."""
        return {
            "digest": self.blob.digest,
            "kind": self.kind,
            "media_type": self.blob.media_type,
            "size": self.blob.size,
            "found_size": self.found,
            "message": str(self),
        }


_M = t.TypeVar("_M", bound=t.Callable[..., t.Any])


def _as_owner(method: _M) -> _M:
    """Let a method of a store act as its owner, so that callers cannot forget it."""

    @functools.wraps(method)
    def wrapped(self: Store, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.acting():
            return method(self, *args, **kwargs)

    return t.cast("_M", wrapped)


class Store:
    """A model store, read from the disk alone.

    :param root: the folder that ``OLLAMA_MODELS`` names.
    :param generation: 1 reads only what servers before 0.40 read, 2 also (and first) the newer tree.
    """

    def __init__(self, root: str, generation: int = 2) -> None:
        self.root = root
        self._trees = _TREES if generation > 1 else _TREES[1:]
        self._identity: Identity | None = None

    @property
    def identity(self) -> Identity:
        """The account that the store is accessed as: its owner where this process is root, else the process's own.

        :raises OllamaError: ``store_unsafe`` where several accounts can change a store that belongs to root.
        """
        if self._identity is None:
            if os.geteuid() == 0:
                self._identity = owner_of(os.path.abspath(self.root), ("blobs", *_TREES))
            else:
                self._identity = Identity(os.geteuid(), os.getegid())
        return self._identity

    def acting(self) -> t.ContextManager[None]:
        """Return a context in which the calling thread acts as the owner of the store; nothing else may happen in it.

        The state directory, bundles and progress files belong to root and are accessed outside.
        """
        return acting_as(self.identity)

    @property
    def readable(self) -> bool:
        """Whether the owner of the store, or this process where it is not root, can list and enter it."""
        try:
            with self.acting():
                handle = os.open(self.root, _DIRECTORY)
                try:
                    os.stat("..", dir_fd=handle)
                finally:
                    os.close(handle)
        except OSError:
            return False
        return True

    def blob_path(self, digest: str) -> str:
        """Return the path of the blob of a digest; only the methods of this class open it."""
        return os.path.join(self.root, "blobs", _digest(digest).replace(":", "-"))

    @_as_owner
    def has_tree(self, name: str) -> bool:
        """Return whether the store has a directory ``manifests`` or ``manifests-v2``."""
        return os.path.isdir(os.path.join(self.root, name))

    @_as_owner
    def blob_info(self, digest: str) -> os.stat_result | None:
        """Return what the file system has under the name of a blob, links not followed, or None."""
        try:
            return os.lstat(self.blob_path(digest))
        except OSError:
            return None

    @_as_owner
    def open_blob(self, digest: str) -> t.IO[bytes]:
        """Open the regular file of a blob for reading; raises OSError."""
        return os.fdopen(open_regular(self.blob_path(digest)), "rb")

    @_as_owner
    def read_blob(self, digest: str, limit: int = _MANIFEST_LIMIT) -> bytes:
        """Return the content of a small blob, at most limit bytes; raises OSError."""
        return read_regular(self.blob_path(digest), limit)

    @_as_owner
    def read_tag(self, entry: Entry) -> bytes:
        """Return the manifest of a tag as it is on the disk now; raises ``bad_manifest``."""
        return self._read_tag(entry.path)[1]

    def hash_blob(self, digest: str) -> tuple[str, list[int]]:
        """Return the sha256 and the fingerprint of the file of a blob; an empty sha256 where it cannot be read."""
        try:
            with self.open_blob(digest) as file:
                seen = fingerprint(os.fstat(file.fileno()))
                return _hash(file), seen
        except OSError:
            return "", []

    @_as_owner
    def remove_blob(self, digest: str) -> None:
        """Remove what has the name of a blob; links are not followed.

        :raises OllamaError: ``store_unwritable``.
        """
        _unlink(self.blob_path(digest))

    @_as_owner
    def remove_tag(self, entry: Entry) -> None:
        """Remove the file or link of a tag; errors as in `remove_blob`."""
        _unlink(entry.path)

    @_as_owner
    def entries(self) -> list[Entry]:
        """Return every tag once, as a server of 0.40 or newer would look it up; sorted by name.

        :raises OllamaError: ``store_unsafe`` for links in place of directories and for a store of excessive size;
            ``store_unreadable``.
        """
        found: dict[str, Entry] = {}
        budget = _Budget()
        for tree in self._trees:
            for host, namespace, model, tag, path in self._walk(tree, budget):
                if host in _PUBLIC_HOSTS:
                    host = DEFAULT_HOST
                if namespace == "library" and model in _RUNNERS and _SHADOW_TAG.match(tag):
                    continue
                name = Name(*map(printable, (host, namespace, model, tag)))
                if name.key in found:
                    continue
                if name.is_valid:
                    found[name.key] = self._entry(name, path, budget)
                else:
                    problem = f"its name is invalid, which stops Ollama's own cleaning; remove {printable(path)}"
                    found[name.key] = Entry(name, path, problem=problem)
        return [found[key] for key in sorted(found)]

    @_as_owner
    def find(self, name: Name) -> Entry | None:
        """Return the tag of a name, ignoring case as Ollama does, or None; errors as in `entries`."""
        for tree in self._trees:
            for host in _PUBLIC_HOSTS if name.host == DEFAULT_HOST else (name.host,):
                folded = host.replace(":", "%3A") if tree == "manifests-v2" else host
                path = self._resolve(tree, (folded, name.namespace, name.model, name.tag))
                if path:
                    return self._entry(name, path, _Budget())
        return None

    def _resolve(self, tree: str, parts: t.Sequence[str]) -> str | None:
        """Return the path of a tag's file, each part matched exactly or else case-insensitively."""
        path = self._top(tree)
        budget = _Budget()
        for index, part in enumerate(parts):
            exact = os.path.join(path, part)
            if not os.path.lexists(exact):
                same = [item for item in _listdir(path, budget, follow=not index) if item.lower() == part.lower()]
                if not same:
                    return None
                exact = os.path.join(path, same[0])
            if index < len(parts) - 1 and os.path.islink(exact):
                raise _in_the_way(exact)
            path = exact
        return path

    def _top(self, tree: str) -> str:
        """Return the path of a tree of manifests, which may be a link to a directory of the store's owner."""
        path = os.path.join(self.root, tree)
        if os.path.islink(path):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_uid not in (self.identity.uid, os.stat(self.root).st_uid):
                    raise OllamaError(
                        "store_unsafe",
                        f"{path} is a symbolic link to {printable(os.readlink(path))}, which belongs to another account"
                        " than the model store; remove the link, or change the owner of that directory",
                        path=path,
                    )
        return path

    def _walk(self, tree: str, budget: _Budget) -> t.Iterator[tuple[str, str, str, str, str]]:
        top = self._top(tree)
        for host in _listdir(top, budget, follow=True):
            for namespace in _listdir(os.path.join(top, host), budget):
                for model in _listdir(os.path.join(top, host, namespace), budget):
                    for tag in _listdir(os.path.join(top, host, namespace, model), budget):
                        path = os.path.join(top, host, namespace, model, tag)
                        if not tag.startswith(".") and (os.path.islink(path) or not os.path.isdir(path)):
                            yield host.replace("%3A", ":"), namespace, model, tag, path

    def _read_tag(self, path: str) -> tuple[str, bytes]:
        """Return the digest that a link names, if the tag is one, and the manifest; raises ``bad_manifest``."""
        linked = self._linked(path)
        return linked, self._read(self.blob_path(linked) if linked else path)

    def _linked(self, path: str) -> str:
        """Return the digest that a tag of the newer tree links to, empty where it is a file."""
        if not os.path.islink(path) or not os.path.relpath(path, self.root).startswith("manifests-v2" + os.sep):
            return ""
        folder, file = os.path.split(os.readlink(path))
        blobs = os.path.join(self.root, "blobs")
        if not _BLOB_FILE.match(file) or os.path.realpath(
            os.path.join(os.path.dirname(path), folder)
        ) != os.path.realpath(blobs):
            target = printable(os.path.join(folder, file))[:200]
            raise OllamaError("bad_manifest", f"unreadable manifest: it links to {target}, which is not a blob")
        return _digest(file)

    @staticmethod
    def _read(path: str, budget: _Budget | None = None) -> bytes:
        try:
            body = read_regular(path, _MANIFEST_LIMIT)
        except OSError as exc:
            why = {
                errno.ENOENT: "its blob is missing",
                errno.ELOOP: "it is a symbolic link",
                errno.EINVAL: "it is not a regular file",
                errno.ENXIO: "it is not a regular file",
                errno.EFBIG: f"it is larger than {_MANIFEST_LIMIT >> 20} MiB",
            }.get(exc.errno or 0, exc.strerror)
            raise OllamaError("bad_manifest", f"unreadable manifest: {why}") from None
        if budget:
            budget.read(len(body), path)
        return body

    def _entry(self, name: Name, path: str, budget: _Budget) -> Entry:
        entry = Entry(name, path)
        blobs: dict[str, Blob] = {}
        try:
            # A link names the digest even where the manifest is lost.
            entry.digest = self._linked(path)
            body = self._read(self.blob_path(entry.digest) if entry.digest else path, budget)
            own = _sha256(body)
            if entry.digest not in ("", own):
                raise OllamaError(
                    "bad_manifest", f"unreadable manifest: the content is not what its name {entry.digest[:19]} says"
                )
            parsed = parse_manifest(body)
            entry.digest, entry.digests = own, frozenset([own])
            if os.path.relpath(path, self.root).startswith("manifests-v2" + os.sep):
                blobs[own] = Blob(own, len(body), MANIFEST)
            manifest = self._choose(entry, parsed, blobs, budget) if isinstance(parsed, tuple) else parsed
            blobs.update((blob.digest, blob) for blob in manifest.blobs)
            entry.size = manifest.size
        except OllamaError as exc:
            if exc.code != "bad_manifest":
                raise
            entry.problem = exc.message
        except OSError as exc:
            entry.problem = f"unreadable manifest: {exc.strerror}"
        entry.blobs = tuple(blobs.values())
        return entry

    def _choose(self, entry: Entry, variants: t.Iterable[Variant], blobs: dict[str, Blob], budget: _Budget) -> Manifest:
        """Return the first variant whose manifest is here: the others are normally missing."""
        chosen: Manifest | None = None
        for variant in variants:
            path = self.blob_path(variant.digest)
            if not os.path.lexists(path):
                continue
            body = self._read(path, budget)
            entry.digests |= {variant.digest}
            if chosen is None:
                blobs[variant.digest] = Blob(variant.digest, variant.size or len(body), MANIFEST)
                entry.digest = variant.digest
                if _sha256(body) != variant.digest:
                    raise OllamaError(
                        "bad_manifest", f"unreadable manifest: variant {variant.digest[:19]} has wrong content"
                    )
                manifest = parse_manifest(body)
                if isinstance(manifest, tuple):
                    raise OllamaError("bad_manifest", "unreadable manifest: a list inside a list")
                chosen = manifest
        if chosen is None:
            raise OllamaError("bad_manifest", "unreadable manifest: none of its variants is here")
        return chosen

    @_as_owner
    def partials(self) -> list[dict[str, t.Any]]:
        """Return what interrupted downloads left: path, digest, bytes completed, bytes on disk, age in seconds."""
        found: dict[str, dict[str, t.Any]] = {}
        now = time.time()
        for item, info in self._blob_files():
            match = _PARTIAL_FILE.match(item)
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
                    body = read_regular(os.path.join(self.root, "blobs", item), 1 << 16)
                    part["completed"] += _size(json.loads(body)["Completed"])
        return list(found.values())

    def _blob_files(self) -> t.Iterator[tuple[str, os.stat_result]]:
        """Yield what is in ``blobs`` with its lstat, sorted by name."""
        folder = os.path.join(self.root, "blobs")
        for item in _listdir(folder, _Budget(), follow=True):
            with contextlib.suppress(OSError):
                yield item, os.lstat(os.path.join(folder, item))

    @_as_owner
    def orphans(self, entries: t.Iterable[Entry]) -> list[dict[str, t.Any]]:
        """Return blobs and stray files in ``blobs/`` that no readable tag needs: printable file name and size."""
        needed = {digest.replace(":", "-") for entry in entries for digest in entry.digests}
        needed.update(blob.file_name for entry in entries for blob in entry.blobs)
        needed.update(self._legacy_references())
        return [
            {"file": printable(item), "size": info.st_size}
            for item, info in self._blob_files()
            if item not in needed and not (_PARTIAL_FILE.match(item) and stat.S_ISREG(info.st_mode))
        ]

    def _legacy_references(self) -> set[str]:
        """Return the blob files that any manifest names: shadowed tags and variants not chosen keep theirs, too."""
        names: set[str] = set()
        budget = _Budget()
        paths = [row[4] for tree in _TREES for row in self._walk(tree, budget)]
        seen: set[str] = set()
        while paths:
            path = paths.pop()
            try:
                linked = self._linked(path)
                parsed = parse_manifest(self._read(self.blob_path(linked) if linked else path, budget))
            except (OSError, OllamaError) as exc:
                if isinstance(exc, OllamaError) and exc.code != "bad_manifest":
                    raise
                continue
            digests = [part.digest for part in (parsed if isinstance(parsed, tuple) else parsed.blobs)]
            names.update(digest.replace(":", "-") for digest in digests)
            lists = (
                digests
                if isinstance(parsed, tuple)
                else [blob.digest for blob in parsed.blobs if blob.media_type in (MANIFEST, MANIFEST_LIST)]
            )
            paths += [self.blob_path(digest) for digest in lists if digest not in seen]
            seen.update(lists)
        return names

    def stat_damage(self, blob: Blob) -> Damage | None:
        """Compare a blob's file with its size only: no byte is read."""
        return self.check_size(blob)[0]

    @_as_owner
    def check_size(self, blob: Blob) -> tuple[Damage | None, list[int]]:
        """Return what `stat_damage` does, and the fingerprint of the file where there is no damage."""
        try:
            info = os.lstat(self.blob_path(blob.digest))
        except FileNotFoundError:
            return Damage(blob, "missing"), []
        except OSError:
            return Damage(blob, "unreadable"), []
        if not stat.S_ISREG(info.st_mode):
            return Damage(blob, "unreadable"), []
        if info.st_size != blob.size:
            return Damage(blob, "short" if info.st_size < blob.size else "long", info.st_size), []
        if info.st_size > 1 << 30 and info.st_blocks * 512 < info.st_size >> 6:
            # Nearly all of it is a hole, so it is no model; reading terabytes of zeros would take hours.
            return Damage(blob, "content"), []
        return None, fingerprint(info)

    @_as_owner
    def free_bytes(self) -> int:
        """Return the bytes that a user process may still write to the store's file system."""
        path = os.path.abspath(self.root)
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        info = os.statvfs(path)
        return info.f_bavail * info.f_frsize


class _Budget:
    """What one look into a store may cost."""

    def __init__(self) -> None:
        self._entries = _MAX_ENTRIES
        self._bytes = _MAX_MANIFESTS

    def list(self, path: str) -> None:
        """Count an entry of a directory; raises ``store_unsafe``."""
        self._entries -= 1
        if self._entries < 0:
            raise OllamaError("store_unsafe", f"{printable(path)}: too many files; expected {_MAX_ENTRIES} or fewer")

    def read(self, count: int, path: str) -> None:
        """Count bytes of manifests; raises ``store_unsafe``."""
        self._bytes -= count
        if self._bytes < 0:
            raise OllamaError(
                "store_unsafe",
                f"{printable(path)}: manifests too large; expected {_MAX_MANIFESTS >> 20} MiB or less together",
            )


class StoreWriter:
    """Places files in a store under their final names when they are complete. Use it as a context manager.

    Everything is created by the store's owner, so a planted link leads only where that account can write itself.

    :raises OllamaError: ``store_unwritable`` where the store cannot be written to.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._stages: dict[int, int] = {}
        self._tops: dict[str, int] = {}
        self._name = _STAGE + secrets.token_hex(8)
        try:
            with store.acting():
                self._root = os.open(store.root, _DIRECTORY)
        except OSError as exc:
            raise OllamaError(
                "store_unwritable", f"models_dir: cannot open {store.root}: {exc.strerror}", path=store.root
            ) from None
        info = os.fstat(self._root)
        self._mode = stat.S_IMODE(info.st_mode)
        self._device = info.st_dev

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is incomplete."""
        with self.store.acting():
            for base, stage in self._stages.items():
                os.close(stage)
                _remove_stage(base, self._name)
        for handle in {*self._tops.values(), self._root}:
            os.close(handle)
        self._stages, self._tops, self._root = {}, {}, -1

    def put(
        self, member: str, source: t.IO[bytes], digest: str, tell: t.Callable[[int], None] = lambda count: None
    ) -> list[int]:
        """Write one file and return its fingerprint.

        :param member: the path below the store, with ``/``.
        :param source: read with the rights of the caller, not of the store's owner; so is `tell` called.
        :param digest: the sha256 that the content must have, 64 hexadecimal digits.
        :param tell: is told how many bytes have been written so far.
        :raises OllamaError: ``bundle_tampered`` for other content, ``store_unsafe`` for a link in the way.
        :raises OSError: where the store cannot be written to.
        """
        with self._parent(member) as (folder, stage):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            new = secrets.token_hex(8)
            with self.store.acting():
                handle = os.open(new, flags, 0o600, dir_fd=stage)
            try:
                if self._pour(source, handle, tell) != digest:
                    raise OllamaError("bundle_tampered", f"{member} has changed since the bundle was checked")
                with self.store.acting():
                    os.fchmod(handle, self._mode & 0o666)
                    os.fsync(handle)
                    os.rename(new, os.path.basename(member), src_dir_fd=stage, dst_dir_fd=folder)
                return fingerprint(os.fstat(handle))
            except BaseException:
                with self.store.acting(), contextlib.suppress(OSError):
                    os.unlink(new, dir_fd=stage)
                raise
            finally:
                os.close(handle)

    def link(self, member: str, target: str) -> None:
        """Create a symbolic link; errors as in `put`."""
        with self._parent(member) as (folder, stage), self.store.acting():
            new = secrets.token_hex(8)
            os.symlink(target, new, dir_fd=stage)
            os.rename(new, os.path.basename(member), src_dir_fd=stage, dst_dir_fd=folder)

    def _pour(self, source: t.IO[bytes], handle: int, tell: t.Callable[[int], None]) -> str:
        hasher = hashlib.sha256()
        count = 0
        while True:
            data = source.read(_READ)
            if not data:
                return hasher.hexdigest()
            hasher.update(data)
            view = memoryview(data)
            with self.store.acting():
                while view:
                    view = view[os.write(handle, view) :]
            count += len(data)
            tell(count)

    @contextlib.contextmanager
    def _parent(self, member: str) -> t.Iterator[tuple[int, int]]:
        """Open, or create, the directory of a member and a staging directory on its file system."""
        parts = member.split("/")[:-1]
        with self.store.acting():
            top = self._top(parts[0])
            stage = self._stage(top)
            folder = os.dup(top)
            try:
                for index, part in enumerate(parts[1:], 2):
                    below = self._enter(folder, part, os.path.join(self.store.root, *parts[:index]))
                    os.close(folder)
                    folder = below
            except BaseException:
                os.close(folder)
                raise
        try:
            yield folder, stage
        finally:
            os.close(folder)

    def _top(self, name: str) -> int:
        """Open one of the store's own directories, which an administrator may have linked to another disk."""
        if name not in self._tops:
            self._make(self._root, name)
            self._tops[name] = os.open(name, _DIRECTORY, dir_fd=self._root)
        return self._tops[name]

    def _enter(self, folder: int, name: str, path: str) -> int:
        self._make(folder, name)
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise _in_the_way(path) from None
            raise

    def _make(self, folder: int, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
            handle = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.fchmod(handle, self._mode)
            finally:
                os.close(handle)

    def _stage(self, top: int) -> int:
        """Open the staging directory: below the root, because a starting server deletes unknown files in ``blobs``.

        Only where a directory is on another file system it is below that directory, as a rename cannot cross.
        """
        base = self._root if os.fstat(top).st_dev == self._device else top
        if base not in self._stages:
            for name in os.listdir(base):
                # Left by a run that was interrupted: the lock of the store permits one at a time.
                if name.startswith(_STAGE):
                    _remove_stage(base, name)
            os.mkdir(self._name, 0o700, dir_fd=base)
            self._stages[base] = os.open(self._name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        return self._stages[base]


def _remove_stage(base: int, name: str) -> None:
    """Remove a staging directory, which holds files only; anything else stays."""
    with contextlib.suppress(OSError):
        handle = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        try:
            for item in os.listdir(handle):
                os.unlink(item, dir_fd=handle)
        finally:
            os.close(handle)
        os.rmdir(name, dir_fd=base)


def _in_the_way(path: str) -> OllamaError:
    what = "a symbolic link" if os.path.islink(path) else "not a directory"
    return OllamaError(
        "store_unsafe",
        f"{printable(path)} is {what}; expected a directory of the model store: remove it, or move its content here",
        path=printable(path),
    )


def _listdir(path: str, budget: _Budget, *, follow: bool = False) -> list[str]:
    """Return the sorted names in a directory; none for what is missing or a file.

    :param follow: accept a symbolic link to a directory; otherwise it raises ``store_unsafe``.
    """
    try:
        handle = os.open(path, _DIRECTORY if follow else _DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    except OSError as exc:
        if exc.errno in (errno.ENOTDIR, errno.ELOOP):
            if os.path.islink(path):
                raise _in_the_way(path) from None
            return []
        raise OllamaError(
            "store_unreadable",
            f"cannot read {printable(path)}: {exc.strerror}; expected a directory that the owner of the store can read",
            path=printable(path),
        ) from exc
    names = []
    try:
        with os.scandir(handle) as items:
            for item in items:
                budget.list(path)
                names.append(item.name)
    finally:
        os.close(handle)
    return sorted(names)


def _unlink(path: str) -> None:
    try:
        try:
            os.unlink(path)
        except IsADirectoryError:
            os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        what = "a directory that is not empty" if exc.errno == errno.ENOTEMPTY else exc.strerror
        raise OllamaError(
            "store_unwritable", f"cannot remove {printable(path)}: {what}", path=printable(path)
        ) from None


# Bytes; the memory of a store with a thousand models takes less than one million.
_MEMORY_LIMIT = 64 << 20


def _mapping(value: t.Any) -> t.Iterable[tuple[str, t.Any]]:
    return value.items() if isinstance(value, dict) else ()


@dataclass
class Memory:
    """What the modules remember about a store between runs, in a file that only they may write.

    :ivar verified: digest -> fingerprint of the file whose content was found right.
    :ivar verified_at: digest -> when its content was hashed last, in seconds since the epoch.
    :ivar origins: model key -> what was pulled: the registry's digest of the tag and the variant chosen then. A server
        of 0.40 may later replace the tag by a list of its own making, whose digest no registry knows.
    :ivar pending: aliases that a pull through a mirror made and has not dropped yet.
    :ivar recipes: model key -> how a model of one's own was built: the digests of the recipe, of the manifest that came
        of it, and of the base's manifest then; the recipe's files with digest and fingerprint.
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
        """Load the memory of a store.

        A file that somebody else could have written counts as absent; of a damaged one, what can be read is kept.
        """
        return cls.load(memory_path(store, state_dir))

    @classmethod
    def load(cls, path: str) -> Memory:
        """Load a memory from its file; otherwise as `of`."""
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
            if isinstance(value, list) and all(type(number) is int for number in value):
                memory.verified[key] = value
        for key, value in _mapping(data.get("verified_at")):
            if type(value) is int and key in memory.verified:
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
        """Write what was learned of blobs, and nothing else, into what other runs have written since `of`.

        :param seconds: how long to wait for another run; after that the file stays as it is, which costs a re-hash.
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
        """Record that the content of a blob was hashed now and matches its digest."""
        self.verified[digest] = seen
        self.verified_at[digest] = int(time.time())

    def known_as(self, entry: Entry) -> frozenset[str]:
        """Return the digests of a tag, with the registry's of what was pulled as long as that variant is part of it."""
        origin = self.origins.get(entry.name.key, {})
        return entry.digests | {origin["registry"]} if origin.get("variant") in entry.digests else entry.digests

    def save(self) -> None:
        """Write the file atomically if anything changed; losing it costs a re-hash, so a failure is not an error."""
        text = self._dump()
        if text == self._loaded:
            return
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=os.path.dirname(self.path), prefix=".store-")
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(temporary, self.path)
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
    """Return the file that holds the memory of a store."""
    key = hashlib.sha256(os.path.realpath(store.root).encode()).hexdigest()[:16]
    return os.path.join(state_dir or default_state_dir(), f"store-{key}.json")


@contextlib.contextmanager
def exclusive(path: str, *, seconds: float) -> t.Iterator[bool]:
    """Keep other runs away from what a memory stands for; yields False where one is still at it after so many seconds.

    Two runs would not damage the store, but each would take away names that the other is working with.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = os.fdopen(open_regular(f"{path}.lock", os.O_RDWR | os.O_CREAT), "w")
    except OSError:
        # Who cannot remember anything cannot lock either, and has the store's word only.
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


def default_state_dir() -> str:
    """Return where memories are kept: /var/lib for root, the user's state folder otherwise."""
    if os.geteuid() == 0:
        return "/var/lib/kaido-ollama"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "kaido-ollama")


def fingerprint(info: os.stat_result) -> list[int]:
    """Return what changes with a file's content, without reading it."""
    return [info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev, info.st_ctime_ns]


@dataclass
class Audit:
    """The outcome of `audit`: damage by digest, and what the looking cost."""

    damage: dict[str, Damage]
    hashed_blobs: int = 0
    hashed_bytes: int = 0


def audit(
    store: Store, blobs: t.Iterable[Blob], memory: Memory, *, mode: str = "changed", threads: int | None = None
) -> Audit:
    """Compare blobs with their names.

    :param mode: ``none`` looks at existence and size only; ``changed`` also hashes what was not yet seen right in its
        present state (size, mtime, inode, device, ctime); ``full`` hashes everything.
    :param threads: hashing threads; the number of processors by default. hashlib lets them run side by side.
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
            # During a pull the server removes what it finds wrong.
            gone = not digest and store.blob_info(blob.digest) is None
            result.damage[blob.digest] = Damage(blob, "missing" if gone else "content" if digest else "unreadable")
    return result


def hash_file(path: str) -> str:
    """Return ``sha256:…`` of a file that an operator names, in constant memory; ``""`` when it cannot be read."""
    try:
        with open_named(path) as file:
            return _hash(file)
    except OSError:
        return ""


def _hash(file: t.Any) -> str:
    hasher = hashlib.sha256()
    buffer = bytearray(_READ)
    view = memoryview(buffer)
    while True:
        count = file.readinto(buffer)
        if not count:
            return "sha256:" + hasher.hexdigest()
        hasher.update(view[:count])
