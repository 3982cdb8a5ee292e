# SPDX-License-Identifier: GPL-3.0-or-later
"""Present, latest and absent, pins, lists of variants, and models that are not declared."""

from __future__ import annotations

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import DETACH, PROGRESS_FILE
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests.standin.registry import make_list, make_model
from tests.unit.modules.model.world import HEX, World

# --- the four steps of a stateful module: check, apply, check again, apply again


def test_present_is_predicted_then_applied_then_unchanged(world: World) -> None:
    models = ["a", {"name": "b:1b", "aliases": ["default-chat"]}]
    predicted = world.run(models=models, check=True)
    assert predicted["changed"]
    assert world.tags() == {}
    assert not world.state_dir.exists(), "check mode writes nothing, not even what it learned"
    done = world.run(models=models)
    assert not done["failed"], done
    assert done["diff"] == predicted["diff"]
    assert done["diff"]["before"] == {"a:latest": None, "b:1b": None, "default-chat:latest": None}
    assert world.tags() == {
        "a:latest": world.digests["a"],
        "b:1b": world.digests["b:1b"],
        "default-chat:latest": world.digests["b:1b"],
    }
    assert done["bytes_pulled"] == predicted["bytes_missing"] > 130_000
    requests = len(world.upstream.requests)
    for check in (True, False):
        again = world.run(models=models, check=check)
        assert not again["changed"]
        assert again["diff"]["before"] == again["diff"]["after"]
        assert again["hashed_bytes"] == 0
        assert [row["actions"] for row in again["models"]] == [[], []]
    assert len(world.upstream.requests) == requests, "an unchanged model needs no registry"


def test_a_model_larger_than_the_gpus_memory_is_announced_before_it_is_pulled(world: World) -> None:
    pending = world.run(name="b:1b", server={"vram": 50_000}, environment={DETACH: "1"})
    assert pending["pending"]
    [warning] = pending["warnings"]
    assert warning.startswith("b:1b: requires about ")
    assert warning.endswith("% would run on the CPU")
    assert world.run(name="b:1b", server={"vram": 50_000}, check=True)["warnings"] == [warning]
    quiet = world.run(
        name="b:1b", server={"vram": 50_000}, environment={PROGRESS_FILE: str(world.state_dir / "p.progress")}
    )
    assert (quiet["failed"], quiet.get("warnings", [])) == (False, [])
    assert world.run(name="b:1b", server={"vram": 50_000}).get("warnings", []) == [], "it is there already"
    assert world.run(name="a", server={"vram": 10**9}).get("warnings", []) == []


def test_absent_removes_exactly_that_name(world: World) -> None:
    world.run(models=["a", "b:1b"])
    wanted = [{"name": "b", "state": "absent"}, {"name": "a", "state": "absent"}]
    assert world.run(models=wanted, check=True)["diff"]["after"] == {"b:latest": None, "a:latest": None}
    done = world.run(models=wanted)
    assert [row["changed"] for row in done["models"]] == [False, True]
    assert list(world.tags()) == ["b:1b"]
    assert not world.run(models=wanted)["changed"]


def test_latest_moves_only_when_the_registry_moved(world: World) -> None:
    world.run(name="a")
    assert not world.run(name="a", state="latest")["changed"]
    new = "sha256:" + make_model(world.upstream_dir, "a", size=41_000, seed=9)
    assert not world.run(name="a")["changed"], "present is content with the old one"
    assert world.run(name="a", state="latest", check=True)["diff"]["after"] == {"a:latest": new}
    done = world.run(name="a", state="latest")
    assert done["models"][0]["actions"][0].startswith("updated from registry.ollama.ai")
    assert world.tags() == {"a:latest": new}
    assert not world.run(name="a", state="latest")["changed"]


def test_a_prefix_of_a_name_is_another_model(world: World) -> None:
    make_model(world.upstream_dir, "b", size=30_000, seed=5)
    world.run(name="b:1b")
    assert world.run(name="b")["changed"]
    assert sorted(world.tags()) == ["b:1b", "b:latest"]


def test_case_does_not_make_another_model(world: World) -> None:
    world.run(name="kaido/c:q8")
    assert not world.run(name="KAIDO/C:Q8")["changed"]


# --- pins


def test_a_pin_that_is_not_offered_fails_before_any_byte(world: World) -> None:
    result = world.run(name="a", digest=HEX)
    assert result["failed"]
    assert result["failure"]["code"] == "digest_not_offered"
    assert result["failure"]["pinned"] == f"sha256:{HEX}"
    assert result["failure"]["offered"] == world.digests["a"]
    assert result["msg"].startswith(f"a:latest: pinned is {HEX[:12]}, but registry.ollama.ai offers ")
    assert "models" not in result, "nothing was changed"
    assert world.upstream.sent("/blobs/") == 0


def test_a_pin_prevents_updates_by_present_and_latest(world: World) -> None:
    pin = world.digests["a"]
    world.run(name="a", digest=pin)
    make_model(world.upstream_dir, "a", size=41_000, seed=9)
    assert not world.run(name="a", digest=pin, state="latest")["changed"]
    assert not world.run(models=["a"], lock={"a": pin}, state="latest")["changed"]


def test_a_new_pin_replaces_the_model(world: World) -> None:
    world.run(name="a")
    new = "sha256:" + make_model(world.upstream_dir, "a", size=41_000, seed=9)
    done = world.run(models=["a"], lock={"A:latest": new})
    assert done["changed"]
    assert world.tags() == {"a:latest": new}


# --- pruning


def test_exclusive_removes_what_is_neither_declared_nor_kept(world: World) -> None:
    world.run(models=["a", "b:1b", "kaido/c:q8"])
    done = world.run(models=["a"], exclusive=True, keep=["B:1b"], check=True)
    assert (done["removed"], done["undeclared"]) == (["kaido/c:q8"], 0)
    assert len(world.tags()) == 3
    assert world.run(models=["a"], check=True)["undeclared"] == 2
    done = world.run(models=["a"], exclusive=True, keep=["B:1b"])
    assert done["changed"]
    assert sorted(world.tags()) == ["a:latest", "b:1b"]
    assert not world.run(models=["a"], exclusive=True, keep=["B:1b"])["changed"]


def test_exclusive_with_nothing_declared_removes_nothing(world: World) -> None:
    world.run(models=["a"])
    done = world.run(models=[], exclusive=True)
    assert not done["changed"]
    assert not done["failed"]
    assert any("nothing is removed" in warning for warning in done["warnings"])
    assert list(world.tags()) == ["a:latest"]


# --- manifest lists


def test_a_list_is_pinned_by_either_digest_and_stays_unchanged(world: World) -> None:
    make_model(world.upstream_dir, "m-ggml", size=40_000, seed=21, generation=2, runner="ggml")
    child = "sha256:" + make_model(world.upstream_dir, "m-llama", size=40_000, seed=22, generation=2, runner="llamacpp")
    listing = "sha256:" + make_list(world.upstream_dir, "multi", {"ggml": "m-ggml", "llamacpp": "m-llama"})
    if world.generation == 1:
        assert world.run(name="multi")["failed"], "a list is nothing to a server before 0.40"
        return
    done = world.run(name="multi", digest=listing)
    assert not done["failed"], done
    assert done["models"][0]["digest_after"] == child
    for pin in (listing, child):
        assert not world.run(name="multi", digest=pin, state="latest")["changed"]
    assert not world.run(name="multi", state="latest")["changed"]


def test_a_model_that_the_server_converted_is_still_what_was_pulled(world: World) -> None:
    if world.generation == 1:
        pytest.skip("servers before 0.40 convert nothing")
    world.run(name="a")
    client = Client(world.server.url)
    store = Store(str(world.models_dir))
    make_model(world.models_dir, "converted", size=40_000, seed=30, generation=2, runner="llamacpp")
    make_list(world.models_dir, "a", {"ggml": "a", "llamacpp": "converted"})
    entry = store.find(parse("a"))
    assert entry is not None
    assert entry.digest != world.digests["a"]
    requests = world.upstream.sent("/blobs/")
    for state, pin in (("present", None), ("latest", None), ("present", world.digests["a"])):
        assert not world.run(name="a", state=state, digest=pin)["changed"]
    assert world.upstream.sent("/blobs/") == requests
    assert client.tags()
