# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of scripts.dist; the artifacts themselves are built by `make importer`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from scripts import dist


@pytest.mark.parametrize(("text", "mode"), [("#!/bin/sh\nexit 3\n", 0o755), ("", 0o644), ("#!/nowhere\n", 0o755)])
def test_an_ansible_galaxy_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int
) -> None:
    program = tmp_path / "ansible-galaxy"
    program.write_text(text)
    program.chmod(mode)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match=r"\Adist: ansible-galaxy failed: .+\Z"):
        dist.build(tmp_path, tmp_path / "target")


def test_a_missing_ansible_galaxy_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(SystemExit, match="install ansible-core"):
        dist.build(tmp_path, tmp_path / "target")
