# SPDX-License-Identifier: GPL-3.0-or-later
"""Module probe against the stand-in, in both generations of the store."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import probe as probe_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.declaration import Demands
from ansible_collections.kaido.ollama.plugins.module_utils._models.duration import parse_timeout
from ansible_collections.kaido.ollama.plugins.module_utils._models.probe import judge
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._server.journal import last_lines
from ansible_collections.kaido.ollama.plugins.modules import model_probe

from tests import standin
from tests.unit.modules.test_model_loaded import fill

GIB = 1 << 30


class World:
    def __init__(self, server: standin.Running, run_module: t.Any) -> None:
        self.client = Client(server.url)
        self._run_module = run_module

    def run(self, *, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._run_module(
            model_probe, {"api_url": self.client.base_url, **params}, check=check
        )
        assert not result.get("changed")
        return result

    def ps(self) -> dict[str, str]:
        return {row["name"]: row["expires_at"] for row in self.client.running()}


Start = Callable[..., World]


@pytest.fixture(params=["0.35.1", "0.40.2"])
def start(request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any) -> Iterator[Start]:
    fill(tmp_path, 2 if request.param >= "0.40" else 1)
    with ExitStack() as stack:
        yield lambda **env: World(stack.enter_context(standin.running(request.param, tmp_path, env)), run_module)


def test_a_model_that_runs_is_measured_and_leaves_no_trace(start: Start) -> None:
    world = start(STANDIN_TOKEN_SECONDS="0.01", STANDIN_LOAD_SECONDS="0.3")
    for check in (True, False, True, False):
        result = world.run(name="A", check=check)
        assert not result["failed"], result
        assert result["probed"] is not check
        assert result["name"] == "A:latest"
        assert world.ps() == {}, "it was not in memory before"
    assert result["was_loaded"] is False
    assert 0.3 <= result["load_seconds"] < 3
    assert 0 < result["answer_tokens_per_second"] <= 200
    assert result["prompt_tokens_per_second"] > 0
    assert result["vram_share"] == 0.0
    assert result["size"] > 0
    assert result["context_length"] == 128
    assert len(result["response"].split()) == 23
    assert result["dimensions"] is None
    assert result["compute"] == []


def test_the_same_question_gets_the_same_answer(start: Start) -> None:
    world = start()
    first = world.run(name="a", max_tokens=5)
    assert first["response"] == world.run(name="a", max_tokens=5)["response"]
    assert first["response"] != world.run(name="a", max_tokens=5, seed=7)["response"]
    assert len(first["response"].split()) == 5


def test_an_embedding_model_embeds(start: Start) -> None:
    world = start(STANDIN_GPU="cuda:24564")
    result = world.run(name="embed", require_gpu=True)
    assert not result["failed"], result
    assert (result["dimensions"], result["response"], result["answer_tokens_per_second"]) == (64, None, None)
    assert world.ps() == {}


def test_loaded_models_are_unchanged_or_as_requested(start: Start) -> None:
    world = start()
    world.client.generate({"model": "a", "keep_alive": -1}, timeout=5)
    assert world.run(name="a")["was_loaded"]
    assert world.ps()["a:latest"] > "2100"
    world.client.generate({"model": "a", "keep_alive": "3h"}, timeout=5)
    before = world.ps()["a:latest"]
    world.run(name="a")
    assert abs(_minute(world.ps()["a:latest"]) - _minute(before)) <= 1
    world.run(name="a", keep_alive="0")
    assert world.ps() == {}
    world.run(name="a", keep_alive="forever")
    assert world.ps()["a:latest"] > "2100"


def _minute(text: str) -> int:
    return int(text[11:13]) * 60 + int(text[14:16])


def test_a_gpu_is_present_or_missing(start: Start) -> None:
    result = start(STANDIN_GPU="cuda:24564").run(name="a", require_gpu=True)
    assert (result["failed"], result["vram_share"]) == (False, 1.0)
    result = start().run(name="a", require_gpu=True)
    assert result["failure"]["code"] == "model_on_cpu"
    assert "0 B of" in result["msg"]
    assert "(0 %)" in result["msg"]
    assert result["vram_share"] == 0.0
    assert result["response"], "what was found is part of the failure"


@pytest.mark.parametrize(
    ("vram", "demands", "code", "text"),
    [
        (4 * GIB, Demands(gpu=True), None, ""),
        (4 * GIB - 1, Demands(gpu=True), "model_partly_on_cpu", "(100 %)"),
        (GIB, Demands(gpu=True), "model_partly_on_cpu", "1.1 GB of 4.3 GB (25 %)"),
        (0, Demands(gpu=True), "model_on_cpu", "0 B of 4.3 GB (0 %)"),
        (0, Demands(), None, ""),
        (0, Demands(tokens_per_second=12.5), None, ""),
        (0, Demands(tokens_per_second=12.6), "model_too_slow", "12.5 tokens/s; expected 12.6"),
        (0, Demands(gpu=True, tokens_per_second=99), "model_on_cpu", ""),
    ],
)
def test_what_a_probe_must_find(vram: int, demands: Demands, code: str | None, text: str) -> None:
    found = {
        "name": "a:latest", "size": 4 * GIB, "size_vram": vram, "response": "Hi",
        "answer_tokens_per_second": 12.5, "prompt_tokens_per_second": 99.0,
    }  # fmt: skip
    if code is None:
        judge(found, demands)
        return
    with pytest.raises(OllamaError) as info:
        judge(found, demands)
    assert info.value.code == code
    assert text in info.value.message


@pytest.mark.parametrize(("rate", "fails"), [(99.0, False), (5.0, True), (None, True)])
def test_an_embedding_model_is_as_fast_as_it_reads(rate: float | None, fails: bool) -> None:
    found = {
        "name": "e", "size": 1, "size_vram": 1, "response": None,
        "answer_tokens_per_second": None, "prompt_tokens_per_second": rate,
    }  # fmt: skip
    if fails:
        with pytest.raises(OllamaError, match="tokens/s"):
            judge(found, Demands(tokens_per_second=6))
    else:
        judge(found, Demands(tokens_per_second=6))


def test_too_slow_is_a_failure(start: Start) -> None:
    world = start(STANDIN_TOKEN_SECONDS="0.02")
    result = world.run(name="a", min_tokens_per_second=1000, max_tokens=4)
    assert result["failure"]["code"] == "model_too_slow"
    assert world.ps() == {}


def test_missing_and_broken_parts_are_reported(start: Start) -> None:
    world = start()
    assert world.run(name="nope")["failure"]["code"] == "model_missing"
    result = world.run(name="bad")
    assert result["failure"]["code"] == "load_failed"
    assert "exceeds file size" in result["msg"]


@pytest.mark.parametrize("unit", [None, "ollama.service"])
def test_a_runner_that_fails_in_mid_answer_is_named(start: Start, monkeypatch: t.Any, unit: str | None) -> None:
    monkeypatch.setattr(probe_module, "last_lines", lambda _unit: ["llama-server: invalid UTF-8", "exit status 1"])
    world = start(STANDIN_RUNNER_FAILS="1")
    result = world.run(name="a", unit=unit)
    assert result["failure"]["code"] == "runner_failed"
    journal = "; the last lines of its journal: llama-server: invalid UTF-8 | exit status 1" if unit else ""
    assert result["msg"] == f"a:latest: the runner ended before the answer was complete{journal}"
    assert world.ps() == {}


def test_the_last_lines_of_a_journal_are_printable(tmp_path: Path, monkeypatch: t.Any) -> None:
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\necho \"$@\" >&2\nprintf 'one\\033[31m\\ntwo %0300d\\n' 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert last_lines("ollama.service") == ["one [31m", "two " + "0" * 196]
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert last_lines("ollama.service") == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"response": "", "eval_count": 1}, "response_empty"),
        ({"response": "  \n"}, "response_empty"),
        ({}, "response_empty"),
        ({"error": "llama runner process has terminated"}, "server_error"),
        ({"response": "", "thinking": "Hmm"}, None),
    ],
)
def test_a_response_is_examined(start: Start, monkeypatch: t.Any, answer: dict[str, t.Any], code: str | None) -> None:
    """Answers that the stand-in never gives; loading is still its own."""
    world = start()
    generate = Client.generate

    def odd(self: Client, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        return answer if body.get("prompt") else generate(self, body, timeout=timeout)

    monkeypatch.setattr(Client, "generate", odd)
    result = world.run(name="a")
    assert result.get("failure", {}).get("code") == code
    assert world.ps() == {}


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan"), 1.0], ["x"]])
def test_an_embedding_is_examined(start: Start, monkeypatch: t.Any, vector: list[t.Any]) -> None:
    world = start()
    embed = Client.embed

    def odd(self: Client, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        return {"embeddings": [vector]} if body["input"] else embed(self, body, timeout=timeout)

    monkeypatch.setattr(Client, "embed", odd)
    assert world.run(name="embed")["failure"]["code"] == "response_empty"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"name": "a b"}, "name_invalid"),
        ({"name": "gpt:cloud"}, "model_in_cloud"),
        ({"name": "a", "max_tokens": 0}, "value_invalid"),
        ({"name": "a", "prompt": " "}, "value_invalid"),
        ({"name": "a", "keep_alive": "long"}, "value_invalid"),
        ({"name": "a", "min_tokens_per_second": -1}, "value_invalid"),
        ({"name": "a", "api_url": "ftp://x"}, "url_invalid"),
        ({"name": "a", "api_url": "http://127.0.0.1:1", "startup_timeout": 0}, "server_unreachable"),
    ],
)
def test_invalid_input_is_one_line(run_module: t.Any, params: dict[str, t.Any], code: str) -> None:
    result = run_module(model_probe, params)
    assert result["failure"]["code"] == code
    assert "\n" not in result["msg"]


IMAGE = {"done": True, "response": "", "image": "iVBORw0KGgo="}


def paints(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the stand-in's models of these names be image models, which it does not have."""
    generate, show = Client.generate, Client.show

    def paint(self: Client, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        return IMAGE if body.get("prompt") and body["model"] in names else generate(self, body, timeout=timeout)

    def describe(self: Client, name: t.Any) -> dict[str, t.Any] | None:
        shown = show(self, name)
        return {**shown, "capabilities": ["image"]} if shown and str(name) in names else shown

    monkeypatch.setattr(Client, "generate", paint)
    monkeypatch.setattr(Client, "show", describe)


@pytest.mark.parametrize(("models", "tested"), [(["a", "b:1b"], "b:1b"), (["a", "embed"], "embed:latest")])
def test_the_first_model_that_generates_text_or_embeddings_is_tested(
    start: Start, monkeypatch: pytest.MonkeyPatch, models: list[str], tested: str
) -> None:
    world = start()
    paints(monkeypatch, "a:latest")
    result = world.run(models=models)
    assert (result["failed"], result["name"], result["image"]) == (False, tested, False)


def test_an_image_is_an_answer_where_there_is_no_other_model(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    world = start()
    paints(monkeypatch, "a:latest", "b:1b")
    for params in ({"models": ["a", "b:1b"]}, {"name": "a"}):
        result = world.run(**params)
        assert (result["failed"], result["name"], result["image"]) == (False, "a:latest", True), result


@pytest.mark.parametrize(
    ("code", "status", "text"), [("load_failed", 500, "cudaMalloc failed: out of memory"), ("server_busy", 503, "busy")]
)
def test_a_model_that_cannot_run_is_a_warning_where_a_gpu_is_only_preferred(
    start: Start, monkeypatch: pytest.MonkeyPatch, code: str, status: int, text: str
) -> None:
    world = start()

    def refuse(_self: Client, _body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        raise OllamaError("server_error", text, status=status)

    monkeypatch.setattr(Client, "generate", refuse)
    preferred = world.run(name="a", unit="ollama.service", prefer_gpu=True)
    assert (preferred["failed"], preferred["probed"]) == (False, False)
    assert preferred["warnings"] == [f"not tested: a:latest: {text}"]
    assert world.run(name="a", unit="ollama.service", require_gpu=True)["failure"]["code"] == code


def test_a_load_that_takes_longer_than_the_timeout_is_a_warning_where_a_gpu_is_only_preferred(start: Start) -> None:
    world = start(STANDIN_LOAD_SECONDS="1")
    result = world.run(name="a", unit="ollama.service", prefer_gpu=True, timeout="300ms")
    assert (result["failed"], result["probed"]) == (False, False)
    assert "no answer within 0.3 s" in result["warnings"][0]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300.0),
        (300, 300.0),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("+1.5h", 5400.0),
        (".5m", 30.0),
        ("1500000us", 1.5),
        ("0", 86400.0),
        ("-1", 86400.0),
        ("-5m", 86400.0),
    ],
)
def test_timeouts_are_durations_of_ollama(text: t.Any, seconds: float) -> None:
    assert parse_timeout(text) == seconds
