# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a host: those in its store, those that its server lists and those that are declared.

The functions read the sizes of blobs, not their contents, and change nothing.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .._server.api import Client
from .._store.audit import audit
from .._store.findings import DEFAULT_PATH, Findings
from .._store.layout import Entry
from .._store.partials import partials_of
from .._store.state import Memory
from .._store.store import Store
from .._store.verification import last_verified
from .declaration import DeclaredModel
from .installed import list_models


@dataclass
class Served:
    """The answers of a server: its version, its models and the loaded ones by key; or the ``failure``."""

    version: str | None = None
    failure: str | None = None
    models: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    running: dict[str, dict[str, t.Any]] = field(default_factory=dict)


def ask(server: Client) -> Served:
    """Return the answers of a server. Errors are returned in ``failure``."""
    served = Served()
    try:
        served.version = server.version()
        served.models = list_models(server)
        for row in server.running():
            key = _key(row["name"])
            if key:
                served.running[key] = row
    except OllamaError as exc:
        served.failure = exc.message
    return served


def _key(name: str) -> str | None:
    try:
        return parse(name, allow_cloud=True).key
    except OllamaError:
        return None


def model_rows(
    store: Store, memory: Memory, declared: t.Sequence[DeclaredModel], served: Served, entries: t.Sequence[Entry]
) -> list[dict[str, t.Any]]:
    """Return a row for each model that is declared, in the store or listed by the server, sorted by name.

    :param entries: the models of the store, empty if it cannot be read.
    """
    present = [item for item in declared if item.state != "absent"]
    names: dict[str, Name] = {item.name.key: item.name for item in present}
    alias_of = {alias.key: str(item.name) for item in present for alias in item.aliases}
    names.update((alias.key, alias) for item in present for alias in item.aliases)
    names.update((entry.name.key, entry.name) for entry in entries)
    names.update((key, parse(row["name"], allow_cloud=True)) for key, row in served.models.items() if key not in names)
    found = {entry.name.key: entry for entry in entries}
    wanted = {item.name.key for item in present} | set(alias_of)
    damage = audit(store, [blob for entry in entries for blob in entry.blobs], memory, mode="none").damage
    rows = []
    for key, name in names.items():
        entry, listed, loaded = found.get(key), served.models.get(key), served.running.get(key)
        problems = ([entry.problem] if entry.problem else []) if entry else []
        blobs = [damage[blob.digest] for blob in entry.blobs if blob.digest in damage] if entry else []
        verified = last_verified(store, memory, entry) if entry and not problems and not blobs else None
        state = "missing" if not (entry or listed) else "damaged" if problems or blobs else "not_checked"
        rows.append(
            {
                "name": str(name),
                "alias_of": alias_of.get(key),
                "declared": key in wanted,
                "state": "verified" if verified else state,
                "verified_at": verified,
                "digest": (entry.digest or None) if entry else f"sha256:{listed.get('digest')}" if listed else None,
                "size": entry.size if entry else listed.get("size", 0) if listed else 0,
                "problems": problems + [str(item) for item in blobs],
                "damaged_blobs": len(blobs),
                "loaded": bool(loaded),
                "memory_bytes": loaded.get("size", 0) if loaded else 0,
                "vram_bytes": loaded.get("size_vram", 0) if loaded else 0,
            }
        )
    return sorted(rows, key=lambda row: str(row["name"]))


def store_facts(store: Store) -> tuple[dict[str, t.Any], list[Entry]]:
    """Return the state of a store and its models. An unreadable store has a ``failure`` and no models."""
    facts: dict[str, t.Any] = {"path": store.root, "failure": None, "bytes_total": None, "bytes_free": None}
    facts.update(leftovers=0, leftover_bytes=0, partials=0, partial_bytes=0)
    if not store.readable:
        exists = os.path.lexists(store.root)
        facts["failure"] = "cannot be read" if exists else "does not exist"
        return facts, []
    try:
        entries = store.entries()
        leftovers, partials = store.orphans(entries), partials_of(store)
        with store.acting():
            disk = os.statvfs(store.root)
    except OllamaError as exc:
        return {**facts, "failure": exc.message}, []
    except OSError as exc:
        return {**facts, "failure": exc.strerror}, []
    facts.update(
        bytes_total=disk.f_blocks * disk.f_frsize,
        bytes_free=disk.f_bavail * disk.f_frsize,
        leftovers=len(leftovers),
        leftover_bytes=sum(row["size"] for row in leftovers),
        partials=len(partials),
        partial_bytes=sum(row["disk_bytes"] for row in partials),
    )
    return facts, entries


def scheduled_verification(path: str = DEFAULT_PATH) -> dict[str, t.Any] | None:
    """Return the time and the damaged models of the last scheduled verification, or None if there was none."""
    findings = Findings.load(path)
    if not findings.finished:
        return None
    return {"finished_at": int(findings.finished), "damaged": sorted(findings.models)}
