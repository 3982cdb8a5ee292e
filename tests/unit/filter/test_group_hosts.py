# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook whose play would have no hosts fails with one line."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kaido.ollama.plugins.filter.group_hosts import group_hosts

GROUPS = {
    "all": ["hecate", "dev1", "dev2", "web"],
    "ungrouped": [],
    "ollama_servers": ["hecate", "dev1"],
    "ollama_clients": ["dev1", "dev2"],
    "empty": [],
}


@pytest.mark.parametrize(
    ("names", "limit", "hosts"),
    [
        ("ollama_servers", "", ["hecate", "dev1"]),
        (["ollama_servers", "ollama_gateways", "ollama_clients"], "", ["hecate", "dev1", "dev2"]),
        ("ollama_servers", "hecate", ["hecate", "dev1"]),
        ("ollama_servers", "dev*", ["hecate", "dev1"]),
        ("ollama_servers", "all:!hecate", ["hecate", "dev1"]),
        ("ollama_servers", "ollama_servers,&ollama_clients", ["hecate", "dev1"]),
        ("web", "", ["web"]),
        ("dev*:!dev2", "", ["dev1"]),
        ("ollama_servers[0]", "", ["ollama_servers[0]"]),
        # Only Ansible can resolve these.
        ("ollama_servers", "~web.*", ["hecate", "dev1"]),
        ("ollama_servers", "@retry", ["hecate", "dev1"]),
        ("ollama_servers", "web[0:1]", ["hecate", "dev1"]),
    ],
)
def test_hosts_of_a_play(names: str | list[str], limit: str, hosts: list[str]) -> None:
    assert group_hosts(GROUPS, names, limit) == hosts


@pytest.mark.parametrize(
    ("names", "limit", "text"),
    [
        (
            "ollama_server",
            "",
            "ollama_server: no such group or host in the inventory; expected .*ollama_clients, ollama_servers",
        ),
        (["x", "y"], "", "x or y: no such group or host"),
        ("hecat", "", "hecat: no such group or host"),
        ("web*:!web", "", "no such group or host"),
        ("empty", "", "empty: the group has no hosts"),
        ("ollama_servers", "web", "--limit web: matches no host of group ollama_servers"),
        ("ollama_servers", "nobody", "--limit nobody: matches no host"),
        ("ollama_servers", "all:!ollama_servers", "matches no host"),
        ("ollama_servers", "hecate:&ollama_clients", "matches no host"),
        ("ollama_servers", "!hecate,!dev1", "matches no host"),
    ],
)
def test_plays_without_hosts_fail(names: str | list[str], limit: str, text: str) -> None:
    with pytest.raises(AnsibleFilterError, match=text):
        group_hosts(GROUPS, names, limit)
