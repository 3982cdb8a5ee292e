# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint description: its content, schema, two forms, and what is refused, in one line without keys."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import typing as t

import jsonschema
import pytest
from ansible_collections.kaido.ollama.plugins.filter.endpoint import endpoint
from ansible_collections.kaido.ollama.plugins.module_utils._service.endpoint import PROVIDERS

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "endpoint.md").read_text()
SCHEMA = json.loads((ROOT / "docs" / "endpoint.schema.json").read_text())
KEYS = {name: f"sk-{name}_1+2/3~4.5==" for name in PROVIDERS}
CA = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
WANTED: dict[str, t.Any] = {
    "provider": "gateway",
    "fallback": "",
    "providers": {name: {"model": f"{name}/model:1b"} for name in PROVIDERS},
    "keys": KEYS,
    "group": "llm",
    "forwarder": "",
    "local_url": "http://127.0.0.1:11434",
    "gateway_url": "https://hecate:11443",
    "gateway_has_ca": True,
    "gateway_ca": CA,
}
PAIRS = [(name, other) for name, other in itertools.product(PROVIDERS, ("", *PROVIDERS)) if name != other]


def plan_for(**changes: t.Any) -> dict[str, t.Any]:
    return endpoint({**WANTED, **changes})


def provider(name: str, **about: t.Any) -> dict[str, t.Any]:
    """Variables that request one provider, with further keys."""
    return {"provider": name, "providers": {name: {"model": "m", **about}}}


def written(plan: dict[str, t.Any]) -> dict[str, dict[str, str]]:
    assert plan["problem"] == ""
    return {path: file for path, file in plan["files"].items() if file["content"] is not None}


@pytest.mark.parametrize(("name", "fallback"), PAIRS)
def test_each_description_keeps_the_contract(name: str, fallback: str) -> None:
    plan = plan_for(provider=name, fallback=fallback)
    files = written(plan)
    described = json.loads(files["/etc/kaido-ollama/endpoint.json"]["content"])
    jsonschema.validate(described, SCHEMA)
    assert described == plan["endpoint"]
    assert (described["provider"], (described["fallback"] or {}).get("provider", "")) == (name, fallback)
    # Whatever it names is written, before it, and nothing else is.
    named = [part[key] for part in (described, described["fallback"] or {}) for key in ("token_file", "ca_file")
             if part.get(key)]  # fmt: skip
    assert set(files) - {"/etc/profile.d/kaido-ollama.sh"} == {
        *named, "/etc/kaido-ollama/endpoint.env", "/etc/kaido-ollama/endpoint.json"
    }  # fmt: skip
    assert list(files)[-1] == "/etc/kaido-ollama/endpoint.json"
    for path in named:
        if "/keys/" in path:
            assert files[path] == {"content": KEYS[path.rsplit("/", 1)[1]], "mode": "0640", "group": "llm"}
    assert not [path for path, file in files.items() if "/keys/" not in path and "sk-" in file["content"]]


def test_the_page_matches_the_schema() -> None:
    jsonschema.validate(json.loads(PAGE.split("```json\n")[1].split("```")[0]), SCHEMA)
    rows = re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)
    assert rows == [*SCHEMA["required"], *SCHEMA["$defs"]["endpoint"]["required"]]


@pytest.mark.parametrize(("name", "fallback"), PAIRS)
def test_the_environment_has_the_same_effect(name: str, fallback: str) -> None:
    """Read by sh as `.` does, and line by line as systemd and docker do, which know no expansion."""
    plan = plan_for(provider=name, fallback=fallback)
    text = written(plan)["/etc/kaido-ollama/endpoint.env"]["content"]
    lines = dict(line.split("=", 1) for line in text.splitlines())
    by_sh = subprocess.run(
        ["sh", "-euc", 'set -a; eval "$0"; env', text], env={}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {line for line in by_sh if line.startswith("KAIDO_")} == {f"{key}={value}" for key, value in lines.items()}
    described = plan["endpoint"]
    fallback_part = described["fallback"] or {}
    for field, value in described.items():
        if field != "fallback":
            assert lines.pop(f"KAIDO_OLLAMA_{field.upper()}") == ("" if value is None else str(value))
        if field not in ("version", "fallback"):
            assert lines.pop(f"KAIDO_OLLAMA_FALLBACK_{field.upper()}") == (fallback_part.get(field) or "")
    assert lines == {}


@pytest.mark.parametrize(
    ("name", "base", "compatible"),
    [
        ("local", "http://127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("gateway", "https://hecate:11443", "https://hecate:11443/v1"),
        ("openai", "https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("google", "https://generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ],
)  # fmt: skip
def test_addresses(name: str, base: str, compatible: str) -> None:
    found = plan_for(provider=name)["endpoint"]
    assert (found["base_url"], found["openai_base_url"]) == (base, compatible)


def test_a_custom_compatible_provider() -> None:
    found = plan_for(**provider("openai", url="https://vllm.lan:8000/v1/", ca=CA, embedding_model="e"))
    assert found["endpoint"]["openai_base_url"] == "https://vllm.lan:8000/v1"
    assert found["endpoint"]["embedding_model"] == "e"
    assert found["files"][found["endpoint"]["ca_file"]]["content"] == CA


@pytest.mark.parametrize(
    ("changes", "needed", "ca_file"),
    [
        ({}, True, "/etc/kaido-ollama/ca/gateway.crt"),
        ({"provider": "local", "fallback": "gateway"}, True, None),
        ({"gateway_has_ca": False}, False, None),
        ({"provider": "openai"}, False, None),
        (provider("gateway", url="https://other"), False, None),
        (provider("gateway", ca=CA), False, "/etc/kaido-ollama/ca/gateway.crt"),
    ],
)
def test_whose_authority_is_fetched(changes: dict[str, t.Any], needed: bool, ca_file: str | None) -> None:
    plan = plan_for(**changes)
    assert (plan["needs_gateway_ca"], plan["endpoint"]["ca_file"]) == (needed, ca_file)


@pytest.mark.parametrize(
    ("changes", "forwards", "host"),
    [
        ({"provider": "gateway"}, True, "127.0.0.1:11435"),
        ({"provider": "gateway", "forwarder": ""}, False, None),
        ({"provider": "local"}, False, "http://127.0.0.1:11434"),
        ({"provider": "openai"}, False, None),
        ({"provider": "openai", "fallback": "gateway"}, False, None),
    ],
)
def test_requests_of_the_command_ollama(changes: dict[str, t.Any], forwards: bool, host: str | None) -> None:
    plan = plan_for(**{"forwarder": "127.0.0.1:11435", **changes})
    assert plan["forwards"] == forwards
    script = plan["files"]["/etc/profile.d/kaido-ollama.sh"]["content"]
    assert (script is None) == (host is None)
    for there, message in (({}, host), ({"OLLAMA_HOST": "mine:1"}, "mine:1")):
        if script:
            shell = ["sh", "-euc", f"{script}\nsh -c 'echo $OLLAMA_HOST'"]
            assert (
                subprocess.run(shell, env=there, capture_output=True, text=True, check=True).stdout.strip() == message
            )


def test_nothing_is_left_without_a_provider() -> None:
    assert written(plan_for(provider="none", fallback="openai")) == {}


REFUSED = [
    ({"keys": {}}, "ollama_client_keys.gateway: missing"),
    ({"keys": {"gateway": None}}, "ollama_client_keys.gateway: missing"),
    ({"keys": {"gateway": "sk-1"}, "fallback": "openai"}, "ollama_client_keys.openai: missing"),
    *(({"keys": {"gateway": bad}}, "ollama_client_keys.gateway: invalid value (not shown)")
      for bad in ("sk-a b", "sk-a\n", "\nsk-a", 'sk-"', "sk-$a", "sk-a;", "=sk-a", "sk-ä")),
    ({"gateway_url": ""}, "ollama_client_provider: invalid value 'gateway'; expected a gateway in the inventory"),
    ({"fallback": "gateway"}, "ollama_client_fallback: invalid value 'gateway'; expected another"),
    ({"providers": {}}, "ollama_client_providers.gateway.model: missing"),
    ({"providers": {"gateway": None}}, "ollama_client_providers.gateway.model: missing"),
    ({"fallback": "google", "providers": {"gateway": {"model": "m"}}}, "ollama_client_providers.google.model: missing"),
    *((provider("openai", model=bad), f"ollama_client_providers.openai.model: invalid value {bad!r}; expected")
      for bad in ("a b", "$(id)", "a\nb", "`id`", "-m", "m\n", "~m")),
    (provider("openai", embedding_model="a b"), "ollama_client_providers.openai.embedding_model: invalid value 'a b'"),
    *((provider("openai", url=bad), f"ollama_client_providers.openai.url: invalid value {bad!r}; expected https://HOST")
      for bad in ("ftp://x", "x.lan", "https://", "https://x/?***", "https://x/#a", "https://x:0", "https://x:99999",
                  "https://x\n", "https://x/$a", "https://[x")),
    *((provider("openai", url=bad), f"ollama_client_providers.openai.url: invalid value {bad!r}; expected https:")
      for bad in ("http://x.lan", "http://10.0.0.1", "http://localhost.evil.lan")),
    ({"gateway_url": "http://hecate:11443"}, "the URL of gateway: invalid value 'http://hecate:11443'; expected"),
    (provider("openai", url="https://sk-u:sk-p@x"), "ollama_client_providers.openai.url: invalid value (not shown)"),
    (provider("gateway", url="https://x/y"), "ollama_client_providers.gateway.url: invalid value 'https://x/y'"),
    (provider("openai", ca="/etc/ca.crt"), "ollama_client_providers.openai.ca: invalid value; expected the text"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(changes: dict[str, t.Any], says: str) -> None:
    problem = plan_for(**changes)["problem"]
    assert problem.startswith(says)
    assert "\n" not in problem
    assert "sk-" not in problem


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_loopback_needs_no_tls(url: str) -> None:
    assert plan_for(**provider("local", url=url))["endpoint"]["base_url"] == url
