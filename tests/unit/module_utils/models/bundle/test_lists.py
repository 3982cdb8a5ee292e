# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models whose manifest is a list of variants."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store.layout import MANIFEST_LIST
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests import standin
from tests.standin.registry import make_list, make_model
from tests.unit.module_utils.models.bundle.world import World, resum


def pulled_list(store: Path, runners: t.Sequence[str] = ("ggml", "llamacpp"), name: str = "m") -> tuple[str, str]:
    """A list as a server pulls it, of all variants only the last one; returns the digests of both."""
    for seed, runner in enumerate(runners):
        make_model(store, f"{name}-{runner}", size=40_000 + seed, seed=seed, generation=2, runner=runner)
    digest = make_list(store, name, {runner: f"{name}-{runner}" for runner in runners})
    *others, last = (Store(str(store)).find(parse(f"{name}-{runner}")) for runner in runners)
    assert last
    for entry in others:
        assert entry
        for blob in {blob.digest for blob in entry.blobs} - {blob.digest for blob in last.blobs}:
            os.unlink(Store(str(store)).blob_path(blob))
    shutil.rmtree(store / "manifests-v2/ollama.com/library" / f"{name}-{runners[0]}")
    return f"sha256:{digest}", last.digest


@pytest.mark.parametrize("version", ["0.35.1", "0.40.2"])
def test_a_pin_to_a_list_holds_after_the_import(world: World, tmp_path: Path, version: str) -> None:
    """In both generations of stores, with a server that has never seen a registry."""
    listed, child = pulled_list(tmp_path / "new")
    if version >= "0.40":
        (world.there / "manifests-v2").mkdir()
    made = world.export_to("bundle.tar", models=["m"], models_dir=str(tmp_path / "new"))
    assert made["models"] == {"m:latest": child}
    assert made["bytes"] < 90_000, "one variant, not two"
    done = world.import_from("bundle.tar")
    assert done["diff"]["after"] == {"m:latest": child}
    assert done["models"][0]["digest"] == listed
    with standin.running(version, str(world.there)) as server:
        assert [row["digest"] for row in Client(server.url).tags()] == [child[7:]]
        for pin in (listed, child):
            kept = world.have(server.url, name="m", digest=pin)
            assert (kept["failed"], kept["changed"]) == (False, False), kept
    if version >= "0.40":
        tag = world.there / "manifests-v2/ollama.com/library/m/latest"
        assert os.readlink(tag) == f"../../../../blobs/{listed.replace(':', '-')}"
    assert world.import_from("bundle.tar")["changed"] is False


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_a_converted_model_is_exported_with_its_original(world: World, tmp_path: Path, newer: bool) -> None:
    """A server of 0.40 has made a list of it: the registry's digest, which pins have, is the original's."""
    original = "sha256:" + make_model(tmp_path / "new", "m", size=40_000, seed=1, generation=2)
    make_model(tmp_path / "new", "converted", size=40_100, seed=2, generation=2, runner="llamacpp")
    make_list(tmp_path / "new", "m", {"ggml": "m", "llamacpp": "converted"})
    if newer:
        (world.there / "manifests-v2").mkdir()
    made = world.export_to("bundle", models=["m"], models_dir=str(tmp_path / "new"))
    assert made["bytes"] > 80_000
    world.import_from("bundle")
    entry = Store(str(world.there)).find(parse("m"))
    assert entry
    assert original in entry.digests
    assert (entry.digest == made["models"]["m:latest"]) == newer, "older servers get what they can run"
    assert world.import_from("bundle")["changed"] is False


def test_a_model_that_was_converted_after_the_import_stays(world: World, tmp_path: Path) -> None:
    _listed, child = pulled_list(tmp_path / "new", ["ggml"])
    (world.there / "manifests-v2").mkdir()
    world.export_to("bundle", models=["m"], models_dir=str(tmp_path / "new"))
    world.import_from("bundle")
    make_model(world.there, "converted", size=40_100, seed=2, generation=2, runner="llamacpp")
    make_list(world.there, "m", {"ggml": "m", "llamacpp": "converted"})
    now = world.digests()["m:latest"]
    assert now != child
    again = world.import_from("bundle")
    assert (again["changed"], again["diff"]["after"]) == (False, {"m:latest": now})


@pytest.mark.parametrize("harm", ["child", "layer", "nested", "nothing"])
def test_a_list_with_something_missing_is_refused(world: World, tmp_path: Path, harm: str) -> None:
    _listed, child = pulled_list(tmp_path / "new")
    world.export_to("bundle", models=["m"], models_dir=str(tmp_path / "new"))
    bundle = world.folder / "bundle"
    tag = bundle / "manifests/registry.ollama.ai/library/m/latest"
    if harm == "child":
        (bundle / "blobs" / child.replace(":", "-")).unlink()
    elif harm == "layer":
        max((bundle / "blobs").iterdir(), key=lambda path: path.stat().st_size).unlink()
    elif harm == "nested":
        inner = hashlib.sha256(tag.read_bytes()).hexdigest()
        (bundle / f"blobs/sha256-{inner}").write_bytes(tag.read_bytes())
        rows = [{"digest": f"sha256:{inner}", "runner": "llamacpp"}]
        tag.write_text(json.dumps({"mediaType": MANIFEST_LIST, "manifests": rows}))
    else:
        tag.write_text(json.dumps({"mediaType": MANIFEST_LIST, "manifests": []}))
    resum(bundle)
    failed = world.import_from("bundle")
    code = {"nested": "bundle_tampered", "nothing": "manifest_invalid"}.get(harm, "bundle_incomplete")
    assert failed["failure"]["code"] == code
    assert world.written() == []
