# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ollama_services: the files that it writes."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from tests.unit.playbook import run_playbook

# ansible-core 2.16 converts texts of these forms.
TEXTS = ['{\n  "a": 1\n}\n', "[\n  1\n]\n", "True", "key value\n", "", "nginx at @nginx@\n"]


def play_of(tasks_from: str, contents: t.Mapping[str, str], **variables: t.Any) -> dict[str, t.Any]:
    """Return a play that runs a file of the role's tasks."""
    return {
        "hosts": "dev1",
        "gather_facts": False,
        "connection": "local",
        "vars": {
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ollama_services_files": {path: {"content": text} for path, text in contents.items()},
            "ollama_services_notify": [],
            "ollama_services_validate": {},
            "ollama_services_info": {
                "todo": ["files"],
                "files": list(contents),
                "paths": {"nginx": "/sbin/nginx", "haproxy": "/sbin/haproxy", "ca_bundle": "/ca.crt"},
            },
            **variables,
        },
        "tasks": [
            {
                "ansible.builtin.include_role": {
                    "name": "kaido.ollama.ollama_services",
                    "tasks_from": tasks_from,
                    "defaults_from": "install",
                }
            },
        ],
    }


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The differences that the role predicts; check mode needs no root."""
    folder = tmp_path_factory.mktemp("write")
    paths = {str(folder / f"file{number}"): text for number, text in enumerate(TEXTS)}
    tasks_vars = {"ollama_services__paths": list(paths), "ollama_services__secret": False}
    play = play_of("write", paths, **tasks_vars)
    done = run_playbook(folder, {"all": {"hosts": {"dev1": None}}}, [play], "--check", "--diff")
    assert done.status == 0, done.output
    return done.stdout


@pytest.mark.parametrize(("number", "text"), list(enumerate(TEXTS)))
def test_a_file_has_the_text_of_its_content(predicted: str, number: int, text: str) -> None:
    _start, found, rest = predicted.partition(f"file{number}\n")
    if not text:
        assert not found
        return
    assert found
    lines = rest.partition("changed: ")[0].splitlines()
    added = [line[1:] for line in lines if line.startswith("+")]
    assert added == text.replace("@nginx@", "/sbin/nginx").splitlines()


def test_the_reason_is_shown_if_a_secret_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file/token")
    service = {f"ollama_services_{part}": "x" for part in ("package", "unit", "user")}
    play = play_of("install", {path: "hunter2"}, ollama_services_secrets=[path], **service)
    done = run_playbook(tmp_path, {"all": {"hosts": {"dev1": None}}}, [play], "--diff")
    assert done.status == 2, done.output
    assert f"{path}: cannot be written: " in done.output.replace("\n", " ")
    assert "hunter2" not in done.output
