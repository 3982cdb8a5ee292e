# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of one's own: a recipe, its digest, and whether what is installed was made by it.

Nothing that the server hands back says how a model was made: servers 0.30 to 0.33 rewrite the weights that they import,
and newer ones may convert them at the first load. So the recipe's digest is kept beside the digest of the manifest that
came out of it, in the memory of the store.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .._core.owner import open_named
from .._server.api import Client, newer_than
from .._store.audit import audit
from .._store.files import fingerprint, hash_file
from .._store.layout import Blob, Damage, Entry
from .._store.state import Memory
from .._store.store import Store
from .models import list_models

_ROLES = ("system", "user", "assistant")
# Servers from here on import GGUF files as they are, and quantize nothing but safetensors.
_IMPORTS_AS_IS = (0, 34)
_SAFETENSORS_TYPES = ("nvfp4", "mxfp8", "mxfp4", "int4", "int8")
# These say enough by themselves; whatever else a build ends with is about the recipe.
_PLAIN_CODES = ("disk_full", "store_unwritable", "connection_lost", "stalled", "unreachable", "tls")
_PATH_LINE = re.compile(r"^(FROM|ADAPTER) .*(sha256-[0-9a-f]{64})$", re.MULTILINE)
# Loading or creating, a server is silent while it reads and writes weights: seconds for each byte, a disk of 50 MB/s.
_PER_BYTE = 1 / 50e6


@dataclass(frozen=True)
class File:
    """A file of the recipe, on the host that the module runs on."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Recipe:
    """What a model is to be made of; everything but the name may be missing."""

    name: Name
    base: Name | None = None
    files: dict[str, File] = field(default_factory=dict)
    adapters: dict[str, File] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, t.Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)
    license: list[str] = field(default_factory=list)

    def canonical(self, base_digest: str | None) -> dict[str, t.Any]:
        """Return all that decides what comes out; equal recipes give equal results."""
        parts = {
            "from": base_digest,
            "files": {name: file.digest for name, file in self.files.items()},
            "adapters": {name: file.digest for name, file in self.adapters.items()},
            "parameters": self.parameters,
            "messages": self.messages,
            "license": self.license,
            **self.texts,
        }
        return {key: value for key, value in parts.items() if value}

    def digest(self, base_digest: str | None) -> str:
        """Return the digest of the recipe."""
        text = json.dumps(self.canonical(base_digest), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def request(self) -> dict[str, t.Any]:
        """Return the body for ``/api/create``."""
        body = {**self.canonical(None), "model": str(self.name)}
        return {**body, "from": str(self.base)} if self.base else body


def parse_recipe(params: t.Mapping[str, t.Any], memory: Memory) -> Recipe:
    """Read a recipe from a module's options, and hash its files unless they are as they were at the last build.

    :raises OllamaError: ``invalid_name``, ``invalid_option``, ``file_missing``.
    """
    name = parse(params["name"])
    source, paths = params["from"], list(params["files"])
    if source is not None and source.startswith("/"):
        source, paths = None, [source, *paths]
    base = parse(source, what="from") if source is not None else None
    if (base is None) == (not paths):
        raise OllamaError(
            "invalid_option", f"from: {params['from']!r} with files {params['files']}: exactly one source is allowed"
        )
    if base and base.key == name.key:
        raise OllamaError("invalid_option", f"from: {source!r} is the model itself; allowed is any other")
    seen = memory.recipes.get(name.key, {}).get("files", {})
    return Recipe(
        name,
        base,
        _read_files(paths, "files", seen),
        _read_files(params["adapters"], "adapters", seen),
        {key: params[key] for key in ("template", "system", "quantize", "renderer", "parser") if params[key]},
        {str(key): _parameter(str(key), value) for key, value in (params["parameters"] or {}).items()},
        [_message(index, item) for index, item in enumerate(params["messages"])],
        list(params["license"]),
    )


def _read_files(paths: t.Iterable[str], what: str, seen: t.Mapping[str, t.Any]) -> dict[str, File]:
    files: dict[str, File] = {}
    for path in paths:
        label = os.path.basename(path)
        if label in files:
            raise OllamaError("invalid_option", f"{what}: {path!r}: there is another file of that name; allowed is one")
        try:
            with open_named(path) as file:
                info = os.fstat(file.fileno())
        except OSError as exc:
            raise OllamaError("file_missing", f"{what}: cannot read {path!r}: {exc.strerror}", path=path) from None
        known = seen.get(path)
        digest = known[0] if known and known[1:] == fingerprint(info) else hash_file(path)
        if not digest or not info.st_size:
            raise OllamaError("file_missing", f"{what}: {path!r} cannot be read, or is empty", path=path)
        files[label] = File(path, digest, info.st_size)
    return files


def _parameter(key: str, value: t.Any) -> t.Any:
    """Return a parameter as the server wants it: a template of Ansible may have made a text of a number."""
    if key == "stop":
        values = value if isinstance(value, list) else [value]
        if values and all(isinstance(item, str) and item for item in values):
            return values
        raise OllamaError("invalid_option", f"parameters.stop: {value!r} is not allowed; allowed is a list of texts")
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value.lower())
    if not isinstance(value, (bool, int, float)):
        raise OllamaError(
            "invalid_option", f"parameters.{key}: {value!r} is not allowed; allowed is a number, true or false"
        )
    return value


def _message(index: int, item: t.Any) -> dict[str, str]:
    if (
        not isinstance(item, dict)
        or set(item) != {"role", "content"}
        or item["role"] not in _ROLES
        or not isinstance(item["content"], str)
    ):
        raise OllamaError(
            "invalid_option",
            f"messages[{index}]: {item!r} is not allowed; allowed is role ({', '.join(_ROLES)}) and content",
        )
    return {"role": item["role"], "content": item["content"]}


@dataclass
class Shown:
    """A model as ``/api/show`` describes it, in the terms of a recipe."""

    parent: str
    weights: frozenset[str]
    adapters: frozenset[str]
    texts: dict[str, str]
    parameters: dict[str, list[t.Any]]
    messages: list[dict[str, str]]
    license: str
    manifests: frozenset[str]

    @classmethod
    def of(cls, shown: t.Mapping[str, t.Any]) -> Shown:
        """Read the server's answer."""
        lines = _PATH_LINE.findall(str(shown.get("modelfile") or ""))
        messages = shown.get("messages") or []
        return cls(
            str((shown.get("details") or {}).get("parent_model") or ""),
            frozenset(digest.replace("-", ":") for kind, digest in lines if kind == "FROM"),
            frozenset(digest.replace("-", ":") for kind, digest in lines if kind == "ADAPTER"),
            {key: str(shown.get(key) or "") for key in ("template", "system", "renderer", "parser")},
            parse_parameters(str(shown.get("parameters") or "")),
            [{"role": str(m.get("role")), "content": str(m.get("content"))} for m in messages],
            str(shown.get("license") or ""),
            frozenset(str(child.get("digest")) for child in shown.get("manifests") or []),
        )


def parse_parameters(text: str) -> dict[str, list[t.Any]]:
    """Read the lines that ``/api/show`` makes of parameters; one value is a list of one, as the server shows them."""
    found: dict[str, list[t.Any]] = {}
    for line in text.splitlines():
        key, _space, value = line.strip().partition(" ")
        try:
            found.setdefault(key, []).append(json.loads(value))
        except ValueError:
            found.setdefault(key, []).append(value.strip())
    return found


def _as_lists(parameters: t.Mapping[str, t.Any]) -> dict[str, list[t.Any]]:
    return {key: value if isinstance(value, list) else [value] for key, value in parameters.items()}


def is_made_by(recipe: Recipe, made: Shown, base: Shown | None) -> bool:
    """Tell from the server's words alone whether a model is what a recipe makes; False also where that is unknown."""
    if "quantize" in recipe.texts or (base is None and "template" not in recipe.texts):
        # The weights are others than those that went in; a template of the server's choice is in no file.
        return False
    weights = base.weights if base else frozenset(file.digest for file in recipe.files.values())
    adapters = frozenset(file.digest for file in recipe.adapters.values())
    texts = {**(base.texts if base else dict.fromkeys(made.texts, "")), **recipe.texts}
    return bool(weights) and (
        made.weights == weights
        and made.adapters == adapters | (base.adapters if base else frozenset())
        and made.texts == texts
        and made.parameters == {**(base.parameters if base else {}), **_as_lists(recipe.parameters)}
        and made.messages == (recipe.messages or (base.messages if base else []))
        and made.license == ("\n".join(recipe.license) or (base.license if base else ""))
    )


class Builder:
    """Builds models on one server.

    :param client: None in check mode on a host that has no server yet.
    :param store: None where the store cannot be seen from here; then the server's word is taken for what is in it.
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

    # --- looking

    def digest(self, name: Name) -> str | None:
        """Return the digest of the manifest that the server runs under a name."""
        row = self.installed.get(name.key)
        return f"sha256:{row.get('digest')}" if row else None

    def _known_as(self, name: Name, shown: Shown | None) -> set[str]:
        """Return all digests that a tag can rightly be called: a server that converts a model keeps both variants."""
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
            # So damaged that the server cannot describe it.
            return None
        return Shown.of(shown) if shown else None

    def _damage(self, name: Name) -> list[Damage]:
        entry = self._entry(name)
        return list(audit(self.store, entry.blobs, self.memory).damage.values()) if self.store and entry else []

    # --- absent

    def remove(self, name: Name, *, check_mode: bool) -> dict[str, t.Any]:
        """Remove a model that was built, or any other; returns the module's result."""
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

    # --- present

    def build(self, recipe: Recipe, *, check_mode: bool) -> dict[str, t.Any]:
        """Have a model as a recipe makes it; returns the module's result.

        :raises OllamaError: ``not_found``, ``quantize_unsupported``, ``damaged``, ``build_failed`` and the client's.
        """
        name = recipe.name
        warnings = self._check(recipe, check_mode=check_mode)
        record = self.memory.recipes.get(name.key, {})
        made, base = self._show(name), self._show(recipe.base) if recipe.base else None
        base_digest = self.digest(recipe.base) if recipe.base else None
        if recipe.base and record.get("from") in self._known_as(recipe.base, base):
            # The base was converted by the server since, which makes no other model of it.
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
            why = "built again: the recipe is another one"
        elif record:
            why = "" if record.get("manifest") in self._known_as(name, made) else "built again: it was changed by hand"
        else:
            adopted = bool(made) and not (recipe.base and not base) and is_made_by(recipe, t.cast(Shown, made), base)
            why = "" if adopted else "built again: nothing is known of how it was made"

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
        wanted = {key: value for key, value in _describe(recipe).items() if value}
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
        """Refuse what cannot work before anything is sent; the server itself would pull a missing base silently."""
        if recipe.base and recipe.base.key not in self.installed:
            text = f"from: {recipe.base} is not installed; have it with kaido.ollama.model first"
            if not check_mode:
                raise OllamaError("not_found", text, missing=[str(recipe.base)])
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
                    f"quantize: {quantize!r} is not allowed: a server {self.version} quantizes only safetensors, as"
                    f" {', '.join(_SAFETENSORS_TYPES)}; give a GGUF file that is quantized already",
                )
        if recipe.base and self._damage(recipe.base):
            raise OllamaError(
                "damaged",
                f"from: {recipe.base}: {self._damage(recipe.base)[0]}; repair it first, with kaido.ollama.model",
            )
        return []

    def _make(self, recipe: Recipe, damage: t.Iterable[Damage]) -> None:
        if not self.client:
            raise OllamaError("unreachable", f"{recipe.name}: building needs a server")
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
            raise OllamaError("damaged", f"{name}: built, but {left[0]}; the server reuses whatever file is there")

    def _upload(self, client: Client, file: File) -> None:
        """Send a file unless the store has it; the server looks only whether a file of that name exists."""
        if self.store and audit(self.store, [Blob(file.digest, file.size)], self.memory).damage:
            self._unlink(file.digest)
        elif client.has_blob(file.digest):
            return
        try:
            with open_named(file.path) as stream:
                client.upload_blob(file.digest, stream, file.size, timeout=self.timeout + _PER_BYTE * file.size)
        except OSError as exc:
            raise OllamaError("file_missing", f"files: cannot read {file.path!r}: {exc.strerror}") from None
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


def _describe(recipe: Recipe) -> dict[str, t.Any]:
    return {
        "from": str(recipe.base) if recipe.base else None,
        "files": {name: file.digest for name, file in recipe.files.items()},
        "adapters": {name: file.digest for name, file in recipe.adapters.items()},
        "parameters": _as_lists(recipe.parameters),
        "messages": recipe.messages,
        "license": "\n".join(recipe.license),
        **recipe.texts,
    }


def _before(made: Shown | None, wanted: t.Container[str]) -> dict[str, t.Any]:
    """Return what is there now of what a recipe speaks of."""
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
