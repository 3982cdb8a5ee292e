# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No fixed names in directories that everybody can write to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = [
    path
    for folder in ("playbooks", "roles")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".yml", ".j2", ".lua", ".sh")
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_staging_uses_no_world_writable_directory(path: Path) -> None:
    assert not re.findall(r"(?:/var/tmp|/tmp|/dev/shm|/run/lock)/\w+", path.read_text())


@pytest.mark.parametrize("name", ["import.yml", "export.yml"])
def test_a_staging_directory_is_removed_before_and_after(name: str) -> None:
    """Also where a task fails: what is removed last stands in an always."""
    text = (ROOT / "playbooks" / name).read_text()
    removals = [
        match.start() for match in re.finditer(r'path: "\{\{ ollama_bundle__stage \}\}"\n +state: absent', text)
    ]
    assert len(removals) == 2
    assert removals[0] < text.index("always:") < removals[1]
