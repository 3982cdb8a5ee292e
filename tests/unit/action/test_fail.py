# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure is printed once, with its code."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

from tests.unit.playbook import run_playbook

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
CASES: list[tuple[dict[str, t.Any], str, str]] = [
    ({"kaido.ollama.fail": {"msg": "the first reason", "code": "server_failed"}}, "server_failed", "the first reason"),
    (
        {"kaido.ollama.fail": {"msg": "the first reason", "cause": {"failure": {"code": "disk_full"}}}},
        "disk_full",
        "the first reason",
    ),
    ({"kaido.ollama.model": {"name": "no name"}}, "name_invalid", "invalid name"),
    ({"kaido.ollama.server_info": {"api_url": "zeus"}}, "url_invalid", "api_url: invalid"),
    ({"kaido.ollama.release": {"version": "x"}}, "version_invalid", "invalid version"),
]


@pytest.mark.parametrize(("task", "code", "text"), CASES, ids=lambda case: str(case)[:40])
def test_a_failure_is_printed_once(tmp_path: Path, task: dict[str, t.Any], code: str, text: str) -> None:
    play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
    done = run_playbook(tmp_path, {"all": {"hosts": {"a": LOCAL}}}, [play], ANSIBLE_CALLBACK_RESULT_FORMAT="yaml")
    assert done.status == 2, done.output
    assert done.output.count(text) == 1, done.output
    assert f"code: {code}" in done.output
    assert "Origin:" not in done.output
    assert len(done.output.splitlines()) <= 18, done.output


def test_a_host_that_cannot_be_reached_is_printed_once(tmp_path: Path) -> None:
    host = {"ansible_host": "127.0.0.1", "ansible_port": 9}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"kaido.ollama.server_info": {}}]}
    done = run_playbook(tmp_path, {"all": {"hosts": {"a": host}}}, [play], ANSIBLE_CALLBACK_RESULT_FORMAT="yaml")
    assert done.status == 4, done.output
    assert done.output.count("Failed to connect") == 1, done.output


def test_a_failed_result_is_registered_as_usual(tmp_path: Path) -> None:
    tasks = [
        {"kaido.ollama.server_info": {"api_url": "zeus"}, "register": "done", "failed_when": False},
        {"ansible.builtin.assert": {"that": "done.failure.code == 'url_invalid' and 'message' not in done.failure"}},
    ]
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    done = run_playbook(tmp_path, {"all": {"hosts": {"a": LOCAL}}}, [play])
    assert done.status == 0, done.output
