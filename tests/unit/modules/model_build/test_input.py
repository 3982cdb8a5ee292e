# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_build: invalid input, and what is read from servers, templates and state files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._models.recipe import Shown, parse_parameters
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests.conftest import ROOT
from tests.unit.modules.model_build.world import Params, World

FIXTURES = ROOT / "tests" / "fixtures"


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
