# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd: their properties, their processes, and actions on them.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import time
import typing as t

from . import command, fs
from .errors import OllamaError

# Seconds. The start and the stop of a unit can take as long as the timeouts of the unit.
_ACTION_TIMEOUT = 300.0


def show(unit: str, properties: t.Iterable[str]) -> dict[str, str]:
    """Return properties of a unit. A property that is printed several times has one value per line.

    The result is empty on a host without systemd. A unit that does not exist has properties as well.
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


def unit_of(pid: int, root: str = "/") -> str:
    """Return the system unit to which a process belongs; '' for none.

    Users can give their own units and containers any name, but these are below a service or a scope.

    :param root: the directory that stands for /; only tests set it.
    """
    init = _cgroups_of(1, root)
    for hierarchy, path in _cgroups_of(pid, root).items():
        # In a container, the control group of process 1 may be below the root.
        top = os.path.dirname(init.get(hierarchy, "/")).rstrip("/") + "/"
        parts = path[len(top) :].split("/") if path.startswith(top) else []
        unit = next((part for part in parts if not part.endswith(".slice")), "")
        if unit.endswith(".service"):
            return unit
    return ""


def _cgroups_of(pid: int, root: str) -> dict[str, str]:
    """Return the control group of a process by hierarchy."""
    lines = fs.readable_text(os.path.join(root, "proc", str(pid), "cgroup")).splitlines()
    fields = (line.split(":", 2) for line in lines)
    return {field[1]: field[2] for field in fields if len(field) == 3}


def systemctl(*arguments: str, timeout: float = _ACTION_TIMEOUT) -> command.Result:
    """Run systemctl, and return its result for any exit status.

    :raises OllamaError: as `command.run` does.
    """
    return command.run(["systemctl", *arguments], timeout=timeout)


def act(*arguments: str, timeout: float = _ACTION_TIMEOUT) -> None:
    """Run an action of systemctl that must succeed, such as ``restart`` with a unit.

    :raises OllamaError: ``unit_failed``, and the errors of `command.run`.
    """
    result = systemctl(*arguments, timeout=timeout)
    if result.status:
        raise OllamaError("unit_failed", f"systemctl {' '.join(arguments)} failed: {result.reason}")
