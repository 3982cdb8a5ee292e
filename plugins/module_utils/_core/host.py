# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a host that several packages use: its operating system, accounts and mounts.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import typing as t

from . import fs
from .errors import OllamaError


def require_root(what: str) -> None:
    """Refuse work that needs root; raises ``root_required``."""
    uid = os.geteuid()
    if uid:
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = str(uid)
        raise OllamaError(
            "root_required",
            f"{what} requires root, but the task runs as {user}; set become: true (ansible_become and "
            "ansible_become_user override it)",
        )


def os_release(root: str = "/") -> dict[str, str]:
    """Return the variables of the os-release file of the host without quotes; empty if there is no such file."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        text = fs.read_text(os.path.join(root, name))
        if text is not None:
            return parse_os_release(text)
    return {}


def parse_os_release(text: str) -> dict[str, str]:
    """Return the variables of an os-release file, without quotes."""
    found = {}
    for name, equals, value in (line.partition("=") for line in text.splitlines()):
        if equals and not name.lstrip().startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def platform_of(os_release: str, platforms: t.Container[str]) -> str:
    """Return the best matching key in the order debian12, debian, ID_LIKE; '' if none matches. Pure."""
    values = parse_os_release(os_release)
    own, version = values.get("ID", ""), values.get("VERSION_ID", "")
    keys = [own + version, own + version.split(".")[0], own, *values.get("ID_LIKE", "").split()]
    return next((key for key in keys if key in platforms), "")


def find_user(name: str) -> pwd.struct_passwd | None:
    """Return an account, or None if it does not exist."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def find_group(name: str) -> grp.struct_group | None:
    """Return a group, or None if it does not exist."""
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def user_name(uid: int) -> str | None:
    """Return the name of the account with a user ID, or None."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def mount_points() -> set[str]:
    """Return the directories where file systems are mounted in the namespace of this process."""
    rows = fs.readable_text("/proc/self/mountinfo").splitlines()
    return {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), row.split()[4]) for row in rows}


def is_mount_point(path: str) -> bool:
    """Return whether a directory is a mount, a bind mount or a subvolume; links are followed."""
    real = os.path.realpath(path)
    try:
        return os.stat(real).st_dev != os.stat(os.path.dirname(real)).st_dev or real in mount_points()
    except OSError:
        return False
