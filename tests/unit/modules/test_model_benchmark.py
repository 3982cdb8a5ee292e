# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_benchmark against the stand-in, in both generations of the store: shapes and states, never times."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark import measure, plots, results
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark.requests import Endpoint
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.facts import Gpu
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import model_benchmark

from tests import standin
from tests.conftest import ROOT
from tests.unit.modules.test_model_loaded import fill

SCHEMA = json.loads((ROOT / "docs/benchmark.schema.json").read_text())
SMALL = {"parallel": [1, 2], "prompt_tokens": [16, 32], "rounds": 2, "answer_tokens": 4}


class World:
    def __init__(self, server: standin.Running, run_module: t.Any) -> None:
        self.server = server
        self.client = Client(server.url)
        self._run_module = run_module

    def run(self, *models: str, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        given = {"api_url": self.client.base_url, "models": list(models), **SMALL, **params}
        result: dict[str, t.Any] = self._run_module(model_benchmark, given, check=check)
        assert not result.get("changed")
        if result.get("benchmark"):
            jsonschema.validate(result["benchmark"], SCHEMA)
        return result

    def ps(self) -> dict[str, str]:
        return {row["name"]: row["expires_at"] for row in self.client.running()}


Start = Callable[..., World]


@pytest.fixture(params=["0.35.1", "0.40.2"])
def start(request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any) -> Iterator[Start]:
    fill(tmp_path, 2 if request.param >= "0.40" else 1)
    with ExitStack() as stack:
        yield lambda **env: World(stack.enter_context(standin.running(request.param, tmp_path, env)), run_module)


def test_each_combination_is_measured_and_the_model_is_unloaded_again(start: Start) -> None:
    world = start(STANDIN_GPU="cuda:24564")
    result = world.run("a", "embed")
    assert not result["failed"], result
    document = result["benchmark"]
    assert document["complete"]
    text, embedding = document["models"]
    keys = [(row["way"], row["prompt_tokens"], row["parallel"]) for row in text["cells"]]
    assert keys == [("direct", length, parallel) for length in (16, 32) for parallel in (1, 2)]
    for row in text["cells"]:
        assert row["requests"] == 2 * row["parallel"]
        assert row["errors"] == 0
        assert row["throughput"]["median"] > 0
        assert row["first_token_seconds"]["median"] <= row["seconds"]["max"]
        assert 0.5 * row["prompt_tokens"] <= row["measured_prompt_tokens"]["median"] <= 2 * row["prompt_tokens"]
    assert (text["kind"], embedding["kind"]) == ("text", "embedding")
    assert text["memory"]["vram_share"] == 1
    assert text["load_seconds"] >= 0
    assert text["suggestion"]["num_parallel"]
    assert embedding["suggestion"] is None
    assert all(row["throughput"]["median"] > 0 and row["first_token_seconds"] is None for row in embedding["cells"])
    assert world.ps() == {}
    assert document["other_load"]["loaded_models"] == []
    assert len(plots.plots([document])) == 4
    assert any(line.startswith("a:latest: loaded in ") for line in result["summary"])


def test_models_in_memory_stay_as_they_were(start: Start) -> None:
    world = start(OLLAMA_MAX_LOADED_MODELS="2")
    world.client.generate({"model": "a", "keep_alive": -1}, timeout=30)
    world.client.generate({"model": "b:1b", "keep_alive": "40m"}, timeout=30)
    before = world.ps()
    # Loading the third one makes the server unload one of the others.
    result = world.run("embed", "a")
    assert not result["failed"], result
    assert result["benchmark"]["other_load"]["loaded_models"] == ["a:latest", "b:1b"]
    after = world.ps()
    assert set(after) == set(before)
    # For ever, and the minutes that were left.
    assert after["a:latest"][:2] == before["a:latest"][:2] != "20"
    assert after["b:1b"][:13] == before["b:1b"][:13] or after["b:1b"] > before["b:1b"]


def test_the_time_limit_ends_requests_and_keeps_what_was_measured(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    world = start(STANDIN_GATE=str(gate))
    result = world.run("a", "b:1b", time_limit=1, timeout=60)
    assert not result["failed"], result
    assert not result["benchmark"]["complete"]
    assert [row["cells"] for row in result["benchmark"]["models"]] == [[], []]
    assert any(line.startswith("time_limit: 1 s") for line in result["warnings"])
    assert world.ps() == {}


def test_a_model_that_fails_is_named_and_the_others_are_measured(start: Start) -> None:
    world = start()
    result = world.run("bad", "a")
    assert not result["failed"], result
    bad, good = result["benchmark"]["models"]
    assert bad["failure"]["code"] == "load_failed"
    assert good["cells"]
    assert any("bad:latest" in line for line in result["warnings"])
    alone = world.run("bad")
    assert (alone["failed"], alone["failure"]["code"]) == (True, "load_failed")
    assert world.ps() == {}


def test_a_runner_that_fails_is_a_failure_of_the_model(start: Start) -> None:
    result = start(STANDIN_RUNNER_FAILS="1").run("a")
    assert result["failure"]["code"] == "runner_failed"


def test_prompts_that_do_not_fit_are_skipped(start: Start) -> None:
    world = start()
    [row] = world.run("a", prompt_tokens=[16, 512])["benchmark"]["models"]
    assert {cell["prompt_tokens"] for cell in row["cells"]} == {16}
    assert row["skipped"] == [{"prompt_tokens": 512, "reason": "longer than the context of 128 tokens"}]
    assert row["suggestion"]["context_length"] == 256


def test_the_gateway_is_measured_beside_the_server(start: Start) -> None:
    world = start()
    [row] = world.run("a", gateway_url=world.client.base_url, gateway_token="x" * 20)["benchmark"]["models"]
    assert {cell["way"] for cell in row["cells"]} == {"direct", "gateway"}
    result = world.run("a", gateway_url="http://127.0.0.1:1")
    [row] = result["benchmark"]["models"]
    assert {cell["way"] for cell in row["cells"]} == {"direct"}
    assert row["failure"] is None
    assert any(line.startswith("a:latest, gateway: cannot reach") for line in result["warnings"])


def test_the_figures_of_the_driver_are_beside_those_of_the_server(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = iter(range(1000, 100_000, 500))

    def smi(argv: t.Sequence[str]) -> tuple[int, str] | None:
        known = argv[0] == "nvidia-smi" and "utilization" in argv[1]
        return (0, f"00000000:01:00.0, 37, {next(used)}, 24564, 61, 213.50, [N/A], 2\n") if known else None

    world = start(STANDIN_GPU="cuda:24564")
    client = world.client
    settings = measure.Settings(parallel=(1,), prompt_tokens=(16,), rounds=1, answer_tokens=4)
    endpoint = Endpoint("direct", client.base_url)
    benchmark = measure.Benchmark(client, [endpoint], settings, run=smi)
    benchmark._gpus = [Gpu("nvidia", pci_address="0000:01:00.0", name="RTX", vram=24564 << 20)]
    document = benchmark.run([parse("a")])
    jsonschema.validate(document, SCHEMA)
    [row] = document["models"]
    assert row["memory"]["driver_bytes"] == 500 << 20
    assert row["estimate"]["used"] == 500 << 20
    error = row["estimate"]["estimated"] / (500 << 20) - 1
    assert row["estimate"]["estimate_error"] == pytest.approx(error, abs=0.001)
    assert any("; estimated " in line for line in results.summary(document))
    assert row["gpus"][0]["utilization_ratio"] == 0.37
    assert document["other_load"]["gpus"][0]["gpu"] == "0000:01:00.0"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"parallel": [0]}, "parallel: invalid value 0; expected 1 to 64"),
        ({"parallel": []}, "parallel: invalid value []; expected at least one number"),
        ({"parallel": [65]}, "parallel: invalid value 65; expected 1 to 64"),
        ({"prompt_tokens": [-1]}, "prompt_tokens: invalid value -1; expected 1 to 1e+06"),
        ({"rounds": 0}, "rounds: invalid value 0; expected 1 to 100"),
        ({"time_limit": 0}, "time_limit: invalid value 0.0; expected 1 to 86400"),
        ({"models": []}, "models: invalid value []; expected at least one model"),
    ],
)
def test_invalid_options_are_one_line_before_anything_is_loaded(
    start: Start, params: dict[str, t.Any], message: str
) -> None:
    world = start()
    for check in (True, False):
        result = world.run("a", check=check, **params)
        assert (result["failed"], result["failure"]["code"], result["msg"]) == (True, "value_invalid", message)


def test_a_model_that_is_not_installed_fails_before_anything_is_loaded(start: Start) -> None:
    world = start()
    result = world.run("a", "nowhere")
    assert result["failure"]["code"] == "model_missing"
    assert "nowhere:latest" in result["msg"]
    assert not [line for line in world.server.log if "/api/generate" in line]


def test_check_mode_measures_nothing(start: Start) -> None:
    world = start()
    assert world.run("a", check=True)["measured"] is False
    assert not [line for line in world.server.log if "/api/generate" in line]
