# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of a host with two accounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.conftest import RunModule
from tests.unit.module_utils.models.bundle_attacks.host import Host


@pytest.fixture(name="host")
def _host(tmp_path: Path, run_module: RunModule) -> Host:
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return Host(tmp_path, run_module)
