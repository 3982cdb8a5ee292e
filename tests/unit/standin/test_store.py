# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of the stand-in: pruning at start, and look-ups of manifests."""

from __future__ import annotations

import os
import pathlib
import shutil
import time

import pytest

from tests import standin
from tests.conformance.target import Target
from tests.standin.registry import FIXTURES, make_model

OLD = time.time() - 7200
NAMES = {1: "0.35.1", 2: "0.40.2"}


def _store(tmp_path: pathlib.Path, generation: int) -> pathlib.Path:
    target = tmp_path / "models"
    shutil.copytree(FIXTURES / f"store-v{generation}", target, symlinks=True)
    return target


def _age(path: pathlib.Path) -> None:
    os.utime(path, (OLD, OLD))


@pytest.mark.parametrize("generation", [1, 2])
def test_a_store_of_a_real_server_is_read(tmp_path: pathlib.Path, generation: int) -> None:
    with standin.running(NAMES[generation], _store(tmp_path, generation)) as server:
        rows = Target(server.url, None).rows("")
    found = {row["name"]: row["digest"][:12] for row in rows}
    expected = {"tiny:latest": "955b7d0ce649", "kaido/tiny2:q8": "e04039b2c9f3"}
    assert found == expected | ({"multi:latest": "e04039b2c9f3"} if generation == 2 else {})


@pytest.mark.parametrize("generation", [1, 2])
def test_only_old_unknown_and_unreferenced_files_are_pruned(tmp_path: pathlib.Path, generation: int) -> None:
    store = _store(tmp_path, generation)
    before = {path.name for path in (store / "blobs").iterdir()}
    for name in ("random.txt", "sha256-" + "a" * 64, "fresh.txt", "sha256-" + "b" * 64 + "-partial"):
        (store / "blobs" / name).write_bytes(b"x")
    for path in (store / "blobs").iterdir():
        if path.name != "fresh.txt":
            _age(path)
    with standin.running(NAMES[generation], store):
        after = {path.name for path in (store / "blobs").iterdir()}
    unreferenced = {"sha256-5a33ee05fd6c1e1fd9c5b154f4c70ccb23a736343e50ef1f4c61c69f186b07da"}  # written by a load
    assert after == (before - unreferenced) | {"fresh.txt"}


def test_a_corrupt_manifest_stops_all_pruning(tmp_path: pathlib.Path) -> None:
    store = _store(tmp_path, 1)
    (store / "manifests/registry.ollama.ai/library/tiny/broken").write_bytes(b"")
    (store / "blobs/random.txt").write_bytes(b"x")
    _age(store / "blobs/random.txt")
    with standin.running("0.35.1", store) as server:
        assert any("corrupt manifests detected, skipping prune" in line for line in server.log)
    assert (store / "blobs/random.txt").exists()


def test_pruning_can_be_disabled(tmp_path: pathlib.Path) -> None:
    store = _store(tmp_path, 1)
    (store / "blobs/random.txt").write_bytes(b"x")
    _age(store / "blobs/random.txt")
    with standin.running("0.35.1", store, {"OLLAMA_NOPRUNE": "off"}):  # "off" is not a Go boolean, so it is true
        assert (store / "blobs/random.txt").exists()


def test_an_older_store_is_read_by_a_newer_server_and_hidden_by_its_own_entries(tmp_path: pathlib.Path) -> None:
    store = tmp_path / "models"
    legacy = make_model(store, "model", 4000, seed=1)
    with standin.running("0.40.2", store) as server:
        assert Target(server.url, None).rows("model")[0]["digest"] == legacy
    newer = make_model(store, "model", 4000, seed=2, generation=2)
    with standin.running("0.40.2", store) as server:
        target = Target(server.url, store)
        assert [row["digest"] for row in target.rows("model")] == [newer]
        target.delete("model")
        assert not target.rows("model")
    assert not any(path.is_file() for path in (store / "manifests").rglob("*"))


def test_a_digest_identifies_a_model_from_040(tmp_path: pathlib.Path) -> None:
    store = tmp_path / "models"
    digest = make_model(store, "model", 4000, seed=1, generation=2)
    with standin.running("0.40.2", store) as server:
        target = Target(server.url, store)
        assert target.show(f"sha256:{digest}").status == 200
        assert target.show(digest[:12]).status == 200
        assert target.show("0" * 12).status == 404


def test_an_unknown_runner_is_refused(tmp_path: pathlib.Path) -> None:
    make_model(tmp_path, "model", 4000, generation=2, runner="ggml")
    with standin.running("0.40.2", tmp_path) as server:
        target = Target(server.url, tmp_path)
        assert target.show("model", runner="x").error == 'unknown runner "x"'
        assert target.show("model", runner="mlx").error == "no compatible manifest found for runners: mlx"
        assert target.show("model", runner="ggml").status == 200
