# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file: which manifest each tag stood for when somebody last looked, so that all hosts get the same.

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
from .declaration import parse_models
from .registry import Offer, Source, look_up

HEADER = """\
---
# What each tag of the declared models stood for on that date, written by kaido.ollama.lock; keep it with the inventory.
# While it exists, hosts get exactly these manifests. Digests are those that servers of all versions can be held to.
"""
_KEYS = ("digest", "size", "date")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
_AT_ONCE = 8
REWRITE = "rewrite it with the playbook kaido.ollama.lock"


@dataclass(frozen=True)
class Locked:
    """A tag's line: digest of the manifest, bytes of the model, and the day it was first seen so."""

    digest: str
    size: int
    date: str


Lock = t.Dict[str, Locked]


def parse_lock(data: t.Any, *, what: str) -> Lock:
    """Read what a lock file holds, by model name as Ollama shows it.

    :param what: the file, for messages.
    :raises OllamaError: ``invalid_lock``, saying where and what is expected.
    """
    try:
        return _parse_lock(data, what)
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Values that cannot even be shown: too deep, too long, of other kinds.
        raise OllamaError("invalid_lock", f"{what}: it is no lock file; {REWRITE}") from None


def _parse_lock(data: t.Any, what: str) -> Lock:
    def invalid(where: str, why: str) -> OllamaError:
        return OllamaError("invalid_lock", f"{what}: {where}{why}; {REWRITE}")

    if not isinstance(data, dict):
        raise invalid("", f"it holds {type(data).__name__ if data is not None else 'nothing'}, not a mapping of models")
    lock: Lock = {}
    for text, row in data.items():
        try:
            name = str(parse(text, allow_cloud=True))
        except OllamaError as exc:
            raise invalid("", exc.message) from None
        where = f"{name}: "
        if not isinstance(row, dict) or set(row) != set(_KEYS):
            # Aliases make a small file huge when it is shown in full.
            keys = reprlib.repr(sorted(row, key=str) if isinstance(row, dict) else row)
            raise invalid(where, f"invalid value {keys}; expected exactly the keys {', '.join(_KEYS)}")
        if not isinstance(row["digest"], str):
            raise invalid(where, f"invalid digest {reprlib.repr(row['digest'])}; expected a text")
        try:
            digest = parse_digest(row["digest"], what=f"{text}.digest")
        except OllamaError as exc:
            raise invalid("", exc.message) from None
        if isinstance(row["size"], bool) or not isinstance(row["size"], int) or not 0 < row["size"] < 1 << 63:
            raise invalid(where, f"invalid size {reprlib.repr(row['size'])}; expected a number of bytes")
        if not isinstance(row["date"], (str, datetime.date)) or not _DATE.match(str(row["date"])):
            raise invalid(where, f"invalid date {reprlib.repr(row['date'])}; expected the form 2026-11-22")
        if name in lock:
            raise invalid(where, "duplicate entry")
        lock[name] = Locked(digest, row["size"], str(row["date"]))
    return lock


def render(lock: Lock) -> str:
    """Return the text of a lock file."""
    rows = [
        f'"{name}":\n  digest: {row.digest}\n  size: {row.size}\n  date: "{row.date}"\n'
        for name, row in sorted(lock.items())
    ]
    return HEADER + ("".join(rows) or "{}\n")


def declared(items: t.Iterable[t.Any]) -> dict[Name, str | None]:
    """Return the models that hosts want to have, each once, with the digest that a declaration itself pins."""
    found: dict[str, tuple[Name, str | None]] = {}
    for item in items:
        [wanted] = parse_models([item], state="present", allow_cloud=True)
        if wanted.state == "absent" or wanted.recipe or wanted.source:
            continue
        _name, pin = found.get(wanted.name.key, (None, None))
        if pin and wanted.pin and pin != wanted.pin:
            raise OllamaError(
                "invalid_model", f"{wanted.name}: hosts pin it to {pin} and to {wanted.pin}; allowed is one digest"
            )
        found[wanted.name.key] = (wanted.name, wanted.pin or pin)
    return dict(found.values())


def digests(lock: Lock, models: t.Iterable[t.Any], *, what: str) -> dict[str, str]:
    """Return the locked digests by name; raises ``not_locked`` where a declared model has neither pin nor lock."""
    missing = [str(name) for name, pin in declared(models).items() if not pin and str(name) not in lock]
    if missing:
        raise OllamaError(
            "not_locked",
            f"{what}: no line for {', '.join(missing)}; {REWRITE}",
            missing=missing,
        )
    return {name: row.digest for name, row in lock.items()}


def relock(
    items: t.Iterable[t.Any],
    old: Lock,
    *,
    mirrors: t.Sequence[Source],
    mirrors_trusted: bool,
    insecure: bool,
    today: str,
    environment: t.Mapping[str, str] | None = None,
) -> tuple[Lock, list[str]]:
    """Ask the registries what the declared models' tags stand for now; returns the new lock and warnings.

    The digest is that of the manifest which servers before 0.40 are given. Newer ones are given a list for some tags,
    and choose from it the very same manifest.

    :param mirrors_trusted: lock the digest that a mirror offers where the public registry cannot be asked.
    :param environment: variables for the requests, in place of this process's own.
    :raises OllamaError: where a tag cannot be asked for; of several failures the first, with all of them in its text.
    """
    wanted = declared(items)
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(
            pool.map(lambda name: _ask(name, wanted[name], mirrors, mirrors_trusted, insecure, environment), wanted)
        )
    failures = [answer for answer in answers if isinstance(answer, OllamaError)]
    if failures:
        raise OllamaError(
            failures[0].code, "; ".join(failure.message for failure in failures), **dict(failures[0].details)
        )
    lock: Lock = {}
    warnings: list[str] = []
    for name, answer in zip(wanted, answers):
        offer, notes = t.cast("tuple[Offer, list[str]]", answer)
        warnings += notes
        before = old.get(str(name))
        same = before is not None and before.digest == offer.chosen.digest
        date = before.date if before and same else today
        lock[str(name)] = Locked(offer.chosen.digest, offer.chosen.size, date)
    return lock, warnings


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
            failures.append(exc)
            continue
        if failures:
            if not mirrors_trusted and not (pin and (offer.satisfies(pin) or newer.satisfies(pin))):
                return OllamaError(
                    "mirror_unverified",
                    f"{name}: {failures[0].message}; nothing confirms the digest that {source} offers; pin the model,"
                    " or set ollama_mirrors_trusted: true",
                    name=str(name),
                )
            notes.append(f"{name}: {failures[0].message}; the digest of {source} is used")
        if newer.chosen.digest != offer.chosen.digest:
            notes.append(
                f"{name}: servers of 0.40 and newer are given {newer.chosen.digest} by {source}, older ones"
                f" {offer.chosen.digest}; the lock can hold only the latter"
            )
        if pin and not offer.satisfies(pin) and not newer.satisfies(pin):
            return OllamaError(
                "digest_not_offered",
                f"{name}: pinned is {pin}, but {source} offers {offer.digest}",
                name=str(name),
                pinned=pin,
                offered=offer.digest,
            )
        return offer, notes
    return failures[0]


def moves(old: Lock, new: Lock) -> list[str]:
    """Return what differs between two locks, as short sentences."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before and after and before.digest != after.digest:
            found.append(f"{name} moved from {before.digest[:19]} of {before.date} to {after.digest[:19]}")
        elif not before and after:
            found.append(f"{name} is new: {after.digest[:19]}")
        elif before and not after:
            found.append(f"{name} is no longer declared")
    return found
