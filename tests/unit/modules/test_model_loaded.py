# SPDX-License-Identifier: GPL-3.0-or-later
"""Module loaded against the stand-in, in both generations of the store."""

from __future__ import annotations

import os
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models.duration import parse_keep_alive
from ansible_collections.kaido.ollama.plugins.module_utils._models.loaded import LoadedModels, Residency
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import model_loaded

from tests import standin
from tests.standin.registry import make_model


class World:
    """A server with two models that generate, one that embeds, and a damaged one."""

    def __init__(self, server: standin.Running, run_module: t.Any) -> None:
        self.client = Client(server.url)
        self._run_module = run_module

    def run(self, *, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._run_module(
            model_loaded, {"api_url": self.client.base_url, **params}, check=check
        )
        return result

    def ps(self) -> dict[str, str]:
        return {row["name"]: row["expires_at"] for row in self.client.running()}


def fill(models_dir: Path, generation: int) -> None:
    make_model(models_dir, "a", generation=generation, seed=1)
    make_model(models_dir, "b:1b", generation=generation, seed=2)
    make_model(models_dir, "embed", generation=generation, seed=3, size=30_000, architecture="bert")
    make_model(models_dir, "bad", generation=generation, seed=4, size=40_000)
    [blob] = [path for path in (models_dir / "blobs").iterdir() if path.stat().st_size == 40_000]
    os.truncate(blob, 20_000)


@pytest.fixture(params=["0.35.1", "0.40.2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(version: str, tmp_path: Path, run_module: t.Any) -> Iterator[World]:
    fill(tmp_path, 2 if version >= "0.40" else 1)
    with standin.running(version, tmp_path, {"OLLAMA_MAX_LOADED_MODELS": "2"}) as server:
        yield World(server, run_module)


def test_check_apply_check_apply(world: World) -> None:
    wanted: dict[str, t.Any] = {"models": ["a", "embed"]}
    predicted = world.run(check=True, **wanted)
    assert world.ps() == {}
    done = world.run(**wanted)
    assert (predicted["changed"], done["changed"]) == (True, True), done
    assert predicted["diff"] == done["diff"]
    assert done["diff"]["before"] == {"a:latest": "not loaded", "embed:latest": "not loaded"}
    assert done["diff"]["after"] == {"a:latest": "loaded forever", "embed:latest": "loaded forever"}
    assert all(row["loaded"] and row["forever"] and row["expires_at"] > "2100" for row in done["models"])
    first = world.ps()
    assert set(first) == {"a:latest", "embed:latest"}
    for check in (True, False):
        again = world.run(check=check, **wanted)
        assert not again["changed"]
        assert again["diff"]["before"] == again["diff"]["after"]
    assert world.ps() == first, "what is kept forever needs no request"


def test_unload_check_apply_check_apply(world: World) -> None:
    world.run(models=["a", "embed"])
    wanted: dict[str, t.Any] = {"models": ["A:latest", "embed", "b:1b"], "state": "unloaded"}
    assert world.run(check=True, **wanted)["changed"]
    assert len(world.ps()) == 2
    done = world.run(**wanted)
    assert done["changed"]
    assert [row["changed"] for row in done["models"]] == [True, True, False]
    assert world.ps() == {}
    assert not world.run(check=True, **wanted)["changed"]
    assert not world.run(**wanted)["changed"]
    assert not world.run(name="never-heard-of", state="unloaded")["changed"], "what is not there is not in memory"


def test_keep_alive_is_part_of_the_state(world: World) -> None:
    steps = [("2h", True), ("2h", False), ("forever", True), ("30m", True), ("1h", False), ("300", True)]
    for keep_alive, changes in steps:
        for check in (True, False):
            assert world.run(check=check, name="a", keep_alive=keep_alive)["changed"] is changes, keep_alive
    [row] = world.run(name="a", keep_alive="1h30m")["models"]
    assert not row["forever"]
    assert 5390 < Residency.of(row).expires - time.time() < 5410


@pytest.mark.parametrize("text", ["", "-2", "soon", "1d", "1h 30m", "5 m", "nan", "1e3"])
def test_an_invalid_keep_alive_is_refused_in_one_line(world: World, text: str) -> None:
    result = world.run(name="a", keep_alive=text)
    assert result["failure"]["code"] == "value_invalid"
    assert "keep_alive" in result["msg"]
    assert repr(text) in result["msg"]
    assert "expected forever" in result["msg"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("forever", -1), ("-1", -1), ("90", 90), ("1h30m", 5400), ("250ms", 0.25), ("1.5h", 5400)]
)
def test_keep_alive_is_read_as_the_server_reads_it(text: str, seconds: float) -> None:
    assert parse_keep_alive(text) == seconds


def test_invalid_options_are_refused(world: World) -> None:
    assert "state: unloaded" in world.run(name="a", keep_alive="0")["msg"]
    assert world.run(name="a", timeout=0)["failure"]["code"] == "value_invalid"
    assert world.run(name="b", models=["a"])["failed"]
    assert world.run()["failed"]
    assert world.run(name="a b")["failure"]["code"] == "name_invalid"
    assert world.run(name="gpt:cloud")["failure"]["code"] == "model_in_cloud"


def test_a_model_that_is_not_installed_fails_before_any_is_loaded(world: World) -> None:
    result = world.run(models=["a", "nope", "nix:1"])
    assert result["failure"]["code"] == "model_missing"
    assert result["failure"]["missing"] == ["nope:latest", "nix:1"]
    assert world.ps() == {}
    predicted = world.run(models=["nope"], check=True)
    assert predicted["changed"], "in check mode an earlier task would have installed it"
    assert predicted["warnings"]


def test_a_model_that_cannot_be_loaded_is_reported_with_reason_and_actions(world: World) -> None:
    result = world.run(models=["a", "bad"])
    assert result["failure"]["code"] == "load_failed"
    assert "bad:latest" in result["msg"]
    assert "exceeds file size" in result["msg"]
    assert [row["loaded"] for row in result["models"]] == [True, False]
    assert result["changed"]


def test_an_evicted_model_is_named(world: World) -> None:
    result = world.run(models=["a", "b:1b", "embed"])
    assert result["failure"]["code"] == "model_evicted"
    assert len(result["failure"]["evicted"]) == 1
    assert len(world.ps()) == 2


def test_two_names_of_a_manifest_are_one_in_memory(world: World) -> None:
    world.client.copy(parse("a"), parse("default-chat"))
    assert world.run(name="a")["changed"]
    assert not world.run(name="default-chat")["changed"]
    assert world.run(name="default-chat", state="unloaded")["changed"]
    assert world.ps() == {}


def test_models_of_the_same_weights_are_one_in_memory(world: World) -> None:
    """A real server lists a model under the name that was loaded first; the stand-in knows manifests only."""
    list(world.client.create({"model": "helper", "from": "a", "system": "Be kind."}))
    world.run(name="a")
    runs = LoadedModels(world.client, timeout=5)
    assert not runs.residency(parse("helper")).loaded
    assert runs.residency_after_load(parse("helper")).loaded
    assert not runs.residency_after_load(parse("b:1b")).loaded


def test_a_full_queue_is_reported_as_busy(tmp_path: Path, run_module: t.Any, version: str) -> None:
    models, gate = tmp_path / "models", tmp_path / "gate"
    fill(models, 2 if version >= "0.40" else 1)
    gate.touch()
    env = {"OLLAMA_MAX_QUEUE": "1", "STANDIN_GATE": str(gate)}
    with standin.running(version, models, env) as server, ThreadPoolExecutor() as pool:
        busy = pool.submit(Client(server.url).generate, {"model": "a", "prompt": "hello"}, timeout=60)
        server.wait_for("waits at the gate")
        result = run_module(model_loaded, {"api_url": server.url, "name": "b:1b"})
        assert result["failure"]["code"] == "server_busy"
        assert "b:1b" in result["msg"]
        gate.unlink()
        assert busy.result()["done"]


def test_unloading_waits_for_a_running_answer_no_longer_than_allowed(world: World, monkeypatch: t.Any) -> None:
    world.run(name="a")
    monkeypatch.setattr(Client, "generate", lambda *args, **kwargs: {})
    result = world.run(name="a", state="unloaded", timeout=1)
    assert result["failure"]["code"] == "model_still_loaded"


def test_a_load_that_takes_too_long_is_a_failure(tmp_path: Path, run_module: t.Any) -> None:
    fill(tmp_path, 1)
    with standin.running("0.35.1", tmp_path, {"STANDIN_LOAD_SECONDS": "3"}) as server:
        result = run_module(model_loaded, {"api_url": server.url, "name": "a", "timeout": 1})
    assert result["failure"]["code"] == "load_failed"
    assert "no answer within 1 s" in result["msg"]


def test_a_server_that_does_not_listen_yet(run_module: t.Any) -> None:
    params = {"api_url": "http://127.0.0.1:1", "name": "a", "startup_timeout": 0}
    assert run_module(model_loaded, params)["failure"]["code"] == "server_unreachable"
    assert run_module(model_loaded, params, check=True)["changed"]
    assert not run_module(model_loaded, {**params, "state": "unloaded"}, check=True)["changed"]


@pytest.mark.parametrize("text", ["None", "yesterday", "2026-11-22T15:31:24"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(OllamaError) as info:
        Residency.of({"expires_at": text})
    assert info.value.code == "response_invalid"


def test_times_of_the_server_are_read() -> None:
    utc = Residency.of({"expires_at": "2026-11-22T15:31:24.033700472Z"})
    assert utc.expires == Residency.of({"expires_at": "2026-11-22T17:31:24+02:00"}).expires
    assert Residency.of({"expires_at": "2319-03-04T15:13:43.807354081Z"}).forever
