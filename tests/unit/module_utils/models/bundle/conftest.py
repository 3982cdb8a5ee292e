# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of two stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.conftest import RunModule
from tests.unit.module_utils.models.bundle.world import World


@pytest.fixture
def world(tmp_path: Path, run_module: RunModule) -> World:
    return World(tmp_path, run_module)
