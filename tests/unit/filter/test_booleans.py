# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booleans are booleans: anything else is one line, from site.yml, before anything changes."""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kaido.ollama.plugins.filter.booleans import boolean

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

WRONG = ["maybe", "nope", "", 2, -1, 1.5, [], [True], {}, None]
SOURCES = sorted(
    path
    for folder in ("roles", "playbooks", "plugins")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".yml", ".j2", ".py")
)


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_no_boolean_is_named(value: t.Any) -> None:
    message = f"ollama_sandbox: invalid value {value!r}; expected true or false"
    with pytest.raises(AnsibleFilterError, match=re.escape(message)):
        boolean(value, "ollama_sandbox")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), ("yes", True), ("No", False), ("on", True), ("off", False), (1, True), ("0", False)],
)
def test_booleans_are_converted(value: t.Any, expected: bool) -> None:
    assert boolean(value, "x") is expected


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_variable_is_converted_by_a_filter_that_guesses(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\|\s*(ansible\.builtin\.)?bool\b", text)


def site(folder: Path, groups: dict[str, dict[str, dict[str, t.Any]]], *arguments: str) -> tuple[int, list[str]]:
    """Run site.yml in check mode, as a user would; returns its exit status and its output."""
    inventory: dict[str, t.Any] = {group: {"hosts": hosts} for group, hosts in groups.items()}
    inventory["all"] = {"vars": {"ansible_become": False, "ansible_python_interpreter": sys.executable}}
    options = ("--check", "--connection=local", *arguments)
    done = run_playbook(folder, inventory, ROOT / "playbooks/site.yml", *options, ANSIBLE_NOCOLOR="1")
    return done.status, done.output.splitlines()


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        *(
            ({"ollama_servers": {"a": {name: "maybe"}}}, f"{name}: invalid value 'maybe'; expected true or false")
            for name in ("ollama_mirror_enabled", "ollama_client_forwarder", "gpu_driver_hold")
        ),
        ({"ollama_servers": {"a": {"ollama_sandbox": None}}}, "ollama_sandbox: invalid value null; expected"),
        ({"ollama_servers": {"a": {"ollama_gateway_enabled": []}}}, "ollama_gateway_enabled: invalid value []; "),
        (
            {"ollama_servers": {"a": {}}, "ollama_gateways": {"g": {"ollama_gateway_enabled": 2}}},
            "ollama_gateway_enabled: invalid value 2; expected true or false (host g)",
        ),
        (
            {"ollama_gateways": {"g": {"ollama_gateway_enabled": "nope"}}},
            "ollama_gateway_enabled: invalid value 'nope'; expected true or false",
        ),
        (
            {"ollama_clients": {"c": {"ollama_client_forwarder": "maybe"}}},
            "ollama_client_forwarder: invalid value 'maybe'; expected true or false",
        ),
    ],
)
def test_site_validates_before_anything_changes(
    tmp_path: Path, groups: dict[str, dict[str, dict[str, t.Any]]], message: str
) -> None:
    status, lines = site(tmp_path, groups)
    assert status == 2, lines
    assert [line for line in lines if message in line], lines
    tasks = [line for line in lines if line.startswith("TASK [")]
    assert tasks
    assert not [task for task in tasks if "alidat" not in task and "Show the report" not in task]
    assert all("changed=0" in line for line in lines if "unreachable=" in line)


def test_hosts_on_which_nothing_is_enabled_cost_one_call_each(tmp_path: Path) -> None:
    groups: dict[str, dict[str, dict[str, t.Any]]] = {
        "ollama_gateways": {"g": {}},
        "ollama_clients": {"c": {"ollama_client_provider": "none"}},
    }
    status, lines = site(tmp_path, groups, "-vvv")
    assert status == 0, lines
    called = [Path(line.split()[-1]).stem for line in lines if "Using module file" in line]
    assert called == ["service_absent", "service_info"]
    assert [line.split()[0] for line in lines if "unreachable=" in line and "changed=0" in line] == ["c", "g"]
