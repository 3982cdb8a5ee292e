# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory defines: servers, gateways, mirrors and their URLs."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._service.fleet import Fleet, member


def fleet(hosts: dict[str, dict[str, t.Any]], **groups: list[str]) -> Fleet:
    """An inventory in which every host is a server unless groups are given."""
    return Fleet({"ollama_servers": list(hosts), **groups}, hosts)


def test_hosts_are_what_their_variables_enable() -> None:
    record = fleet(
        {
            "a": {"ollama_gateway_enabled": True, "ollama_mirror_enabled": "yes"},
            "b": {"ollama_gateway_enabled": "true", "ollama_gateway_tls_certificate": "/c"},
            "c": {"ollama_gateway_enabled": False, "ollama_gateway_servers": ["a"]},
            "d": {"ollama_gateway_enabled": 1, "ollama_gateway_servers": ["c"]},
        },
        ollama_gateways=["d"],
    ).record()
    assert record == {
        "servers": ["a", "b", "c", "d"],
        "gateways": ["a", "b", "d"],
        "gateway": {"name": "d", "url": "https://d:11443", "private_ca": True},
        "private_ca": ["a", "d"],
        "pools": {"d": ["c"]},
        "mirrors": {"a": "http://a:11480"},
        "errors": [],
    }
    assert (member(record, "a")["mirrors"], member(record, "b")["mirrors"]) == ([], ["http://a:11480"])
    assert (member(record, "a")["pool"], member(record, "d")["pool"]) == (["a", "b", "d"], ["c"])
    assert (member(record, "b")["drained_by"], member(record, "c")["drained_by"]) == (["a", "b"], ["d"])
    # The host's own choice counts, also where only this play has it.
    assert member(record, "a", ["b"])["pool"] == ["b"]


def test_a_host_that_only_this_play_enables_is_a_gateway() -> None:
    found = member(fleet({"a": {}, "b": {}}).record(), "b")
    assert (found["gateways"], found["pool"], found["balances"]) == (["b"], ["b"], False)


def test_a_single_server_is_not_balanced() -> None:
    found = member(fleet({"a": {"ollama_gateway_enabled": True}, "b": {}}).record(), "a")
    assert (found["pool"], found["balances"], found["drained_by"]) == (["a"], False, [])


def test_every_host_begins_with_another_mirror() -> None:
    hosts: dict[str, dict[str, t.Any]] = {f"m{n}": {"ollama_mirror_enabled": True} for n in range(3)}
    hosts.update({f"h{n}": {} for n in range(30)})
    record = fleet(hosts).record()
    orders = {tuple(member(record, f"h{n}")["mirrors"]) for n in range(30)}
    assert len(orders) == 3
    assert all(sorted(order) == sorted(record["mirrors"].values()) for order in orders)


def test_each_host_is_read_once() -> None:
    """Reading the variables of a host is slow in Ansible."""

    class Hosts(dict[str, dict[str, t.Any]]):
        reads = 0

        def __getitem__(self, name: str) -> dict[str, t.Any]:
            self.reads += 1
            return super().__getitem__(name)

    hosts = Hosts({f"h{n}": {"ollama_gateway_enabled": True, "ollama_mirror_enabled": True} for n in range(50)})
    Fleet({"ollama_servers": list(hosts)}, hosts).record()
    assert hosts.reads == 50


def test_all_errors_are_reported_and_the_other_hosts_are_kept() -> None:
    record = fleet(
        {
            "a": {"ollama_gateway_enabled": "maybe", "ollama_mirror_enabled": None},
            "b": {"ollama_gateway_enabled": True, "ansible_host": "a b"},
            "c": {"ollama_gateway_enabled": True},
        }
    ).record()
    assert record["errors"] == [
        "ollama_gateway_enabled of a: invalid value 'maybe'; expected true or false",
        "ollama_mirror_enabled of a: invalid value; expected true or false",
        "ansible_host of b: invalid value 'a b'; expected an IP address or a host name",
    ]
    assert record["gateway"]["name"] == "c"


@pytest.mark.parametrize(
    ("variables", "gateway", "mirror"),
    [
        ({"ansible_host": "fd00::11"}, "https://[fd00::11]:11443", "http://[fd00::11]:11480"),
        ({"ansible_host": "[fd00::11]"}, "https://[fd00::11]:11443", "http://[fd00::11]:11480"),
        (
            {"ansible_host": "10.0.0.1", "ollama_mirror_tls_certificate": "x"},
            "https://10.0.0.1:11443",
            "https://10.0.0.1:11480",
        ),
        ({"ollama_gateway_port": "443", "ollama_mirror_port": 80}, "https://a:443", "http://a:80"),
        (
            {"ollama_gateway_url": "https://llm.lan", "ollama_mirror_url": "http://m.lan:1/"},
            "https://llm.lan",
            "http://m.lan:1",
        ),
    ],
)
def test_urls(variables: dict[str, t.Any], gateway: str, mirror: str) -> None:
    found = fleet({"a": variables})
    assert (found.gateway_url("a"), found.mirror_url("a")) == (gateway, mirror)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]:9", "http://[::1]:9"),
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("::", "http://[::1]:11434"),
        ("192.168.0.10:11434", "http://192.168.0.10:11434"),
        ("http://gpu.lan:80", "http://gpu.lan:80"),
        ("gpu.lan", "http://gpu.lan:11434"),
    ],
)
def test_clients_on_a_host_reach_its_server_where_it_listens(host: str | None, url: str) -> None:
    assert fleet({"a": {"ollama_settings": {"host": host} if host else None}}).local_url("a") == url


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"ollama_gateway_enabled": "maybe"},
            "ollama_gateway_enabled of a: invalid value 'maybe'; expected true or false",
        ),
        ({"ollama_gateway_enabled": []}, "expected true or false"),
        ({"ollama_gateway_enabled": 2}, "expected true or false"),
        ({"ollama_gateway_servers": "a"}, "expected a list of hosts"),
        ({"ollama_gateway_servers": ["z"]}, "invalid value 'z'; expected hosts of the inventory"),
        ({"ansible_host": "a b"}, "ansible_host of a: invalid value 'a b'; expected an IP address or a host name"),
        ({"ollama_gateway_port": 70000}, "expected a port from 1 to 65535"),
        ({"ollama_settings": "host=::1"}, "ollama_settings of a: invalid value 'host=::1'; expected a mapping"),
        ({"ollama_settings": {"host": "127.0.0.1:99999"}}, "expected a port from 1 to 65535"),
        ({"ollama_gateway_url": "http://a"}, "ollama_gateway_url of a: invalid value; expected https://HOST:PORT"),
        ({"ollama_gateway_url": "https://u:p@a"}, "expected https://HOST:PORT, without credentials"),
        ({"ollama_gateway_url": "https://a/x"}, "expected a URL without a path"),
        ({"ollama_mirror_url": "zeus"}, "ollama_mirror_url of a: invalid value; expected http://HOST:PORT or https"),
    ],
)
def test_a_variable_of_any_host_that_cannot_be_used_is_named(variables: dict[str, t.Any], message: str) -> None:
    found = fleet({"a": variables})
    with pytest.raises(OllamaError) as raised:
        found.gateways(), found._chosen("a"), found.gateway_url("a"), found.mirror_url("a"), found.local_url("a")
    assert raised.value.code == "value_invalid"
    assert message in raised.value.message
