# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The removal of services of this collection, with their files and accounts.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import typing as t

from .._core import command
from .._core.errors import OllamaError
from .units import SERVICES, UNIT_DIRECTORY, files_of, found, processes

_SYSTEM_UIDS = range(1, 1000)


class Removal:
    """Stop and disable services of this collection, and remove their files and accounts.

    Unit files are removed last, so that the run after an interrupted one finds the services.

    :param names: names in SERVICES; services without any file or process on the host are ignored.
    :param check_mode: whether changes are only predicted.
    :param root: the directory that stands for /; only tests set it.
    :param execute: runs a program and returns its exit status; only tests set it.
    """

    def __init__(
        self,
        names: t.Iterable[str],
        *,
        check_mode: bool = False,
        root: str = "/",
        execute: t.Callable[..., int] | None = None,
    ) -> None:
        self.check_mode, self.root, self.execute = check_mode, root, execute or _execute
        there = found(root)
        names = set(names)
        self.services = [SERVICES[name] for name in SERVICES if name in names and name in there]
        self.others = {SERVICES[name].user for name in there if name not in names}
        self.actions: list[str] = []
        """The changes that were made or are predicted, in order."""
        self.kept: dict[str, str] = {}
        """The paths that are kept, with the reason."""

    def apply(self) -> None:
        """Remove the services, or predict the removal.

        :raises OllamaError: ``service_running`` if systemd does not stop a unit, ``command_failed`` if an account
            cannot be removed.
        """
        for service in self.services:
            if service.unit:
                self._stop(service.unit)
            for path in files_of(service):
                self._delete(path)
        for service in self.services:
            for path in service.directories:
                self._remove_directory(path)
            if service.user and service.user not in self.others and _is_own(service.user):
                self._remove_user(service.user)
        for service in self.services:
            if service.unit_path:
                if os.path.isdir(self._at(service.unit_path + ".d")):
                    self.kept[service.unit_path + ".d"] = "drop-ins belong to the user"
                self._delete(service.unit_path)
        if any(service.unit for service in self.services) and not self.check_mode:
            self.execute("systemctl", "daemon-reload")

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def _stop(self, unit: str) -> None:
        self.actions.append(f"stop and disable {unit}")
        if self.check_mode:
            return
        self.execute("systemctl", "stop", unit)
        self.execute("systemctl", "disable", unit)
        # Otherwise systemd continues to list a failed unit.
        self.execute("systemctl", "reset-failed", unit)
        if processes(self.root).get(unit):
            raise OllamaError("service_running", f"{unit} does not stop; see systemctl status {unit}", unit=unit)
        # Without a unit file, systemctl does not remove the link.
        _delete(self._at(f"{UNIT_DIRECTORY}/multi-user.target.wants/{unit}"))

    def _delete(self, path: str) -> None:
        if os.path.lexists(self._at(path)):
            self.actions.append(f"remove {path}")
            if not self.check_mode:
                _delete(self._at(path))

    def _remove_directory(self, path: str) -> None:
        there = self._at(path)
        if os.path.islink(there) or not os.path.isdir(there):
            return
        # In check mode, the files that a run would have removed still exist.
        predicted = {own for service in self.services for own in files_of(service)} if self.check_mode else set()
        left = [name for name in sorted(os.listdir(there)) if os.path.join(path, name) not in predicted]
        if left:
            self.kept[path] = f"it contains {', '.join(left[:5])}"
            return
        self.actions.append(f"remove {path}")
        if not self.check_mode:
            os.rmdir(there)

    def _remove_user(self, user: str) -> None:
        self.actions.append(f"remove user {user}")
        if not self.check_mode and self.execute("userdel", user):
            raise OllamaError("command_failed", f"userdel {user} failed; see the journal of the host", user=user)


def _is_own(user: str) -> bool:
    """Return whether an account has the properties of those that the roles of this collection create."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return False
    return entry.pw_uid in _SYSTEM_UIDS and entry.pw_dir == "/nonexistent" and entry.pw_shell.endswith("/nologin")


def _delete(path: str) -> None:
    """Remove a file, a link or a directory with its content; links are not followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _execute(*argv: str) -> int:
    done = command.attempt(argv, timeout=120)
    return done.status if done else 127
