# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/venv.sh replaces an environment only by a complete one, and never one that belongs to another checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.config.getoption("--quick"):
        pytest.skip("the test builds a Python environment")
    path = tmp_path / "checkout"
    (path / "requirements").mkdir(parents=True)
    (path / "requirements" / "dev.txt").write_text("")
    return path


def build(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "scripts" / "venv.sh"],
        cwd=checkout,
        env={**os.environ, "PYTHON": getattr(sys, "_base_executable", sys.executable), "PIP_NO_INDEX": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def environment(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (path / "kept").write_text("")
    return path


def test_environment_is_usable_at_its_place_and_replaced_when_it_is_built_again(checkout: Path) -> None:
    for _time in range(2):
        done = build(checkout)
        assert done.returncode == 0, done.stderr
        printed = subprocess.run([checkout / ".venv/bin/pip", "--version"], capture_output=True, text=True, check=True)
        assert str(checkout / ".venv" / "lib") in printed.stdout
        activated = ["sh", "-c", '. .venv/bin/activate; echo "$VIRTUAL_ENV"']
        assert subprocess.check_output(activated, cwd=checkout, text=True) == f"{checkout}/.venv\n"
        assert (checkout / ".venv" / ".stamp").exists()
        assert os.listdir(checkout / ".cache") == []


def test_failure_leaves_the_present_environment(checkout: Path) -> None:
    environment(checkout / ".venv")
    (checkout / "requirements" / "dev.txt").write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    assert build(checkout).returncode != 0
    assert (checkout / ".venv" / "kept").exists()
    assert not (checkout / ".venv" / ".stamp").exists()


@pytest.mark.parametrize("target", ["there", "missing"])
def test_environment_behind_a_link_is_not_changed(checkout: Path, tmp_path: Path, target: str) -> None:
    there = environment(tmp_path / "there")
    (checkout / ".venv").symlink_to(tmp_path / target)
    done = build(checkout)
    assert done.returncode == 1
    assert done.stderr.startswith(f".venv is a symbolic link to {tmp_path / target}")
    assert done.stderr.count("\n") == 1
    assert (checkout / ".venv").is_symlink()
    assert sorted(os.listdir(there)) == ["kept", "pyvenv.cfg"]


def test_directory_that_is_no_environment_is_not_changed(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").write_text("")
    done = build(checkout)
    assert (done.returncode, os.listdir(checkout / ".venv")) == (1, ["mine"])
    assert "is not a virtual environment" in done.stderr
