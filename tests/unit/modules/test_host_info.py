# SPDX-License-Identifier: GPL-3.0-or-later
"""Module host_info observes a host: a running server, a stopped one, a damaged store and none at all."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import host_info

from tests import standin
from tests.conftest import ROOT
from tests.unit.conftest import RunModule


@pytest.fixture
def models(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "tests/fixtures/store-v1", tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def observe(run_module: RunModule, models: Path, tmp_path: Path) -> t.Callable[..., dict[str, t.Any]]:
    def run(**more: t.Any) -> dict[str, t.Any]:
        params = {"models_dir": str(models), "state_dir": str(tmp_path / "state"), "api_url": "http://127.0.0.1:9"}
        return run_module(host_info, {**params, **more}, check=True)

    return run


def states(result: dict[str, t.Any]) -> dict[str, str]:
    return {row["name"]: row["state"] for row in result["models"]}


def test_a_running_server(observe: t.Callable[..., dict[str, t.Any]], models: Path) -> None:
    with standin.running("0.35.1", models) as server:
        result = observe(api_url=server.url)
    assert (result["failed"], result["state"], result["version"]) == (False, "running", "0.35.1")
    assert result["store"]["bytes_total"] > result["store"]["bytes_free"] > 0
    assert set(states(result).values()) == {"not_checked"}, "nothing was hashed yet"


def test_declared_models_are_compared_with_what_is_there(
    observe: t.Callable[..., dict[str, t.Any]], models: Path, tmp_path: Path
) -> None:
    store = Store(str(models))
    first, *_others = store.entries()
    memory = Memory.of(store, str(tmp_path / "state"))
    audit(store, first.blobs, memory)
    memory.save()
    result = observe(
        models=[{"name": str(first.name).upper().replace(":LATEST", ":latest"), "aliases": ["chat"]}, "nope:1b"]
    )
    rows = {row["name"]: row for row in result["models"]}
    assert rows["nope:1b"]["state"] == rows["chat:latest"]["state"] == "missing"
    assert rows["chat:latest"]["alias_of"]
    row = next(row for row in result["models"] if row["digest"] == first.digest)
    assert (row["state"], row["declared"]) == ("verified", True)
    assert row["verified_at"] <= result["observed_at"]


def test_damage_is_detected_without_hashing(observe: t.Callable[..., dict[str, t.Any]], models: Path) -> None:
    store = Store(str(models))
    entry = store.entries()[0]
    Path(store.blob_path(entry.blobs[0].digest)).unlink()
    row = next(row for row in observe()["models"] if row["name"] == str(entry.name))
    assert (row["state"], row["damaged_blobs"], row["verified_at"]) == ("damaged", 1, None)


def test_a_stopped_server_and_a_store_that_does_not_exist_are_results(
    observe: t.Callable[..., dict[str, t.Any]], tmp_path: Path
) -> None:
    result = observe(models_dir=str(tmp_path / "unmounted"), models=["a:1b"])
    assert (result["failed"], result["version"]) == (False, None)
    assert result["state"] in ("not_running", "not_installed")
    assert result["server_failure"]
    assert result["store"]["failure"] == "does not exist"
    assert states(result) == {"a:1b": "missing"}
