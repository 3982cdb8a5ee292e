# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the monitoring program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._monitor.program import Config

from tests.unit.module_utils.monitor.hosts import STORES, config_of, everything


@pytest.fixture(params=["store-v1", "store-v2"])
def models_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORES / request.param, tmp_path / "models", symlinks=True))


@pytest.fixture
def config(models_dir: Path, tmp_path: Path) -> Config:
    return config_of(tmp_path, models_dir)


@pytest.fixture
def full(tmp_path: Path) -> str:
    """The text of `everything`."""
    models_dir = Path(shutil.copytree(STORES / "store-v1", tmp_path / "full", symlinks=True))
    return everything(config_of(tmp_path, models_dir), models_dir)
