# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The oldest ansible-core; tests/unit/action/test_preflight.py tests the oldest Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.interpreter import OLDEST_CORE, check_core

from tests.conftest import ROOT
from tests.unit.playbook import run_playbook


@pytest.mark.parametrize("version", ["2.9.27", "2.15.13", "2.15.0rc1"])
def test_an_older_core_is_refused_in_one_line(version: str) -> None:
    with pytest.raises(OllamaError) as caught:
        check_core(version)
    assert caught.value.code == "ansible_unsupported"
    assert version in caught.value.message
    assert "2.16" in caught.value.message


@pytest.mark.parametrize("version", ["2.16.0", "2.19.14", "2.22.0rc1", "3.0.0"])
def test_a_supported_core_is_accepted(version: str) -> None:
    check_core(version)


def test_the_oldest_core_is_that_of_the_metadata() -> None:
    assert yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"] == f">={OLDEST_CORE}.0"


def test_a_core_that_is_too_old_ends_a_run_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import ansible.release\nansible.release.__version__ = '2.15.13'\n")
    inventory = {"ollama_servers": {"hosts": {"h1": {"ansible_connection": "local"}}}}
    done = run_playbook(tmp_path, inventory, "kaido.ollama.site", "--check", PYTHONPATH=str(tmp_path))
    assert done.status
    assert done.stdout.count("ansible-core 2.15.13 is too old; expected 2.16 or newer") == 1
    assert "failed=1 " in done.stdout
