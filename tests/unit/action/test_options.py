# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid options of action plugins: one line and a code, before a host is contacted."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_request import OPTIONS

from tests.unit.playbook import run_playbook

INFINITE = float("inf")
WRONG: list[t.Any] = [INFINITE, float("nan"), 10**400, 7, True, "x", "{", [[1]], [INFINITE], {"a": {"b": INFINITE}}]
PREFLIGHT = {"version": "0.35.1", "unit": "[Service]"}
# The options of an action plugin, and the beginning of the message.
CASES: list[tuple[str, dict[str, t.Any], str]] = [
    ("check_variables", {"fleet": INFINITE}, "fleet: invalid value inf; expected true or false"),
    ("check_variables", {"roles": {"a": 1}}, "roles: invalid value {'a': 1}; expected a list"),
    ("check_variables", {"flet": True}, "flet: unknown option; did you mean fleet?"),
    ("fail", {"msg": "x", "cause": 5}, "cause: invalid value 5; expected a mapping"),
    ("fail", {}, "missing required arguments: msg"),
    ("report", {"predicted": [1]}, "predicted: invalid value [1]; expected true or false"),
    ("model_lock", {"path": "x", "hosts": 5}, "hosts: invalid value 5; expected a mapping"),
    ("model_lock", {"path": "x"}, "one of the following is required: models, hosts"),
    ("model_lock", {"path": "a\0b", "models": ["a"]}, "path: invalid value"),
    ("preflight", {**PREFLIGHT, "keep": INFINITE}, "keep: invalid value inf; expected a whole number"),
    ("preflight", {**PREFLIGHT, "models": {"a": 1}}, "models: invalid value {'a': 1}; expected a list"),
]


def failures(folder: Path, tasks: t.Sequence[tuple[str, dict[str, t.Any]]]) -> list[dict[str, t.Any]]:
    """Return the results of tasks that fail on a host that cannot be reached."""
    hosts = {"all": {"hosts": {"a": {"ansible_host": "127.0.0.1", "ansible_port": 9}}}}
    steps = [{f"kaido.ollama.{name}": options, "ignore_errors": True} for name, options in tasks]
    done = run_playbook(folder, hosts, [{"hosts": "all", "gather_facts": False, "tasks": steps}])
    lines = [line for line in done.output.splitlines() if line.startswith("fatal: ")]
    assert "UNREACHABLE" not in done.output
    assert len(lines) == len(tasks), done.output
    return [json.loads(line.partition("=> ")[2]) for line in lines]


def test_invalid_options_have_a_code_and_one_line(tmp_path: Path) -> None:
    found = failures(tmp_path, [(name, options) for name, options, _message in CASES])
    for (_name, _options, message), result in zip(CASES, found, strict=True):
        assert result["failure"] == {"code": "value_invalid"}
        assert result["msg"].startswith(message)
        assert "\n" not in result["msg"]


def test_no_value_is_an_error_of_the_collection(tmp_path: Path) -> None:
    """The role validates variables before its options; a task of a user may pass anything."""
    refused = [7, [[1]], {"a": {"b": INFINITE}}]
    values = {"int": WRONG[:2] + WRONG[5:], "bool": refused, "list": refused[2:], "dict": WRONG}
    tasks = [
        ("preflight", {**PREFLIGHT, name: value})
        for name, option in OPTIONS.items()
        for value in values[option["type"]]
    ]
    assert "internal_error" not in {result["failure"]["code"] for result in failures(tmp_path, tasks)}
