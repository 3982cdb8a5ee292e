# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of declared models: names, or mappings with all options of a model. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import Name, parse, parse_digest
from .duration import FOREVER, parse_keep_alive
from .recipe import KEYS as RECIPE_KEYS
from .recipe import Recipe, parse_recipe

STATES = ("present", "latest", "absent")
VERIFY = ("changed", "full", "none")
KEYS = ("name", "state", "digest", "aliases", "source", "verify", "loaded", "keep_alive", "probe", *RECIPE_KEYS)
_PROBE_KEYS = ("gpu", "tokens_per_second")
# The keys that are valid for an absent model.
_ABSENT_KEYS = ("name", "state")
# Tokens per second; more is a mistake.
_FASTEST = 10**18


@dataclass(frozen=True)
class Demands:
    """The requirements of a test; a rate of 0 means none."""

    gpu: bool = False
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class DeclaredModel:
    """A declared model.

    :ivar pin: the manifest digest that the model must have.
    :ivar source: the path of a bundle that replaces all registries.
    :ivar verify: the verification mode of its blobs; None for the mode of the call.
    :ivar recipe: the recipe of a custom model; its files have not been read yet.
    :ivar keep: the seconds for which the model stays in memory, or None to unload it; only if `loaded` is set.
    :ivar probe: the requirements of a test of inference.
    """

    name: Name
    state: str = "present"
    pin: str | None = None
    aliases: tuple[Name, ...] = ()
    source: str | None = None
    verify: str | None = None
    recipe: Recipe | None = None
    loaded: bool | None = None
    keep: float | None = None
    probe: Demands | None = None


def parse_models(
    items: t.Any,
    *,
    state: str,
    allow_cloud: bool,
    locked: t.Mapping[str, str] | None = None,
    variable: str = "models",
) -> list[DeclaredModel]:
    """Parse the declared models: a list of names and of mappings with `KEYS`.

    :param state: the state of models without the key ``state``.
    :param allow_cloud: whether cloud models are valid.
    :param locked: pins by model name; the digest of a declaration has precedence.
    :param variable: the name of the list in messages.
    :raises OllamaError: ``name_invalid``, ``digest_invalid``, ``model_invalid``, ``value_invalid``,
        ``model_duplicate``, ``model_in_cloud``.
    """
    if isinstance(items, (str, bytes, dict)) or not isinstance(items, t.Iterable):
        raise OllamaError("model_invalid", f"{variable}: invalid value {items!r}; expected a list of models")
    pins = {
        parse(name, allow_cloud=True, what="lock").key: parse_digest(pin, what=f"lock: {name}")
        for name, pin in (locked or {}).items()
    }
    result: list[DeclaredModel] = []
    taken: dict[str, str] = {}
    for index, item in enumerate(items):
        model = _Element(f"{variable}[{index}]", item).parse(state, allow_cloud, pins)
        for used in (model.name, *model.aliases):
            if used.key in taken:
                raise OllamaError(
                    "model_duplicate", f"{variable}[{index}]: {used} is already declared by {taken[used.key]}"
                )
            taken[used.key] = f"{variable}[{index}]"
        result.append(model)
    return result


class _Element:
    """One element of the list.

    :param where: its place in messages, such as ``models[3]``.
    """

    def __init__(self, where: str, item: t.Any) -> None:
        self.where = where
        data = {"name": item} if isinstance(item, str) else item
        if not isinstance(data, dict) or not data.get("name"):
            raise OllamaError(
                "model_invalid", f"{where}: invalid value {item!r}; expected a name, or a mapping with name"
            )
        unknown = [key for key in data if key not in KEYS]
        if unknown:
            raise OllamaError("model_invalid", f"{where}: unknown key {unknown[0]!r}; expected {', '.join(KEYS)}")
        self.data: dict[str, t.Any] = {key: value for key, value in data.items() if value is not None}

    def parse(self, state: str, allow_cloud: bool, pins: t.Mapping[str, str]) -> DeclaredModel:
        """Return the declared model.

        :raises OllamaError: as `parse_models` does.
        """
        wanted = self._choice("state", STATES) or state
        name = parse(self.data["name"], allow_cloud=allow_cloud or wanted == "absent", what=f"{self.where}.name")
        verify, source = self._choice("verify", VERIFY), self._path("source")
        digest = self.data.get("digest")
        pin = parse_digest(digest, what=f"{self.where}.digest") if digest else pins.get(name.key)
        if wanted == "absent":
            extra = [key for key in self.data if key not in _ABSENT_KEYS and self.data[key] not in ([], False)]
            if extra:
                raise self._invalid(extra[0], self.data[extra[0]], "no such key with state absent")
            return DeclaredModel(name, wanted)
        recipe = self._recipe(name, wanted)
        loaded, keep = self._memory()
        return DeclaredModel(
            name,
            wanted,
            None if recipe else pin,
            self._aliases(),
            source,
            verify,
            recipe,
            loaded,
            keep,
            self._probe(),
        )

    def _invalid(self, key: str, value: t.Any, expected: str) -> OllamaError:
        return OllamaError("model_invalid", f"{self.where}.{key}: invalid value {value!r}; expected {expected}")

    def _choice(self, key: str, choices: t.Sequence[str]) -> str | None:
        value = self.data.get(key)
        # An empty value, such as one from a template, counts as missing.
        if value in (None, ""):
            return None
        if value not in choices:
            raise self._invalid(key, value, ", ".join(choices))
        return str(value)

    def _path(self, key: str) -> str | None:
        value = self.data.get(key)
        if not value:
            return None
        if not isinstance(value, str) or not value.startswith("/"):
            raise self._invalid(key, value, "an absolute path on the host")
        return value

    def _aliases(self) -> tuple[Name, ...]:
        value = self.data.get("aliases") or []
        if not isinstance(value, list):
            raise self._invalid("aliases", value, "a list of model names")
        return tuple(parse(alias, what=f"{self.where}.aliases") for alias in value)

    def _recipe(self, name: Name, state: str) -> Recipe | None:
        options = {key: self.data[key] for key in RECIPE_KEYS if self.data.get(key)}
        if not options:
            return None
        if not options.get("from") and not options.get("files"):
            key = next(iter(options))
            raise self._invalid(key, options[key], "from or files in the same element")
        for key in ("digest", "source"):
            if self.data.get(key):
                raise self._invalid(key, self.data[key], "no such key for a custom model")
        if state == "latest":
            raise self._invalid("state", state, "present or absent for a custom model")
        return parse_recipe(name, options, where=f"{self.where}.")

    def _memory(self) -> tuple[bool | None, float | None]:
        loaded = self.data.get("loaded")
        if loaded is not None and not isinstance(loaded, bool):
            raise self._invalid("loaded", loaded, "true or false")
        value = self.data.get("keep_alive")
        if value is None:
            return loaded, FOREVER if loaded else None
        if not loaded:
            raise self._invalid("keep_alive", value, "loaded: true in the same element")
        keep = parse_keep_alive(value, what=f"{self.where}.keep_alive")
        if keep == 0:
            raise self._invalid("keep_alive", value, "a duration above 0; use loaded: false")
        return loaded, keep

    def _probe(self) -> Demands | None:
        value = self.data.get("probe")
        if value is None or value is False:
            return None
        if value is True:
            return Demands()
        if not isinstance(value, dict) or set(value) - set(_PROBE_KEYS):
            raise self._invalid("probe", value, f"true, false, or a mapping with {', '.join(_PROBE_KEYS)}")
        gpu, rate = value.get("gpu", False), value.get("tokens_per_second", 0)
        if not isinstance(gpu, bool):
            raise self._invalid("probe.gpu", gpu, "true or false")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= _FASTEST:
            raise self._invalid("probe.tokens_per_second", rate, "a number of 0 or more")
        return Demands(gpu, float(rate))
