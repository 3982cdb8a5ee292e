# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that a gateway uses for each model, and the resulting configuration."""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.filter.balancer_plan import _filter, plan, spellings
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._service.fleet import Fleet, member

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

ROLE = ROOT / "roles" / "ollama_gateway"


def fleet(**models: list[t.Any]) -> dict[str, dict[str, t.Any]]:
    return {name: {"ollama_gateway_enabled": True, "ollama_models": rows} for name, rows in models.items()}


def sets(found: dict[str, t.Any]) -> dict[str, tuple[list[str], list[str]]]:
    return {group["name"]: (group["servers"], group["backups"]) for group in found["groups"]}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "llama3.2",
            "llama3.2 llama3.2:latest library/llama3.2 library/llama3.2:latest registry.ollama.ai/library/llama3.2 "
            "registry.ollama.ai/library/llama3.2:latest ollama.com/library/llama3.2 ollama.com/library/llama3.2:latest",
        ),
        ("Kaido/Big:Q4", "kaido/big:q4 registry.ollama.ai/kaido/big:q4 ollama.com/kaido/big:q4"),
        ("hecate:5000/library/x", "hecate:5000/library/x hecate:5000/library/x:latest"),
    ],
)
def test_every_spelling(name: str, expected: str) -> None:
    assert sorted(spellings(parse(name))) == sorted(expected.split())


def test_a_model_is_tested_only_where_it_is_declared() -> None:
    rows = [{"name": "b", "state": "absent"}, {"name": "c", "aliases": ["default-chat"]}, "gpt-oss:120b-cloud"]
    found = plan(["h1", "h2", "h3"], fleet(h1=["a", "B:latest"], h2=["a", *rows], h3=["A"]), "h1")
    groups = {name: servers for name, (servers, _backups) in sets(found).items()}
    of = found["spellings"]
    assert groups[of["a"]] == ["h1", "h2", "h3"]
    assert groups[of["library/b:latest"]] == ["h1"]
    assert groups[of["c"]] == groups[of["default-chat"]] == groups[of["gpt-oss:120b-cloud"]] == ["h2"]
    assert of["c"] == of["default-chat:latest"]
    assert "b:1b" not in of
    assert sets(found)["rest"] == (["h2"], ["h1", "h3"])
    assert next(group for group in found["groups"] if group["name"] == of["a"])["models"] == ["a:latest"]


@pytest.mark.parametrize(
    ("models", "rest"),
    [
        ({"h1": ["a"], "h2": ["A:latest"]}, (["h1", "h2"], [])),
        ({"h1": ["a"], "h2": ["b"]}, (["h1"], ["h2"])),
        ({"h1": [], "h2": ["b"]}, (["h2"], ["h1"])),
        ({"h1": [], "h2": []}, (["h1", "h2"], [])),
        ({"h1": ["a", "a:latest"], "h2": ["b", "c"]}, (["h2"], ["h1"])),
    ],
)
def test_lists_come_from_those_with_most_models(models: dict[str, t.Any], rest: tuple[list[str], list[str]]) -> None:
    assert sets(plan(["h1", "h2"], fleet(**models), "h1"))["rest"] == rest


def test_nothing_depends_on_the_order_of_servers_and_models() -> None:
    one = plan(["h1", "h2"], fleet(h1=["a", "b"], h2=["b"]), "h1")
    other = plan(["h2", "h1", "h2"], fleet(h1=["b", "a"], h2=["b"]), "h1")
    assert one == other


@pytest.mark.parametrize(
    ("variables", "address", "certificate"),
    [
        ({}, "big2:11443", "big2"),
        ({"ansible_host": "192.0.2.1"}, "192.0.2.1:11443", "big2"),
        ({"ansible_host": "2001:db8::1", "ollama_gateway_port": 443}, "[2001:db8::1]:443", "big2"),
        ({"ansible_host": "big2.lan"}, "big2.lan:11443", "big2.lan"),
        ({"ansible_host": "192.0.2.1", "ollama_gateway_url": "https://llm.lan"}, "llm.lan:443", "llm.lan"),
    ],
)
def test_the_url_of_another_gateway(variables: dict[str, t.Any], address: str, certificate: str) -> None:
    hostvars = fleet(hecate=[], big2=[])
    hostvars["big2"].update(variables)
    peer, own = plan(["hecate", "big2"], hostvars, "hecate")["servers"]
    assert own == {"name": "hecate", "own": True, "parallel": 1}
    assert peer == {"name": "big2", "own": False, "parallel": 1, "address": address, "certificate": certificate}


@pytest.mark.parametrize(("settings", "parallel"), [({}, 1), ({"num_parallel": "4"}, 4), ({"num_parallel": 0}, 1)])
def test_a_server_gets_no_more_parallel_requests_than_it_can_serve(settings: dict[str, t.Any], parallel: int) -> None:
    hostvars = fleet(hecate=[])
    hostvars["hecate"]["ollama_settings"] = settings
    assert plan(["hecate"], hostvars, "edge")["servers"][0]["parallel"] == parallel


@pytest.mark.parametrize(
    ("pool", "change", "says"),
    [
        (["h1", "nowhere"], {}, "ollama_gateway_servers: invalid value 'nowhere'; expected hosts of the inventory"),
        (
            ["h1", "h2"],
            {"ollama_gateway_enabled": False},
            "ollama_gateway_servers: invalid value 'h2'; expected hosts with ollama_gateway_enabled",
        ),
        (["h1", "h2"], {"ollama_models": ["a b"]}, "ollama_models of h2: invalid name 'a b'"),
        (["h1", "h2"], {"ollama_models": [{"state": "latest"}]}, "ollama_models of h2: invalid name None"),
    ],
)
def test_invalid_input_names_variable_and_host(pool: list[str], change: dict[str, t.Any], says: str) -> None:
    hostvars = fleet(h1=[], h2=[])
    hostvars["h2"].update(change)
    with pytest.raises(OllamaError, match=re.escape(says)):
        plan(pool, hostvars, "h1")


def test_a_name_that_haproxy_cannot_have() -> None:
    from ansible.errors import AnsibleFilterError

    with pytest.raises(AnsibleFilterError, match="invalid value 'big 2'; expected letters"):
        _filter(["big 2"], fleet(**{"big 2": []}), "hecate")


# Evaluated by Ansible itself, for hosts of an inventory.

HOSTS = {
    "hecate": {"ollama_models": ["tiny", "kaido/tiny2:q8"], "ollama_settings": {"num_parallel": 2}},
    "big2": {"ollama_models": ["tiny"], "ansible_host": "192.0.2.2"},
    "big3": {"ollama_models": "{{ ['tiny'] }}", "ollama_gateway_url": "https://llm3.lan:8443"},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of hecate, and of a edge that has no server of its own, by host and name."""
    folder = tmp_path_factory.mktemp("balancer")
    servers = {"ollama_servers": {"hosts": HOSTS, "vars": {"ollama_gateway_enabled": True}}}
    gateways_alone = {"ollama_gateways": {"hosts": {"edge": {"ollama_gateway_enabled": True}}}}
    play = {
        "hosts": "hecate:edge",
        "gather_facts": False,
        "connection": "local",
        "vars_files": [str(ROLE / "defaults" / "main.yml"), str(ROLE / "vars" / "main.yml")],
        "vars": {"role_path": str(ROLE), "ansible_python_interpreter": sys.executable},
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": "{{ ollama_gateway__balancer_files[item].content }}",
                    "dest": f"{folder}/{{{{ inventory_hostname }}}}-{{{{ item | basename }}}}",
                    "mode": "0600",
                },
                "loop": "{{ ollama_gateway__balancer_files.keys() }}",
            }
        ],
    }
    (folder / "templates").symlink_to(ROLE / "templates")
    play_on(folder, {**servers, **gateways_alone}, play)
    return {path.name: path.read_text() for path in folder.glob("*-*") if path.is_file()}


def play_on(folder: Path, hosts: dict[str, t.Any], play: dict[str, t.Any]) -> str:
    done = run_playbook(folder, hosts, [play], config="[defaults]\ncallback_result_format = json\n")
    assert done.status == 0, done.output
    return done.stdout


def lines(text: str, backend: str) -> list[str]:
    """The servers of one backend."""
    section = re.search(rf"^backend {backend}\n((?:  .*\n)*)", text, re.MULTILINE)
    assert section, backend
    return [line.strip() for line in section[1].splitlines() if line.startswith("  server ")]


def test_the_configuration_of_a_server_that_is_a_gateway(rendered: dict[str, str]) -> None:
    text = rendered["hecate-haproxy.cfg"]
    tls = "ssl verify required ca-file /etc/ollama-gateway/ca.crt"
    *peers, own = lines(text, "inference-models-1")
    assert own == "server hecate 127.0.0.1:11434 track own/hecate maxconn 2"
    assert peers == [
        f"server big2 192.0.2.2:11443 track peers/big2 maxconn 1 {tls} sni str(big2) verifyhost big2",
        f"server big3 llm3.lan:8443 track peers/big3 maxconn 1 {tls} sni str(llm3.lan) verifyhost llm3.lan",
    ]
    assert lines(text, "inference-models-2") == [own]
    assert lines(text, "control-models-1")[2] == "server hecate 127.0.0.1:11434 track own/hecate"
    assert [" backup " in f"{line} " for line in lines(text, "control-rest")] == [False, True, True]
    assert lines(text, "own") == ["server hecate 127.0.0.1:11434 check"]
    assert "check-sni llm3.lan" in lines(text, "peers")[1]
    assert '"{\\"error\\": \\"unavailable: no server is free or able to answer\\"}"' in text
    mapped = rendered["hecate-models.map"].splitlines()
    assert "library/tiny models-1" in mapped
    assert "kaido/tiny2:q8 models-2" in mapped


def test_the_configuration_of_a_gateway_without_a_server(rendered: dict[str, str]) -> None:
    text = rendered["edge-haproxy.cfg"]
    assert "backend own" not in text
    assert "127.0.0.1:11434" not in text
    assert len(lines(text, "peers")) == len(lines(text, "inference-models-1")) == 3


def test_statistics_and_orders_are_for_the_host_alone(rendered: dict[str, str]) -> None:
    binds = re.findall(r"^ +(?:bind|stats socket) (.+)$", rendered["hecate-haproxy.cfg"], re.MULTILINE)
    assert sorted(bind.split()[0] for bind in binds) == [
        "/run/ollama-balancer/admin.sock",
        "127.0.0.1:11444",
        "unix@/run/ollama-balancer/again.sock",
        "unix@/run/ollama-balancer/http.sock",
    ]
    assert "stats admin" not in rendered["hecate-haproxy.cfg"]
    assert "mode 600 level admin" in rendered["hecate-haproxy.cfg"]


SERVERS = {"hecate": True, "big2": True, "dev1": False}


@pytest.mark.parametrize(
    ("servers", "gateways_alone", "reported"),
    [
        # Shared by default by all servers that are gateways; a edge without a server of its own is one, too.
        (SERVERS, {"edge": []}, {"big2": ["hecate", "big2", "edge"], "dev1": []}),
        (SERVERS, {"edge": ["big2"]}, {"hecate": ["hecate", "big2"], "big2": ["hecate", "big2", "edge"]}),
        ({"hecate": True, "dev1": False}, {}, {"hecate": [], "dev1": []}),
    ],
)
def test_the_gateways_to_drain_a_server_in(
    servers: dict[str, bool], gateways_alone: dict[str, list[str]], reported: dict[str, list[str]]
) -> None:
    hosts: dict[str, dict[str, t.Any]] = {name: {"ollama_gateway_enabled": value} for name, value in servers.items()}
    hosts |= {
        name: {"ollama_gateway_enabled": True, "ollama_gateway_servers": pool} for name, pool in gateways_alone.items()
    }
    record = Fleet({"ollama_servers": [*servers], "ollama_gateways": [*gateways_alone]}, hosts).record()
    assert {host: member(record, host)["drained_by"] for host in reported} == reported
