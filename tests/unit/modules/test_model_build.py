# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_build against the stand-in: both generations of the store, and one that rewrites what it imports."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models import recipe as recipe_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.custom import Builder
from ansible_collections.kaido.ollama.plugins.module_utils._models.recipe import Shown, parse_parameters, parse_recipe
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store import files as files_module
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model_build

from tests import standin
from tests.conftest import ROOT
from tests.standin import gguf
from tests.standin.registry import make_model

FIXTURES = ROOT / "tests" / "fixtures"
Params = dict[str, t.Any]


class World:
    """A server with one model, files to build from, and the module."""

    def __init__(self, tmp_path: Path, server: standin.Running, run_module: t.Any) -> None:
        self.models_dir = Path(server.models_dir)
        self.state_dir = tmp_path / "state"
        self.version = server.version
        self.client = Client(server.url)
        self.uploads: list[str] = []
        self._run_module = run_module
        self.weights = tmp_path / "weights.gguf"
        # As converters make them: without the key that servers 0.30 to 0.33 add, and so with another digest afterwards.
        self.weights.write_bytes(gguf.tiny(60_000, 7, quantized=False))
        self.adapter = tmp_path / "adapter.gguf"
        self.adapter.write_bytes(gguf.tiny(9_000, 8))
        self.recipes: dict[str, Params] = {
            "from": {
                "name": "house/helper:1",
                "from": "base",
                "system": "You are hecate.",
                "parameters": {"temperature": 0.1, "stop": ["a", "b"]},
                "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
                "license": ["MIT", "Apache-2.0"],
            },
            "file": {"name": "made", "from": str(self.weights), "system": "Be kind."},
            "files": {
                "name": "made",
                "files": [str(self.weights)],
                "adapters": [str(self.adapter)],
                "template": "{{ .Prompt }}",
                "parameters": {"num_ctx": 64},
            },
        }

    def run(self, params: Params, *, check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        places = {
            "api_url": self.client.base_url,
            "models_dir": str(self.models_dir),
            "state_dir": str(self.state_dir),
        }
        result: dict[str, t.Any] = self._run_module(model_build, {**places, **params, **more}, check=check)
        return result

    def tags(self) -> dict[str, str]:
        return {row["name"]: "sha256:" + row["digest"] for row in self.client.tags()}

    def create(self, **body: t.Any) -> None:
        list(self.client.create(body))

    def show(self, name: str) -> Shown:
        return Shown.of(self.client.show(parse(name)) or {})


@pytest.fixture(params=["0.33.0", "0.35.1", "0.40.2"])
def world(request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any) -> Iterator[World]:
    models_dir = tmp_path / "models"
    make_model(models_dir, "base", generation=2 if request.param >= "0.40" else 1)
    env = {"STANDIN_MIGRATE": "1", "STANDIN_UPSTREAM": "http://127.0.0.1:1"}
    with standin.running(request.param, models_dir, env) as server:
        yield World(tmp_path, server, run_module)


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


def gguf_digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_hashed_again_only_after_it_changed(world: World, monkeypatch: t.Any) -> None:
    recipe = world.recipes["file"]
    world.run(recipe)
    world.run(recipe)  # remembers that the stored blobs are right
    read: list[str] = []

    def watch(path: str) -> str:
        read.append(path)
        return original(path)

    original = files_module.hash_file
    monkeypatch.setattr(recipe_module, "hash_file", watch)
    assert not world.run(recipe)["changed"]
    assert read == []
    os.utime(world.weights, (1, 1))
    assert not world.run(recipe)["changed"]
    assert read == [str(world.weights)]


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


def test_a_base_that_is_missing_is_not_pulled(world: World) -> None:
    recipe = {"name": "made", "from": "nope:1b", "system": "Hi"}
    result = world.run(recipe)
    assert result["failure"]["code"] == "model_missing"
    assert "nope:1b" in result["msg"]
    predicted = world.run(recipe, check=True)
    assert predicted["changed"]
    assert predicted["warnings"]


def test_a_damaged_uploaded_blob_is_sent_again(world: World) -> None:
    recipe = world.recipes["files"]
    world.run(recipe)
    adapter = world.models_dir / "blobs" / gguf_digest(world.adapter).replace(":", "-")
    adapter.write_bytes(b"\0" * adapter.stat().st_size)
    predicted = world.run(recipe, check=True)
    done = world.run(recipe)
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert "adapter" in done["actions"][0]
    assert "wrong content" in done["actions"][0]
    assert gguf_digest(adapter).endswith(adapter.name[7:])
    assert not world.run(recipe)["changed"]


def test_an_existing_blob_is_not_trusted(world: World) -> None:
    """The server takes any file of that name for the upload."""
    blob = world.models_dir / "blobs" / gguf_digest(world.weights).replace(":", "-")
    blob.write_bytes(b"GGUF, perhaps")
    done = world.run(world.recipes["file"])
    assert not done["failed"], done
    assert done["bytes_uploaded"] == 60_000
    assert gguf_digest(blob) == gguf_digest(world.weights)


def test_a_damaged_base_is_named(world: World) -> None:
    world.run(world.recipes["from"])
    [weights] = [path for path in (world.models_dir / "blobs").iterdir() if path.stat().st_size > 300_000]
    with weights.open("r+b") as file:
        file.seek(300_000)
        file.write(b"\xff\x00\xff\x00")
    for check in (True, False):
        result = world.run(world.recipes["from"], check=check)
        assert result["failure"]["code"] == "model_damaged"
        assert "base:latest" in result["msg"]
        assert "wrong content" in result["msg"]


def test_quantizing_is_refused_where_the_server_cannot(world: World) -> None:
    result = world.run(world.recipes["file"], quantize="q4_K_M")
    if world.version == "0.33.0":
        assert not result["failed"], result
        assert not world.run(world.recipes["file"], quantize="q4_K_M")["changed"]
        return
    assert result["failure"]["code"] == "quantize_unsupported"
    assert "'q4_K_M'" in result["msg"]
    assert "nvfp4" in result["msg"]
    assert "\n" not in result["msg"]


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({}, "value_invalid", "exactly one of from and files"),
        ({"from": "base", "files": ["/x.gguf"]}, "value_invalid", "exactly one of from and files"),
        ({"from": "made"}, "value_invalid", "a model other than itself"),
        ({"from": "no such model"}, "name_invalid", "from: "),
        ({"from": "/nowhere/x.gguf"}, "file_unreadable", "/nowhere/x.gguf"),
        ({"from": "base", "name": "a b"}, "name_invalid", "name: "),
        (
            {"from": "base", "parameters": {"num_ctx": "many"}},
            "value_invalid",
            "parameters.num_ctx: invalid value 'many'",
        ),
        ({"from": "base", "parameters": {"num_ctx": [1]}}, "value_invalid", "parameters.num_ctx: invalid value [1]"),
        ({"from": "base", "parameters": {"stop": [1]}}, "value_invalid", "parameters.stop"),
        ({"from": "base", "parameters": {"stop": []}}, "value_invalid", "parameters.stop"),
        ({"from": "base", "messages": [{"role": "boss", "content": "x"}]}, "value_invalid", "messages[0]"),
        ({"from": "base", "messages": [{"role": "user"}]}, "value_invalid", "messages[0]"),
        ({"from": "base", "timeout": 0}, "value_invalid", "timeout"),
    ],
)
def test_invalid_input_is_one_line(world: World, params: Params, code: str, text: str) -> None:
    for check in (True, False):
        result = world.run({"name": "made", **params}, check=check)
        assert result["failure"]["code"] == code
        assert text in result["msg"]
        assert "\n" not in result["msg"]
    assert list(world.tags()) == ["base:latest"]


def test_a_file_that_is_no_model_fails_with_the_error_of_the_server(world: World, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"hello, I am no model at all, but long enough")
    result = world.run({"name": "made", "from": str(bad)})
    assert result["failure"]["code"] == "build_failed"
    assert "made:latest" in result["msg"]
    assert "invalid file magic" in result["msg"]
    assert list(world.tags()) == ["base:latest"]
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "bad.gguf").write_bytes(b"x")
    result = world.run({"name": "made", "files": [str(bad), str(twin / "bad.gguf")]})
    assert result["failure"]["code"] == "value_invalid"
    empty = tmp_path / "empty.gguf"
    empty.touch()
    assert world.run({"name": "made", "from": str(empty)})["failure"]["code"] == "file_unreadable"


def test_numbers_that_a_template_made_texts_are_numbers(world: World) -> None:
    recipe = {"name": "made", "from": "base", "parameters": {"num_ctx": "64", "temperature": "0.5", "use_mmap": "True"}}
    world.run(recipe)
    assert world.show("made").parameters == {"num_ctx": [64], "temperature": [0.5], "use_mmap": [True]}
    numbers = {"num_ctx": 64, "temperature": 0.5, "use_mmap": True}
    assert not world.run(recipe, parameters=numbers)["changed"], "it is the same recipe"


def test_changes_are_predicted_for_a_host_without_a_server(tmp_path: Path, run_module: t.Any) -> None:
    params = {
        "name": "made", "from": "base", "api_url": "http://127.0.0.1:1", "startup_timeout": 0,
        "models_dir": str(tmp_path / "models"), "state_dir": str(tmp_path / "state"),
    }  # fmt: skip
    assert run_module(model_build, params)["failure"]["code"] == "server_unreachable"
    assert run_module(model_build, params, check=True)["changed"]
    assert not run_module(model_build, {**params, "state": "absent"}, check=True)["changed"]


def test_memories_of_earlier_versions_are_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "models"))
    memory = Memory.of(store, str(tmp_path))
    memory.origins = {"a": {"registry": "x", "variant": "y"}}
    memory.save()
    path = Path(memory.path)
    data = json.loads(path.read_text())
    assert data.pop("recipes") == {}
    path.write_text(json.dumps(data))
    memory = Memory.of(store, str(tmp_path))
    assert (memory.origins, memory.recipes) == ({"a": {"registry": "x", "variant": "y"}}, {})


@pytest.mark.parametrize("version", ["v0.33", "v0.40"])
def test_what_real_servers_show_is_read(version: str) -> None:
    exchanges = json.loads((FIXTURES / version / "exchanges.json").read_text())
    [show] = [row for row in exchanges if row["name"] == "show_created"]
    made = Shown.of(json.loads(show["response"]["lines"][0]))
    assert made.parent == "tiny:latest"
    assert made.weights == {"sha256:a909f554de2d9f495deb26ab065ecc27aa053c2ba9b004cad87101aaf0bfc917"}
    assert made.texts == {"template": "{{ .Prompt }}", "system": "You are hecate.", "renderer": "", "parser": ""}
    assert made.parameters == {"num_ctx": [128], "temperature": [0.1]}


def test_parameters_are_read_as_go_writes_them() -> None:
    text = 'num_ctx                        1e+06\nstop                           "a b"\nstop    "\\n"\nuse_mmap  false'
    assert parse_parameters(text) == {"num_ctx": [1000000], "stop": ["a b", "\n"], "use_mmap": [False]}
    assert parse_parameters("odd  'x'") == {"odd": ["'x'"]}
    assert parse_parameters("") == {}
