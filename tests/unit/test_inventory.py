# SPDX-License-Identifier: GPL-3.0-or-later
"""The example inventory, used as a directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.conftest import ROOT

from .playbook import ansible


def test_files_that_playbooks_write_are_no_inventory(tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(ROOT / "inventory", folder)
    (folder / "models.lock.yml").write_text("---\ntiny:latest: {digest: sha256:00, size: 1, date: 2026-11-20}\n")
    (folder / "benchmarks" / "hecate").mkdir(parents=True)
    (folder / "benchmarks" / "hecate" / "20261120T000000Z.json").write_text('{"models": [], "host": {}}')
    done = ansible("ansible-inventory", "-i", ".", "--list", folder=folder, environment={"ANSIBLE_CONFIG": ""})
    groups = set(json.loads(done.stdout)["all"]["children"])
    assert groups <= {"ungrouped", "ollama_servers", "ollama_clients"}
    assert "WARNING" not in done.stderr
