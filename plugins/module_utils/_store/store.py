# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tags and blobs of Ollama's model store on disk, of both generations, accessed as the owner of the store.

Up to 0.35, a tag is a file ``manifests/<host>/<namespace>/<model>/<tag>``. Since 0.40, it is a symbolic link (or copy)
``manifests-v2/<host>/<namespace>/<model>/<tag>`` to a manifest in ``blobs``, which may be a list of variants;
``manifests/`` then contains only the manifests for a downgrade. Ollama itself never verifies an existing blob again.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import typing as t

from .._core import fs
from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name
from .._core.owner import Identity, acting_as, open_regular, owner_of, read_regular
from .._core.text import printable
from .files import DIRECTORY, Budget, fingerprint, hash_stream, in_the_way, list_directory, remove
from .layout import (
    BLOB_FILE,
    MANIFEST,
    MANIFEST_LIST,
    PARTIAL_FILE,
    RUNNERS,
    TREES,
    Blob,
    Damage,
    Entry,
    Manifest,
    Variant,
    checked_digest,
    parse_manifest,
    sha256_of,
)

_PUBLIC_HOSTS = (DEFAULT_HOST, "ollama.com")
# Ollama 0.40.0 leaves files such as library/llamacpp/<64 hex> for converted models; they are not models of a user.
_SHADOW_TAG = re.compile(r"[0-9a-f]{64}\Z")
_MANIFEST_LIMIT = 4 << 20

_M = t.TypeVar("_M", bound=t.Callable[..., t.Any])


def as_owner(method: _M) -> _M:
    """Execute a method of a store, or a function whose first argument is one, with the rights of its owner."""

    @functools.wraps(method)
    def wrapped(self: Store, *args: t.Any, **kwargs: t.Any) -> t.Any:
        with self.acting():
            return method(self, *args, **kwargs)

    return t.cast("_M", wrapped)


class Store:
    """A model store on the disk; no server is required.

    :param root: the directory in ``OLLAMA_MODELS``.
    :param generation: 1 for the tree of servers before 0.40 only, 2 for the newer tree as well, with precedence.
    """

    def __init__(self, root: str, generation: int = 2) -> None:
        self.root = root
        self._trees = TREES if generation > 1 else TREES[1:]
        self._identity: Identity | None = None

    @property
    def identity(self) -> Identity:
        """The account that accesses the store: its owner if this process is root, otherwise that of the process.

        :raises OllamaError: ``store_unsafe`` if several accounts can change a store that belongs to root.
        """
        if self._identity is None:
            if os.geteuid() == 0:
                self._identity = owner_of(os.path.abspath(self.root), ("blobs", *TREES))
            else:
                self._identity = Identity(os.geteuid(), os.getegid())
        return self._identity

    def acting(self) -> t.ContextManager[None]:
        """Return a context in which the calling thread acts as the owner of the store; use it for the store only.

        The state directory, bundles and progress files belong to root and are accessed outside of it.
        """
        return acting_as(self.identity)

    @property
    def readable(self) -> bool:
        """Whether the account that accesses the store can list and enter it."""
        try:
            with self.acting():
                handle = os.open(self.root, DIRECTORY)
                try:
                    os.stat("..", dir_fd=handle)
                finally:
                    os.close(handle)
        except OSError:
            return False
        return True

    def blob_path(self, digest: str) -> str:
        """Return the path of a blob. Only the methods of this class may open it."""
        return os.path.join(self.root, "blobs", checked_digest(digest).replace(":", "-"))

    @as_owner
    def has_tree(self, name: str) -> bool:
        """Return whether the store has a directory ``manifests`` or ``manifests-v2``."""
        return os.path.isdir(os.path.join(self.root, name))

    @as_owner
    def blob_info(self, digest: str) -> os.stat_result | None:
        """Return the lstat result of the file of a blob, or None."""
        try:
            return os.lstat(self.blob_path(digest))
        except OSError:
            return None

    @as_owner
    def open_blob(self, digest: str) -> t.IO[bytes]:
        """Open the regular file of a blob for reading.

        :raises OSError: if it cannot be opened.
        """
        return os.fdopen(open_regular(self.blob_path(digest)), "rb")

    @as_owner
    def read_blob(self, digest: str, limit: int = _MANIFEST_LIMIT) -> bytes:
        """Return the content of a small blob.

        :raises OSError: if it cannot be read, or has more than ``limit`` bytes.
        """
        return read_regular(self.blob_path(digest), limit)

    @as_owner
    def read_tag(self, entry: Entry) -> bytes:
        """Return the current content of the manifest of a tag.

        :raises OllamaError: ``manifest_invalid``.
        """
        return self._read_tag(entry.path)[1]

    def hash_blob(self, digest: str) -> tuple[str, list[int]]:
        """Return the sha256 and the fingerprint of the file of a blob; an empty sha256 if it cannot be read."""
        try:
            with self.open_blob(digest) as file:
                seen = fingerprint(os.fstat(file.fileno()))
                return hash_stream(file), seen
        except OSError:
            return "", []

    @as_owner
    def remove_blob(self, digest: str) -> None:
        """Remove the file of a blob; links are not followed.

        :raises OllamaError: ``store_unwritable``.
        """
        remove(self.blob_path(digest))

    @as_owner
    def remove_tag(self, entry: Entry) -> None:
        """Remove the file or link of a tag.

        :raises OllamaError: ``store_unwritable``.
        """
        remove(entry.path)

    @as_owner
    def entries(self) -> list[Entry]:
        """Return each tag once, as a server of 0.40 or newer resolves it, sorted by name.

        :raises OllamaError: ``store_unsafe`` for links instead of directories and for a store of excessive size;
            ``store_unreadable``.
        """
        found: dict[str, Entry] = {}
        budget = Budget()
        for tree in self._trees:
            for host, namespace, model, tag, path in self._walk(tree, budget):
                if host in _PUBLIC_HOSTS:
                    host = DEFAULT_HOST
                if namespace == "library" and model in RUNNERS and _SHADOW_TAG.match(tag):
                    continue
                name = Name(*map(printable, (host, namespace, model, tag)))
                if name.key in found:
                    continue
                if name.is_valid:
                    found[name.key] = self._entry(name, path, budget)
                else:
                    problem = f"its name is invalid, which stops Ollama's own cleanup; remove {printable(path)}"
                    found[name.key] = Entry(name, path, problem=problem)
        return [found[key] for key in sorted(found)]

    @as_owner
    def find(self, name: Name) -> Entry | None:
        """Return the tag with a name, without regard to case, as Ollama does, or None.

        :raises OllamaError: as `entries` does.
        """
        for tree in self._trees:
            for host in _PUBLIC_HOSTS if name.host == DEFAULT_HOST else (name.host,):
                folded = host.replace(":", "%3A") if tree == "manifests-v2" else host
                path = self._resolve(tree, (folded, name.namespace, name.model, name.tag))
                if path:
                    return self._entry(name, path, Budget())
        return None

    def _resolve(self, tree: str, parts: t.Sequence[str]) -> str | None:
        """Return the path of the file of a tag. Each part matches exactly or else case-insensitively."""
        path = self._top(tree)
        budget = Budget()
        for index, part in enumerate(parts):
            exact = os.path.join(path, part)
            if not os.path.lexists(exact):
                same = [item for item in list_directory(path, budget, follow=not index) if item.lower() == part.lower()]
                if not same:
                    return None
                exact = os.path.join(path, same[0])
            if index < len(parts) - 1 and os.path.islink(exact):
                raise in_the_way(exact)
            path = exact
        return path

    def _top(self, tree: str) -> str:
        """Return the path of a tree of manifests, which may be a link to a directory of the owner of the store."""
        path = os.path.join(self.root, tree)
        # Read in one step, as the account of the store may exchange the link at any time.
        target = fs.read_link(path)
        if target:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_uid not in (self.identity.uid, os.stat(self.root).st_uid):
                    raise OllamaError(
                        "store_unsafe",
                        f"{path} is a symbolic link to {printable(target)}, which belongs to another account"
                        " than the model store; remove the link, or change the owner of that directory",
                        path=path,
                    )
        return path

    def _walk(self, tree: str, budget: Budget) -> t.Iterator[tuple[str, str, str, str, str]]:
        top = self._top(tree)
        for host in list_directory(top, budget, follow=True):
            for namespace in list_directory(os.path.join(top, host), budget):
                for model in list_directory(os.path.join(top, host, namespace), budget):
                    for tag in list_directory(os.path.join(top, host, namespace, model), budget):
                        path = os.path.join(top, host, namespace, model, tag)
                        if not tag.startswith(".") and (os.path.islink(path) or not os.path.isdir(path)):
                            yield host.replace("%3A", ":"), namespace, model, tag, path

    def _read_tag(self, path: str) -> tuple[str, bytes]:
        """Return the digest in the target of a tag, empty if it is not a link, and the manifest."""
        linked = self._linked(path)
        return linked, self._read(self.blob_path(linked) if linked else path)

    def _linked(self, path: str) -> str:
        """Return the digest in the target of a tag of the newer tree; empty if it is a file."""
        target = fs.read_link(path)
        if not target or not os.path.relpath(path, self.root).startswith("manifests-v2" + os.sep):
            return ""
        folder, file = os.path.split(target)
        blobs = os.path.join(self.root, "blobs")
        if not BLOB_FILE.match(file) or os.path.realpath(
            os.path.join(os.path.dirname(path), folder)
        ) != os.path.realpath(blobs):
            target = printable(os.path.join(folder, file))[:200]
            raise OllamaError("manifest_invalid", f"unreadable manifest: it links to {target}, which is not a blob")
        return checked_digest(file)

    @staticmethod
    def _read(path: str, budget: Budget | None = None) -> bytes:
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
            raise OllamaError("manifest_invalid", f"unreadable manifest: {why}") from None
        if budget:
            budget.read(len(body), path)
        return body

    def _entry(self, name: Name, path: str, budget: Budget) -> Entry:
        entry = Entry(name, path)
        blobs: dict[str, Blob] = {}
        try:
            # A link contains the digest even if the manifest is missing.
            entry.digest = self._linked(path)
            body = self._read(self.blob_path(entry.digest) if entry.digest else path, budget)
            own = sha256_of(body)
            if entry.digest not in ("", own):
                raise OllamaError(
                    "manifest_invalid",
                    f"unreadable manifest: the content does not match its name {entry.digest[:19]}",
                )
            parsed = parse_manifest(body)
            entry.digest, entry.digests = own, frozenset([own])
            if os.path.relpath(path, self.root).startswith("manifests-v2" + os.sep):
                blobs[own] = Blob(own, len(body), MANIFEST)
            manifest = self._choose(entry, parsed, blobs, budget) if isinstance(parsed, tuple) else parsed
            budget.name(len(manifest.blobs), path)
            blobs.update((blob.digest, blob) for blob in manifest.blobs)
            entry.size = manifest.size
        except OllamaError as exc:
            if exc.code != "manifest_invalid":
                raise
            entry.problem = exc.message
        except OSError as exc:
            entry.problem = f"unreadable manifest: {exc.strerror}"
        entry.blobs = tuple(blobs.values())
        return entry

    def _choose(self, entry: Entry, variants: t.Iterable[Variant], blobs: dict[str, Blob], budget: Budget) -> Manifest:
        """Return the first variant whose manifest exists; the others are normally missing."""
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
                if sha256_of(body) != variant.digest:
                    raise OllamaError(
                        "manifest_invalid", f"unreadable manifest: variant {variant.digest[:19]} has wrong content"
                    )
                manifest = parse_manifest(body)
                if isinstance(manifest, tuple):
                    raise OllamaError("manifest_invalid", "unreadable manifest: a list inside a list")
                chosen = manifest
        if chosen is None:
            raise OllamaError("manifest_invalid", "unreadable manifest: none of its variants is on this host")
        return chosen

    def blob_files(self) -> t.Iterator[tuple[str, os.stat_result]]:
        """Yield the entries of ``blobs`` with their lstat results, sorted by name."""
        folder = os.path.join(self.root, "blobs")
        for item in list_directory(folder, Budget(), follow=True):
            with contextlib.suppress(OSError):
                yield item, os.lstat(os.path.join(folder, item))

    @as_owner
    def orphans(self, entries: t.Iterable[Entry]) -> list[dict[str, t.Any]]:
        """Return the files in ``blobs/`` that no readable tag requires: printable file name and size in bytes."""
        needed = {digest.replace(":", "-") for entry in entries for digest in entry.digests}
        needed.update(blob.file_name for entry in entries for blob in entry.blobs)
        needed.update(self._legacy_references())
        return [
            {"file": printable(item), "size": info.st_size}
            for item, info in self.blob_files()
            if item not in needed and not (PARTIAL_FILE.match(item) and stat.S_ISREG(info.st_mode))
        ]

    def _legacy_references(self) -> set[str]:
        """Return the blob files in all manifests, including those of shadowed tags and of variants not chosen."""
        names: set[str] = set()
        budget = Budget()
        paths = [row[4] for tree in TREES for row in self._walk(tree, budget)]
        seen: set[str] = set()
        while paths:
            path = paths.pop()
            try:
                linked = self._linked(path)
                parsed = parse_manifest(self._read(self.blob_path(linked) if linked else path, budget))
            except (OSError, OllamaError) as exc:
                if isinstance(exc, OllamaError) and exc.code != "manifest_invalid":
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
        """Return the damage of a blob according to its size; its content is not read."""
        return self.check_size(blob)[0]

    @as_owner
    def check_size(self, blob: Blob) -> tuple[Damage | None, list[int]]:
        """Return the result of `stat_damage`, and the fingerprint of the file if it is not damaged."""
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
            # The file is nearly empty (sparse), so it is not a model, and reading terabytes of zeros would take hours.
            return Damage(blob, "content"), []
        return None, fingerprint(info)

    @as_owner
    def free_bytes(self) -> int:
        """Return the number of bytes that an unprivileged process can still write to the file system of the store."""
        path = os.path.abspath(self.root)
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        info = os.statvfs(path)
        return info.f_bavail * info.f_frsize
