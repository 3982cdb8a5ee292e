# SPDX-License-Identifier: GPL-3.0-or-later
"""The responses of two real servers to each fault of a registry (tests/fixtures/faults), repeated."""

from __future__ import annotations

import json
import re
import typing as t

import pytest

from tests.standin.registry import FIXTURES, Registry, make_model

from .target import Target

RECORDED: dict[int, list[dict[str, t.Any]]] = {
    generation: json.loads((FIXTURES / "faults" / name).read_text())
    for generation, name in ((1, "v0.33.json"), (2, "v0.40.json"))
}
# Those of a blob in one part, and the one where two parts differ from one. After 50 s the client had disconnected.
CASES = [
    (case["name"], case["size"])
    for case in RECORDED[1]
    if case["seconds"] < 50 and (case["size"] < 100_000_000 or case["name"] == "connections cut again and again")
]


def _plain(line: dict[str, str], weights: str) -> dict[str, str]:
    return {
        key: re.sub("got sha256:[0-9a-f]{64}", "got sha256:other", text.replace(weights.removeprefix("sha256:"), "W"))
        for key, text in line.items()
    }


@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_registry_fault(target: Target, registry: Registry, name: str, size: int) -> None:
    [case] = [row for row in RECORDED[target.generation] if (row["name"], row["size"]) == (name, size)]
    make_model(registry.store_dir, "kaido/m:v1", size, seed=registry.port)
    path = registry.store_dir / "manifests/registry.ollama.ai/kaido/m/v1"
    weights = json.loads(path.read_bytes())["layers"][0]["digest"]
    for fault in case["faults"]:
        what = {key: value.replace("W", weights) if isinstance(value, str) else value for key, value in fault.items()}
        registry.misbehave(**what)
    lines = target.pull(f"{registry.host}/kaido/m:v1")
    assert _plain(lines[-1], weights) == _plain(case["last"], weights)
    statuses = {line.get("status", "") for line in lines}
    shown = {status for status in statuses if not re.match("pulling [0-9a-f]{12}", status)}
    assert shown == set(case["statuses"])
    # Of the other blobs the recorded server had some already.
    asked = [request for request in registry.requests if weights in request.path or "/manifests/" in request.path]
    assert len(asked) == case["requests"]


def test_if_a_part_fails_the_cancellation_of_the_others_is_reported(target: Target, registry: Registry) -> None:
    make_model(registry.store_dir, "model", 100_500_000, seed=registry.port)
    path = registry.store_dir / "manifests/registry.ollama.ai/library/model/latest"
    weights = json.loads(path.read_bytes())["layers"][0]["digest"]
    registry.misbehave(weights, ranges="bytes=0-", cut_after=0)
    registry.misbehave(weights, ranges="bytes=1000", rate=2_000)
    assert target.pull(f"{registry.host}/library/model")[-1] == {"error": "context canceled"}


@pytest.mark.parametrize(
    ("answers_http", "text"),
    [
        (True, "http: server gave HTTP response to HTTPS client"),
        (False, "tls: first record does not look like a TLS handshake"),
    ],
)
def test_a_registry_without_tls(target: Target, registry: Registry, answers_http: bool, text: str) -> None:
    registry.answers_tls_with_http = answers_http
    error = target.pull(f"{registry.host}/library/model", insecure=False)[-1]["error"]
    assert error.endswith(f": {text}")
