# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of the file system of a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.modules.preflight.hosts import MODELS, SUM, UNIT, socket_line


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "etc/systemd/system/ollama.service": UNIT,
        "etc/systemd/system/ollama.service.d/limits.conf": "[ServerFacts]\nMemoryMax=8G\n",
        "etc/ollama/ollama.env": 'OLLAMA_HOST="127.0.0.1:11434"\n',
        "opt/ollama/releases/0.35.1/.kaido-release.json": json.dumps({"version": "0.35.1", "archives": {"a": SUM}}),
        "opt/ollama/releases/0.34.4/bin/ollama": "no marker",
        "proc/net/tcp": "header\n" + socket_line("0100007F", 11434, 555) + socket_line("00000000", 22, 556),
        "proc/net/tcp6": "header\n"
        + socket_line("00000000000000000000000001000000", 11434, 557)
        + socket_line("0000000000000000FFFF00000100007F", 11434, 558)
        + socket_line("0" * 32, 11434, 559, state="01"),
        "proc/42/comm": "ollama\n",
        "proc/42/cgroup": "0::/system.slice/ollama.service\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "etc/ollama/ollama.env").chmod(0o600)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/ollama").symlink_to("/opt/ollama/current/bin/ollama")
    (tmp_path / "opt/ollama/current").symlink_to("releases/0.35.1")
    (tmp_path / "proc/42/fd").mkdir()
    (tmp_path / "proc/42/fd/7").symlink_to("socket:[555]")
    (tmp_path / (MODELS.lstrip("/") + "/manifests/registry.ollama.ai/library/tiny")).mkdir(parents=True)
    return tmp_path
