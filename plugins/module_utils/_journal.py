# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's log says that its API does not: on which devices it computes.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import subprocess
import typing as t

# A line of the log is a run of key=value, the value quoted where it has spaces.
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_compute(lines: t.Iterable[str]) -> list[dict[str, str]]:
    """Return the devices that the server found when it last started, in its own words.

    One element for each device, with the fields of its ``inference compute`` line, for example ``library`` (``CUDA``,
    ``ROCm``, ``Vulkan``, ``cpu``), ``description``, ``compute``, ``driver``, ``total``. A single ``cpu`` means that it
    found no GPU.
    """
    found: list[dict[str, str]] = []
    for line in lines:
        if 'msg="server config"' in line or 'msg="Ollama cloud disabled: ' in line:
            found = []
        elif 'msg="inference compute"' in line:
            fields = {
                key: value.strip('"') for key, value in _FIELD.findall(line.split('msg="inference compute"', 1)[1])
            }
            found.append(fields)
    return found


def read_compute(unit: str) -> list[dict[str, str]]:
    """Return `parse_compute` of a unit's journal; empty where it cannot be read."""
    command = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--lines=64", "--reverse"]
    command.append("--grep=server config|Ollama cloud disabled|inference compute")
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    # With --lines, --grep implies --reverse in any case.
    return parse_compute(reversed(done.stdout.decode("utf-8", "replace").splitlines()))


def last_lines(unit: str, count: int = 3) -> list[str]:
    """Return the last lines of a unit's journal, printable and at most 200 characters each; empty where unreadable."""
    command = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--quiet", f"--lines={count}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return ["".join(char if char.isprintable() else " " for char in line)[:200] for line in lines]
