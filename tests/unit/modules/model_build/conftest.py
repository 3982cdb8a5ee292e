# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of the server: both generations of the store, and a server that rewrites what it imports."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import standin
from tests.standin.registry import make_model
from tests.unit.modules.model_build.world import World


@pytest.fixture(params=["0.33.0", "0.35.1", "0.40.2"])
def world(request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any) -> Iterator[World]:
    models_dir = tmp_path / "models"
    make_model(models_dir, "base", generation=2 if request.param >= "0.40" else 1)
    env = {"STANDIN_MIGRATE": "1", "STANDIN_UPSTREAM": "http://127.0.0.1:1"}
    with standin.running(request.param, models_dir, env) as server:
        yield World(tmp_path, server, run_module)
