# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged models, and what repairs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.standin.registry import Registry, make_model
from tests.unit.modules.model.world import World, damage

# --- damage

DAMAGE = [("model", how) for how in ("flip_bit", "truncate", "zero", "remove")]
DAMAGE += [("config", how) for how in ("flip_bit", "zero", "remove")] + [("params", "flip_bit")]


@pytest.mark.parametrize(("part", "how"), DAMAGE)
def test_only_damage_is_repaired(world: World, part: str, how: str) -> None:
    world.run(models=["a", "kaido/c:q8"])
    path = world.blob(part)
    good, fetched = path.read_bytes(), world.fetched()
    damage(path, how)
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
    damage(blob, "flip_bit")
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
