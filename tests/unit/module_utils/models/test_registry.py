# SPDX-License-Identifier: GPL-3.0-or-later
"""Registry requests that fail: which are retried, and the code and message of the failure."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import Response
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models import registry as registry_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Source, look_up

from tests.standin.registry import Registry, make_model


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the look-up waits between tries."""
    found: list[float] = []
    monkeypatch.setattr(registry_module, "sleep", found.append)
    return found


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    make_model(tmp_path, "a", size=2000)
    with Registry(tmp_path) as running:
        yield running


def ask(registry: Registry, name: str = "a", **options: t.Any) -> t.Any:
    return look_up(Source(registry.host, insecure=True), parse(name), lists=False, **options)


def failure(registry: Registry, **options: t.Any) -> OllamaError:
    with pytest.raises(OllamaError) as caught:
        ask(registry, **options)
    assert "a:latest" in caught.value.message
    return caught.value


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_what_passes_is_tried_again(registry: Registry, pauses: list[float], status: int) -> None:
    registry.misbehave("manifests", status=status, times=2)
    assert ask(registry).digest
    assert pauses == [1.0, 3.0]


def test_what_does_not_pass_ends(registry: Registry, pauses: list[float]) -> None:
    registry.misbehave("manifests", status=503)
    assert failure(registry).code == "registry_unreachable"
    assert len(pauses) == 2


@pytest.mark.parametrize(("asked", "pause"), [("2", 2.0), ("0", 1.0), ("99999", 15.0), ("-1", 1.0), ("x", 1.0)])
def test_retry_after_of_a_registry_is_limited(asked: str, pause: float) -> None:
    assert registry_module._asked_pause(Response("", 429, {"retry-after": asked}, b""), 1.0) == pause


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "Thu, 01 Jan 2026 00:00:09 GMT", "date": "Thu, 01 Jan 2026 00:00:02 GMT"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2026 09:00:00 GMT", "date": "Thu, 01 Jan 2026 00:00:02 GMT"}, 15.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:01 GMT", "date": "Thu, 01 Jan 2026 00:00:02 GMT"}, 1.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:09 GMT"}, 1.0),
        ({"retry-after": "Thu, 01 Jan 2026", "date": "now"}, 1.0),
        ({"retry-after": "Thu, 99 Jan 2026 00:00:09 GMT"}, 1.0),
        ({}, 1.0),
    ],
)
def test_a_registry_names_the_time_by_its_own_clock(headers: dict[str, str], pause: float) -> None:
    assert registry_module._asked_pause(Response("", 429, headers, b""), 1.0) == pause


def test_a_web_page_is_no_answer_about_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network that requires a login responds: the server may have another way out."""
    page = Response("", 200, {"content-type": "text/html; charset=utf-8"}, b"<html>Log in</html>")
    monkeypatch.setattr(registry_module, "request", lambda *_arguments, **_options: page)
    with pytest.raises(
        OllamaError, match=r"a web page, as in a network that requires a login; set ollama_set"
    ) as caught:
        look_up(Source("x"), parse("a"), lists=False)
    assert caught.value.code in registry_module.INDECISIVE_CODES


@pytest.mark.parametrize("status", [400, 405, 406, 410, 412, 418, 451])
def test_a_tag_that_is_refused_has_its_own_code_and_the_registrys_sentence(
    registry: Registry, pauses: list[float], status: int
) -> None:
    sentence = "This model is split into several files, which cannot be pulled; " + "choose another one " * 10
    registry.misbehave("manifests", status=status, body=f'{{"error":"{sentence}"}}'.encode())
    found = failure(registry)
    assert found.code == "tag_refused"
    assert sentence.strip() in found.message
    assert pauses == []


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"errors":[{"code":"X","message":"no such thing"}]}', ": no such thing"),
        (b'{"message":"no such thing"}', ": no such thing"),
        (b"no such thing\n", ": no such thing"),
        (b"<html>no such thing</html>", ""),
        (b"", ""),
        (b'{"errors":[]}', ': {"errors":[]}'),
        (b"[]", ": []"),
        (b'{"error":{}}', ': {"error":{}}'),
        (b"[" * 99999, ": " + "[" * 400),
    ],
)
def test_the_sentence_of_a_refusal(body: bytes, shown: str) -> None:
    assert registry_module._sentence(Response("", 400, {}, body)) == shown


@pytest.mark.parametrize(
    ("status", "code"), [(401, "registry_refused"), (403, "registry_refused"), (404, "tag_missing"), (500, None)]
)
def test_other_statuses_are_not_retried(registry: Registry, pauses: list[float], status: int, code: str | None) -> None:
    registry.misbehave("manifests", status=status)
    assert failure(registry).code == (code or "registry_unreachable")
    assert pauses == []


@pytest.mark.parametrize("location", ["ftp://x/", "http://127.0.0.2:1/x", "file:///etc/passwd"])
def test_a_registry_that_redirects_to_another_host_is_unsuitable(registry: Registry, location: str) -> None:
    registry.misbehave("manifests", status=302, location=location)
    assert failure(registry).code == "registry_unsuitable"


def test_a_proxy_failure_names_the_variable() -> None:
    with pytest.raises(OllamaError, match=r"set ollama_settings.https_proxy") as caught:
        look_up(Source("127.0.0.1:1", insecure=True), parse("a"), lists=False)
    assert caught.value.code in registry_module.INDECISIVE_CODES


def test_an_interrupted_connection_is_retried(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    calls: list[str] = []

    def broken(_method: str, url: str, **_options: t.Any) -> Response:
        calls.append(url)
        if len(calls) < 3:
            raise OllamaError("connection_lost", "it broke")
        return Response(url, 404, {}, b"")

    monkeypatch.setattr(registry_module, "request", broken)
    with pytest.raises(OllamaError) as caught:
        look_up(Source("x"), parse("a"), lists=False)
    assert (caught.value.code, len(calls), len(pauses)) == ("tag_missing", 3, 2)


def test_a_deadline_ends_the_tries(registry: Registry, pauses: list[float]) -> None:
    registry.misbehave("manifests", status=503)
    assert failure(registry, until=time.monotonic() + 0.5).code == "registry_unreachable"
    assert pauses == []
    assert failure(registry, until=time.monotonic()).code == "deadline_exceeded"


@pytest.mark.parametrize("body", [b"[" * 99999, b'{"layers":[{"digest":"x","size":1e999}]}', b"null", b"\xff"])
def test_an_invalid_manifest_is_reported(registry: Registry, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "request", lambda _m, url, **_o: Response(url, 200, {}, body))
    assert failure(registry).code == "manifest_invalid"
