# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd: their properties, and actions on them.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import time
import typing as t

from . import command
from .errors import OllamaError

# Starting and stopping a unit may take as long as the unit's own timeouts.
_ACTION_TIMEOUT = 300.0


def show(unit: str, properties: t.Iterable[str]) -> dict[str, str]:
    """Return properties of a unit; a property that is printed several times has one value a line.

    Nothing is returned on a host without systemd. A unit that does not exist has properties, too.
    """
    result = command.attempt(["systemctl", "show", "--property", ",".join(properties), "--", unit])
    return parse_properties(result.stdout) if result else {}


def parse_properties(text: str) -> dict[str, str]:
    """Return the properties in the output of ``systemctl show``."""
    found: dict[str, str] = {}
    for name, equals, value in (line.partition("=") for line in text.splitlines()):
        if equals:
            found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def since_boot(microseconds: str | None) -> float:
    """Return the time of a ``…TimestampMonotonic`` property, in seconds since the epoch."""
    return time.time() - (time.monotonic() - int(microseconds or 0) / 1e6)


def systemctl(*arguments: str, timeout: float = _ACTION_TIMEOUT) -> command.Result:
    """Run systemctl, whatever its exit status; raises as `command.run`."""
    return command.run(["systemctl", *arguments], timeout=timeout)


def act(*arguments: str, timeout: float = _ACTION_TIMEOUT) -> None:
    """Run systemctl for an action that has to succeed, such as ``restart`` and a unit.

    :raises OllamaError: ``unit_failed``, and as `command.run`.
    """
    result = systemctl(*arguments, timeout=timeout)
    if result.status:
        raise OllamaError("unit_failed", f"systemctl {' '.join(arguments)} failed: {result.reason}")
