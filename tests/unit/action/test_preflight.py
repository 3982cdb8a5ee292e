# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin preflight: invalid variables end the play on the controller, and an old Python in one line."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.interpreter import python_problem

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

INTERPRETER = '#!/bin/sh\ntouch {folder}/contacted\nexec {python} "$@"\n'


CALLBACK = """
import json
import os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "failures"

    def v2_runner_on_failed(self, result, ignore_errors=False):
        values = getattr(result, "result", None) or result._result
        with open(os.environ["FAILURES"], "w") as file:
            file.write(str(values["msg"]))
"""


class Play:
    """The first tasks of role ollama on this host, whose Python leaves a file when it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.interpreter = folder / "python"
        (folder / "callbacks").mkdir()
        (folder / "callbacks" / "failures.py").write_text(CALLBACK)
        self.write(INTERPRETER.format(folder=folder, python=sys.executable))

    def write(self, script: str) -> None:
        self.interpreter.write_text(script)
        self.interpreter.chmod(0o755)

    def __call__(self, **variables: t.Any) -> str:
        """Return the message of the failure of role ollama."""
        role = {"name": "kaido.ollama.ollama", "tasks_from": "preflight", "rolespec_validate": False}
        return self.run({"ansible.builtin.import_role": role}, **variables)

    def run(self, task: dict[str, t.Any], **variables: t.Any) -> str:
        """Return the message of the failure of a task."""
        host = {"ansible_connection": "local", "ansible_python_interpreter": str(self.interpreter), **variables}
        play = {
            "hosts": "ollama_servers",
            "gather_facts": False,
            "tasks": [task],
        }
        done = run_playbook(
            self.folder,
            {"ollama_servers": {"hosts": {"hecate": host}}},
            [play],
            "--check",
            config="[defaults]\ncallback_plugins = callbacks\ncallbacks_enabled = failures\n",
            FAILURES=str(self.folder / "failure"),
            HOME=str(self.folder),
        )
        assert done.status, done.stdout
        return (self.folder / "failure").read_text()

    @property
    def contacted(self) -> bool:
        return (self.folder / "contacted").exists()


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ollama_models": "llama3.2:3b"}, ["ollama_models: invalid value 'llama3.2:3b'", "expected a list"]),
        ({"ollama_unit_limits": "MemoryMax=1G"}, ["ollama_unit_limits: invalid value", "expected a mapping"]),
        ({"ollama_release_checksums": None}, ["ollama_release_checksums: invalid value null", "expected a mapping"]),
        ({"ollama_models_lock": "/missing/lock.yml"}, ["ollama_models_lock: /missing/lock.yml"]),
        ({"ollama_models_lock": ["a"]}, ["ollama_models_lock: invalid value ['a']", "expected the path"]),
        (
            {"ollama_release_archives": ["missing/ollama-linux-amd64.tar.zst"]},
            ["ollama_release_archives: invalid value", "expected the path of a file on the controller"],
        ),
        ({"ollama_settings": {"host": "127.0.0.1:99999"}}, ["ollama_settings.host: invalid value '127.0.0.1:99999'"]),
        (
            {"ollama_release_checksum": "{{ ollama__checksums['0.35.0'].values() | first }}"},
            ["expected the checksum of 0.35.1; this one is of 0.35.0"],
        ),
    ],
)
def test_an_invalid_variable_is_reported_before_the_host_is_contacted(
    play: Play, variables: dict[str, t.Any], words: list[str]
) -> None:
    text = play(**variables)
    for word in words:
        assert word in text
    assert "\n" not in text
    assert not play.contacted


def test_a_python_that_is_too_old_is_reported_in_one_line(play: Play) -> None:
    """As Python 3.6 of EL 8 fails at the first line of a module."""
    play.write("#!/bin/sh\necho 'SyntaxError: future feature annotations is not defined' >&2\nexit 1\n")
    text = play()
    assert text.startswith("ansible_python_interpreter: the Python of this host is too old; expected 3.8 or newer")
    assert "\n" not in text


def test_a_missing_option_is_named(play: Play) -> None:
    text = play.run({"kaido.ollama.preflight": {"unit": "x"}})
    assert text.startswith("missing required arguments: version")


MODULES = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
ACTIONS = {path.stem for path in (ROOT / "plugins/action").glob("*.py")}


def test_each_module_of_a_host_reports_it() -> None:
    routes = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["plugin_routing"]["modules"]
    assert set(routes) == MODULES - ACTIONS
    assert {route["action_plugin"] for route in routes.values()} == {"kaido.ollama.server_info"}


def test_a_host_without_a_server_reports_it(play: Play) -> None:
    """The first call to a host that only has a driver, a gateway, a client or the monitoring is another module."""
    play.write("#!/bin/sh\necho 'SyntaxError: future feature annotations is not defined' >&2\nexit 1\n")
    text = play.run({"kaido.ollama.service_info": {"unit": "ollama-gateway.service"}})
    assert text.startswith("ansible_python_interpreter: the Python of this host is too old; expected 3.8 or newer")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"failed": True, "msg": "x", "module_stderr": "/bin/sh: 1: /usr/bin/python3: not found"}, "no Python"),
        ({"failed": True, "msg": "ansible-core requires a minimum of Python version 3.7."}, "expected 3.8 or newer"),
        (
            {"failed": True, "msg": "Ansible requires Python 3.9 or newer on the target. Current version: 3.8.18"},
            "too old; expected 3.9 or newer",
        ),
        (
            {
                "failed": True,
                "msg": "MODULE FAILURE",
                "module_stderr": 'File "/usr/lib64/python3.7/runpy.py"\nAttributeError: no attribute Protocol',
            },
            "too old",
        ),
        ({"failed": True, "msg": "MODULE FAILURE", "module_stderr": 'File "/usr/lib64/python3.12/runpy.py"'}, None),
        ({"failed": True, "msg": "SyntaxError: in a message of the module", "failure": {"code": "x"}}, None),
        ({"failed": True, "msg": "Could not connect"}, None),
        ({"failed": False}, None),
    ],
)
def test_only_a_python_that_cannot_run_modules_is_reported(result: dict[str, t.Any], expected: str | None) -> None:
    problem = python_problem(result)
    assert problem is None if expected is None else expected in str(problem)
