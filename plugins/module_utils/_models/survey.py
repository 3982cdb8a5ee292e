# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of declared models on the server and on the disk, and the disk space that pulls require.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from .._core.errors import OllamaError
from .._core.name import Name
from .._core.progress import human
from .._store.audit import audit
from .._store.layout import Entry
from .._store.partials import partials_of
from .._store.store import Store
from .plan import Found, Pull
from .session import Session

Listed = t.Mapping[str, t.Mapping[str, t.Any]]


def survey(session: Session, modes: t.Mapping[Name, str], listed: Listed) -> dict[str, Found]:
    """Return the state of each name by key.

    :param modes: the verification mode of each name, as in `audit`.
    :param listed: the models that the server lists, by key.
    :raises OllamaError: ``store_mismatch`` if the server has a model that the store does not have.
    """
    entries: dict[str, tuple[Entry, str]] = {}
    result: dict[str, Found] = {}
    for name, mode in modes.items():
        entry = session.store.find(name) if session.store else None
        if entry:
            entries[name.key] = entry, mode
            known = session.memory.known_as(entry)
            result[name.key] = Found(entry.digest, entry.size, known, entry.problem, on_disk=True)
        else:
            result[name.key] = _listed(session.store, name, listed.get(name.key))
    for mode in sorted({mode for _entry, mode in entries.values()}):
        _verify(session, {key: entry for key, (entry, used) in entries.items() if used == mode}, mode, result)
    return result


def _listed(store: Store | None, name: Name, row: t.Mapping[str, t.Any] | None) -> Found:
    if not row:
        return Found()
    if store and not row.get("remote_host"):
        raise OllamaError(
            "store_mismatch",
            f"models_dir: the server has {name}, but {store.root} does not; expected OLLAMA_MODELS of the server",
        )
    digest = "sha256:" + str(row.get("digest", ""))
    return Found(digest, int(row.get("size", 0)), frozenset([digest]))


def _verify(session: Session, entries: t.Mapping[str, Entry], mode: str, result: dict[str, Found]) -> None:
    blobs = [blob for entry in entries.values() for blob in entry.blobs]
    seen = audit(t.cast(Store, session.store), blobs, session.memory, mode=mode)
    session.count(seen)
    for key, entry in entries.items():
        result[key].damage = tuple(seen.damage[b.digest] for b in entry.blobs if b.digest in seen.damage)


def missing_bytes(session: Session, pulls: t.Iterable[tuple[Pull, Found]]) -> tuple[int, int]:
    """Return the number of bytes that pulls must still write, and how many of them replace bytes on the disk."""
    need: dict[str, int] = {}
    room: dict[str, int] = {}
    store = session.store
    partials = {part["digest"]: part for part in partials_of(store)} if store and store.readable else {}
    for pull, before in pulls:
        offer = pull.candidates[0].offer
        bad = {damage.blob.digest for damage in before.damage}
        for digest, size in (offer.blobs if offer else {}).items():
            there = store.blob_info(digest) if store else None
            if digest in bad or not there:
                # A copy from a bundle does not continue a download.
                part = None if pull.candidates[0].source.is_bundle else partials.get(digest)
                completed = part["completed"] if part else 0
                need[digest] = max(0, size - completed)
                room[digest] = (part["disk_bytes"] if part else 0) - completed
                if there:  # a damaged blob is removed before the pull
                    room[digest] += there.st_blocks * 512
    return sum(need.values()), sum(min(need[digest], max(0, room[digest])) for digest in need)


def check_space(store: Store, missing: int, reused: int) -> int:
    """Return the number of free bytes.

    :raises OllamaError: ``disk_full`` if they are not sufficient.
    """
    free = store.free_bytes()
    if missing > free + reused:
        raise OllamaError(
            "disk_full",
            f"the models need {human(missing)} more, but only {human(free)} are free on the disk of {store.root}",
            needed_bytes=missing,
            free_bytes=free,
        )
    return free
