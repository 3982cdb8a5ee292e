# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are converged side by side: one that waits for an unreachable site keeps no other one waiting."""

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml

from tests.conftest import ROOT

SLOW = ("throttle", "run_once", "serial", "strategy")
# The controller's own work, one signing key, and a measurement that others would disturb.
ONE_AT_A_TIME = {
    ("ollama_services", "kaido.ollama.check_variables"),
    ("ollama_gateway", "kaido.ollama.gateway_certificate"),
    ("ollama_benchmark", "kaido.ollama.model_benchmark"),
}


def limited(tasks: t.Any) -> t.Iterator[str]:
    """The modules of tasks, in blocks too, that do not run on all hosts at the same time."""
    for task in tasks or []:
        for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from limited(task.get(part))
        if any(word in task for word in SLOW):
            yield next((key for key in task if "." in key), str(task.get("name")))


def test_no_task_of_a_role_waits_for_another_host() -> None:
    found = {
        (path.parts[-3], module)
        for path in ROOT.glob("roles/*/tasks/*.yml")
        for module in limited(yaml.safe_load(path.read_text()))
    }
    assert found == ONE_AT_A_TIME


def test_no_play_of_site_waits_for_another_host() -> None:
    plays = yaml.safe_load(Path(ROOT / "playbooks/site.yml").read_text())
    assert set(limited(plays)) == {"kaido.ollama.report"}
