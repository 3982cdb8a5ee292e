# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of ansible-core before a module runs: one line with a code."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.plugin_utils.action import become_problem, start_problem


@pytest.mark.parametrize(
    "line",
    [
        "Missing sudo password",
        "Incorrect sudo password",
        "Incorrect su password",
        "sudo: a password is required",
        "ops is not in the sudoers file.",
        "Sorry, user ops is not allowed to execute '/bin/sh' as root on h1.",
        "Sorry, user ops may not run sudo on h1.",
        "su: Authentication failure",
        "Timeout (12s) waiting for privilege escalation prompt: ",
    ],
)
def test_a_user_without_root_has_one_line(line: str) -> None:
    for problem in (
        become_problem(line),
        start_problem(
            {"failed": True, "module_stderr": f"notice\n{line}\n", "module_stdout": "", "msg": "MODULE FAILURE"}
        ),
    ):
        assert problem
        assert problem.code == "become_failed"
        assert problem.message.startswith(line.rstrip(". "))
        assert "(-K asks for the password)" in problem.message


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"module_stderr": "a\nNo space left on device\n"}, "the module returned no result: No space left on device"),
        ({"module_stderr": "", "module_stdout": "Killed\n"}, "the module returned no result: Killed"),
        ({"module_stderr": "", "module_stdout": "", "rc": 137}, "the module returned no result: exit status 137"),
    ],
)
def test_a_module_without_a_result_is_one_line(result: dict[str, t.Any], message: str) -> None:
    problem = start_problem({"failed": True, **result})
    assert problem
    assert (problem.code, problem.message) == ("module_failed", message)


def test_results_of_modules_are_kept() -> None:
    assert start_problem({"failed": True, "failure": {"code": "x"}, "module_stderr": "warning"}) is None
    assert start_problem({"failed": True, "msg": "an option is invalid"}) is None
    assert start_problem({"changed": False}) is None
    assert become_problem("the password file is missing") is None
    assert become_problem("") is None
