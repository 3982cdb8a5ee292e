# SPDX-License-Identifier: GPL-3.0-or-later
"""How the roles find the mirrors of a fleet: by the inventory alone, evaluated by Ansible itself."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

DEVS = [f"dev{index}" for index in range(1, 9)]
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "connection": "local",
        "vars": {"ollama_mirrors": ["http://declared:1"]},
        "vars_files": [str(ROOT / "roles/ollama/vars/main.yml")],
        "tasks": [
            {"ansible.builtin.debug": {"var": "ollama__mirrors"}},
        ],
    }
]


def mirrors_of(folder: Path, hosts: dict[str, t.Any], group: str = "ollama_servers") -> dict[str, list[str]]:
    """Return what each host would ask, in order."""
    return evaluate(folder, {group: {"hosts": hosts}}, PLAY, "ollama__mirrors")


def evaluate(folder: Path, inventory: dict[str, t.Any], play: list[t.Any], variable: str) -> dict[str, t.Any]:
    """Return a variable as the task debug of a play prints it, by host."""
    done = run_playbook(folder, inventory, play, config="[defaults]\ncallback_result_format = json\n")
    assert done.status == 0, done.output
    found = {}
    for block in done.stdout.split("ok: [")[1:]:
        host, _bracket, rest = block.partition("]")
        if " => " in rest:
            value, _end = json.JSONDecoder().raw_decode(rest.split(" => ", 1)[1])
            found[host] = value[variable]
    return found


@pytest.mark.parametrize(
    ("hecate", "url"),
    [
        ({}, "http://hecate:11480"),
        ({"ansible_host": "192.0.2.1"}, "http://192.0.2.1:11480"),
        ({"ollama_mirror_port": 8080}, "http://hecate:8080"),
        ({"ollama_mirror_tls_certificate": "/etc/x.crt"}, "https://hecate:11480"),
        ({"ollama_mirror_url": "https://models.lan", "ansible_host": "192.0.2.1"}, "https://models.lan"),
    ],
)
def test_a_mirror_is_found_and_uses_no_mirror_itself(tmp_path: Path, hecate: dict[str, t.Any], url: str) -> None:
    found = mirrors_of(tmp_path, {"hecate": {"ollama_mirror_enabled": True, **hecate}, "dev1": None})
    assert found == {"hecate": ["http://declared:1"], "dev1": [url, "http://declared:1"]}


@pytest.mark.parametrize("group", ["ollama_servers", "others"])
def test_no_mirror(tmp_path: Path, group: str) -> None:
    hosts = {"hecate": {"ollama_mirror_enabled": group == "others"}, "dev1": None}
    assert mirrors_of(tmp_path, hosts, group)["dev1"] == ["http://declared:1"]


def test_several_mirrors_share_the_load(tmp_path: Path) -> None:
    """Each machine has all of them, and always begins with the same one; not all begin with the same."""
    hosts = {name: {"ollama_mirror_enabled": True} for name in ("m1", "m2")} | dict.fromkeys(DEVS)
    found = mirrors_of(tmp_path, hosts)
    assert {tuple(sorted(found[name])) for name in DEVS} == {
        ("http://declared:1", "http://m1:11480", "http://m2:11480")
    }
    assert all(found[name][-1] == "http://declared:1" for name in DEVS)
    first = [found[name][0] for name in DEVS]
    assert len(set(first)) == 2
    assert mirrors_of(tmp_path, hosts) == found
