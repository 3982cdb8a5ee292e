# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks report and verify with the real ansible-playbook, without hosts."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import ROOT
from tests.unit.playbook import Played, ansible

CALLBACK = """
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "json"

    def v2_playbook_on_stats(self, stats):
        print(json.dumps({"failures": stats.failures, "dark": stats.dark}))
"""


@pytest.fixture
def play(tmp_path: Path) -> t.Callable[..., Played]:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    hosts = {"here": local, "gone": {"ansible_host": "127.0.0.1", "ansible_port": 9}}
    variables = {"ollama_models": ["tiny"], "ollama_models_dir": "/srv/kaido-unit-test/models"}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        json.dumps({"ollama_servers": {"hosts": hosts, "vars": variables}, "other": {"hosts": {"web": {}}}})
    )
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "json.py").write_text(CALLBACK)

    def run(playbook: str, *arguments: str, **environment: str) -> Played:
        return ansible(
            "ansible-playbook", "-i", inventory, f"playbooks/{playbook}.yml", *arguments, environment=environment
        )

    return run


def test_hosts_that_fail_or_do_not_answer_have_their_row(tmp_path: Path, play: t.Any) -> None:
    """With a callback for programs nothing but its output is on stdout."""
    done = play(
        "report",
        "-e",
        f"ollama_report_file={tmp_path}/fleet.html",
        ANSIBLE_STDOUT_CALLBACK="json",
        ANSIBLE_CALLBACK_PLUGINS=str(tmp_path / "callbacks"),
    )
    assert done.status != 0, "a host was not observed"
    assert set(json.loads(done.stdout)["failures"]) == {"here", "gone"}
    report = json.loads((tmp_path / "fleet.json").read_text())
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    rows = {row["host"]: row for row in report["hosts"]}
    assert rows["gone"]["state"] == "unreachable"
    assert "port 9" in rows["gone"]["reason"]
    assert rows["here"]["reason"], "the role cannot run here, and its failure is the reason"
    assert [model["state"] for model in rows["here"]["models"]] == ["missing"]
    assert (tmp_path / "fleet.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("playbook", "arguments", "text"),
    [
        (
            "report",
            ["-e", "ollama_verison=1"],
            "ollama_verison: unknown variable of host gone; did you mean ollama_version?",
        ),
        ("verify", ["-e", "ollama_verify_report="], "ollama_verify_report: invalid value ''; expected a path"),
        ("verify", ["--limit", "web"], "--limit web: matches no host of group ollama_servers"),
        ("export", [], "ollama_bundle: not set; expected a path"),
        ("export", ["-e", "ollama_bundle=/x", "-e", "ollama_bundle_host=hecat"], "hecat: no such group or host"),
        ("import", ["-e", "ollama_bundle_host=hecat"], "hecat: no such group or host"),
        ("lock", ["-e", "ollama_lock_only_new=maybe"], "ollama_lock_only_new: invalid value 'maybe'; expected true or"),
    ],
)
def test_invalid_input_is_reported_before_a_host_is_contacted(
    playbook: str, arguments: list[str], text: str, play: t.Any
) -> None:
    done = play(playbook, *arguments)
    assert done.status != 0
    # YAML doubles quotes.
    assert text in " ".join(done.output.split()).replace("''", "'")
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize("playbook", ["site", "report", "update"])
def test_the_table_is_shown_if_no_host_can_be_reached(playbook: str, play: t.Any) -> None:
    done = play(playbook, "--limit", "gone")
    assert done.status != 0
    table = done.stdout[done.stdout.index("HOST") :]
    row = next(line for line in table.splitlines() if line.startswith("gone"))
    assert "unreachable" in row
    assert "port 9" in table.partition("PLAY RECAP")[0]
    assert done.stdout.count("fatal: [gone]") <= 2, "the reason is printed once, and by report again as its own failure"
