# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a host below a root directory, its programs, and the access rights of accounts.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import glob
import os
import pwd
import stat
import typing as t
from dataclasses import dataclass

from .._core import command
from .._core.errors import OllamaError

Run = t.Callable[[t.Sequence[str]], "tuple[int, str] | None"]
"""Runs a program and returns its exit status and output, or None if it is not installed."""


@dataclass(frozen=True)
class Account:
    """An account that opens device nodes."""

    name: str
    uid: int
    gids: frozenset[int]

    def may_open(self, mode: int, uid: int, gid: int) -> bool:
        """Return whether the account can read and write a file with this mode and owner."""
        shift = 6 if uid == self.uid else 3 if gid in self.gids else 0
        return self.uid == 0 or (mode >> shift) & 6 == 6


def account(user: str | None) -> Account | None:
    """Return a user with its groups; None for an unknown user, the account of this process for no name."""
    if user is None:
        return Account(str(os.geteuid()), os.geteuid(), frozenset([*os.getgroups(), os.getegid()]))
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return Account(user, entry.pw_uid, frozenset(os.getgrouplist(user, entry.pw_gid)))


def run_program(argv: t.Sequence[str]) -> tuple[int, str] | None:
    """Run a program of the host with a time limit: nvidia-smi can hang on a faulty GPU."""
    try:
        result = command.run(argv)
    except OllamaError as exc:
        return None if exc.code == "program_missing" else (124, exc.message)
    return result.status, result.stdout


def no_program(argv: t.Sequence[str]) -> None:
    """Run no program, for the files of another host."""


class Tree:
    """A host's file system below its root. Unreadable files count as missing."""

    def __init__(self, root: str) -> None:
        self.root = root

    def at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def bytes(self, path: str) -> bytes:
        try:
            with open(self.at(path), "rb") as file:
                return file.read()
        except OSError:
            return b""

    def text(self, path: str) -> str:
        return self.bytes(path).decode("utf-8", "replace").replace("\0", "\n").strip()

    def has(self, path: str) -> bool:
        return os.path.exists(self.at(path))

    def resolves(self, path: str) -> bool:
        """Return whether a path exists; an absolute link is resolved relative to the root."""
        if not os.path.islink(self.at(path)):
            return self.has(path)
        target = os.readlink(self.at(path))
        return self.has(target if target.startswith("/") else os.path.join(os.path.dirname(path), target))

    def find(self, pattern: str) -> list[str]:
        """Return the matching paths, relative to the root."""
        return sorted(os.path.relpath(path, self.root) for path in glob.glob(self.at(pattern)))

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []


def denied(root: str, opener: Account | None, path: str) -> bool:
    """Return whether a device node exists and the account cannot open it; false for an unknown account."""
    if opener is None:
        return False
    try:
        status = os.stat(os.path.join(root, path.lstrip("/")))
    except OSError:
        return False
    return not opener.may_open(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
