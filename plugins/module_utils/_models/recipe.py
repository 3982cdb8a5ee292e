# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes of custom models: parsing, digests, and the comparison with the description of a model by a server.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import typing as t
from dataclasses import dataclass, field, replace

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .._core.owner import open_named
from .._store.files import fingerprint, hash_file

KEYS = (
    "from",
    "files",
    "adapters",
    "template",
    "system",
    "parameters",
    "messages",
    "license",
    "quantize",
    "renderer",
    "parser",
)
_TEXTS = ("template", "system", "quantize", "renderer", "parser")
_ROLES = ("system", "user", "assistant")
_PATH_LINE = re.compile(r"^(FROM|ADAPTER) .*(sha256-[0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class File:
    """A file of a recipe on the host of the module; the size is in bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Recipe:
    """The content of a custom model; everything except the name is optional.

    :ivar paths: the paths of the weights, which `with_files` reads into `files`.
    :ivar adapter_paths: the paths of the adapters, which `with_files` reads into `adapters`.
    """

    name: Name
    base: Name | None = None
    files: dict[str, File] = field(default_factory=dict)
    adapters: dict[str, File] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, t.Any] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)
    license: list[str] = field(default_factory=list)
    paths: tuple[str, ...] = ()
    adapter_paths: tuple[str, ...] = ()

    def canonical(self, base_digest: str | None) -> dict[str, t.Any]:
        """Return all values that determine the result of a build."""
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
        """Return the digest of the recipe.

        :param base_digest: the manifest digest of the base; None without a base.
        """
        text = json.dumps(self.canonical(base_digest), sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def request(self) -> dict[str, t.Any]:
        """Return the body for ``/api/create``."""
        body = {**self.canonical(None), "model": str(self.name)}
        return {**body, "from": str(self.base)} if self.base else body


def parse_recipe(name: Name, options: t.Mapping[str, t.Any], *, where: str = "") -> Recipe:
    """Parse the options of a recipe without reading its files. Pure.

    :param options: the options in `KEYS`; None counts as missing.
    :param where: the prefix of option names in messages, for example ``models[3].``.
    :raises OllamaError: ``name_invalid``, ``value_invalid``.
    """
    source = _text(options, "from", where) or None
    paths = _texts(options, "files", where)
    if source and source.startswith("/"):
        paths = [source, *paths]
        source = None
    base = parse(source, what=f"{where}from") if source else None
    if (base is None) == (not paths):
        raise OllamaError(
            "value_invalid",
            f"{where}from: invalid value {options.get('from')!r} with files {paths}; expected exactly one of from and"
            " files",
        )
    if base and base.key == name.key:
        raise _invalid(where, "from", source, "a model other than itself")
    adapters = _texts(options, "adapters", where)
    for option, items in (("files", paths), ("adapters", adapters)):
        labels = [os.path.basename(path) for path in items]
        for path, label in zip(items, labels):
            if not path.startswith("/"):
                raise _invalid(where, option, path, "an absolute path on the host")
            if labels.count(label) > 1:
                raise _invalid(where, option, path, "files with different names")
    parameters = _typed(options, "parameters", where, dict, "a mapping") or {}
    messages = _typed(options, "messages", where, list, "a list of messages") or []
    return Recipe(
        name,
        base,
        texts={key: text for key in _TEXTS for text in [_text(options, key, where)] if text},
        parameters={str(key): _parameter(str(key), value, where) for key, value in parameters.items()},
        messages=[_message(index, item, where) for index, item in enumerate(messages)],
        license=_texts(options, "license", where),
        paths=tuple(paths),
        adapter_paths=tuple(adapters),
    )


def with_files(recipe: Recipe, seen: t.Mapping[str, t.Any]) -> Recipe:
    """Return a recipe with the digests of its files.

    :param seen: the digest and the fingerprint of each path at the last build; unchanged files are not read again.
    :raises OllamaError: ``file_unreadable``.
    """
    files = _read_files(recipe.paths, "files", seen)
    return replace(recipe, files=files, adapters=_read_files(recipe.adapter_paths, "adapters", seen))


def _read_files(paths: t.Iterable[str], what: str, seen: t.Mapping[str, t.Any]) -> dict[str, File]:
    files: dict[str, File] = {}
    for path in paths:
        try:
            with open_named(path) as file:
                info = os.fstat(file.fileno())
        except OSError as exc:
            raise OllamaError("file_unreadable", f"{what}: cannot read {path!r}: {exc.strerror}", path=path) from None
        known = seen.get(path)
        digest = known[0] if known and known[1:] == fingerprint(info) else hash_file(path)
        if not digest or not info.st_size:
            raise OllamaError("file_unreadable", f"{what}: {path!r} cannot be read, or is empty", path=path)
        files[os.path.basename(path)] = File(path, digest, info.st_size)
    return files


def _invalid(where: str, option: str, value: t.Any, expected: str) -> OllamaError:
    return OllamaError("value_invalid", f"{where}{option}: invalid value {value!r}; expected {expected}")


def _typed(options: t.Mapping[str, t.Any], key: str, where: str, kind: type, expected: str) -> t.Any:
    value = options.get(key)
    if value is not None and not isinstance(value, kind):
        raise _invalid(where, key, value, expected)
    return value


def _text(options: t.Mapping[str, t.Any], key: str, where: str) -> str:
    return str(_typed(options, key, where, str, "a string") or "")


def _texts(options: t.Mapping[str, t.Any], key: str, where: str) -> list[str]:
    value = options.get(key)
    items = [value] if isinstance(value, str) and value else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise _invalid(where, key, value, "a list of strings")
    return list(items)


def _parameter(key: str, value: t.Any, where: str) -> t.Any:
    """Return a parameter in the type that the server expects, as a template can convert a number to a string."""
    if key == "stop":
        values = value if isinstance(value, list) else [value]
        if values and all(isinstance(item, str) and item for item in values):
            return values
        raise _invalid(where, "parameters.stop", value, "a list of strings")
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value.lower())
    if not isinstance(value, (bool, int, float)):
        raise _invalid(where, f"parameters.{key}", value, "a number, true or false")
    return value


def _message(index: int, item: t.Any, where: str) -> dict[str, str]:
    if (
        not isinstance(item, dict)
        or set(item) != {"role", "content"}
        or item["role"] not in _ROLES
        or not isinstance(item["content"], str)
    ):
        expected = f"a mapping with role ({', '.join(_ROLES)}) and content"
        raise _invalid(where, f"messages[{index}]", item, expected)
    return {"role": item["role"], "content": item["content"]}


@dataclass
class Shown:
    """The description of a model by ``/api/show``, in the terms of a recipe."""

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
        """Return the description in an answer of the server."""
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
    """Return the values of each parameter in the text that ``/api/show`` returns."""
    found: dict[str, list[t.Any]] = {}
    for line in text.splitlines():
        key, _space, value = line.strip().partition(" ")
        try:
            found.setdefault(key, []).append(json.loads(value))
        except ValueError:
            found.setdefault(key, []).append(value.strip())
    return found


def as_lists(parameters: t.Mapping[str, t.Any]) -> dict[str, list[t.Any]]:
    """Return parameters in the form of `parse_parameters`: each value is a list."""
    return {key: value if isinstance(value, list) else [value] for key, value in parameters.items()}


def is_made_by(recipe: Recipe, made: Shown, base: Shown | None) -> bool:
    """Return whether the server's description proves that a model was built from a recipe; false if unknown."""
    if "quantize" in recipe.texts or (base is None and "template" not in recipe.texts):
        # Quantized weights differ from their source, and no file contains a template that the server chose.
        return False
    weights = base.weights if base else frozenset(file.digest for file in recipe.files.values())
    adapters = frozenset(file.digest for file in recipe.adapters.values())
    texts = {**(base.texts if base else dict.fromkeys(made.texts, "")), **recipe.texts}
    return bool(weights) and (
        made.weights == weights
        and made.adapters == adapters | (base.adapters if base else frozenset())
        and made.texts == texts
        and made.parameters == {**(base.parameters if base else {}), **as_lists(recipe.parameters)}
        and made.messages == (recipe.messages or (base.messages if base else []))
        and made.license == ("\n".join(recipe.license) or (base.license if base else ""))
    )


def describe(recipe: Recipe) -> dict[str, t.Any]:
    """Return a recipe for a diff."""
    return {
        "from": str(recipe.base) if recipe.base else None,
        "files": {name: file.digest for name, file in recipe.files.items()},
        "adapters": {name: file.digest for name, file in recipe.adapters.items()},
        "parameters": as_lists(recipe.parameters),
        "messages": recipe.messages,
        "license": "\n".join(recipe.license),
        **recipe.texts,
    }
