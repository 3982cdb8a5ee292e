# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many tasks a converge without changes runs on the controller, counted by a callback over the real playbook."""

from __future__ import annotations

import itertools
import json
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.playbook import Played, run_playbook

MOST = 8
CALLBACK = """
import os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "count"

    def v2_playbook_on_task_start(self, task, is_conditional):
        with open(os.environ["COUNTED"], "a") as file:
            file.write(task.get_name() + chr(10))
"""
MODULE = """#!/usr/bin/python
# WANT_JSON
import json, os, sys
with open(sys.argv[1]) as file:
    arguments = json.load(file)
with open(os.path.join(os.environ["HOME"], "{name}.arguments"), "w") as file:
    json.dump(arguments, file)
print(json.dumps({result}))
"""
RESULTS: dict[str, dict[str, t.Any]] = {
    "preflight": {
        "changed": False,
        "todo": [],
        "reasons": {},
        "address": "127.0.0.1:11434",
        "api_url": "http://127.0.0.1:11434",
        "environment": {"OLLAMA_NO_CLOUD": "1"},
        "release": {"version": "0.35.1", "variants": [], "checksums": {}, "missing": [], "before": "0.35.1"},
        "adopts": None,
        "gpu": {"count": 0, "summary": "no GPU"},
        "platform": {},
        "services": [],
    },
    "model": {
        "changed": False,
        "server_version": "0.35.1",
        "compute": [{"library": "cpu"}],
        "models": [],
    },
}


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    """The collection, in which the two modules that reach a server answer as on a converged host."""
    top = tmp_path / "collections"
    copy = top / "ansible_collections" / "kaido" / "ollama"
    (copy / "plugins").mkdir(parents=True)
    for name in ("roles", "playbooks", "meta", "galaxy.yml"):
        (copy / name).symlink_to(ROOT / name)
    for path in (ROOT / "plugins").iterdir():
        if path.name != "modules":
            (copy / "plugins" / path.name).symlink_to(path)
    (copy / "plugins" / "modules").mkdir()
    for path in (ROOT / "plugins" / "modules").glob("*.py"):
        target = copy / "plugins" / "modules" / path.name
        if path.stem in RESULTS:
            target.write_text(MODULE.replace("{name}", path.stem).replace("{result}", repr(RESULTS[path.stem])))
        else:
            target.symlink_to(path)
    return top


def run(folder: Path, collections: Path, playbook: str, *options: str, **variables: t.Any) -> Played:
    (folder / "callbacks").mkdir()
    (folder / "callbacks" / "count.py").write_text(CALLBACK)
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        **variables,
    }
    return run_playbook(
        folder,
        {"ollama_servers": {"hosts": {"hecate": host}}},
        playbook,
        *options,
        config="[defaults]\ncallback_plugins = callbacks\ncallbacks_enabled = count\n",
        ANSIBLE_COLLECTIONS_PATH=str(collections),
        COUNTED=str(folder / "counted"),
        HOME=str(folder),
    )


def test_a_converge_without_changes_runs_few_tasks(tmp_path: Path, collections: Path) -> None:
    done = run(tmp_path, collections, "kaido.ollama.site")
    assert done.status == 0, done.output
    tasks = (tmp_path / "counted").read_text().splitlines()
    assert len(tasks) <= MOST, json.dumps(tasks, indent=1)


@pytest.mark.parametrize("how", ["site", "include", "roles"])
def test_the_gpu_is_tested_however_the_role_is_run(tmp_path: Path, collections: Path, how: str) -> None:
    """The part that most hosts skip is reached from playbook site, by include_role and by the keyword roles."""
    play: dict[str, t.Any] = {"hosts": "ollama_servers", "gather_facts": False}
    if how == "include":
        play["tasks"] = [{"ansible.builtin.include_role": {"name": "kaido.ollama.17_ollama"}}]
    else:
        play["roles"] = ["kaido.ollama.17_ollama"]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    playbook = "kaido.ollama.site" if how == "site" else "play.yml"
    done = run(tmp_path, collections, playbook, ollama_gpu="required")
    assert done.status != 0
    text = " ".join(done.stdout.split())
    assert "ollama_gpu: required, but the server computes on the CPU; this host has no GPU" in text


def test_a_move_of_the_models_is_predicted(tmp_path: Path, collections: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In check mode the models are still in the previous directory, so none is reported as missing."""
    move = {"source": "/srv/old", "target": "/srv/new", "switched": False}
    result = {
        **RESULTS["preflight"],
        "todo": ["move", "service"],
        "reasons": {"move": "3 files move from /srv/old to /srv/new", "service": "a restart applies the new unit"},
        "move": move,
    }
    stub = collections / "ansible_collections/kaido/ollama/plugins/modules/preflight.py"
    stub.write_text(MODULE.replace("{name}", "preflight").replace("{result}", repr(result)))
    done = run(tmp_path, collections, "kaido.ollama.site", "--check", ollama_models_dir="/srv/new")
    assert done.status == 0, done.output
    changed = [
        line for line in done.stdout.splitlines() if line.startswith(("TASK", "changed:")) and "skip" not in line
    ]
    titles = [before for before, line in itertools.pairwise(changed) if line.startswith("changed:")]
    names = ("move | Create the files", "Report the restart reason", "finish | Remove the files")
    assert len(titles) == len(names), done.stdout
    assert all(name in title for title, name in zip(titles, names, strict=True)), titles
    assert json.loads((tmp_path / "model.arguments").read_text())["models_dir"] == "/srv/old"
