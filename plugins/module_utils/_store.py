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

from ._errors import OllamaError
from ._name import DEFAULT_HOST, Name
from ._owner import Identity, acting_as, owner_of

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
                Variant(_digest(c["digest"]), str(c.get("runner", "")), int(c.get("size", 0)))
                for c in data["manifests"]
            ]
            if not variants:
                raise ValueError("the list of variants is empty")
            rank = {runner: index for index, runner in enumerate(_RUNNERS)}
            return tuple(sorted(variants, key=lambda v: rank.get(v.runner, len(_RUNNERS))))
        parts = [data["config"]] if data.get("config") else []
        blobs = tuple(
            Blob(_digest(p["digest"]), int(p["size"]), str(p.get("mediaType", "")))
            for p in parts + list(data["layers"])
        )
        if not blobs:
            raise ValueError("it names no layer")
        return Manifest(_sha256(body), blobs)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        what = "it is empty" if not body else f"missing {exc}" if isinstance(exc, KeyError) else str(exc)
        raise OllamaError("bad_manifest", f"unreadable manifest: {what}") from None


def _digest(text: t.Any) -> str:
    digest = str(text)
    # The digest becomes a path: only its exact form may pass.
    if not _BLOB_FILE.match(digest.replace("sha256:", "sha256-", 1)):
        raise ValueError(f"{digest!r} is not a digest")
    return digest.replace("sha256-", "sha256:", 1)


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
        """Whether this process may look into the store."""
        return os.access(self.root, os.R_OK | os.X_OK)

    def blob_path(self, digest: str) -> str:
        """Return where the blob of a digest lies."""
        return os.path.join(self.root, "blobs", _digest(digest).replace(":", "-"))

    def entries(self) -> list[Entry]:
        """Return every tag once, as a server of 0.40 or newer would look it up; sorted by name."""
        found: dict[str, Entry] = {}
        for tree in self._trees:
            for host, namespace, model, tag, path in self._walk(tree):
                if host in _PUBLIC_HOSTS:
                    host = DEFAULT_HOST
                if namespace == "library" and model in _RUNNERS and _SHADOW_TAG.match(tag):
                    continue
                name = Name(host, namespace, model, tag)
                if name.key not in found:
                    found[name.key] = self._entry(name, path)
        return [found[key] for key in sorted(found)]

    def find(self, name: Name) -> Entry | None:
        """Return the tag of a name, ignoring case as Ollama does, or None."""
        for tree in self._trees:
            for host in _PUBLIC_HOSTS if name.host == DEFAULT_HOST else (name.host,):
                folded = host.replace(":", "%3A") if tree == "manifests-v2" else host
                path = self._resolve(tree, (folded, name.namespace, name.model, name.tag))
                if path:
                    return self._entry(name, path)
        return None

    def _resolve(self, tree: str, parts: t.Iterable[str]) -> str | None:
        """Return the path of a tag's file, each part matched exactly or else case-insensitively."""
        path = os.path.join(self.root, tree)
        for part in parts:
            exact = os.path.join(path, part)
            if os.path.lexists(exact):
                path = exact
                continue
            same = [item for item in _listdir(path) if item.lower() == part.lower()]
            if not same:
                return None
            path = os.path.join(path, same[0])
        return path

    def _walk(self, tree: str) -> t.Iterator[tuple[str, str, str, str, str]]:
        top = os.path.join(self.root, tree)
        for host in _listdir(top):
            for namespace in _listdir(os.path.join(top, host)):
                for model in _listdir(os.path.join(top, host, namespace)):
                    for tag in _listdir(os.path.join(top, host, namespace, model)):
                        path = os.path.join(top, host, namespace, model, tag)
                        if not tag.startswith(".") and (os.path.islink(path) or not os.path.isdir(path)):
                            yield host.replace("%3A", ":"), namespace, model, tag, path

    def _entry(self, name: Name, path: str) -> Entry:
        entry = Entry(name, path)
        blobs: dict[str, Blob] = {}
        try:
            if os.path.islink(path):
                # A link names the digest even where the manifest is lost.
                entry.digest = _digest(os.path.basename(os.readlink(path)))
            body = _read_manifest(path)
            own = _sha256(body)
            if entry.digest not in ("", own):
                raise OllamaError(
                    "bad_manifest", f"unreadable manifest: the content is not what its name {entry.digest[:19]} says"
                )
            parsed = parse_manifest(body)
            entry.digest, entry.digests = own, frozenset([own])
            if os.path.relpath(path, self.root).startswith("manifests-v2" + os.sep):
                blobs[own] = Blob(own, len(body), MANIFEST)
            manifest = self._choose(entry, parsed, blobs) if isinstance(parsed, tuple) else parsed
            blobs.update((blob.digest, blob) for blob in manifest.blobs)
            entry.size = manifest.size
        except OllamaError as exc:
            entry.problem = exc.message
        except (OSError, ValueError) as exc:
            entry.problem = (
                f"unreadable manifest: {'its blob is missing' if isinstance(exc, FileNotFoundError) else exc}"
            )
        entry.blobs = tuple(blobs.values())
        return entry

    def _choose(self, entry: Entry, variants: t.Iterable[Variant], blobs: dict[str, Blob]) -> Manifest:
        """Return the first variant whose manifest is here: the others are normally missing."""
        chosen: Manifest | None = None
        for variant in variants:
            path = self.blob_path(variant.digest)
            if not os.path.exists(path):
                continue
            body = _read_manifest(path)
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

    def partials(self) -> list[dict[str, t.Any]]:
        """Return what interrupted downloads left: path, digest, bytes completed, bytes on disk, age in seconds."""
        found: dict[str, dict[str, t.Any]] = {}
        now = time.time()
        for item in sorted(_listdir(os.path.join(self.root, "blobs"))):
            match = _PARTIAL_FILE.match(item)
            if not match:
                continue
            path = os.path.join(self.root, "blobs", item)
            try:
                info = os.stat(path)
            except OSError:
                continue
            digest = match.group(1).replace("-", ":", 1)
            part = found.setdefault(
                digest, {"digest": digest, "files": [], "completed": 0, "disk_bytes": 0, "age_seconds": 0.0}
            )
            part["files"].append(item)
            part["disk_bytes"] += info.st_blocks * 512
            part["age_seconds"] = max(part["age_seconds"], round(now - info.st_mtime, 1))
            if match.group(3):
                try:
                    with open(path, "rb") as file:
                        part["completed"] += int(json.loads(file.read(4096)).get("Completed", 0))
                except (OSError, ValueError, AttributeError):
                    pass
        return list(found.values())

    def orphans(self, entries: t.Iterable[Entry]) -> list[dict[str, t.Any]]:
        """Return blobs and stray files in ``blobs/`` that no readable tag needs: file name and size."""
        needed = {digest.replace(":", "-") for entry in entries for digest in entry.digests}
        needed.update(blob.file_name for entry in entries for blob in entry.blobs)
        needed.update(self._legacy_references())
        result = []
        for item in sorted(_listdir(os.path.join(self.root, "blobs"))):
            if item in needed or _PARTIAL_FILE.match(item):
                continue
            try:
                size = os.stat(os.path.join(self.root, "blobs", item)).st_size
            except OSError:
                continue
            result.append({"file": item, "size": size})
        return result

    def _legacy_references(self) -> set[str]:
        """Return the blob files that any manifest names: shadowed tags and variants not chosen keep theirs, too."""
        names: set[str] = set()
        paths = [row[4] for tree in ("manifests", "manifests-v2") for row in self._walk(tree)]
        seen: set[str] = set()
        while paths:
            path = paths.pop()
            try:
                parsed = parse_manifest(_read_manifest(path))
            except (OSError, OllamaError):
                continue
            if isinstance(parsed, tuple):
                digests = [variant.digest for variant in parsed]
            else:
                digests = [blob.digest for blob in parsed.blobs]
                parsed_lists = [blob.digest for blob in parsed.blobs if blob.media_type in (MANIFEST, MANIFEST_LIST)]
                paths += [self.blob_path(d) for d in parsed_lists if d not in seen]
                seen.update(parsed_lists)
            names.update(digest.replace(":", "-") for digest in digests)
            if isinstance(parsed, tuple):
                paths += [self.blob_path(d) for d in digests if d not in seen]
                seen.update(digests)
        return names

    def stat_damage(self, blob: Blob) -> Damage | None:
        """Compare a blob's file with its size only: no byte is read."""
        try:
            info = os.stat(self.blob_path(blob.digest))
        except FileNotFoundError:
            return Damage(blob, "missing")
        except OSError:
            return Damage(blob, "unreadable")
        if not stat.S_ISREG(info.st_mode):
            return Damage(blob, "unreadable")
        if info.st_size != blob.size:
            return Damage(blob, "short" if info.st_size < blob.size else "long", info.st_size)
        return None

    def free_bytes(self) -> int:
        """Return the bytes that a user process may still write to the store's file system."""
        path = self.root
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        info = os.statvfs(path)
        return info.f_bavail * info.f_frsize


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


def printable(text: str) -> str:
    """Return a name from the disk as text that can be encoded and printed: other characters are escaped."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _listdir(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as exc:
        raise OllamaError(
            "store_unreadable",
            f"cannot look into {path}: {exc.strerror}; run as root or as the service account",
            path=path,
        ) from exc


def _read_manifest(path: str) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        # Opening a pipe would wait for ever.
        raise OllamaError("bad_manifest", "unreadable manifest: it is no regular file")
    with open(path, "rb") as file:
        body = file.read((4 << 20) + 1)
    if len(body) > 4 << 20:
        raise OllamaError("bad_manifest", "unreadable manifest: it is larger than 4 MiB")
    return body


@dataclass
class Memory:
    """What the modules remember about a store between runs, in a file that only they may write.

    :ivar verified: digest -> fingerprint of the file whose content was found right.
    :ivar origins: model key -> what was pulled: the registry's digest of the tag and the variant chosen then. A server
        of 0.40 may later replace the tag by a list of its own making, whose digest no registry knows.
    :ivar pending: aliases that a pull through a mirror made and has not dropped yet.
    :ivar recipes: model key -> how a model of one's own was built: the digests of the recipe, of the manifest that came
        of it, and of the base's manifest then; the recipe's files with digest and fingerprint.
    """

    path: str
    verified: dict[str, list[int]] = field(default_factory=dict)
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    recipes: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    _loaded: str = ""

    @classmethod
    def of(cls, store: Store, state_dir: str | None = None) -> Memory:
        """Load the memory of a store; a file that somebody else could have written counts as absent."""
        memory = cls(memory_path(store, state_dir))
        try:
            with open(memory.path, "rb") as file:
                info = os.fstat(file.fileno())
                if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022:
                    return memory
                data = json.load(file)
            memory.verified = {str(k): [int(n) for n in v] for k, v in data["verified"].items()}
            memory.origins = {str(k): {str(a): str(b) for a, b in v.items()} for k, v in data["origins"].items()}
            memory.pending = [str(name) for name in data["pending"]]
            # Files of earlier versions have none.
            memory.recipes = {str(key): dict(recipe) for key, recipe in data.get("recipes", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(memory.path)
        memory._loaded = memory._dump()
        return memory

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
        file = open(f"{path}.lock", "w")  # noqa: SIM115 - closed below, with the lock
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
    todo: list[tuple[Blob, list[int]]] = []
    for blob in {blob.digest: blob for blob in blobs}.values():
        damage = store.stat_damage(blob)
        if damage:
            result.damage[blob.digest] = damage
            memory.verified.pop(blob.digest, None)
            continue
        if mode == "none":
            continue
        try:
            seen = fingerprint(os.stat(store.blob_path(blob.digest)))
        except FileNotFoundError:
            # Gone a moment ago: during a pull the server removes what it finds wrong.
            result.damage[blob.digest] = Damage(blob, "missing")
            continue
        if mode == "full" or memory.verified.get(blob.digest) != seen:
            todo.append((blob, seen))
    if not todo:
        return result
    todo.sort(key=lambda item: -item[0].size)
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        digests = list(pool.map(lambda item: hash_file(store.blob_path(item[0].digest)), todo))
    for (blob, seen), digest in zip(todo, digests):
        result.hashed_blobs += 1
        result.hashed_bytes += blob.size
        if digest == blob.digest:
            memory.verified[blob.digest] = seen
        else:
            memory.verified.pop(blob.digest, None)
            result.damage[blob.digest] = Damage(blob, "content" if digest else "unreadable")
    return result


def hash_file(path: str) -> str:
    """Return ``sha256:…`` of a file in constant memory, ``""`` when it cannot be read to its end."""
    hasher = hashlib.sha256()
    buffer = bytearray(_READ)
    view = memoryview(buffer)
    try:
        with open(path, "rb", buffering=0) as file:
            while True:
                count = file.readinto(buffer)
                if not count:
                    break
                hasher.update(view[:count])
    except OSError:
        return ""
    return "sha256:" + hasher.hexdigest()
