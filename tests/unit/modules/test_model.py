# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model against the stand-in and a registry over real HTTP, in both generations of the store."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import DETACH, PROGRESS_FILE
from ansible_collections.kaido.ollama.plugins.module_utils._models import registry
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Source, look_up
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client, classify
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model

from tests import standin
from tests.standin import until
from tests.standin.registry import FIXTURES, Registry, make_list, make_model

HEX = "ab" * 32


class World:
    """A server with an empty store, an upstream registry with a few models, and the module between them."""

    def __init__(self, tmp_path: Path, version: str, run_module: t.Any) -> None:
        self.models_dir = tmp_path / "models"
        self.upstream_dir = tmp_path / "upstream"
        self.state_dir = tmp_path / "state"
        self.models_dir.mkdir()
        self.generation = 2 if version >= "0.40" else 1
        self.digests = {
            name: "sha256:" + make_model(self.upstream_dir, name, size=size, seed=seed)
            for seed, (name, size) in enumerate([("a", 40_000), ("b:1b", 90_000), ("kaido/c:q8", 50_000)])
        }
        self.upstream = Registry(self.upstream_dir)
        self._run_module = run_module
        self.server: standin.Running

    def run(
        self, *, check: bool = False, environment: dict[str, str] | None = None, **params: t.Any
    ) -> dict[str, t.Any]:
        """Run the module.

        :param environment: what the action plugin sets for the module's process.
        """
        defaults = {"api_url": self.server.url, "models_dir": str(self.models_dir), "state_dir": str(self.state_dir)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            result: dict[str, t.Any] = self._run_module(model, {**defaults, **params}, check=check)
        return result

    def fetched(self, part: str = "") -> int:
        """Return the bytes of blobs that the upstream registry sent in answer to ranges."""
        requests = [row for row in self.upstream.requests if row.range and part in row.path]
        return sum(row.sent for row in requests)

    def blob(self, part: str, name: str = "a") -> Path:
        """The file of a model's config, or of a layer by kind."""
        manifest = json.loads((self.upstream_dir / f"manifests/registry.ollama.ai/library/{name}/latest").read_bytes())
        rows = [manifest["config"]] if part == "config" else manifest["layers"]
        digest = next(row["digest"] for row in rows if part == "config" or row["mediaType"].endswith(part))
        return self.models_dir / "blobs" / digest.replace(":", "-")

    @property
    def upstream_url(self) -> str:
        return f"http://{self.upstream.host}"

    def tags(self) -> dict[str, str]:
        return {row["name"]: "sha256:" + row["digest"] for row in Client(self.server.url).tags()}


@pytest.fixture(params=["0.35.1", "0.40.2"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    world = World(tmp_path, request.param, run_module)

    def local(source: Source, name: t.Any, **options: t.Any) -> t.Any:
        """Ask the upstream of this test instead of the public registry."""
        if source.host != "registry.ollama.ai":
            return look_up(source, name, **options)
        return look_up(Source(world.upstream.host, insecure=True), name, **options)

    monkeypatch.setattr(sources_module, "look_up", local)
    monkeypatch.setattr(registry, "sleep", lambda seconds: None)
    env = {"STANDIN_UPSTREAM": f"http://{world.upstream.host}", "STANDIN_TIME_SCALE": "0.01"}
    with world.upstream, standin.running(request.param, world.models_dir, env) as world.server:
        yield world


def hurt(path: Path, how: str) -> None:
    size = path.stat().st_size
    if how == "flip_bit":
        with path.open("r+b") as file:
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 1]))
    elif how == "truncate":
        os.truncate(path, size // 2)
    elif how == "zero":
        path.write_bytes(bytes(size))
    elif how == "remove":
        path.unlink()


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


# --- damage

DAMAGE = [("model", how) for how in ("flip_bit", "truncate", "zero", "remove")]
DAMAGE += [("config", how) for how in ("flip_bit", "zero", "remove")] + [("params", "flip_bit")]


@pytest.mark.parametrize(("part", "how"), DAMAGE)
def test_only_damage_is_repaired(world: World, part: str, how: str) -> None:
    world.run(models=["a", "kaido/c:q8"])
    path = world.blob(part)
    good, fetched = path.read_bytes(), world.fetched()
    hurt(path, how)
    predicted = world.run(models=["a", "kaido/c:q8"], check=True)
    assert predicted["changed"]
    assert predicted["models"][0]["damage"][0]["kind"] in ("content", "short", "missing")
    done = world.run(models=["a", "kaido/c:q8"])
    assert not done["failed"], done
    # The models share config and parameters, but not the weights.
    assert [row["changed"] for row in done["models"]] == [True, part != "model"]
    assert path.read_bytes() == good
    if world.generation == 1 or part != "config":
        # A server of 0.40 gets the config without a range.
        assert world.fetched() - fetched == len(good), "only the damaged blob is fetched again"
    assert done["models"][0]["bytes_pulled"] == len(good)
    assert not world.run(models=["a", "kaido/c:q8"])["changed"]
    assert set(world.tags()) == {"a:latest", "kaido/c:q8"}


def test_an_empty_manifest_is_repaired(world: World) -> None:
    world.run(name="a")
    for path in world.models_dir.glob("manifests*/*/library/a/latest"):
        path.unlink()
        path.write_bytes(b"")
    done = world.run(name="a")
    assert done["changed"], done
    assert world.tags() == {"a:latest": world.digests["a"]}
    assert not world.run(name="a")["changed"]


def test_an_unreadable_model_can_be_removed(world: World) -> None:
    world.run(name="a")
    for path in world.models_dir.glob("manifests*/*/library/a/latest"):
        path.unlink()
        path.write_bytes(b"{")
    assert world.run(name="a", state="absent")["changed"]
    assert not list(world.models_dir.glob("manifests*/*/library/a/latest"))
    assert not world.run(name="a", state="absent")["changed"]


def test_a_repair_restores_the_same_content_from_a_mirror(world: World, tmp_path: Path) -> None:
    make_model(tmp_path / "mirror", "a", size=40_000, seed=0)
    world.run(name="a")
    make_model(world.upstream_dir, "a", size=41_000, seed=9)
    blob = next(path for path in (world.models_dir / "blobs").iterdir() if path.stat().st_size == 40_000)
    hurt(blob, "flip_bit")
    with Registry(tmp_path / "mirror") as mirror:
        done = world.run(name="a", mirrors=[f"http://{mirror.host}"])
    assert not done["failed"], done
    assert world.tags() == {"a:latest": world.digests["a"]}


def test_a_registry_that_sends_damage_once_is_retried(world: World) -> None:
    blob = world.blob("model").name.replace("-", ":")
    world.upstream.misbehave(blob, method="GET", ranges=True, corrupt=True, times=1)
    done = world.run(name="a")
    assert not done["failed"], done
    assert any("sent damage" in action for action in done["models"][0]["actions"])
    assert done["models"][0]["damage"][0]["digest"] == blob
    assert not world.run(name="a", verify="full")["changed"]


def test_a_registry_that_only_sends_damage_leaves_nothing_behind(world: World) -> None:
    blob = world.blob("model").name
    world.upstream.misbehave(blob.replace("-", ":"), method="GET", ranges=True, corrupt=True)
    result = world.run(name="a")
    assert result["failure"]["code"] == "digest_mismatch"
    assert "registry.ollama.ai" in result["msg"]
    assert world.tags() == {}
    assert not (world.models_dir / "blobs" / blob).exists()
    world.upstream.behave()
    assert world.run(name="a")["changed"]


def test_an_error_page_is_not_a_blob(world: World) -> None:
    blob = world.blob("model").name.replace("-", ":")
    world.upstream.misbehave(blob, ranges=True, status=403, body=b"<html>expired</html>" * 2500, times=1)
    done = world.run(name="a")
    assert not done["failed"], done
    assert not world.run(name="a", verify="full")["changed"]


def test_every_damaged_blob_of_a_failed_pull_is_found(world: World) -> None:
    """The server deletes the first bad blob only, and would take the others for good next time."""
    for part in ("model", "params"):
        world.upstream.misbehave(
            world.blob(part).name.replace("-", ":"), method="GET", ranges=True, corrupt=True, times=1
        )
    done = world.run(name="a")
    assert not done["failed"], done
    assert len(done["models"][0]["damage"]) == 2
    assert not world.run(name="a", verify="full")["changed"]


def test_what_cannot_be_removed_fails_its_model_only(world: World) -> None:
    assert not world.run(name="a")["failed"]
    weights = world.blob("model")
    weights.unlink()
    weights.mkdir()
    (weights / "file").write_text("planted")
    failed = world.run(models=["a", "b:1b"])
    assert failed["failure"]["code"] == "store_unwritable"
    assert f"cannot remove {weights}: a directory that is not empty" in failed["msg"]
    assert world.tags()["b:1b"] == world.digests["b:1b"]


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
        hurt(world.blob("model"), "flip_bit")
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


# --- pruning


def test_exclusive_removes_what_is_neither_declared_nor_kept(world: World) -> None:
    world.run(models=["a", "b:1b", "kaido/c:q8"])
    done = world.run(models=["a"], exclusive=True, keep=["B:1b"], check=True)
    assert done["removed"] == ["kaido/c:q8"]
    assert len(world.tags()) == 3
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


# --- streams and interruptions


def test_an_interrupted_pull_resumes(world: World) -> None:
    size = 3_000_000
    make_model(world.upstream_dir, "big", size=size, seed=40)
    blob = next(path.name for path in (world.upstream_dir / "blobs").iterdir() if path.stat().st_size == size)
    world.upstream.misbehave(blob.replace("-", ":"), ranges=True, stall_after=1_000_000)
    # Where a stall takes the 30 s of a real server, the connection still stands when the client leaves.
    with standin.running(world.server.version, world.models_dir, {"STANDIN_UPSTREAM": world.upstream_url}) as server:
        with contextlib.closing(Client(server.url).pull(parse("big"))) as events:
            next(event for event in events if event.get("completed") == 1_000_000)
        kept = until(lambda: Store(str(world.models_dir)).partials()[0]["completed"], "what was fetched is noted")
    assert kept == 1_000_000
    world.upstream.behave()
    fetched = world.fetched(blob[7:])
    done = world.run(name="big")
    assert not done["failed"], done
    assert done["bytes_pulled"] <= size - kept + 200
    assert world.fetched(blob[7:]) - fetched == size - kept


def test_a_pull_continues_after_one_part_gave_up(world: World) -> None:
    """A real server then cancels the other parts and reports only "context canceled"."""
    size = 100_500_000
    make_model(world.upstream_dir, "big", size=size, seed=41)
    blob = next(path.name for path in (world.upstream_dir / "blobs").iterdir() if path.stat().st_size == size)
    digest = blob.replace("-", ":")
    cut = world.upstream.misbehave(digest, ranges="bytes=0-", times=6, cut_after=0)
    slow = world.upstream.misbehave(digest, ranges="bytes=1000", times=1, rate=10_000)
    done = world.run(name="big")
    assert not done["failed"], done
    assert (cut.times, slow.times) == (0, 0)
    assert world.tags()["big:latest"] == done["models"][0]["digest_after"]


def test_a_stalled_pull_is_started_again(world: World) -> None:
    size = 1_000_000
    make_model(world.upstream_dir, "slow", size=size, seed=41)
    blob = next(path.name for path in (world.upstream_dir / "blobs").iterdir() if path.stat().st_size == size)
    world.upstream.misbehave(blob[7:], ranges=True, stall_after=300_000, stall_seconds=20, times=1)
    done = world.run(name="slow", stall_timeout=1)
    assert not done["failed"], done
    assert not world.run(name="slow", verify="full")["changed"]


def test_a_deadline_ends_a_pull_in_one_line_and_keeps_the_bytes(world: World) -> None:
    size = 2_000_000
    make_model(world.upstream_dir, "slow", size=size, seed=42)
    blob = next(path.name for path in (world.upstream_dir / "blobs").iterdir() if path.stat().st_size == size)
    world.upstream.misbehave(blob[7:], ranges=True, rate=200_000)
    result = world.run(name="slow", deadline=3)
    assert result["failure"]["code"] == "deadline_exceeded"
    assert "\n" not in result["msg"]
    assert world.tags() == {}
    # The server notes what it has a moment after its client has gone.
    until(lambda: Store(str(world.models_dir)).partials()[0]["completed"], "the bytes are in the partial file")


def test_cut_connections_are_resumed(world: World) -> None:
    size = 1_000_000
    make_model(world.upstream_dir, "cut", size=size, seed=43)
    blob = next(path.name for path in (world.upstream_dir / "blobs").iterdir() if path.stat().st_size == size)
    world.upstream.misbehave(blob[7:], ranges=True, cut_after=400_000, times=2)
    assert not world.run(name="cut")["failed"]
    assert not world.run(name="cut", verify="full")["changed"]


# --- many at once


def test_one_failing_model_does_not_affect_the_others(world: World) -> None:
    blob = world.blob("model").name.replace("-", ":")
    world.upstream.misbehave(blob, method="GET", ranges=True, corrupt=True)
    result = world.run(models=["a", "b:1b", "kaido/c:q8"], parallel=3)
    assert result["failure"]["code"] == "digest_mismatch"
    assert result["msg"].startswith("a:latest: ")
    assert sorted(world.tags()) == ["b:1b", "kaido/c:q8"]
    assert [row["name"] for row in result["models"]] == ["b:1b", "kaido/c:q8"]


def test_a_hundred_unchanged_models_are_one_cheap_call(world: World) -> None:
    names = [f"many/m{index}" for index in range(100)]
    for index, name in enumerate(names):
        make_model(world.models_dir, name, size=2_000, seed=index, generation=world.generation)
    assert not world.run(models=names)["changed"]
    again = world.run(models=names)
    assert not again["changed"]
    assert again["hashed_bytes"] == 0
    assert world.upstream.requests == []


# --- bad input: one line, before anything changes

BAD: list[tuple[dict[str, t.Any], str, str]] = [
    ({"models": ["bad name!!"]}, "name_invalid", "models[0].name"),
    ({"models": ["a", {"name": "x:"}]}, "name_invalid", "models[1].name"),
    ({"models": [{"nme": "a"}]}, "model_invalid", "models[0]"),
    ({"models": [{"name": "a", "tag": "x"}]}, "model_invalid", "'tag'"),
    ({"models": [{"name": "a", "state": "there"}]}, "model_invalid", "models[0].state"),
    ({"models": [{"name": "a", "aliases": "x"}]}, "model_invalid", "models[0].aliases"),
    ({"models": [7]}, "model_invalid", "models[0]"),
    ({"models": ["a", "A:latest"]}, "model_duplicate", "models[1]"),
    ({"models": ["a", {"name": "b", "aliases": ["a"]}]}, "model_duplicate", "models[1]"),
    ({"name": "a", "digest": "sha256:12"}, "digest_invalid", "models[0].digest"),
    ({"name": "a", "mirrors": ["hecate:11480"]}, "url_invalid", "'hecate:11480'"),
    ({"name": "a", "mirrors": ["http://hecate:x"]}, "url_invalid", "'http://hecate:x'"),
    ({"name": "a", "mirrors": ["http://u:p@hecate"]}, "url_invalid", "mirrors"),
    ({"name": "gpt-oss:20b-cloud"}, "model_in_cloud", "allow_cloud"),
    ({"name": "a", "parallel": 0}, "value_invalid", "parallel: invalid value 0"),
    ({"name": "a", "stall_timeout": 0}, "value_invalid", "stall_timeout"),
    ({"name": "a", "keep": ["x y"]}, "name_invalid", "keep"),
    ({"models": ["a"], "lock": {"a": "latest"}}, "digest_invalid", "lock: a"),
    ({"models": ["a"], "lock": {"a b": HEX}}, "name_invalid", "lock"),
    ({"name": "a", "api_url": "localhost:11434"}, "url_invalid", "api_url"),
]


@pytest.mark.parametrize(("params", "code", "named"), BAD)
def test_invalid_input_is_one_line(
    run_module: t.Any, tmp_path: Path, params: dict[str, t.Any], code: str, named: str
) -> None:
    defaults = {
        "api_url": "http://127.0.0.1:1",
        "models_dir": str(tmp_path),
        "state_dir": str(tmp_path),
        "startup_timeout": 0,
    }
    result = run_module(model, {**defaults, **params})
    assert result["failed"]
    assert result["failure"]["code"] == code
    assert named in result["msg"]
    assert "\n" not in result["msg"]


def test_a_missing_tag_is_one_line(world: World) -> None:
    result = world.run(models=["a", "nope:1b"])
    assert result["failure"]["code"] == "tag_missing"
    assert "nope:1b" in result["msg"]
    assert "\n" not in result["msg"]


def test_a_refused_tag_does_not_affect_the_others(world: World) -> None:
    """As hf.co refuses a tag of several files: with a sentence, which the user has to read."""
    sentence = "This quantization is split into several files and cannot be pulled: use another one"
    world.upstream.misbehave("b/manifests/1b", status=400, body=json.dumps({"error": sentence}).encode())
    predicted = world.run(models=["a", "b:1b", "kaido/c:q8"], check=True)
    result = world.run(models=["a", "b:1b", "kaido/c:q8"])
    assert predicted["failure"]["code"] == result["failure"]["code"] == "tag_refused"
    assert "b:1b" in result["msg"]
    assert sentence in result["msg"]
    assert sorted(world.tags()) == ["a:latest", "kaido/c:q8"]
    assert [row["name"] for row in predicted["models"]] == ["a:latest", "kaido/c:q8"]
    assert [row["name"] for row in result["models"]] == ["a:latest", "kaido/c:q8"]


@pytest.fixture
def blind(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Only the server reaches the registry, as behind a proxy that only the server knows."""

    def closed(_source: Source, name: t.Any, **_options: t.Any) -> t.Any:
        return look_up(Source("127.0.0.1:1", insecure=True), name, lists=False)

    monkeypatch.setattr(sources_module, "look_up", closed)
    return world


def test_unreachable_registries_are_left_to_the_server(blind: World) -> None:
    result = blind.run(models=["a", "b:1b"])
    assert not result["failed"], result
    assert sorted(blind.tags()) == ["a:latest", "b:1b"]
    assert any("left to the server" in text and "https_proxy" in text for text in result["warnings"])
    assert not blind.run(models=["a", "b:1b"])["changed"]


def test_the_server_compares_latest_where_only_it_reaches_the_registry(blind: World) -> None:
    assert not blind.run(name="a")["failed"]
    for check in (True, False):
        same = blind.run(name="a", state="latest", check=check)
        assert (same["failed"], same["changed"]) == (False, False), same
        assert any("left to the server" in text for text in same["warnings"])
    new = "sha256:" + make_model(blind.upstream_dir, "a", size=41_000, seed=9)
    moved = blind.run(name="a", state="latest")
    assert (moved["failed"], moved["changed"]) == (False, True), moved
    assert blind.tags() == {"a:latest": new}
    blind.upstream.misbehave("", status=503)
    failed = blind.run(name="a", state="latest")
    assert failed["failure"]["code"] == "registry_unreachable"
    assert blind.tags() == {"a:latest": new}


def test_a_pin_is_not_left_to_the_server(blind: World) -> None:
    result = blind.run(name="a", digest=HEX)
    assert result["failure"]["code"] == "registry_unreachable"
    assert blind.tags() == {}


def test_the_options_environment_is_used_for_look_ups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[t.Any] = []

    def asked(_source: Source, name: t.Any, **options: t.Any) -> t.Any:
        seen.append(options)
        return look_up(Source(world.upstream.host, insecure=True), name, **options)

    monkeypatch.setattr(sources_module, "look_up", asked)
    proxy = "http://u:secret@proxy.lan:3128"
    result = world.run(name="a", registry_environment={"HTTPS_PROXY": proxy}, deadline=60.0)
    assert seen[0]["environment"]["HTTPS_PROXY"] == proxy
    assert seen[0]["until"] < time.monotonic() + 60
    assert "secret" not in json.dumps(result)


def test_a_registry_that_is_down_is_one_line(world: World) -> None:
    result = world.run(name="127.0.0.1:1/library/tiny", insecure=True)
    assert result["failure"]["code"] == "registry_unreachable"
    assert "127.0.0.1:1" in result["msg"]
    assert "\n" not in result["msg"]


def test_too_little_disk_is_reported_before_pulling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free_bytes", lambda self: 10_000)
    for check in (True, False):
        result = world.run(name="a", check=check)
        assert result["failure"]["code"] == "disk_full"
        assert "40.2 kB" in result["msg"]
        assert "10.0 kB" in result["msg"]
    assert world.upstream.sent("/blobs/") == 0


def test_room_that_a_pull_writes_over_counts_as_free(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(name="a")
    weights = world.blob("model")
    hurt(weights, "flip_bit")
    monkeypatch.setattr(Store, "free_bytes", lambda self: 1000)
    assert world.run(name="a")["changed"], "a damaged blob makes the room for the right one"
    # A full disk leaves bytes that the server does not count as fetched.
    world.run(name="a", state="absent")
    weights.with_name(weights.name + "-partial").write_bytes(bytes(40_000))
    part = {"N": 0, "Offset": 0, "Size": 40_000, "Completed": 0}
    weights.with_name(weights.name + "-partial-0").write_text(json.dumps(part))
    done = world.run(name="a")
    assert not done["failed"], done
    assert done["bytes_missing"] > 40_000


def test_no_server_is_one_line(run_module: t.Any, tmp_path: Path) -> None:
    params = {
        "name": "a",
        "api_url": "http://127.0.0.1:1",
        "models_dir": str(tmp_path),
        "state_dir": str(tmp_path),
        "startup_timeout": 0.3,
    }
    result = run_module(model, params)
    assert result["failure"]["code"] == "server_unreachable"
    assert "http://127.0.0.1:1" in result["msg"]


def test_a_different_store_is_detected(world: World, tmp_path: Path) -> None:
    world.run(name="a")
    (tmp_path / "other").mkdir()
    result = world.run(name="a", models_dir=str(tmp_path / "other"))
    assert result["failure"]["code"] == "store_mismatch"


def test_a_different_version_is_detected(world: World) -> None:
    result = world.run(models=[], server={"version": "0.1.0"})
    assert result["failure"]["code"] == "version_mismatch"
    assert world.server.version in result["msg"]


def test_check_mode_works_before_there_is_a_server(world: World, tmp_path: Path) -> None:
    result = world.run(models=["a"], api_url="http://127.0.0.1:1", models_dir=str(tmp_path / "none"), check=True)
    assert not result["failed"], result
    assert result["diff"]["after"] == {"a:latest": world.digests["a"]}
    assert result["server_version"] is None


# --- the words of servers

TEXTS = [
    ("pull model manifest: file does not exist", "tag_missing"),
    ("pull model manifest: 500: oops", "registry_unreachable"),
    ("503: busy", "registry_unreachable"),  # about a blob: nothing stands before the status
    ('Get "https://x/v2/a/b/blobs/sha256:4121": connection reset', "registry_unreachable"),  # a digest, no status
    ("403: <html>no</html>", "registry_refused"),
    ('Get "https://x/v2/": stopped after 10 redirects', "registry_unsuitable"),
    ('pull model manifest: Get "https://x/v2/": dial tcp: lookup x: no such host', "registry_unreachable"),
    ("http: no Location header in response", "registry_unsuitable"),
    ("blocked redirect to a different host", "registry_unsuitable"),
    ("digest mismatch, file must be downloaded again: want sha256:aa, got sha256:bb", "digest_mismatch"),
    ("write /x: no space left on device", "disk_full"),
    ("pull model manifest: 412: this model requires a newer version of Ollama", "server_too_old"),
    ("context deadline exceeded", "registry_unreachable"),
    ("context canceled", "connection_lost"),
    ("max retries exceeded: context canceled", "connection_lost"),
    ('Get "https://x/v2/": http: server gave HTTP response to HTTPS client', "registry_is_http"),
    ('Get "https://x/v2/": tls: first record does not look like a TLS handshake', "registry_is_http"),
    ('Get "https://x/v2/": tls: failed to verify certificate: x509: unknown authority', "tls_failed"),
    ("something new", "server_error"),
]
# The errors of real servers about each fault of a registry, as codes of the module.
FAULTS = {
    "wrong bytes, once": "digest_mismatch",
    "wrong bytes, always": "digest_mismatch",
    "still, always": "registry_unreachable",
    "busy about a blob, once": "registry_unreachable",
    "busy about the manifest": "registry_unreachable",
    "a wrong size": "digest_mismatch",
    "a blob that leads to itself": "registry_unsuitable",
    "a blob without a Location": "registry_unsuitable",
    "a manifest that leads to itself": "registry_unsuitable",
    "no such tag": "tag_missing",
    "a page for a manifest": "manifest_invalid",
}


@pytest.mark.parametrize("recording", ["v0.33", "v0.40"])
def test_errors_of_real_servers_about_registry_faults_have_codes(recording: str) -> None:
    cases = json.loads((FIXTURES / "faults" / f"{recording}.json").read_text())
    said = [(case["name"], case["last"]["error"]) for case in cases if "error" in case["last"]]
    assert {name: classify(text) for name, text in said} == FAULTS


@pytest.mark.parametrize(("text", "code"), TEXTS)
def test_errors_of_the_server_have_stable_codes(text: str, code: str) -> None:
    assert classify(text) == code


def test_every_code_is_documented() -> None:
    utils = Path(sources_module.__file__).parents[1]
    files = [*(utils / "_models").glob("*.py"), *(utils / "_store").glob("*.py"), utils / "_core" / "name.py"]
    files += [utils / "_server" / "api.py", utils / "_server" / "argspec.py", utils / "_core" / "http.py"]
    other_modules = {"findings.py", "verification.py", "lockfile.py", "job.py"}
    sources = "".join(path.read_text() for path in files if path.name not in other_modules)
    codes = set(re.findall(r'OllamaError\(\s*"([a-z_]+)"', sources)) | {code for _text, code in TEXTS}
    internal = {"response_invalid", "dest_taken", "dest_unwritable"}
    documented = set(re.findall(r"V\(([a-z_]+)\)", model.DOCUMENTATION))
    assert codes - internal <= documented
    assert OllamaError("x", "y").to_fail_json()["failure"]["code"] == "x"
