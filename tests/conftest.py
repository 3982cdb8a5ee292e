# SPDX-License-Identifier: GPL-3.0-or-later
"""Make ansible_collections.kaido.ollama importable from any checkout, and fail a run that tried nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINK = ROOT / ".cache" / "ansible_collections" / "kaido" / "ollama"

if not LINK.exists():
    LINK.parent.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to(Path("..", "..", ".."))
sys.path.insert(0, str(ROOT / ".cache"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip tests that start ansible-core or build an environment")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped every test: pytest itself fails only one that found none."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    tried = reporter is None or any(reporter.stats.get(outcome) for outcome in ("passed", "failed", "error", "xfailed"))
    if exitstatus == pytest.ExitCode.OK and not tried and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
