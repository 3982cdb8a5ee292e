# SPDX-License-Identifier: GPL-3.0-or-later
"""Each playbook refuses misspelled variables and inventories without its hosts, and each of its plays has tags."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
INVENTORY = {
    "ollama_servers": {"hosts": {"a": {"ansible_host": "127.0.0.1", "ansible_port": 9}}},
    "other": {"hosts": {"w": {}}},
}

each = pytest.mark.parametrize("playbook", PLAYBOOKS)


def plays(playbook: str) -> list[dict[str, t.Any]]:
    return t.cast(list[dict[str, t.Any]], yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text()))


def run(folder: Path, playbook: str, *arguments: str) -> tuple[int, list[str]]:
    config = "[defaults]\ncallback_result_format = yaml\n"
    options = ("-e", "ollama_bundle=/x", *arguments)
    done = run_playbook(folder, INVENTORY, f"kaido.ollama.{playbook}", *options, config=config)
    return done.status, done.output.splitlines()


@each
def test_each_play_has_tags_of_its_own(playbook: str) -> None:
    """--skip-tags ollama_models skips models, and no play."""
    for play in plays(playbook):
        assert play.get("tags"), play["name"]
        assert not {"ollama_models", "ollama_server", "gpu_driver"} & set(play["tags"]), play["name"]


@each
def test_each_play_takes_its_hosts_from_groups(playbook: str) -> None:
    """A pattern that matches nothing would end with success."""
    first, *others = plays(playbook)
    assert "kaido.ollama.group_hosts(" in first["hosts"]
    assert all("groups" in play["hosts"] or play["hosts"] == "ollama_servers" for play in others)


@each
def test_misspelled_variables_are_refused_in_one_line(tmp_path: Path, playbook: str) -> None:
    code, lines = run(tmp_path, playbook, "-e", "ollama_verison=1")
    assert code != 0
    [line] = [line for line in lines if "ollama_verison" in line]
    assert "ollama_verison: unknown variable of host a; did you mean ollama_version?" in line
    assert not [line for line in lines if "UNREACHABLE" in line]


@each
def test_misspelled_tags_are_refused_in_one_line(tmp_path: Path, playbook: str) -> None:
    code, lines = run(tmp_path, playbook, "--skip-tags", "ollama_model")
    assert code != 0
    assert len([line for line in lines if "ollama_model: unknown tag; did you mean ollama_models?" in line]) == 1, lines


def test_each_error_is_reported_once(tmp_path: Path) -> None:
    """The survey of the inventory and the rules of the role find the same value."""
    _code, lines = run(tmp_path, "site", "-e", "ollama_mirror_enabled=maybe")
    assert " ".join(lines).count("invalid value ''maybe''") == 1, lines


@each
def test_plays_without_hosts_fail_in_one_line(tmp_path: Path, playbook: str) -> None:
    code, lines = run(tmp_path, playbook, "--limit", "w")
    assert code != 0
    assert len([line for line in lines if "--limit w: matches no host of group ollama_servers" in line]) == 1, lines
    assert not [line for line in lines if line.startswith("TASK")]


def test_skipping_models_skips_nothing_else(tmp_path: Path) -> None:
    def tasks(*options: str) -> list[str]:
        _status, lines = run(tmp_path, "site", "--list-tasks", *options)
        return [line.split("TAGS:")[0].strip() for line in lines if "TAGS:" in line and line.startswith("      ")]

    everything, rest = tasks(), tasks("--skip-tags", "ollama_models")
    assert [name for name in everything if name not in rest] == [
        "kaido.ollama.ollama : models | Verify the server version and manage models"
    ]
    assert set(rest) < set(everything)


def test_variables_of_a_play_refer_to_those_of_each_host(tmp_path: Path) -> None:
    """The validation runs once, for all hosts: values of the first host are not those of another one."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"a": {**local, "site_name": "A"}, "b": {**local, "site_name": "B"}}
    tasks = [
        {"ansible.builtin.command": "echo {{ inventory_hostname }}", "register": "site_seen", "changed_when": False},
        {"ansible.builtin.set_fact": {"site_set": "{{ site_seen.stdout }}"}},
        {
            "ansible.builtin.import_role": {"name": "kaido.ollama.ollama_services", "rolespec_validate": False},
            "vars": {
                "ollama_version": "{{ site_version }}",
                "ollama_release_base_url": "http://{{ site_seen.stdout }}{{ site_set }}{{ site_name }}{{ site_end }}",
                "site_end": " .lan",
            },
        },
    ]
    play = {"hosts": "all", "gather_facts": False, "vars": {"site_version": "0.35.1"}, "tasks": tasks}
    done = run_playbook(tmp_path, {"ollama_servers": {"hosts": hosts}}, [play])
    text = " ".join(done.output.split())
    assert done.status == 2, text
    assert "undefined" not in text
    for host in "ab":
        assert f"ollama_release_base_url: invalid value 'http://{host}{host}{host.upper()} .lan'" in text
