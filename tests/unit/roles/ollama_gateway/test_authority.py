# SPDX-License-Identifier: GPL-3.0-or-later
"""The private authority of a fleet: the role's own tasks on several hosts, each a directory on this one."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook

ROLE = ROOT / "roles" / "ollama_gateway"


# Each host has an interpreter of its own, which gives the module the directory of that host.
PATCH = """
import json, pathlib
loads = json.loads
def patched(*arguments, **options):
    found = loads(*arguments, **options)
    if isinstance(found, dict) and {"create", "names"} & set(found.get("ANSIBLE_MODULE_ARGS", {})):
        found["ANSIBLE_MODULE_ARGS"]["directory"] = str(pathlib.Path(__file__).parent.parent)
    return found
json.loads = patched
"""


class Fleet:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hostile: dict[str, str] = {}
        """By host the program of sed that changes what its modules return."""
        (folder / "ansible.cfg").write_text("")

    def file(self, host: str, name: str) -> Path:
        return self.folder / host / name

    def authorities(self, *hosts: str) -> set[str]:
        """The authorities that these hosts have; each has signed the certificate of its host."""
        found = set()
        for host in hosts:
            authority = self.file(host, "ca.crt")
            command = ["openssl", "verify", "-x509_strict", "-CAfile", str(authority), str(self.file(host, "tls.crt"))]
            subprocess.run(command, check=True, capture_output=True)
            found.add(authority.read_text())
        return found

    def converge(self, *hosts: str, down: str = "", limit: str = "all", **variables: t.Any) -> tuple[int, str]:
        """Run the tasks; returns Ansible's status and output."""
        for host in hosts:
            patch = self.file(host, "python/sitecustomize.py")
            patch.parent.mkdir(parents=True, exist_ok=True)
            patch.write_text(PATCH)
            interpreter = self.file(host, "python/python")
            changed = self.hostile.get(host, "")
            run = f'PYTHONPATH={patch.parent} {sys.executable} "$@"{changed and f" | sed {shlex.quote(changed)}"}'
            interpreter.write_text(f"#!/bin/sh\n{run}\n")
            interpreter.chmod(0o755)
        unreachable = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        inventory = {
            "ollama_servers": {
                "hosts": {
                    host: unreachable
                    if host == down
                    else {"ansible_python_interpreter": str(self.file(host, "python/python"))}
                    for host in hosts
                },
                "vars": {"ollama_gateway_enabled": True, "ansible_connection": "local"},
            }
        }
        play = {
            "hosts": "ollama_servers",
            "gather_facts": False,
            "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
            "tasks": [{"ansible.builtin.import_tasks": str(ROLE / "tasks/certificate.yml")}],
        }
        extra = json.dumps({"ollama_gateway_enabled": True, **variables})
        done = run_playbook(self.folder, inventory, [play], "--limit", limit, "--extra-vars", extra)
        return done.status, done.output


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Two gateways; the first of them keeps the authority."""
    made = Fleet(tmp_path)
    code, output = made.converge("gpu2", "gpu3")
    assert code == 0, output
    assert not made.file("gpu3", "ca.key").exists()
    assert len(made.authorities("gpu2", "gpu3")) == 1
    return made


def test_no_gateway_gets_a_certificate_for_the_names_of_another(tmp_path: Path) -> None:
    """A gateway on which an attacker is root returns other names with its request."""
    fleet = Fleet(tmp_path)
    fleet.hostile["gpu3"] = 's/"names": *\\[[^]]*\\]/"names": ["gpu2"]/'
    code, output = fleet.converge("gpu2", "gpu3")
    assert code == 0, output
    shown = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(fleet.file("gpu3", "tls.crt"))]
    names = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
    assert "gpu3" in names
    assert "gpu2" not in names


def test_a_gateway_in_front_of_the_inventory_keeps_the_authority(fleet: Fleet) -> None:
    """Field case 04"""
    before = fleet.authorities("gpu2")
    code, output = fleet.converge("gpu1", "gpu2", "gpu3", limit="gpu1")
    assert code == 0, output
    assert fleet.authorities("gpu1", "gpu2", "gpu3") == before
    assert not fleet.file("gpu1", "ca.key").exists()
    code, output = fleet.converge("gpu1", "gpu2", "gpu3")
    assert (code, output.count("changed=0")) == (0, 3), output


def test_a_gateway_that_is_down_removes_nothing_from_the_others(fleet: Fleet) -> None:
    """Field case 12; and no authority is made by a host that cannot know whether there is one."""
    before = fleet.authorities("gpu2")
    code, output = fleet.converge("gpu2", "gpu3", down="gpu2")
    assert code == 4
    assert "was not queried" in output
    assert output.count("unreachable=0    failed=0") == 1
    code, output = fleet.converge("gpu1", "gpu2", "gpu3", down="gpu2", limit="gpu1")
    assert "gpu2 cannot be reached, and may have the key of the private authority" in output
    assert "ollama_gateway_authority_host" in output
    assert not fleet.file("gpu1", "ca.crt").exists()
    assert fleet.authorities("gpu2", "gpu3") == before
    # A new name needs a signature: the old certificate is still good.
    code, output = fleet.converge("gpu2", "gpu3", down="gpu2", limit="gpu3", ollama_gateway_names=["new.lan"])
    assert code == 0, output
    assert "the certificate is not renewed, and stays in use" in output
    assert fleet.authorities("gpu3") == before


def test_a_damaged_authority_is_reported_and_replaced_only_on_request(fleet: Fleet) -> None:
    before = fleet.authorities("gpu2")
    fleet.file("gpu2", "ca.key").unlink()
    code, output = fleet.converge("gpu2", "gpu3")
    assert code == 0
    assert output.count("no gateway has the key of the private authority") == 2
    _code, output = fleet.converge("gpu1", "gpu2", "gpu3", limit="gpu1")
    assert "its ca.key is lost" in output
    assert not fleet.file("gpu1", "ca.crt").exists()
    assert fleet.authorities("gpu2", "gpu3") == before
    code, output = fleet.converge("gpu2", "gpu3", ollama_gateway_renew_authority=True)
    assert code == 0, output
    renewed = fleet.authorities("gpu2", "gpu3")
    assert len(renewed) == 1
    assert renewed != before
    code, output = fleet.converge("gpu2", "gpu3", ollama_gateway_renew_authority=True)
    assert (code, output.count("changed=0")) == (0, 2), output
