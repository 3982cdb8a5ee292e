# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls that are interrupted, stalled or limited, and many models at once."""

from __future__ import annotations

import contextlib

from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store.partials import partials_of
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests import standin
from tests.standin import until
from tests.standin.registry import make_model
from tests.unit.modules.model.world import World

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
        kept = until(lambda: partials_of(Store(str(world.models_dir)))[0]["completed"], "what was fetched is noted")
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
    until(lambda: partials_of(Store(str(world.models_dir)))[0]["completed"], "the bytes are in the partial file")


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
