# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of the package manager is refreshed only by one file, and a failure of that does not end a play."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

TASKS = sorted((ROOT / "roles").glob("*/tasks/*.yml"))


@pytest.mark.parametrize("path", TASKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_task_refreshes_the_cache_by_itself(path: Path) -> None:
    assert "update_cache" not in path.read_text()


def refresh(folder: Path, script: str) -> tuple[int, str]:
    """Run the refresh with a program apt-get of ours."""
    program = folder / "apt-get"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    play: dict[str, t.Any] = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"packages__path": f"{folder}:/usr/bin:/bin", "ansible_python_interpreter": sys.executable},
        "tasks": [
            {"ansible.builtin.include_tasks": str(ROOT / "roles/packages/tasks/refresh.yml")},
            {"name": "Reached", "ansible.builtin.debug": {"msg": "the next task"}},
        ],
    }
    done = run_playbook(folder, {"all": {"hosts": {"localhost": None}}}, [play], HOME=str(folder))
    # A callback may wrap long lines.
    return done.status, " ".join(done.stdout.split())


def test_a_repository_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    status, output = refresh(
        tmp_path, "echo 'E: The repository http://repo.invalid has no Release file' >&2; exit 100\n"
    )
    assert status == 0, output
    assert "E: The repository http://repo.invalid has no Release file" in output
    assert "the next task" in output


def test_a_cache_that_was_refreshed_is_not_mentioned(tmp_path: Path) -> None:
    status, output = refresh(tmp_path, "exit 0\n")
    assert status == 0, output
    assert "not refreshed" not in output
