# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that no server should give: each is one failure with a code, and none is a sample."""

from __future__ import annotations

import json
import time
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark import requests
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import Response

from tests.unit.modules.test_fuzz import ODD, RAW, Streamed

ENDPOINT = requests.Endpoint("gateway", "http://gateway.lan:11443/", "token-of-the-test")
DONE = {"done": True, "response": "", "eval_count": 3, "eval_duration": 10**9, "prompt_eval_count": 5}
CODES = {"response_invalid", "server_error", "runner_failed"}


class Server:
    """Gives one answer to each request, and keeps how the last one was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.body, self.status = b"", 200
        self.sent: dict[str, t.Any] = {}
        monkeypatch.setattr(requests, "open_stream", self.open_stream)

    def open_stream(self, method: str, url: str, **options: t.Any) -> Streamed:
        self.sent = {"url": url, **options}
        return Whole(Response(url, self.status, {}, self.body))

    def generate(self, *lines: t.Any) -> requests.Sample:
        self.body = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        return requests.generate(ENDPOINT, {"model": "a"}, 10, time.monotonic() + 10)

    def embed(self, answer: t.Any) -> requests.Sample:
        self.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return requests.embed(ENDPOINT, {"model": "a", "input": ["x", "y"]}, 10, time.monotonic() + 10)


class Whole(Streamed):
    """A stream whose end is reached after the first piece."""

    def read(self, size: int) -> bytes:
        piece, self._body = self._body[:size], self._body[size:]
        return piece


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def test_a_sample_has_the_servers_counts_and_the_token_is_sent(server: Server) -> None:
    sample = server.generate({"response": "one"}, b"\n", {"thinking": "two"}, DONE)
    assert (sample["answer_tokens"], sample["answer_seconds"], sample["prompt_tokens"]) == (3, 1.0, 5)
    assert 0 <= sample["first_token_seconds"] <= sample["seconds"]
    assert server.sent["url"] == "http://gateway.lan:11443/api/generate"
    assert server.sent["headers"] == {"Authorization": "Bearer token-of-the-test"}
    assert server.embed({"embeddings": [[1.0], [2.0]]})["texts"] == 2


@pytest.mark.parametrize("body", RAW, ids=range(len(RAW)))
def test_an_incomplete_response_is_no_sample(server: Server, body: bytes) -> None:
    for send in (server.generate, server.embed):
        with pytest.raises(OllamaError) as caught:
            send(body)
        assert caught.value.code in CODES


@pytest.mark.parametrize("key", [*DONE, "error", "thinking"])
def test_values_of_other_types_are_failures_or_left_out(server: Server, key: str) -> None:
    for odd in ODD:
        sample: requests.Sample = {}
        code = ""
        try:
            sample = server.generate({"response": "one"}, {**DONE, key: odd})
        except OllamaError as exc:
            code = exc.code
        assert code in CODES if code else sample
        assert all(isinstance(value, (int, float)) and value >= 0 for value in sample.values())


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([{"response": "one"}], "runner_failed"),
        ([{"response": "one"}, {"done": False}], "runner_failed"),
        ([{"error": "out of memory"}], "server_error"),
        ([{"response": "one"}, b"{"], "response_invalid"),
    ],
)
def test_an_answer_that_ends_early_is_a_failure(server: Server, lines: list[t.Any], code: str) -> None:
    with pytest.raises(OllamaError) as caught:
        server.generate(*lines)
    assert caught.value.code == code


def test_a_status_is_one_line_without_the_token(server: Server) -> None:
    server.status = 429
    with pytest.raises(OllamaError, match="answered 429: slow down") as caught:
        server.generate({"error": "slow down"})
    assert "token-of-the-test" not in str(caught.value)


def test_fewer_embeddings_than_texts_are_a_failure(server: Server) -> None:
    with pytest.raises(OllamaError, match="1 embeddings; expected 2"):
        server.embed({"embeddings": [[1.0]]})
