# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_build: files, uploads and stored blobs."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.kaido.ollama.plugins.module_utils._models import recipe as recipe_module
from ansible_collections.kaido.ollama.plugins.module_utils._store import files as files_module

from tests.unit.modules.model_build.world import World, gguf_digest


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
