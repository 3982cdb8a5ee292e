# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook update: when a host that has failed is rolled back."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (None, "stays"),
        ({"before": None, "version": "0.35.1"}, "stays"),
        ({"before": "0.35.1", "version": "0.35.1"}, "stays"),
        ({"before": "0.35.0", "version": "0.35.1"}, "rolled back"),
        ({"before": "0.35.1", "version": "0.40.2"}, "stays"),
    ],
)
def test_a_host_is_rolled_back_to_another_release_on_the_same_side_of_0_40(
    tmp_path: Path, release: dict[str, t.Any] | None, expected: str
) -> None:
    (update,) = yaml.safe_load((ROOT / "playbooks" / "update.yml").read_text())[1]["tasks"]
    deploy = update["block"][0]
    condition = next(task["when"] for task in deploy["always"] if task["name"].startswith("Roll back"))
    task = {"ansible.builtin.debug": {"msg": "rolled back"}, "when": condition}
    variables = {**update["vars"], **({"ollama__preflight": {"release": release}} if release else {})}
    play = {"hosts": "h1", "gather_facts": False, "connection": "local", "vars": variables, "tasks": [task]}
    done = run_playbook(tmp_path, {"all": {"hosts": {"h1": None}}}, [play])
    assert done.status == 0, done.output
    assert ("rolled back" if "rolled back" in done.stdout else "stays") == expected
