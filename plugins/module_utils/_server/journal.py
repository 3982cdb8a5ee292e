# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compute devices of a server: its log lists them, its API does not.

Model names and texts of model files are also written to this log. Therefore only the lines that the server writes
before it answers its first request are evaluated: those of the current start, up to the end of the block about devices.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .._core import command, systemd
from .._core.errors import OllamaError

# A line of the log: time, level, source and message, then key=value; values with spaces are quoted.
_VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^\s"]*)'
_LINE = re.compile(
    rf'(?:time=\S+ )?level=([A-Z]+)\S* source=\w+\.go:\d+ msg=("(?:[^"\\]|\\.)*"|\S+)((?: [\w.]+={_VALUE})*)\Z'
)
_FIELD = re.compile(rf" (\w+)=({_VALUE})")
_STARTS = ("server config", "Ollama cloud disabled: ")
_DEVICE = "inference compute"
# The message after the devices and before the first request.
_END = "vram-based default context"
_MOST_DEVICES = 64
# The devices are among the first fifty lines; lines beyond these limits are not evaluated.
_MOST_LINES = 2000
_MOST_BYTES = 1 << 20
_TIMEOUT = 20
_READ = ("journalctl", "--output=cat", "--no-pager", "--quiet")


class _Block:
    """Collects the devices of a start of the server line by line."""

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []
        self.is_open = False

    def take(self, line: str) -> bool:
        """Evaluate a line; return false when the devices are complete."""
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
    """Return the devices that the server found at its last start, according to its log.

    Each element has the fields of an ``inference compute`` line, for example ``library`` (``CUDA``, ``ROCm``,
    ``Vulkan``, ``cpu``), ``description``, ``compute``, ``driver`` and ``total``. A single ``cpu`` means that the server
    found no GPU.
    """
    block = _Block()
    for line in lines:
        block.take(line)
    return block.found


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def read_compute(unit: str) -> list[dict[str, str]]:
    """Return the devices of the current start of a unit; empty if its journal cannot be read."""
    unit = unit if re.search(r"\.[a-z]+\Z", unit) else f"{unit}.service"
    start = systemd.show(unit, ("InvocationID",)).get("InvocationID", "")
    if not re.match(r"[0-9a-f]{32}\Z", start):
        return []
    # The journal itself sets both fields, so no other unit can write a line with them.
    argv = [*_READ, f"_SYSTEMD_UNIT={unit}", f"_SYSTEMD_INVOCATION_ID={start}"]
    block = _Block()
    left = _MOST_BYTES
    try:
        with command.stream(argv, timeout=_TIMEOUT) as running:
            for _number in range(_MOST_LINES):
                line = running.stdout.readline(left)
                left -= len(line)
                if not line or not left or not block.take(line.decode("utf-8", "replace").rstrip("\n")):
                    break
    except OllamaError:
        return []
    return block.found


def last_lines(unit: str, count: int = 3) -> list[str]:
    """Return the last lines of the journal of a unit, printable and of up to 200 characters; empty if unreadable."""
    result = command.attempt([*_READ, f"--unit={unit}", f"--lines={count}"], timeout=_TIMEOUT)
    lines = result.stdout.splitlines() if result else []
    return ["".join(char if char.isprintable() else " " for char in line)[:200] for line in lines]
