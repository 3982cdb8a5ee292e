# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ollama_services: the files that it writes."""

from __future__ import annotations

import pytest

from tests.unit.playbook import run_playbook

# ansible-core 2.16 converts texts of these forms.
TEXTS = ['{\n  "a": 1\n}\n', "[\n  1\n]\n", "True", "key value\n", "", "nginx at @nginx@\n"]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The differences that the role predicts; check mode needs no root."""
    folder = tmp_path_factory.mktemp("write")
    paths = {str(folder / f"file{number}"): text for number, text in enumerate(TEXTS)}
    play = {
        "hosts": "dev1",
        "gather_facts": False,
        "connection": "local",
        "vars": {
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "ollama_services_files": {path: {"content": text} for path, text in paths.items()},
            "ollama_services_notify": [],
            "ollama_services_validate": {},
            "ollama_services_info": {
                "files": list(paths),
                "paths": {"nginx": "/sbin/nginx", "haproxy": "/sbin/haproxy", "ca_bundle": "/ca.crt"},
            },
            "ollama_services__paths": list(paths),
            "ollama_services__secret": False,
        },
        "tasks": [
            {"ansible.builtin.include_role": {"name": "kaido.ollama.ollama_services", "tasks_from": "write"}},
        ],
    }
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
