# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom models: build them, and detect whether an installed model was built from its recipe.

The server does not report how a model was built: servers 0.30 to 0.33 rewrite the weights that they import, and newer
servers may convert them at the first load. Therefore the state file of the store records the digest of the recipe with
the digest of the resulting manifest.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.owner import open_named
from .._server.api import Client, newer_than
from .._store.audit import audit
from .._store.files import fingerprint
from .._store.layout import Blob, Damage, Entry
from .._store.state import Memory
from .._store.store import Store
from .installed import list_models
from .recipe import File, Recipe, Shown, describe, is_made_by, with_files

# Since this version, servers import GGUF files unchanged and quantize safetensors only.
_IMPORTS_AS_IS = (0, 34)
_SAFETENSORS_TYPES = ("nvfp4", "mxfp8", "mxfp4", "int4", "int8")
# Failures with these codes keep them; every other failure of a build is attributed to the recipe.
_PLAIN_CODES = (
    "disk_full",
    "store_unwritable",
    "connection_lost",
    "connection_stalled",
    "server_unreachable",
    "tls_failed",
)
# While it loads or creates a model, a server sends no data until it has read and written the weights. The value is in
# seconds per byte, for a disk with 50 MB/s.
_PER_BYTE = 1 / 50e6


class Builder:
    """Builds custom models on one server.

    :param client: None in check mode on a host that has no server yet.
    :param version: the version of the server; None if it is unknown.
    :param store: None if the store is not accessible; it is then assumed to be intact.
    :param timeout: the seconds for which the server may send no data, in addition to the time for the weights.
    """

    def __init__(
        self, client: Client | None, version: str | None, store: Store | None, memory: Memory, *, timeout: float
    ) -> None:
        self.client = client
        self.version = version
        self.store = store
        self.memory = memory
        self.timeout = timeout
        self.installed = list_models(client) if client else {}
        self.bytes_uploaded = 0
        self.expected: dict[str, str] = {}
        """The digests of models that this run fetches before it builds, by key; for predictions."""

    def digest(self, name: Name) -> str | None:
        """Return the digest of the manifest that the server runs under a name."""
        if name.key in self.expected:
            return self.expected[name.key]
        row = self.installed.get(name.key)
        return f"sha256:{row.get('digest')}" if row else None

    def _known_as(self, name: Name, shown: Shown | None) -> set[str]:
        """Return all valid digests of a tag: a server that converts a model keeps both variants."""
        if name.key in self.expected:
            return {self.expected[name.key]}
        entry = self._entry(name)
        found = {self.digest(name) or ""} | (shown.manifests if shown else set()) | (entry.digests if entry else set())
        return found - {""}

    def _entry(self, name: Name) -> Entry | None:
        return self.store.find(name) if self.store else None

    def _show(self, name: Name) -> Shown | None:
        if not self.client or name.key not in self.installed:
            return None
        try:
            shown = self.client.show(name)
        except OllamaError as exc:
            if exc.details.get("status") is None:
                raise
            # The model is so damaged that the server cannot describe it.
            return None
        return Shown.of(shown) if shown else None

    def _damage(self, name: Name) -> list[Damage]:
        entry = self._entry(name)
        return list(audit(self.store, entry.blobs, self.memory).damage.values()) if self.store and entry else []

    def remove(self, name: Name, *, check_mode: bool) -> dict[str, t.Any]:
        """Remove a custom or other model, and return the module's result."""
        before = self.digest(name)
        if not check_mode and self.client:
            if before:
                self.client.delete(name)
            if self.memory.recipes.pop(name.key, None):
                self.memory.save()
        return {
            "changed": bool(before),
            "name": str(name),
            "digest_before": before,
            "digest_after": None,
            "actions": [("would be " if check_mode else "") + "removed"] if before else [],
            "diff": {"before": {"digest": before}, "after": {"digest": None}},
        }

    def build(self, recipe: Recipe, *, check_mode: bool) -> dict[str, t.Any]:
        """Build a model unless it matches its recipe, and return the module's result.

        :raises OllamaError: ``model_missing``, ``quantize_unsupported``, ``model_damaged``, ``build_failed`` and those
            of the client.
        """
        name = recipe.name
        recipe = with_files(recipe, self.memory.recipes.get(name.key, {}).get("files", {}))
        warnings = self._check(recipe, check_mode=check_mode)
        record = self.memory.recipes.get(name.key, {})
        made, base = self._show(name), self._show(recipe.base) if recipe.base else None
        base_digest = self.digest(recipe.base) if recipe.base else None
        if recipe.base and record.get("from") in self._known_as(recipe.base, base):
            # The server has converted the base since the build, but it is the same model.
            base_digest = str(record["from"])
        digest = recipe.digest(base_digest)
        before = self.digest(name)
        damage = self._damage(name) if before else []

        adopted = False
        if not before:
            why = "built"
        elif damage:
            why = f"built again: {damage[0]}"
        elif record and record.get("recipe") != digest:
            why = "built again: the recipe has changed"
        elif record:
            why = "" if record.get("manifest") in self._known_as(name, made) else "built again: it was changed manually"
        else:
            adopted = bool(made) and not (recipe.base and not base) and is_made_by(recipe, t.cast(Shown, made), base)
            why = "" if adopted else "built again: its recipe is not recorded"

        after = before
        if why and not check_mode:
            self._make(recipe, damage)
            after = self.digest(name)
            if after == before and not damage:
                why += ", with the same result"
        if (why or adopted) and not check_mode:
            self._remember(recipe, digest, base_digest, str(after))
        if not check_mode:
            self.memory.save()
        changed = bool(damage or after != before or (why and check_mode))
        wanted = {key: value for key, value in describe(recipe).items() if value}
        old = _before(made, wanted) if changed else wanted
        return {
            "changed": changed,
            "name": str(name),
            "digest_before": before,
            "digest_after": after if not (why and check_mode) else None,
            "recipe": digest,
            "actions": [("would be " if check_mode else "") + why] if why else [],
            "bytes_uploaded": self.bytes_uploaded,
            "warnings": warnings,
            "diff": {
                "before": {**old, "recipe": digest if not changed else _state(before, why)},
                "after": {**wanted, "recipe": digest},
            },
        }

    def _check(self, recipe: Recipe, *, check_mode: bool) -> list[str]:
        """Refuse a build that cannot succeed before anything is sent; return the warnings.

        The server would pull a missing base without verification.
        """
        if recipe.base and recipe.base.key in self.expected:
            return []
        if recipe.base and recipe.base.key not in self.installed:
            text = f"from: {recipe.base} is not installed; install it with kaido.ollama.model first"
            if not check_mode:
                raise OllamaError("model_missing", text, missing=[str(recipe.base)])
            return [text]
        quantize = recipe.texts.get("quantize")
        if quantize and self.version and newer_than(self.version, _IMPORTS_AS_IS):
            row = self.installed.get(recipe.base.key, {}) if recipe.base else {}
            safetensors = (row.get("details") or {}).get("format") == "safetensors" or any(
                name.endswith(".safetensors") for name in recipe.files
            )
            if not safetensors or quantize not in _SAFETENSORS_TYPES:
                raise OllamaError(
                    "quantize_unsupported",
                    f"quantize: invalid value {quantize!r}; expected {', '.join(_SAFETENSORS_TYPES)} for safetensors or"
                    f" a GGUF file that is quantized already, with server {self.version}",
                )
        if recipe.base and self._damage(recipe.base):
            raise OllamaError(
                "model_damaged",
                f"from: {recipe.base}: {self._damage(recipe.base)[0]}; repair it first, with kaido.ollama.model",
            )
        return []

    def _make(self, recipe: Recipe, damage: t.Iterable[Damage]) -> None:
        if not self.client:
            raise OllamaError("server_unreachable", f"{recipe.name}: a build requires a server")
        name = recipe.name
        for item in damage:
            self._unlink(item.blob.digest)
        files = [*recipe.files.values(), *recipe.adapters.values()]
        for file in files:
            self._upload(self.client, file)
        try:
            silence = self.timeout + _PER_BYTE * sum(file.size for file in files)
            for _event in self.client.create(recipe.request(), timeout=silence):
                pass
        except OllamaError as exc:
            code = exc.code if exc.code in _PLAIN_CODES else "build_failed"
            raise OllamaError(code, f"{name}: {exc.message}", **exc.details) from None
        self.installed = list_models(self.client)
        if name.key not in self.installed:
            raise OllamaError("build_failed", f"{name}: the server reported success, but has no such model")
        left = self._damage(name)
        if left:
            raise OllamaError("model_damaged", f"{name}: built, but {left[0]}; the server reuses the existing file")

    def _upload(self, client: Client, file: File) -> None:
        """Send a file unless the store has it. The server itself only checks whether a file with that name exists."""
        if self.store and audit(self.store, [Blob(file.digest, file.size)], self.memory).damage:
            self._unlink(file.digest)
        elif client.has_blob(file.digest):
            return
        try:
            with open_named(file.path) as stream:
                client.upload_blob(file.digest, stream, file.size, timeout=self.timeout + _PER_BYTE * file.size)
        except OSError as exc:
            raise OllamaError("file_unreadable", f"files: cannot read {file.path!r}: {exc.strerror}") from None
        self.bytes_uploaded += file.size

    def _unlink(self, digest: str) -> None:
        if not self.store:
            return
        self.memory.verified.pop(digest, None)
        self.store.remove_blob(digest)

    def _remember(self, recipe: Recipe, digest: str, base_digest: str | None, manifest: str) -> None:
        files: dict[str, t.Any] = {}
        for file in (*recipe.files.values(), *recipe.adapters.values()):
            with contextlib.suppress(OSError), open_named(file.path) as stream:
                files[file.path] = [file.digest, *fingerprint(os.fstat(stream.fileno()))]
        self.memory.recipes[recipe.name.key] = {
            "recipe": digest,
            "manifest": manifest,
            "from": base_digest,
            "files": files,
        }


def _before(made: Shown | None, wanted: t.Container[str]) -> dict[str, t.Any]:
    """Return the current state of the parts of a recipe."""
    if not made:
        return {}
    there = {
        "from": made.parent,
        "adapters": sorted(made.adapters),
        "parameters": made.parameters,
        "messages": made.messages,
        "license": made.license,
        **made.texts,
    }
    return {key: value for key, value in there.items() if value and key in wanted}


def _state(before: str | None, why: str) -> str | None:
    return why.split(": ", 1)[-1] if before and why else None
