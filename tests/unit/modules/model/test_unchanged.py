# SPDX-License-Identifier: GPL-3.0-or-later
"""The call that preflight makes in its own process: it has a result only where nothing has to change."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._models import call
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import exclusive, memory_path
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests.unit.modules.model.world import World, damage


def unchanged(world: World, *, check: bool = False, **params: t.Any) -> dict[str, t.Any] | None:
    paths = {"models_dir": str(world.models_dir), "state_dir": str(world.state_dir)}
    return call.unchanged({"api_url": world.server.url, **paths, **params}, check)


def tree(world: World) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in world.models_dir.rglob("*")}


@pytest.mark.parametrize("check", [False, True])
def test_the_result_is_that_of_the_module(world: World, check: bool) -> None:
    world.run(models=["a", "b:1b"])
    before = tree(world)
    found = unchanged(world, models=["a", "b:1b"], check=check)
    assert found is not None
    module = world.run(models=["a", "b:1b"], check=check)
    # Other programs write to this disk.
    shared = found.keys() - {"bytes_free"}
    assert {key: found[key] for key in shared} == {key: module[key] for key in shared}
    assert not found["changed"]
    assert tree(world) == before


@pytest.mark.parametrize(
    "case",
    ["missing", "damaged", "alias", "absent", "exclusive", "loaded", "probe", "pin", "invalid", "option", "lock"],
)
def test_a_change_is_left_to_the_module(world: World, case: str) -> None:
    world.run(models=["a", "b:1b"])
    if case == "damaged":
        damage(world.blob("model"), "flip_bit")
    cases: dict[str, dict[str, t.Any]] = {
        "missing": {"models": ["a", "kaido/c:q8"]},
        "alias": {"models": [{"name": "a", "aliases": ["other"]}]},
        "absent": {"models": [{"name": "a", "state": "absent"}]},
        "exclusive": {"models": ["a"], "exclusive": True},
        "loaded": {"models": [{"name": "a", "loaded": True}]},
        "probe": {"models": [{"name": "a", "probe": {"tokens_per_second": 1}}]},
        "pin": {"models": [{"name": "a", "digest": "sha256:" + 64 * "0"}]},
        "invalid": {"models": [{"nam": "a"}]},
        "option": {"models": ["a"], "parallel": "x"},
    }
    params = cases.get(case, {"models": ["a", "b:1b"]})
    before, tags = tree(world), world.tags()
    with exclusive(memory_path(Store(str(world.models_dir)), str(world.state_dir)), seconds=0) as alone:
        assert alone
        if case == "lock":
            assert unchanged(world, **params) is None
    if case != "lock":
        assert unchanged(world, **params) is None
    assert (tree(world), world.tags()) == (before, tags)


def test_a_server_that_does_not_answer_is_left_to_the_module(world: World) -> None:
    world.run(models=["a"])
    assert unchanged(world, models=["a"], api_url="http://127.0.0.1:1") is None


def test_check_mode_has_the_predicted_changes(world: World) -> None:
    world.run(models=["a"])
    found = unchanged(world, models=["a", "b:1b"], check=True)
    assert found is not None
    assert found["changed"]
    assert set(world.tags()) == {"a:latest"}


def test_a_file_is_read_once(world: World) -> None:
    world.run(models=["a", "b:1b"])
    world.blob("model").touch()
    models = ["a", {"name": "b:1b", "state": "absent"}]
    assert unchanged(world, models=models) is None
    assert world.run(models=models, check=True)["hashed_bytes"] == 0
