# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit a model store on the disk without a server, and return the findings.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .audit import audit
from .layout import Entry
from .partials import partials_of
from .state import Memory
from .store import Store


@dataclass
class Report:
    """The findings of an audit. The row of an intact model has no problems.

    :ivar repairable: the damaged models with a name that a server accepts.
    """

    models: list[dict[str, t.Any]]
    repairable: list[Name]
    orphans: list[dict[str, t.Any]]
    partials: list[dict[str, t.Any]]
    blobs: int
    hashed_blobs: int
    hashed_bytes: int

    @property
    def damaged(self) -> list[str]:
        """The names of the models that do not match their digests."""
        return [row["name"] for row in self.models if row["problems"]]

    def to_dict(self) -> dict[str, t.Any]:
        """Return the report for the result of a module."""
        return {
            "models": self.models,
            "damaged": self.damaged,
            "orphans": self.orphans,
            "partials": self.partials,
            "blobs": self.blobs,
            "hashed_blobs": self.hashed_blobs,
            "hashed_bytes": self.hashed_bytes,
        }


def verify(store: Store, memory: Memory, names: t.Sequence[Name], *, mode: str, threads: int | None = None) -> Report:
    """Audit models.

    :param names: the models; empty means all.
    :param mode: ``changed`` or ``full``, as in `audit`.
    :raises OllamaError: ``model_missing`` for a name that the store does not contain, ``store_unreadable``.
    """
    if not store.readable:
        raise OllamaError(
            "store_unreadable",
            f"models_dir: cannot read {store.root}; expected a model store that its owner can read, and become: true",
        )
    every = store.entries()
    chosen = every
    if names:
        by_key = {entry.name.key: entry for entry in every}
        unknown = [str(name) for name in names if name.key not in by_key]
        if unknown:
            raise OllamaError(
                "model_missing", f"names: {', '.join(unknown)}: no such model in {store.root}", names=unknown
            )
        chosen = [by_key[name.key] for name in names]
    seen = audit(store, [blob for entry in chosen for blob in entry.blobs], memory, mode=mode, threads=threads)

    def row(entry: Entry) -> dict[str, t.Any]:
        damage = [seen.damage[blob.digest] for blob in entry.blobs if blob.digest in seen.damage]
        problems = ([entry.problem] if entry.problem else []) + [str(item) for item in damage]
        return {
            "name": str(entry.name),
            "digest": entry.digest or None,
            "size": entry.size,
            "problems": problems,
            "verified_at": None if problems else last_verified(store, memory, entry),
            "damage": [item.to_dict() for item in damage],
        }

    return Report(
        models=(models := [row(entry) for entry in chosen]),
        repairable=[e.name for e, found in zip(chosen, models) if found["problems"] and _can_be_pulled(e.name)],
        orphans=store.orphans(every),
        partials=partials_of(store),
        blobs=len({blob.digest for entry in chosen for blob in entry.blobs}),
        hashed_blobs=seen.hashed_blobs,
        hashed_bytes=seen.hashed_bytes,
    )


def add_missing(report: Report, declared: t.Sequence[Name], store: Store) -> Report:
    """Add a row for each declared model that the store does not have, and return the report."""
    present = {entry.name.key for entry in store.entries()}
    for name in declared:
        if name.key not in present:
            row: dict[str, t.Any] = {"name": str(name), "digest": None, "size": 0, "verified_at": None, "damage": []}
            report.models.append({**row, "problems": [f"declared, but missing in {store.root}"]})
            report.repairable.append(name)
    return report


def _can_be_pulled(name: Name) -> bool:
    try:
        return parse(str(name), allow_cloud=True) == name
    except OllamaError:
        return False


def failures(report: Report, fail_on: t.Collection[str]) -> list[str]:
    """Return a sentence for each finding of the kinds in ``fail_on``."""
    found: list[str] = []
    if "damage" in fail_on:
        found += [f"{row['name']}: {problem}" for row in report.models for problem in row["problems"]]
    if "orphans" in fail_on and report.orphans:
        found.append(f"{len(report.orphans)} files that no model needs, such as {report.orphans[0]['file'][:19]}")
    if "partials" in fail_on and report.partials:
        found.append(f"{len(report.partials)} unfinished downloads, such as {report.partials[0]['digest'][:19]}")
    return found


def last_verified(store: Store, memory: Memory, entry: Entry) -> int | None:
    """Return the time when all blobs of a model had been hashed and were intact, in seconds since the epoch.

    None if a blob has never been hashed or its file has changed since. Contents are not read.
    """
    times: list[int] = []
    with store.acting():
        for blob in entry.blobs:
            damage, seen = store.check_size(blob)
            if damage or memory.verified.get(blob.digest) != seen or blob.digest not in memory.verified_at:
                return None
            times.append(memory.verified_at[blob.digest])
    return min(times, default=None)
