# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors: which are used, which are trusted."""

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests.standin.registry import Registry, make_list, make_model
from tests.unit.modules.model.world import World, damage

# --- mirrors


def test_a_mirror_is_used_and_leaves_no_trace(world: World, tmp_path: Path) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0)
    with Registry(tmp_path / "mirror") as mirror:
        done = world.run(name="a", mirrors=[f"http://{mirror.host}"])
        assert done["models"][0]["source"] == f"http://{mirror.host}"
        assert mirror.sent("/blobs/") > 40_000
    assert world.upstream.sent("/blobs/") == 0
    assert world.tags() == {"a:latest": world.digests["a"]}


@pytest.mark.parametrize("trouble", ["down", "stale", "damaged", "empty", "page"])
def test_a_faulty_mirror_delays_but_does_not_fail(world: World, tmp_path: Path, trouble: str) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=7 if trouble == "stale" else 0)
    with Registry(tmp_path / "mirror") as mirror:
        url = f"http://{mirror.host}"
        if trouble == "damaged":
            mirror.misbehave("/blobs/", method="GET", ranges=True, corrupt=True)
        if trouble == "empty":
            mirror.misbehave("", status=404)
        if trouble == "page":
            mirror.misbehave("/manifests/", status=200, body=b"<html>hello</html>")
        if trouble == "down":
            url = "http://127.0.0.1:1"
        done = world.run(name="a", mirrors=[url])
    assert not done["failed"], done
    assert done["models"][0]["source"] == "registry.ollama.ai"
    assert world.tags() == {"a:latest": world.digests["a"]}
    if trouble == "stale":
        assert any(url in warning for warning in done["warnings"])
    if trouble == "damaged":
        assert any(url in action for action in done["models"][0]["actions"])
    assert not world.run(name="a", verify="full")["changed"]


@pytest.mark.parametrize("status", [503, 404, 401])
def test_a_mirror_that_nothing_confirms_is_used_only_if_trusted(world: World, tmp_path: Path, status: int) -> None:
    digest = "sha256:" + make_model(tmp_path / "mirror", "lan-only", size=40_000, seed=3)
    world.upstream.misbehave("", status=status)
    with Registry(tmp_path / "mirror") as mirror:
        mirrors = [f"http://{mirror.host}"]
        for check in (True, False):
            refused = world.run(name="lan-only", mirrors=mirrors, check=check)
            if check and status in (401, 503):
                # The server may be allowed in, or have another way out; check mode cannot try that.
                assert any("ollama_mirrors_trusted" in text for text in refused["warnings"])
                continue
            assert refused["failure"]["code"] == "mirror_unverified"
            assert "ollama_mirrors_trusted" in refused["msg"]
        assert mirror.sent("/blobs/") == 0
        done = world.run(name="lan-only", mirrors=mirrors, mirrors_trusted=True)
        assert not done["failed"], done
        assert world.tags() == {"lan-only:latest": digest}
        assert any("the digest that a mirror offers is trusted" in warning for warning in done["warnings"])
        # A model that is intact is left as it is, also where the mirror has moved on.
        make_model(tmp_path / "mirror", "lan-only", size=40_000, seed=4)
        for state in ("present", "latest"):
            kept = world.run(name="lan-only", mirrors=mirrors, state=state)
            assert not kept["failed"], kept
            assert not kept["changed"]
    assert world.tags() == {"lan-only:latest": digest}


def test_a_warning_names_all_models_that_it_is_about(world: World, tmp_path: Path) -> None:
    for seed, name in enumerate(("lan-1", "lan-2", "lan-3")):
        make_model(tmp_path / "mirror", name, size=40_000, seed=seed)
    world.upstream.misbehave("", status=503)
    with Registry(tmp_path / "mirror") as mirror:
        done = world.run(models=["lan-1", "lan-2", "lan-3"], mirrors=[f"http://{mirror.host}"], mirrors_trusted=True)
    trusted = [warning for warning in done["warnings"] if "is trusted" in warning]
    assert len(trusted) == 1
    assert trusted[0].startswith("lan-1:latest, lan-2:latest, lan-3:latest: registry.ollama.ai cannot be queried")


@pytest.mark.parametrize("how", ["digest", "lock"])
def test_a_pin_or_a_lock_confirms_a_mirror(world: World, tmp_path: Path, how: str) -> None:
    digest = "sha256:" + make_model(tmp_path / "mirror", "lan-only", size=40_000, seed=3)
    world.upstream.misbehave("", status=503)
    with Registry(tmp_path / "mirror") as mirror:
        pin = {"digest": digest} if how == "digest" else {"lock": {"lan-only": digest}}
        done = world.run(name="lan-only", mirrors=[f"http://{mirror.host}"], **pin)
    assert not done["failed"], done
    assert world.tags() == {"lan-only:latest": digest}


def test_an_unconfirmed_mirror_repairs_only_with_the_same_digest(world: World, tmp_path: Path) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0)
    assert not world.run(name="a")["failed"]
    world.upstream.misbehave("", status=503)
    with Registry(tmp_path / "mirror") as mirror:
        damage(world.blob("model"), "flip_bit")
        done = world.run(name="a", mirrors=[f"http://{mirror.host}"])
        assert not done["failed"], done
        assert world.tags() == {"a:latest": world.digests["a"]}


def test_a_mirror_serves_a_variant_to_older_clients(world: World, tmp_path: Path) -> None:
    """Its server is of 0.40. Upstream returns the variant to older servers; the mirror is queried by its digest."""
    for folder in (world.upstream_dir, tmp_path / "mirror"):
        make_model(folder, "m-llama", size=40_000, seed=22, generation=2, runner="llamacpp")
        make_list(folder, "m", {"llamacpp": "m-llama"})
    if world.generation == 1:
        tag = world.upstream_dir / "manifests-v2/ollama.com/library/m"
        shutil.rmtree(tag)
        shutil.move(world.upstream_dir / "manifests-v2/ollama.com/library/m-llama", tag)
    fetch_from(world, tmp_path / "mirror", "m")


def test_a_mirror_whose_server_has_converted_the_model_still_has_the_original(world: World, tmp_path: Path) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0, generation=2)
    make_model(tmp_path / "mirror", "converted", size=40_100, seed=30, generation=2, runner="llamacpp")
    make_list(tmp_path / "mirror", "a", {"ggml": "a", "llamacpp": "converted"})
    fetch_from(world, tmp_path / "mirror", "a")
    assert world.tags() == {"a:latest": world.digests["a"]}


def test_without_upstream_an_older_server_gets_a_suitable_variant(world: World, tmp_path: Path) -> None:
    """The mirror's server has converted the model; it is trusted, but not for a form that is too new."""
    original = "sha256:" + make_model(tmp_path / "mirror", "a", size=40_000, seed=0, generation=2)
    converted = make_model(tmp_path / "mirror", "converted", size=40_100, seed=30, generation=2, runner="llamacpp")
    make_list(tmp_path / "mirror", "a", {"ggml": "a", "llamacpp": "converted"})
    world.upstream.misbehave("", status=503)
    fetch_from(world, tmp_path / "mirror", "a", mirrors_trusted=True)
    assert world.tags() == {"a:latest": original if world.generation == 1 else f"sha256:{converted}"}


def test_a_mirror_that_has_moved_on_still_has_what_is_pinned(world: World, tmp_path: Path) -> None:
    """Only where manifests are blobs; the mirror of an older server has forgotten it."""
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0, generation=2)
    make_model(tmp_path / "mirror", "a", size=41_000, seed=9, generation=2)
    make_model(world.upstream_dir, "a", size=41_000, seed=9)
    fetch_from(world, tmp_path / "mirror", "a", digest=world.digests["a"])
    assert world.tags() == {"a:latest": world.digests["a"]}


def fetch_from(world: World, store: Path, name: str, **params: t.Any) -> None:
    """Pull a model that must come from a mirror over that store, all of it, under its own name."""
    with Registry(store) as mirror:
        predicted = world.run(name=name, mirrors=[f"http://{mirror.host}"], check=True, **params)
        done = world.run(name=name, mirrors=[f"http://{mirror.host}"], **params)
    assert not done["failed"], done
    assert done["models"][0]["source"] == f"http://{mirror.host}"
    assert done["diff"] == predicted["diff"]
    assert world.upstream.sent("/blobs/sha256") < 2000, "of upstream at most a variant's manifest was asked"
    assert list(world.tags()) == [f"{name}:latest"]
    again = world.run(name=name, digest=done["models"][0]["digest_after"], verify="full")
    assert not again["changed"], again


def test_an_alias_of_a_killed_run_is_removed(world: World, tmp_path: Path) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0)
    with Registry(tmp_path / "mirror") as mirror:
        left = f"{mirror.host}/library/a:latest"
        for _event in Client(world.server.url).pull(parse(left), insecure=True):
            pass
        memory = Memory.of(Store(str(world.models_dir)), str(world.state_dir))
        memory.pending.append(left)
        memory.save()
        done = world.run(name="a", mirrors=[f"http://{mirror.host}"])
    assert done["bytes_pulled"] == 0
    assert list(world.tags()) == ["a:latest"]


def test_a_foreign_alias_is_kept(world: World, tmp_path: Path) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0)
    with Registry(tmp_path / "mirror") as mirror:
        name = f"{mirror.host}/library/a:latest"
        assert not world.run(name=name, insecure=True)["failed"]
        world.run(name="b:1b", mirrors=[f"http://{mirror.host}"])
    assert sorted(world.tags()) == sorted([name, "b:1b"])
