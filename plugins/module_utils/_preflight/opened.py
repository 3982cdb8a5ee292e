# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open paths component by component with descriptors. Only links of root are followed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import pwd
import re
import stat

from .._core.owner import Identity, acting_as

_MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unsafe(Exception):
    """A path cannot be used: it contains a link, or a file instead of a directory."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


class Opened:
    """A path that is opened component by component, as a context manager.

    :ivar handle: the descriptor of the directory, or of the nearest existing directory above it.
    :ivar path: the resolved path of that directory.
    :ivar missing: the components that do not exist.
    :ivar linked: whether the path contains a link.
    :ivar dangling: whether the target of a link does not exist, as on a disk that is not mounted.
    :ivar chain: the path and the status of each component, beginning below the root.
    :raises Unsafe: for a link that does not belong to root, or a file instead of a directory.
    """

    def __init__(self, path: str, root: str = "/") -> None:
        self.linked = self.dangling = False
        self.missing: list[str] = []
        self.chain: list[tuple[str, os.stat_result]] = []
        self._handles = [os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)]
        self._names: list[str] = []
        try:
            self._descend([part for part in path.split("/") if part])
        except BaseException:
            self.close()
            raise

    @property
    def handle(self) -> int:
        return self._handles[-1]

    @property
    def path(self) -> str:
        return "/" + "/".join(self._names)

    def closed_to(self, identity: Identity, exempt: tuple[str, ...]) -> tuple[str, os.stat_result] | None:
        """Return the first directory of the path that an account cannot enter, according to mode and ACL, or None.

        :param exempt: directories that count as accessible, with everything below them.
        """
        with acting_as(identity):
            for depth, handle in enumerate(self._handles[1:], 1):
                path = "/" + "/".join(self._names[:depth])
                if any(path == top or path.startswith(top + "/") for top in exempt):
                    continue
                try:
                    os.stat(".", dir_fd=handle)
                except PermissionError:
                    return path, os.fstat(handle)
        return None

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        while self._handles:
            os.close(self._handles.pop())

    def _descend(self, todo: list[str]) -> None:
        links = of_link = 0
        while todo:
            part = todo.pop(0)
            in_link, of_link = of_link > 0, max(0, of_link - 1)
            if part == ".":
                continue
            if part == "..":
                if self._names:
                    self._names.pop()
                    os.close(self._handles.pop())
                continue
            here = self.path.rstrip("/") + "/" + part
            try:
                info = os.stat(part, dir_fd=self.handle, follow_symlinks=False)
            except FileNotFoundError:
                self.missing, self.dangling = [part, *todo], in_link
                return
            except OSError as exc:
                raise Unsafe(here, f"cannot be read: {exc.strerror}") from None
            if stat.S_ISLNK(info.st_mode):
                links += 1
                target = self._target(part, here, links)
                if target.startswith("/"):
                    while self._names:
                        self._names.pop()
                        os.close(self._handles.pop())
                pieces = [piece for piece in target.split("/") if piece]
                todo, of_link = pieces + todo, of_link + len(pieces)
                self.linked = True
                continue
            self.enter(part, here)

    def _target(self, part: str, here: str, links: int) -> str:
        if links > _MAX_LINKS:
            raise Unsafe(here, "is one of too many symbolic links")
        try:
            info, target = link_at(part, self.handle)
        except OSError as exc:
            raise Unsafe(here, f"cannot be read: {exc.strerror}") from None
        if info.st_uid != 0 or info.st_nlink != 1:
            raise Unsafe(
                here,
                f"is a symbolic link to {shown(target)} that belongs to user {name_of(info.st_uid)}, and only "
                f"links of root are followed; remove it, or, if it is intended: chown -h root: {shown(here)}",
            )
        return target

    def enter(self, part: str, here: str) -> None:
        """Open the next component.

        :raises Unsafe: if it is not a directory or cannot be opened.
        """
        try:
            handle = open_directory(part, self.handle)
        except NotADirectoryError:
            raise Unsafe(here, "is not a directory; remove it or rename it") from None
        except OSError as exc:
            raise Unsafe(here, f"cannot be opened: {exc.strerror}") from None
        self._handles.append(handle)
        self._names.append(part)
        self.chain.append((here, os.fstat(handle)))


def open_directory(name: str, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # An NFS server can grant root fewer rights than the owner.
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        with acting_as(Identity(info.st_uid, info.st_gid)):
            return os.open(name, _DIRECTORY, dir_fd=parent)


def link_at(name: str, parent: int) -> tuple[os.stat_result, str]:
    """Return the status and the target of the same symbolic link, even if its entry is exchanged meanwhile.

    :param parent: the descriptor of its directory.
    :raises OSError: if it is not a link.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        return os.fstat(handle), os.readlink("", dir_fd=handle)
    finally:
        os.close(handle)


def shown(path: str) -> str:
    """Return a path for messages: without control characters, and quoted if it contains unusual characters."""
    return path if re.match(r"[A-Za-z0-9/._+:@~-]+\Z", path) else ascii(path)


def name_of(uid: int) -> str:
    """Return the name of a user, or the user ID if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
