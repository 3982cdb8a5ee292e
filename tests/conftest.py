# SPDX-License-Identifier: GPL-3.0-or-later
"""Make ansible_collections.kaido.ollama importable from any checkout, and fail a run that tried nothing."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINK = ROOT / ".cache" / "ansible_collections" / "kaido" / "ollama"

if not LINK.exists():
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to(Path("..", "..", ".."))
sys.path.insert(0, str(ROOT / ".cache"))

FAILED = pytest.StashKey[bool]()
"""Whether a test of this run has failed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip tests that start ansible-core or build an environment")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give this run a directory of its own for `tmp_path`; it is kept if a test fails.

    Runs of one user share a directory by default, which each of them closes to other users at its start. Tests that act
    as another user open it, and would fail if another run, such as that of a scenario, started meanwhile.
    """
    if not config.option.basetemp and not hasattr(config, "workerinput"):
        own = Path(tempfile.mkdtemp(prefix="pytest-kaido-"))
        config.option.basetemp = str(own / "run")
        config.add_cleanup(lambda: None if config.stash.get(FAILED, False) else shutil.rmtree(own, ignore_errors=True))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped every test: pytest itself fails only one that found none."""
    session.config.stash[FAILED] = exitstatus != pytest.ExitCode.OK
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    tried = reporter is None or any(reporter.stats.get(outcome) for outcome in ("passed", "failed", "error", "xfailed"))
    if exitstatus == pytest.ExitCode.OK and not tried and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
