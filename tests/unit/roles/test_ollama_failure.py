# SPDX-License-Identifier: GPL-3.0-or-later
"""What role ollama reports and rolls back after a failure."""

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible import template as ansible_template
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.conftest import ROOT

# The role's own expressions


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("ollama.service: Main process exited, code=exited, status=226/NAMESPACE", True),
        ("ollama.service: Failed to set up mount namespacing: /run/systemd/unit-root: Permission denied", True),
        ("ollama.service: Main process exited, code=exited, status=1/FAILURE", False),
    ],
)
def test_a_sandbox_that_the_host_does_not_allow_is_named(line: str, named: bool) -> None:
    failure = rendered(
        "ollama__failure",
        ollama__goes_back=False,
        ollama__moves_back=False,
        ollama__cause={"msg": "does not answer"},
        ollama__journal={"stdout_lines": [line]},
    )
    assert any("ollama_sandbox: false" in text for text in failure) == named
    assert line in failure


def test_a_rollback_that_failed_is_not_reported_as_done() -> None:
    known: dict[str, t.Any] = {
        "ollama__goes_back": True,
        "ollama__moves_back": True,
        "ollama__cause": {"msg": "does not answer"},
        "ollama__preflight": {"release": {"before": "0.35.0"}, "move": {"source": "/srv/old"}},
        "ollama__journal": {},
    }
    done = rendered("ollama__failure", **known)
    assert [text.split(".")[0] for text in done] == [
        "does not answer",
        "The server uses /srv/old again",
        "Rolled back to 0",
    ]
    failed = rendered("ollama__failure", **known, ollama__rollback_failure="no space")
    assert failed == ["does not answer", "The rollback failed: no space. The journal of the attempt:"]


@pytest.mark.parametrize(
    ("moves", "code", "back"),
    [
        (True, "server_unreachable", True),
        (True, "version_mismatch", True),
        (True, "tag_missing", False),
        (False, "server_unreachable", False),
    ],
)
def test_a_new_place_from_which_the_server_does_not_start_is_left(moves: bool, code: str, back: bool) -> None:
    goes = rendered("ollama__moves_back", ollama__moves=moves, ollama__failure_code=code)
    assert goes is back
    failure = rendered(
        "ollama__failure",
        ollama__goes_back=False,
        ollama__moves_back=goes,
        ollama__preflight={"move": {"source": "/srv/models"}},
        ollama__cause={"msg": "does not answer"},
        ollama__journal={"stdout_lines": []},
    )
    assert any("The server uses /srv/models again" in text for text in failure) == back


def test_the_previous_store_serves_again_before_the_previous_release() -> None:
    tasks = yaml.safe_load((ROOT / "roles/ollama/tasks/failure.yml").read_text())
    block = next(task["block"] for task in tasks if "block" in task)
    rolled_back = {task["ansible.builtin.include_tasks"]: task["when"] for task in block}
    assert rolled_back == {"move_rollback.yml": "ollama__moves_back", "rollback.yml": "ollama__goes_back"}
    steps = yaml.safe_load((ROOT / "roles/ollama/tasks/move_rollback.yml").read_text())
    restored = [item["path"] for item in steps[0]["loop"]]
    assert restored == ["/etc/systemd/system/ollama.service", "/etc/ollama/ollama.env"]
    assert steps[1]["ansible.builtin.systemd_service"]["state"] == "restarted"


@pytest.mark.parametrize(
    ("path", "form"), [("/data/m/", "/data/m"), ("/data/m", "/data/m"), ("/", "/"), ("~/m", "~/m")]
)
def test_the_role_uses_one_form_of_a_path(path: str, form: str) -> None:
    assert rendered("ollama__models_dir", ollama_models_dir=path) == form
    assert rendered("ollama__install_dir", ollama_install_dir=path) == form


def rendered(name: str, **variables: t.Any) -> t.Any:
    """Return the value of a variable of role ollama."""
    role = yaml.safe_load((ROOT / "roles/ollama/vars/main.yml").read_text())
    known = {key: role[key] for key in (name, "ollama__untold", "ollama__no_sandbox")}
    # A Templar on its own knows no collection.
    plain = {key: re.sub(r"\s*\| map\('kaido\.ollama\.printable'\)", "", value) for key, value in known.items()}
    # ansible-core before 2.19 trusts every text.
    trust = getattr(ansible_template, "trust_as_template", str)
    trusted = {key: trust(value) for key, value in plain.items()}
    return Templar(DataLoader(), variables={**trusted, **variables}).template(trusted[name])
