# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_build: idempotence, prediction, changes of the recipe and manual changes."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models.custom import Builder
from ansible_collections.kaido.ollama.plugins.module_utils._models.recipe import parse_recipe
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model_build

from tests.standin import gguf
from tests.standin.registry import make_model
from tests.unit.modules.model_build.world import Params, World, gguf_digest

each_recipe = pytest.mark.parametrize("kind", ["from", "file", "files"])


@each_recipe
def test_check_apply_check_apply(world: World, kind: str) -> None:
    recipe = world.recipes[kind]
    predicted = world.run(recipe, check=True)
    assert list(world.tags()) == ["base:latest"]
    done = world.run(recipe)
    assert not done["failed"], done
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert predicted["diff"] == done["diff"]
    assert (predicted["actions"], done["actions"]) == (["would be built"], ["built"])
    assert done["digest_before"] is None
    assert done["digest_after"] == world.tags()[done["name"]]
    sizes = {"from": 0, "file": 60_000, "files": 69_000}
    assert done["bytes_uploaded"] == sizes[kind]
    for check in (True, False):
        again = world.run(recipe, check=check)
        assert not again["failed"], again
        assert not again["changed"]
        assert (again["actions"], again["bytes_uploaded"]) == ([], 0)
        assert again["diff"]["before"] == again["diff"]["after"]
        assert again["digest_after"] == done["digest_after"]


def test_the_model_matches_the_recipe(world: World) -> None:
    world.run(world.recipes["from"])
    made = world.show("house/helper:1")
    assert made.weights == world.show("base").weights
    assert made.texts["system"] == "You are hecate."
    assert made.parameters == {"num_ctx": [128], "stop": ["a", "b"], "temperature": [0.1]}
    assert [m["role"] for m in made.messages] == ["user", "assistant"]
    assert made.license == "MIT\nApache-2.0"
    world.run(world.recipes["files"])
    made = world.show("made")
    assert len(made.adapters) == 1
    stored = next(iter(made.weights))
    source = gguf_digest(world.weights)
    assert (stored == source) is (world.version != "0.33.0"), "0.33 rewrites what it imports"


@pytest.mark.parametrize(
    "change",
    [
        {"system": "You are cronus."},
        {"parameters": {"temperature": 0.2, "stop": ["a", "b"]}},
        {"parameters": {"temperature": 0.1, "stop": ["a"]}},
        {"template": "{{ .System }}{{ .Prompt }}"},
        {"license": ["MIT"]},
        {"messages": []},
    ],
)
def test_another_recipe_is_another_model(world: World, change: Params) -> None:
    recipe = world.recipes["from"]
    before = world.run(recipe)["digest_after"]
    predicted = world.run(recipe, check=True, **change)
    done = world.run(recipe, **change)
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"] != done["diff"]["after"]
    assert done["actions"] == ["built again: the recipe has changed"]
    assert done["digest_after"] not in (before, None)
    assert not world.run(recipe, **change)["changed"]


def test_a_new_file_or_base_is_another_model(world: World) -> None:
    world.run(world.recipes["file"])
    world.weights.write_bytes(gguf.tiny(60_000, 9, quantized=False))
    assert world.run(world.recipes["file"], check=True)["changed"]
    done = world.run(world.recipes["file"])
    assert (done["changed"], done["bytes_uploaded"]) == (True, 60_000)
    world.run(world.recipes["from"])
    make_model(world.models_dir, "base", seed=5, generation=2 if world.version >= "0.40" else 1)
    assert world.run(world.recipes["from"])["changed"]
    assert not world.run(world.recipes["from"])["changed"]


def test_a_manual_change_is_detected(world: World) -> None:
    recipe = world.recipes["from"]
    expected = world.run(recipe)["digest_after"]
    world.create(model="house/helper:1", **{"from": "base"}, system="You are evil.")
    predicted = world.run(recipe, check=True)
    done = world.run(recipe)
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"]["system"] == "You are evil."
    assert done["diff"]["after"]["system"] == "You are hecate."
    assert done["actions"] == ["built again: it was changed manually"]
    assert done["digest_after"] == expected
    assert not world.run(recipe)["changed"]
    world.client.delete(parse("house/helper:1"))
    assert world.run(recipe)["actions"] == ["built"]


def test_loading_a_model_is_no_change(world: World) -> None:
    """A server of 0.40 converts a model at the first load: the tag becomes a list that holds what was built."""
    for kind in ("from", "file"):
        done = world.run(world.recipes[kind])
        world.client.generate({"model": done["name"]}, timeout=10)
        world.client.generate({"model": "base"}, timeout=10)
        moved = world.tags()[done["name"]] != done["digest_after"]
        assert moved is (world.version == "0.40.2")
        for check in (True, False):
            again = world.run(world.recipes[kind], check=check)
            assert (again["changed"], again["actions"]) == (False, [])
        memory = Memory.of(Store(str(world.models_dir)), str(world.state_dir))
        without_registries = Builder(world.client, world.version, None, memory, timeout=5)
        defaults = {option: spec.get("default") for option, spec in model_build.SPEC.items()}
        options = {**defaults, **world.recipes[kind]}
        recipe = parse_recipe(parse(options["name"]), options)
        assert not without_registries.build(recipe, check_mode=True)["changed"], "the server lists both variants"


def test_the_server_is_queried_without_a_state_file(world: World) -> None:
    """A model that was created elsewhere in the same way counts as built if the server reports enough to compare."""
    for kind in ("from", "files"):
        recipe = world.recipes[kind]
        done = world.run(recipe)
        for path in world.state_dir.glob("store-*.json"):
            path.unlink()
        reported = kind == "from" or world.version != "0.33.0"
        assert world.run(recipe, check=True)["changed"] is not reported
        again = world.run(recipe)
        assert not again["changed"], "the result is the same"
        assert bool(again["actions"]) is not reported
        assert again["digest_after"] == done["digest_after"]
        assert world.run(recipe)["actions"] == [], "now it is known"


def test_manual_changes_are_replaced(world: World) -> None:
    recipe = world.recipes["from"]
    for body in ({"system": "Mine."}, {"system": "You are hecate."}):
        world.create(model="house/helper:1", **{"from": "base"}, **body)
        done = world.run(recipe)
        assert done["changed"]
        assert world.show("house/helper:1").texts["system"] == "You are hecate."


def test_absent(world: World) -> None:
    wanted = {"name": "house/helper:1", "state": "absent"}
    assert not world.run(wanted)["changed"]
    world.run(world.recipes["from"])
    for check in (True, False):
        done = world.run(wanted, check=check)
        assert done["changed"]
        assert done["diff"]["after"] == {"digest": None}
    assert list(world.tags()) == ["base:latest"]
    assert not world.run(wanted, check=True)["changed"]
    assert not world.run(wanted)["changed"]
    assert Memory.of(Store(str(world.models_dir)), str(world.state_dir)).recipes == {}


def test_changes_are_predicted_for_a_host_without_a_server(tmp_path: Path, run_module: t.Any) -> None:
    params = {
        "name": "made", "from": "base", "api_url": "http://127.0.0.1:1", "startup_timeout": 0,
        "models_dir": str(tmp_path / "models"), "state_dir": str(tmp_path / "state"),
    }  # fmt: skip
    assert run_module(model_build, params)["failure"]["code"] == "server_unreachable"
    assert run_module(model_build, params, check=True)["changed"]
    assert not run_module(model_build, {**params, "state": "absent"}, check=True)["changed"]
