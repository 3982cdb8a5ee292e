# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tags of a run mean for role ollama."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.unit.playbook import ansible


@pytest.mark.parametrize(
    ("options", "manages"),
    [
        ((), True),
        (("--tags", "ollama_models"), True),
        (("--tags", "ollama_server,ollama_models"), True),
        (("--tags", "ollama_server"), False),
        (("--skip-tags", "ollama_models"), False),
        (("--skip-tags", "gpu_driver"), True),
    ],
)
def test_models_are_compared_only_if_the_run_manages_them(
    tmp_path: Path, options: tuple[str, ...], manages: bool
) -> None:
    show = {"ansible.builtin.debug": {"msg": "manages={{ ollama__manages_models }}"}, "tags": ["always"]}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [show]}
    play["vars_files"] = [str(ROOT / "roles" / "ollama" / "vars" / "main.yml")]
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = ansible("ansible-playbook", "-i", "localhost,", *options, tmp_path / "play.yml")
    assert f"manages={manages}" in done.output, done.output
