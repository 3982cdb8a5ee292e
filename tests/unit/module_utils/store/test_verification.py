# SPDX-License-Identifier: GPL-3.0-or-later
"""When a model was verified is known from what was hashed, and only while the file has not changed since."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.module_utils._store.verification import last_verified

from tests.conftest import ROOT


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(ROOT / "tests/fixtures/store-v1", tmp_path / "models")
    return Store(str(tmp_path / "models"))


def test_the_time_of_the_oldest_blob_is_kept_across_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [entry, *_others] = [found for found in store.entries() if not found.problem]
    path = str(tmp_path / "state" / "store.json")
    memory = Memory.load(path)
    assert last_verified(store, memory, entry) is None
    first, *_rest = entry.blobs
    monkeypatch.setattr(time, "time", lambda: 1000.5)
    audit(store, [first], memory)
    assert last_verified(store, memory, entry) is None, "the other blobs were never hashed"
    monkeypatch.setattr(time, "time", lambda: 2000.5)
    audit(store, entry.blobs, memory)
    memory.save()
    assert last_verified(store, Memory.load(path), entry) == 1000
    audit(store, entry.blobs, memory, mode="full")
    memory.save_verified(seconds=0)
    assert last_verified(store, Memory.load(path), entry) == 2000


def test_a_file_that_changed_since_counts_as_not_verified(store: Store) -> None:
    entry = next(found for found in store.entries() if not found.problem)
    memory = Memory(os.devnull)
    audit(store, entry.blobs, memory)
    assert last_verified(store, memory, entry)
    os.utime(store.blob_path(entry.blobs[0].digest), (1, 1))
    assert last_verified(store, memory, entry) is None
    os.unlink(store.blob_path(entry.blobs[0].digest))
    assert last_verified(store, memory, entry) is None
