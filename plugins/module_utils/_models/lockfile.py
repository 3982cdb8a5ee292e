# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file: the manifest digest of each tag of the declared models, so that all hosts install the same models.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import re
import reprlib
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import DEFAULT_HOST, Name, parse, parse_digest
from .declaration import DeclaredModel, parse_models
from .registry import PROXY_HINT, Offer, Source, look_up

HEADER = """\
---
# The manifest digest of each tag of the declared models, written by kaido.ollama.lock; keep it with the inventory.
# As long as this file exists, hosts get exactly these manifests. The digests are valid for servers of all versions.
"""
_KEYS = ("digest", "size", "date")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
_AT_ONCE = 8
# A placeholder in messages about one declaration, which is replaced by the place of the declaration.
_ONLY = "ollama_models"
_PROXY_HINT = "set HTTPS_PROXY of ollama_lock_registry_environment if a proxy is required"
REWRITE = "rewrite it with the playbook kaido.ollama.lock"


@dataclass(frozen=True)
class Locked:
    """The entry of a tag: the digest of its manifest, the size of the model in bytes, and the date of its lock."""

    digest: str
    size: int
    date: str


Lock = t.Dict[str, Locked]


def parse_lock(data: t.Any, *, what: str) -> Lock:
    """Return the entries of a lock file by model name, in the notation of Ollama.

    :param what: the name of the file in messages.
    :raises OllamaError: ``lockfile_invalid``, with the place of the error and the expected content.
    """
    try:
        return _parse_lock(data, what)
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Values that cannot be shown: they are too deep, too long or of unexpected types.
        raise OllamaError("lockfile_invalid", f"{what}: it is not a lock file; {REWRITE}") from None


def _parse_lock(data: t.Any, what: str) -> Lock:
    def invalid(where: str, why: str) -> OllamaError:
        return OllamaError("lockfile_invalid", f"{what}: {where}{why}; {REWRITE}")

    if not isinstance(data, dict):
        raise invalid(
            "",
            f"invalid content ({type(data).__name__ if data is not None else 'nothing'}); expected a mapping of models",
        )
    lock: Lock = {}
    keys: set[str] = set()
    for text, row in data.items():
        try:
            name = str(parse(text, allow_cloud=True))
        except OllamaError as exc:
            raise invalid("", exc.message) from None
        where = f"{name}: "
        if not isinstance(row, dict) or set(row) != set(_KEYS):
            # YAML aliases can make the complete text of a small file huge.
            shown = reprlib.repr(sorted(row, key=str) if isinstance(row, dict) else row)
            raise invalid(where, f"invalid value {shown}; expected exactly the keys {', '.join(_KEYS)}")
        if not isinstance(row["digest"], str):
            raise invalid(where, f"invalid digest {reprlib.repr(row['digest'])}; expected a string")
        try:
            digest = parse_digest(row["digest"], what=f"{text}.digest")
        except OllamaError as exc:
            raise invalid("", exc.message) from None
        if isinstance(row["size"], bool) or not isinstance(row["size"], int) or not 0 < row["size"] < 1 << 63:
            raise invalid(where, f"invalid size {reprlib.repr(row['size'])}; expected a number of bytes")
        if not isinstance(row["date"], (str, datetime.date)) or not _DATE.match(str(row["date"])):
            raise invalid(where, f"invalid date {reprlib.repr(row['date'])}; expected the form 2026-11-22")
        key = parse(text, allow_cloud=True).key
        if key in keys:
            raise invalid(where, "duplicate entry")
        keys.add(key)
        lock[name] = Locked(digest, row["size"], str(row["date"]))
    return lock


def render(lock: Lock) -> str:
    """Return the text of a lock file."""
    rows = [
        f'"{name}":\n  digest: {row.digest}\n  size: {row.size}\n  date: "{row.date}"\n'
        for name, row in sorted(lock.items())
    ]
    return HEADER + ("".join(rows) or "{}\n")


def flatten(hosts: t.Mapping[str, t.Any]) -> tuple[list[t.Any], list[str]]:
    """Return the models that hosts declare, and the place of each, such as ``hecate: ollama_models[0]``.

    :param hosts: the value of ollama_models by host.
    :raises OllamaError: ``model_invalid`` for a value that is not a list.
    """
    items: list[t.Any] = []
    places: list[str] = []
    for host, models in hosts.items():
        if not isinstance(models, list):
            raise OllamaError(
                "model_invalid",
                f"{host}: ollama_models: invalid value {reprlib.repr(models)}; expected a list of models, [] for none",
            )
        items += models
        places += [f"{host}: ollama_models[{index}]" for index in range(len(models))]
    return items, places


def declared(items: t.Iterable[t.Any], places: t.Sequence[str] = ()) -> dict[Name, str | None]:
    """Return the models that hosts declare as present, each once, with the digest that a declaration pins.

    :param places: the place of each declaration in messages; by default its index.
    """
    found: dict[str, tuple[Name, str | None]] = {}
    pinned_in: dict[str, str] = {}
    for index, item in enumerate(items):
        place = places[index] if places else f"ollama_models[{index}]"
        wanted = _parse(item, place)
        if not _is_locked(wanted):
            continue
        key = wanted.name.key
        name, pin = found.get(key, (wanted.name, None))
        if pin and wanted.pin and pin != wanted.pin:
            raise OllamaError(
                "model_invalid",
                f"{place}.digest: {name} is pinned to {wanted.pin}, but {pinned_in[key]} pins it to {pin}; expected one"
                " digest on all hosts",
            )
        if wanted.pin:
            pinned_in.setdefault(key, place)
        found[key] = (name, wanted.pin or pin)
    return dict(found.values())


def _parse(item: t.Any, place: str) -> DeclaredModel:
    """Parse one declaration; errors contain its place."""
    try:
        [wanted] = parse_models([item], state="present", allow_cloud=True, variable=_ONLY)
    except OllamaError as exc:
        raise OllamaError(exc.code, exc.message.replace(f"{_ONLY}[0]", place, 1), **exc.details) from None
    return wanted


def _is_locked(wanted: DeclaredModel) -> bool:
    """Return whether a declared model has a tag in a registry."""
    return wanted.state != "absent" and not wanted.recipe and not wanted.source


def _places_of(items: t.Iterable[t.Any], places: t.Sequence[str]) -> dict[str, list[str]]:
    """Return the places that declare a model as present, by model key."""
    found: dict[str, list[str]] = {}
    for item, place in zip(items, places):
        wanted = _parse(item, place)
        if _is_locked(wanted):
            found.setdefault(wanted.name.key, []).append(place + (".digest" if wanted.pin else ""))
    return found


def digests(lock: Lock, models: t.Iterable[t.Any], *, what: str) -> dict[str, str]:
    """Return the locked digests by name.

    :raises OllamaError: ``model_not_locked`` for a model that has neither a pin nor an entry.
    """
    locked = set(_by_key(lock))
    missing = [str(name) for name, pin in declared(models).items() if not pin and name.key not in locked]
    if missing:
        raise OllamaError(
            "model_not_locked",
            f"{what}: no entry for {', '.join(missing)}; {REWRITE}",
            missing=missing,
        )
    return {name: row.digest for name, row in lock.items()}


def _by_key(lock: Lock) -> dict[str, tuple[str, Locked]]:
    """Return the entries of a lock by the keys of their names, which ignore case."""
    return {parse(name, allow_cloud=True).key: (name, row) for name, row in lock.items()}


@dataclass
class Relocked:
    """The result of `relock`.

    :ivar held: sentences about models whose tag has moved but whose locked digest is kept.
    """

    lock: Lock
    warnings: list[str]
    held: list[str]


def relock(
    items: t.Sequence[t.Any],
    old: Lock,
    *,
    mirrors: t.Sequence[Source],
    mirrors_trusted: bool,
    insecure: bool,
    today: str,
    only_new: bool = False,
    places: t.Sequence[str] = (),
    environment: t.Mapping[str, str] | None = None,
) -> Relocked:
    """Look up the manifests of the tags of declared models, and return the new lock.

    The digest is that of the manifest that registries serve to servers before 0.40. For some tags, they serve a list of
    variants to newer servers, which select the same manifest from it.

    :param mirrors_trusted: whether the digest that a mirror offers is locked if the public registry is unreachable.
    :param insecure: whether the registry of a model may use plain HTTP.
    :param today: the date of new entries, such as 2026-11-22.
    :param only_new: whether the entries of models that are locked already are kept.
    :param places: the place of each declaration in messages.
    :param environment: environment variables for the requests, instead of those of this process.
    :raises OllamaError: if the tag of a model cannot be looked up, with the code of the first failure and the messages
        of all failures.
    """
    places = places or [f"ollama_models[{index}]" for index in range(len(items))]
    wanted = declared(items, places)
    where = _places_of(items, places)
    before = _by_key(old)
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(
            pool.map(lambda name: _ask(name, wanted[name], mirrors, mirrors_trusted, insecure, environment), wanted)
        )
    failures = [
        _with_places(answer, where[name.key])
        for name, answer in zip(wanted, answers)
        if isinstance(answer, OllamaError) and not (only_new and name.key in before)
    ]
    if failures:
        raise OllamaError(
            failures[0].code, "; ".join(failure.message for failure in failures), **dict(failures[0].details)
        )
    done = Relocked({}, [], [])
    for name, answer in zip(wanted, answers):
        _spelling, row = before.get(name.key, (None, None))
        if only_new and row:
            done.lock[str(name)] = row
            done.held += _held(name, row, answer, where[name.key])
            continue
        offer, notes = t.cast("tuple[Offer, list[str]]", answer)
        done.warnings += notes
        same = row is not None and row.digest == offer.chosen.digest
        done.lock[str(name)] = Locked(offer.chosen.digest, offer.chosen.size, row.date if row and same else today)
    return done


def _with_places(failure: OllamaError, places: t.Sequence[str]) -> OllamaError:
    return OllamaError(failure.code, f"{failure.message} ({', '.join(places)})", **failure.details)


def _held(name: Name, row: Locked, answer: tuple[Offer, list[str]] | OllamaError, places: t.Sequence[str]) -> list[str]:
    """Return why the locked digest of a model differs from the current one, in at most one sentence."""
    kept = f"{name} stays at {row.digest[:19]} of {row.date}"
    if isinstance(answer, OllamaError):
        return [f"{kept}: {answer.message} ({', '.join(places)})"]
    digest = answer[0].chosen.digest
    return [] if digest == row.digest else [f"{kept}: the tag has moved to {digest[:19]} ({', '.join(places)})"]


def _ask(
    name: Name,
    pin: str | None,
    mirrors: t.Sequence[Source],
    mirrors_trusted: bool,
    insecure: bool,
    environment: t.Mapping[str, str] | None,
) -> tuple[Offer, list[str]] | OllamaError:
    upstream = Source(name.host, insecure)
    notes: list[str] = []
    failures: list[OllamaError] = []
    for source in [upstream, *(mirrors if name.host == DEFAULT_HOST else ())]:
        try:
            offer = look_up(source, name, lists=False, environment=environment)
            newer = look_up(source, name, lists=True, environment=environment)
        except OllamaError as exc:
            failures.append(OllamaError(exc.code, exc.message.replace(PROXY_HINT, _PROXY_HINT), **exc.details))
            continue
        if failures:
            if not mirrors_trusted and not (pin and (offer.satisfies(pin) or newer.satisfies(pin))):
                return OllamaError(
                    "mirror_unverified",
                    f"{name}: {failures[0].message}; no other source confirms the digest of {source}; pin the"
                    " model, or set ollama_mirrors_trusted: true",
                    name=str(name),
                )
            notes.append(f"{name}: {failures[0].message}; the digest of {source} is used")
        if newer.chosen.digest != offer.chosen.digest:
            notes.append(
                f"{name}: {source} serves {newer.chosen.digest} to servers of 0.40 and newer and"
                f" {offer.chosen.digest} to older ones; only the latter is locked"
            )
        if pin and not offer.satisfies(pin) and not newer.satisfies(pin):
            return OllamaError(
                "digest_not_offered",
                f"{name}: pinned to {pin}; {source} offers {offer.digest}",
                name=str(name),
                pinned=pin,
                offered=offer.digest,
            )
        return offer, notes
    return failures[0]


def moves(old: Lock, new: Lock) -> list[str]:
    """Return the differences between two locks as sentences."""
    olds, news = _by_key(old), _by_key(new)
    found = []
    for key in sorted({*olds, *news}):
        before, after = olds.get(key), news.get(key)
        if before and after and before[1].digest != after[1].digest:
            kept = f"{before[1].digest[:19]} of {before[1].date}"
            found.append(f"{after[0]} moved from {kept} to {after[1].digest[:19]}")
        elif not before and after:
            found.append(f"{after[0]} is new: {after[1].digest[:19]}")
        elif before and not after:
            found.append(f"{before[0]} is no longer declared")
    return found
