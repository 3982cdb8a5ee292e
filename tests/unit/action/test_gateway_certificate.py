# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of gateway_certificate uses the result of an earlier task."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.unit.playbook import ansible

RESULT = {"changed": False, "holds": True, "authority": "PEM", "names": [], "request": "", "signed": "", "reason": ""}


@pytest.mark.parametrize(("certificate", "calls"), [(RESULT, 0), (None, 1)])
def test_the_result_of_an_earlier_task_replaces_the_call(tmp_path: Path, certificate: object, calls: int) -> None:
    task = {
        "kaido.ollama.gateway_certificate": {"directory": str(tmp_path / "gateway")},
        "vars": {"ollama__earlier_result": "earlier"},
        "register": "done",
    }
    show = {"ansible.builtin.debug": {"msg": "authority={{ done.authority[:27] }} changed={{ done is changed }}"}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task, show]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    extra = json.dumps({"earlier": {"certificate": certificate}, "ansible_python_interpreter": sys.executable})
    done = ansible("ansible-playbook", "-i", "localhost,", "-vvv", "-e", extra, tmp_path / "play.yml")
    assert done.status == 0, done.output
    assert done.output.count("Using module file") == calls
    expected = "-----BEGIN CERTIFICATE-----" if calls else "PEM"
    assert f"authority={expected} changed={calls > 0}" in done.output
    assert (tmp_path / "gateway").exists() == (calls > 0)
