# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of the server's unit and its drop-ins: their origin and their settings. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import typing as t


def is_foreign(unit: str | None) -> bool:
    return unit is not None and "kaido.ollama" not in unit


def account_of(text: str) -> dict[str, str]:
    """Return the values of User, Group and DynamicUser in a unit or a drop-in. Pure."""
    found = re.findall(r"^[ \t]*(User|Group|DynamicUser)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return {key: value for key, value in found if value}


def values_of(text: str, directive: str) -> list[str]:
    """Return the values of a directive in a unit or a drop-in in order; an empty one clears earlier ones. Pure."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return re.findall(rf"^[ \t]*{directive}[ \t]*=[ \t]*(.*?)[ \t]*$", joined, re.MULTILINE)


def environment_of(text: str) -> dict[str, str]:
    """Return the variables in the Environment= lines of a unit. Pure."""
    found = {}
    for line in re.findall(r"^\s*Environment\s*=(.*)$", text, re.MULTILINE):
        with contextlib.suppress(ValueError):
            for word in shlex.split(line):
                name, equals, value = word.partition("=")
                if equals:
                    found[name] = value
    return found


def unit_with_targets(unit: str, targets: t.Sequence[str]) -> str:
    """Return the text of the unit with access to the targets of links in the store. Pure."""
    if not targets:
        return unit
    listed = " ".join(targets)
    homes = [path for path in targets if path.startswith(("/home/", "/root/"))]
    lines = []
    for line in unit.splitlines():
        if line == "ProtectHome=true" and homes:
            line = "ProtectHome=tmpfs"
        lines.append(line)
        if line.startswith(("RequiresMountsFor=", "ReadWritePaths=")):
            lines.append(f"{line.split('=')[0]}={listed}")
        if line == "ProtectHome=tmpfs" and homes:
            lines.append(f"BindPaths={' '.join(homes)}")
    return "\n".join(lines) + "\n"
