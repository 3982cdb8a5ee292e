# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: systemd hosts in containers, a release mirror and a model registry, entered over SSH as users' hosts are.

`python -m tests.lab --help` says what it can do. Everything it writes is under .cache/lab.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache" / "lab"


class LabError(Exception):
    """Something the user must know or do, in one line."""


def say(line: str) -> None:
    """Print at once, also into a pipe: whoever waits wants to see what for."""
    print(line, flush=True)
