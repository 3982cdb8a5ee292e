# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's log tells that its API does not: on which devices it computes.

Names of models and texts in their files reach this log, too. So only what the server writes before it answers its first
request counts: its lines of the present start, up to the end of the block about devices.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import subprocess
import threading
import typing as t

# A line of the log: time, level, source, message, then key=value, the value quoted where it has spaces.
_VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^\s"]*)'
_LINE = re.compile(
    rf'(?:time=\S+ )?level=([A-Z]+)\S* source=\w+\.go:\d+ msg=("(?:[^"\\]|\\.)*"|\S+)((?: [\w.]+={_VALUE})*)\Z'
)
_FIELD = re.compile(rf" (\w+)=({_VALUE})")
_STARTS = ("server config", "Ollama cloud disabled: ")
_DEVICE = "inference compute"
# Comes after the devices, before the first request.
_END = "vram-based default context"
_MOST_DEVICES = 64
# The devices are among the first fifty lines; beyond these limits they are not looked for.
_MOST_LINES = 2000
_MOST_BYTES = 1 << 20
_TIMEOUT = 20
_READ = ("journalctl", "--output=cat", "--no-pager", "--quiet")


class _Block:
    """The devices of a server's start, line by line."""

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []
        self.is_open = False

    def take(self, line: str) -> bool:
        """Read a line; returns False once the devices are complete."""
        match = _LINE.match(line)
        message = _unquoted(match.group(2)) if match else ""
        if match and message.startswith(_STARTS):
            self.found, self.is_open = [], True
        elif match and message == _DEVICE and match.group(1) == "INFO" and self.is_open:
            fields = {key: _unquoted(value) for key, value in _FIELD.findall(match.group(3))}
            if fields.get("library") and len(self.found) < _MOST_DEVICES:
                self.found.append(fields)
        elif message == _END or (self.found and not match):
            self.is_open = False
        return self.is_open or not self.found


def parse_compute(lines: t.Iterable[str]) -> list[dict[str, str]]:
    """Return the devices that the server found when it last started, as its log has them.

    One element for each device, with the fields of its ``inference compute`` line, for example ``library`` (``CUDA``,
    ``ROCm``, ``Vulkan``, ``cpu``), ``description``, ``compute``, ``driver``, ``total``. A single ``cpu`` means that it
    found no GPU.
    """
    block = _Block()
    for line in lines:
        block.take(line)
    return block.found


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def read_compute(unit: str) -> list[dict[str, str]]:
    """Return `parse_compute` of the present start of a unit; empty where its journal cannot be read."""
    unit = unit if re.search(r"\.[a-z]+\Z", unit) else f"{unit}.service"
    try:
        shown = subprocess.run(
            ["systemctl", "show", "--property=InvocationID", "--value", "--", unit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )
        start = shown.stdout.decode("utf-8", "replace").strip()
        if not re.match(r"[0-9a-f]{32}\Z", start):
            return []
        # Both fields are set by the journal itself: no other unit can write a line that has them.
        reader = subprocess.Popen(
            [*_READ, f"_SYSTEMD_UNIT={unit}", f"_SYSTEMD_INVOCATION_ID={start}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    timer = threading.Timer(_TIMEOUT, reader.kill)
    timer.start()
    block = _Block()
    left = _MOST_BYTES
    with reader:
        output = t.cast("t.IO[bytes]", reader.stdout)
        for _number in range(_MOST_LINES):
            line = output.readline(left)
            left -= len(line)
            if not line or not left or not block.take(line.decode("utf-8", "replace").rstrip("\n")):
                break
        reader.kill()
    timer.cancel()
    return block.found


def last_lines(unit: str, count: int = 3) -> list[str]:
    """Return the last lines of a unit's journal, printable and at most 200 characters each; empty where unreadable."""
    command = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--quiet", f"--lines={count}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return ["".join(char if char.isprintable() else " " for char in line)[:200] for line in lines]
