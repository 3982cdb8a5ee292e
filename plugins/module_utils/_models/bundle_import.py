# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the models of a bundle into a model store.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import errno
import threading
import typing as t
from dataclasses import dataclass, replace

from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name
from .._core.progress import human
from .._store.audit import audit
from .._store.state import Memory
from .._store.store import Store
from .._store.writer import StoreWriter
from .bundle import Bundle, BundledModel, Contents, check, member_of

Watch = t.Callable[[str, int], None]
"""Called with the digest of a blob and the number of bytes that have been copied."""


@dataclass
class MissingContent:
    """The content that a store lacks: blobs, and models whose tag is missing or differs.

    :ivar before: the digests of the models in the store, empty for missing models.
    """

    blobs: dict[str, int]
    models: list[Name]
    before: dict[Name, str]


def compare(contents: Contents, store: Store, memory: Memory) -> MissingContent:
    """Return the content that must be imported. Blobs that have changed since their last verification are hashed.

    If the server has rewritten a tag as another list of variants, it counts as imported if it contains the variant.
    """
    parts = {blob.digest: blob for model in contents.models.values() for blob in model.parts}
    damage = audit(store, parts.values(), memory).damage
    missing = MissingContent({digest: parts[digest].size for digest in damage}, [], {})
    for name, model in contents.models.items():
        entry = store.find(name)
        intact = entry if entry and not entry.problem else None
        missing.before[name] = intact.digest if intact else ""
        if not intact or (model.chosen.digest != intact.digest and model.digest not in memory.known_as(intact)):
            missing.models.append(name)
    return missing


def import_(
    bundle: Bundle,
    contents: Contents,
    missing: MissingContent,
    store: Store,
    memory: Memory,
    watch: Watch = lambda digest, count: None,
) -> None:
    """Copy missing content into a store as its owner: blobs first, manifests last, each with one rename.

    :raises OllamaError: ``disk_full``; ``bundle_tampered`` if the bundle has changed since it was verified;
        ``store_unsafe``, ``store_unwritable``.
    """
    size, free = sum(missing.blobs.values()), store.free_bytes()
    if size > free:
        raise OllamaError(
            "disk_full", f"models_dir: the bundle needs {human(size)}; {human(free)} are free in {store.root}"
        )

    def put(member: str, blob: str, source_member: str | None = None) -> None:
        with bundle.open(source_member or member) as source:
            seen = writer.put(member, t.cast("t.IO[bytes]", source), blob[7:], lambda count: watch(blob, count))
        if member.startswith("blobs/"):
            memory.record_verified(blob, seen)

    try:
        with StoreWriter(store) as writer:
            for digest in sorted(missing.blobs):
                put(f"blobs/{digest.replace(':', '-')}", digest)
            for name in missing.models:
                model, member = contents.models[name], member_of(name)
                if contents.lists:
                    blob = f"blobs/{model.digest.replace(':', '-')}"
                    put(blob, model.digest, member)
                    host = "ollama.com" if name.host == DEFAULT_HOST else name.host.replace(":", "%3A")
                    writer.link(f"manifests-v2/{host}/{name.namespace}/{name.model}/{name.tag}", f"../../../../{blob}")
                elif model.digest == model.chosen.digest:
                    put(member, model.digest)
                else:
                    put(member, model.chosen.digest, f"blobs/{model.chosen.digest.replace(':', '-')}")
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OllamaError("disk_full", f"models_dir: no space left in {store.root}") from None
        why = exc.strerror or type(exc).__name__
        raise OllamaError("store_unwritable", f"models_dir: cannot write to {store.root}: {why}") from None


def record_origins(contents: Contents, memory: Memory) -> None:
    """Record the tags of the models: older stores keep only one variant of a list, and newer servers may convert it."""
    for name, model in contents.models.items():
        memory.origins[name.key] = {"registry": model.digest, "variant": model.chosen.digest}


class BundleSource:
    """A bundle from which single models are imported, as a context manager. It is opened on first use."""

    def __init__(self, path: str, *, lists: bool) -> None:
        self.path = path
        self.lists = lists
        self._bundle: Bundle | None = None
        self._contents: Contents | None = None
        # A tar archive has one file position, and a store has one staging directory.
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.path

    def __enter__(self) -> BundleSource:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bundle:
            self._bundle.__exit__()

    def read(self, *, hash_all: bool = False) -> tuple[Bundle, Contents]:
        """Return the bundle and its content.

        :param hash_all: whether the contents of blobs and archives are read and hashed.
        :raises OllamaError: the errors of `check`.
        """
        self._bundle = self._bundle or Bundle(self.path)
        if hash_all or not self._contents:
            self._contents = check(self._bundle, lists=self.lists, hash_all=hash_all)
        return self._bundle, self._contents

    def offer(self, wanted: Name) -> BundledModel:
        """Return a model of the bundle; names are compared without case.

        :raises OllamaError: ``tag_missing``, and the errors of `check`.
        """
        for name, model in self.read()[1].models.items():
            if name.key == wanted.key:
                return model
        raise OllamaError("tag_missing", f"{wanted}: not found in the bundle {self.path}", name=str(wanted))

    def import_(self, wanted: Name, store: Store, memory: Memory, watch: Watch) -> int:
        """Import one model into a store, and return the number of bytes that were copied.

        :raises OllamaError: the errors of the function `import_`.
        """
        with self._lock:
            bundle, contents = self.read()
            one = {name: model for name, model in contents.models.items() if name.key == wanted.key}
            part = replace(contents, models=one)
            missing = compare(part, store, memory)
            import_(bundle, part, missing, store, memory, watch)
            record_origins(part, memory)
            return sum(missing.blobs.values())
