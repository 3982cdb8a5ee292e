# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which directories a server may have, and the owner of everything in its model store.

The service account controls its home and its store, and root gives files there to it. Therefore every component of a
path is opened by descriptor and without following links; a link counts only if it belongs to root, that is to an
administrator. Only directories and files with the name of a store's part are ever given to the account.

`place` is pure, `survey` reads, `mend` changes.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import shlex
import stat
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.owner import Identity, acting_as

STORE_DIRECTORIES = ("blobs", "manifests", "manifests-v2")
# What the server itself writes into .ollama of its home, beside models.
OWN_FILES = ("id_ed25519", "id_ed25519.pub", "server.json", "history")
OWN_DIRECTORIES = ("cache", "logs")
BLOB = re.compile(r"sha256-[0-9a-f]{64}(-partial(-\d+)?|\.tmp)?\Z")
PATH = re.compile(r"(/[A-Za-z0-9._+:@-]+)+\Z")
# Entries of a file tree with many models: a store has a few thousand.
MAX_ENTRIES = 200_000

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*\Z")
# HOST/NAMESPACE/MODEL/TAG
_TAG_DEPTH = 4
_MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What file systems keep in their top directory.
_OF_FILE_SYSTEMS = re.compile(r"lost\+found|\.snapshots?|\.zfs|\.Trash-\d+|\$RECYCLE\.BIN|System Volume Information")
_OF_RELEASES = re.compile(r"releases|download|current|\.current\.new|\.lock")
# Directories of the system, with everything below them.
_SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin"),
    *("/sys", "/tmp", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin"),
    *("/usr/local/bin", "/usr/local/sbin", "/usr/local/lib", "/var/run", "/var/lock", "/var/tmp", "/var/log"),
    *("/var/spool", "/etc/ollama", "/var/lib/kaido-ollama"),
)
# Where desktops mount disks: /run/media/USER/DISK
_REMOVABLE = "/run/media/"
# Directories of the system that may hold a directory of its own for this purpose.
_SYSTEM_DIRECTORIES = (
    *("/", "/home", "/opt", "/root", "/usr", "/usr/local", "/usr/local/share", "/usr/share", "/usr/src", "/var"),
    *(
        "/var/lib",
        "/var/local",
        "/var/opt",
        "/var/backups",
        "/var/mail",
        "/var/cache",
        "/usr/local/etc",
        "/usr/games",
        "/snap",
    ),
)


@dataclass(frozen=True)
class Problem:
    """Why a directory cannot be used: the code and the message of a failure."""

    code: str
    message: str
    path: str


@dataclass(frozen=True)
class Survey:
    """What there is of a server's directories."""

    wrong: tuple[str, ...] = ()
    """Directories to create, and everything whose owner or mode is to be changed."""
    problems: tuple[Problem, ...] = ()
    targets: tuple[str, ...] = ()
    """Directories outside of home and store to which an administrator's links lead, resolved."""


@dataclass(frozen=True)
class Owner:
    """To whom a store is to belong."""

    account: Identity | None
    """None: the account does not exist yet."""
    former: frozenset[int] = frozenset()
    """User IDs under which the server ran before and whose files are handed over, besides those of root."""
    shared: bool = False
    """Whether the account's group is to read the store."""

    def accepts(self, uid: int) -> bool:
        """Return whether files of a user may be given to the account: root's, a former account's, and nobody's."""
        if uid == 0 or uid in self.former or (self.account is not None and uid == self.account.uid):
            return True
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return True
        return False

    def is_right(self, info: os.stat_result, *, private: bool) -> bool:
        """Return whether owner, group and mode are as they are to be."""
        if self.account is None or info.st_uid != self.account.uid or info.st_mode & 0o022:
            return False
        if private or not self.shared:
            return True
        needed = _group_bits(info)
        return info.st_gid == self.account.gid and info.st_mode & needed == needed


@dataclass(frozen=True)
class Entry:
    """A directory or file with the name of a store's part."""

    path: str
    info: os.stat_result
    handle: int | None
    """The open directory; None for a file."""
    parent: int
    """The open directory that a file is in."""
    private: bool = False
    """Whether nobody but the account is to read it."""


def _group_bits(info: os.stat_result) -> int:
    return 0o050 if stat.S_ISDIR(info.st_mode) else 0o040


def normal(path: str) -> str:
    """Return a path without superfluous slashes; one form for unit, environment and modules. Pure."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts) if path.startswith("/") else path.rstrip("/")


def bind_mount(path: str, target: str) -> str:
    """Return the commands that make a directory reachable under another path. Pure."""
    quoted = shlex.quote(path) if path.isprintable() else ascii(path)
    return f"mkdir -p {target} && mount --bind {quoted} {target}"


def check_paths(models_dir: str, install_dir: str, home: str) -> None:
    """Refuse directories that no host could use: by their form, by the system's use of them, by each other. Pure.

    :raises OllamaError: ``bad_option``.
    """
    for variable, path in (("ollama_models_dir", models_dir), ("ollama_install_dir", install_dir)):
        why = _malformed(path, variable) or place(path)
        if why:
            raise OllamaError("bad_option", f"{variable}: invalid value {path!r}; {why}", variable=variable)
    if _within(models_dir, install_dir) or _within(install_dir, models_dir):
        raise OllamaError(
            "bad_option",
            f"ollama_models_dir: invalid value {models_dir!r}; expected a directory that neither contains "
            f"ollama_install_dir ({install_dir}) nor lies in it",
            variable="ollama_models_dir",
        )
    if _within(install_dir, home) or _within(home, install_dir):
        raise OllamaError(
            "bad_option",
            f"ollama_install_dir: invalid value {install_dir!r}; expected a directory outside of {home}, which belongs "
            "to the service account",
            variable="ollama_install_dir",
        )


def _malformed(path: str, variable: str) -> str | None:
    if path.startswith("~"):
        return "expected an absolute path: the home directory of which user is meant is not known here"
    if not path.startswith("/"):
        return "expected an absolute path"
    if ".." in path.split("/"):
        return "expected a path without .."
    if not PATH.match(path) and path != "/":
        return (
            "expected a path of letters, digits and /._+:@- (units of systemd treat others specially); make another "
            f"path for it, for example with: {bind_mount(path, '/srv/' + variable.replace('_', '-'))}"
        )
    return None


def place(path: str) -> str | None:
    """Return why a directory belongs to the system and cannot be used, or None. Pure."""
    if path.startswith(_REMOVABLE):
        return None
    if path in _SYSTEM_DIRECTORIES or any(_within(path, tree) for tree in _SYSTEM_TREES):
        return "expected a directory for this purpose alone; this one belongs to the system"
    return None


def _within(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")


# Opening


class Unsafe(Exception):
    """Something in the way: a link, or a file where a directory has to be."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


class Opened:
    """A path, opened component by component; a context manager, as it holds a descriptor.

    :ivar handle: the descriptor of the directory, or of the nearest one that exists.
    :ivar path: the resolved path of that directory.
    :ivar missing: the components that do not exist.
    :ivar linked: whether a link was on the way.
    :ivar chain: owner and mode of each component, the first one below the root.
    :raises Unsafe: for a link of somebody else than root, and for what is no directory.
    """

    def __init__(self, path: str, root: str = "/") -> None:
        self.linked = False
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

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        while self._handles:
            os.close(self._handles.pop())

    def _descend(self, todo: list[str]) -> None:
        links = 0
        while todo:
            part = todo.pop(0)
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
                self.missing = [part, *todo]
                return
            except OSError as exc:
                raise Unsafe(here, f"cannot be read: {exc.strerror}") from None
            if stat.S_ISLNK(info.st_mode):
                links += 1
                target = self._target(part, here, info, links)
                if target.startswith("/"):
                    while self._names:
                        self._names.pop()
                        os.close(self._handles.pop())
                todo = [piece for piece in target.split("/") if piece] + todo
                self.linked = True
                continue
            self.enter(part, here)

    def _target(self, part: str, here: str, info: os.stat_result, links: int) -> str:
        if links > _MAX_LINKS:
            raise Unsafe(here, "is one of too many symbolic links")
        try:
            target = os.readlink(part, dir_fd=self.handle)
        except OSError as exc:
            raise Unsafe(here, f"cannot be read: {exc.strerror}") from None
        if info.st_uid != 0 or info.st_nlink != 1:
            raise Unsafe(
                here,
                f"is a symbolic link to {shown(target)} that belongs to user {name_of(info.st_uid)}, and only "
                f"links of root are followed; remove it, or if it is wanted: chown -h root: {shown(here)}",
            )
        return target

    def enter(self, part: str, here: str) -> None:
        """Open one more component."""
        try:
            handle = _open_directory(part, self.handle)
        except NotADirectoryError:
            raise Unsafe(here, "is not a directory; remove it or rename it") from None
        except OSError as exc:
            raise Unsafe(here, f"cannot be opened: {exc.strerror}") from None
        self._handles.append(handle)
        self._names.append(part)
        self.chain.append((here, os.fstat(handle)))


def _open_directory(name: str, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # A server of NFS may give root fewer rights than the owner.
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        with acting_as(Identity(info.st_uid, info.st_gid)):
            return os.open(name, _DIRECTORY, dir_fd=parent)


def shown(path: str) -> str:
    """Return a path for messages: without control characters, quoted where it has unusual ones."""
    return path if re.match(r"[A-Za-z0-9/._+:@~-]+\Z", path) else ascii(path)


def name_of(uid: int) -> str:
    """Return the name of a user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# Walking


def entries(home: str, models_dir: str, root: str = "/") -> t.Iterator[Entry]:
    """Yield the parts of a store and of its home that exist, directories before what is in them.

    :raises Unsafe: for what is in the way.
    """
    count = [0]
    with _existing(home, root) as top:
        if top is not None:
            yield _directory(home, top.handle)
    with _existing(home + "/.ollama", root) as top:
        if top is not None:
            yield _directory(home + "/.ollama", top.handle)
            yield from _own(home + "/.ollama", top.handle)
    with _existing(models_dir, root) as top:
        if top is not None:
            yield _directory(models_dir, top.handle)
    for name in STORE_DIRECTORIES:
        path = f"{models_dir}/{name}"
        with _existing(path, root) as top:
            if top is not None:
                yield _directory(path, top.handle)
                yield from _part(path, top.handle, 1 if name == "blobs" else _TAG_DEPTH, count)


@contextlib.contextmanager
def _existing(path: str, root: str) -> t.Iterator[Opened | None]:
    with Opened(path, root) as opened:
        yield None if opened.missing else opened


def _directory(path: str, handle: int) -> Entry:
    return Entry(path, os.fstat(handle), handle, handle)


def _own(path: str, handle: int) -> t.Iterator[Entry]:
    for name in (*OWN_FILES, *OWN_DIRECTORIES):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            info = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if name in OWN_FILES and stat.S_ISREG(info.st_mode):
                yield Entry(f"{path}/{name}", info, None, handle, private=not name.endswith(".pub"))
            elif name in OWN_DIRECTORIES and stat.S_ISDIR(info.st_mode):
                with _open(name, handle) as below:
                    yield _directory(f"{path}/{name}", below)


@contextlib.contextmanager
def _open(name: str, parent: int) -> t.Iterator[int]:
    handle = _open_directory(name, parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _part(path: str, handle: int, depth: int, count: list[int]) -> t.Iterator[Entry]:
    """Yield what is in blobs (one level) or in a tree of manifests (four)."""
    in_blobs = path.endswith("/blobs")
    with os.scandir(handle) as found:
        names = []
        for item in found:
            count[0] += 1
            if count[0] > MAX_ENTRIES:
                raise Unsafe(path, f"and the store around it have more than {MAX_ENTRIES} entries")
            names.append(item.name)
    for name in sorted(names):
        here = f"{path}/{name}"
        try:
            info = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if depth == 1:
            if stat.S_ISREG(info.st_mode) and (BLOB if in_blobs else _SEGMENT).match(name):
                yield Entry(here, info, None, handle)
        elif stat.S_ISLNK(info.st_mode) and info.st_uid != 0:
            raise Unsafe(
                shown(here),
                f"is a symbolic link of user {name_of(info.st_uid)} where a store has a directory; remove it",
            )
        elif stat.S_ISDIR(info.st_mode) and _SEGMENT.match(name):
            try:
                with _open(name, handle) as below:
                    yield _directory(here, below)
                    yield from _part(here, below, depth - 1, count)
            except (FileNotFoundError, NotADirectoryError):
                continue


# Reading


def survey(models_dir: str, install_dir: str, home: str, owner: Owner, root: str = "/") -> Survey:
    """Read the directories of a server; changes nothing.

    :param root: the directory that stands for /; only tests set it.
    """
    problems: list[Problem] = []
    targets: set[str] = set()
    try:
        problems += _install_problems(install_dir, root)
        problems += _models_problems(models_dir, owner, root, home)
        tops = (home, home + "/.ollama", models_dir, *(f"{models_dir}/{name}" for name in STORE_DIRECTORIES))
        for path in tops:
            with Opened(path, root) as opened:
                outside = not any(_within(opened.path, base) for base in (home, models_dir))
                if opened.linked and outside and not opened.missing:
                    targets.add(opened.path)
                    problems += _target_problems(path, opened, owner)
    except Unsafe as exc:
        problems.append(Problem("store_unsafe", f"{shown(exc.path)} {exc.message}", exc.path))
    wrong, found = inspect(home, models_dir, owner, root)
    outer = tuple(sorted(path for path in targets if not any(path != o and _within(path, o) for o in targets)))
    return Survey(wrong, tuple(dict.fromkeys([*problems, *found])), outer)


def inspect(home: str, models_dir: str, owner: Owner, root: str = "/") -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Return what is to be created or to get another owner or mode, and what cannot; changes nothing."""
    wrong = []
    problems = []
    try:
        for path in (home, models_dir):
            with Opened(path, root) as opened:
                if opened.missing:
                    wrong.append(path)
        for entry in entries(home, models_dir, root):
            why = _in_the_way(entry, owner)
            if why:
                problems.append(Problem("store_unsafe", f"{entry.path} {why}", entry.path))
            elif not owner.is_right(entry.info, private=entry.private):
                wrong.append(entry.path)
    except Unsafe as exc:
        problems.append(Problem("store_unsafe", f"{shown(exc.path)} {exc.message}", exc.path))
    except OSError as exc:
        problems.append(Problem("store_unsafe", f"{models_dir} cannot be read: {exc.strerror}", models_dir))
    # A store below the home is visited with it and by itself.
    return tuple(dict.fromkeys(wrong)), tuple(problems)


def _in_the_way(entry: Entry, owner: Owner) -> str | None:
    """Return why something cannot be given to the account, or None."""
    info = entry.info
    if not owner.accepts(info.st_uid):
        return f"belongs to user {name_of(info.st_uid)}; give it to the service account, or remove it"
    if entry.handle is None and info.st_nlink != 1 and not owner.is_right(info, private=True):
        return (
            f"has {info.st_nlink} hard links, so that it may be a file of somebody else; replace it by a copy, or "
            "remove it"
        )
    return None


def _bad(variable: str, path: str, why: str) -> Problem:
    return Problem("bad_option", f"{variable}: invalid value {path!r}; {why}", path)


def _install_problems(path: str, root: str) -> t.Iterator[Problem]:
    with Opened(path, root) as opened:
        for item, info in opened.chain:
            if info.st_uid != 0 or (info.st_mode & 0o002 and not info.st_mode & stat.S_ISVTX):
                yield _bad(
                    "ollama_install_dir",
                    path,
                    f"expected a path that only root can change, but {item} belongs to user {name_of(info.st_uid)} "
                    f"and has mode {stat.S_IMODE(info.st_mode):04o}",
                )
                return
        why = place(opened.path) if opened.linked and not opened.missing else None
        if why:
            yield _bad("ollama_install_dir", path, f"it leads to {opened.path}; {why}")
        names = [] if opened.missing else _listdir(opened.handle)
    foreign = [name for name in names if not _OF_RELEASES.fullmatch(name) and not _OF_FILE_SYSTEMS.fullmatch(name)]
    if foreign and "releases" not in names:
        yield _bad("ollama_install_dir", path, _occupied(foreign))


def _models_problems(path: str, owner: Owner, root: str, home: str) -> t.Iterator[Problem]:
    with Opened(path, root) as opened:
        if opened.missing:
            return
        info, resolved, names = os.fstat(opened.handle), opened.path, _listdir(opened.handle)
    why = place(resolved)
    if why:
        yield _bad("ollama_models_dir", path, f"it leads to {resolved}; {why}")
        return
    homes = {entry.pw_dir.rstrip("/"): entry.pw_name for entry in pwd.getpwall()}
    if homes.get(resolved) and resolved != home:
        yield _bad("ollama_models_dir", path, f"it is the home directory of user {homes[resolved]}")
    elif not owner.accepts(info.st_uid):
        yield _bad(
            "ollama_models_dir", path, f"it belongs to user {name_of(info.st_uid)}; expected one of root or the account"
        )
    else:
        foreign = _foreign(names, STORE_DIRECTORIES)
        ours = info.st_uid != 0 or _within(path, home)
        known = ours and any(name in names for name in STORE_DIRECTORIES)
        if foreign and not known:
            yield _bad("ollama_models_dir", path, _occupied(foreign))


def _target_problems(path: str, opened: Opened, owner: Owner) -> t.Iterator[Problem]:
    """Yield why a directory behind an administrator's link cannot be part of the store."""
    info, resolved = os.fstat(opened.handle), opened.path
    names = _listdir(opened.handle)
    part = os.path.basename(path)
    foreign = [name for name in names if not BLOB.match(name)] if part == "blobs" else []
    foreign = [name for name in foreign if not _OF_FILE_SYSTEMS.fullmatch(name)]
    why = place(resolved)
    if not why and not PATH.match(resolved):
        why = f"units of systemd treat such a path specially; use {bind_mount(resolved, path)} instead of the link"
    if not why and foreign and not (owner.account and info.st_uid == owner.account.uid):
        why = _occupied(foreign)
    if why:
        yield Problem("store_unsafe", f"{path} is a link to {shown(resolved)}: {why}", path)


def _foreign(names: t.Iterable[str], known: t.Container[str]) -> list[str]:
    return [name for name in names if name not in known and not _OF_FILE_SYSTEMS.fullmatch(name)]


def _occupied(foreign: t.Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in foreign[:3]) + (", …" if len(foreign) > 3 else "")
    return f"expected an empty directory or one of this server, but it holds {listed}"


def _listdir(handle: int) -> list[str]:
    with os.scandir(handle) as found:
        return sorted(item.name for _number, item in zip(range(MAX_ENTRIES), found))


# Changing


def mend(home: str, models_dir: str, owner: Owner, root: str = "/") -> list[str]:
    """Create the directories of a server and give every part of its store to the account; returns what was changed.

    :raises OllamaError: ``store_unsafe`` for what is in the way, ``owner_not_changed`` where the file system refuses.
    """
    account = owner.account
    assert account is not None
    changed = []
    try:
        for path in (home, models_dir):
            if _create(path, account, root):
                changed.append(path)
        for entry in entries(home, models_dir, root):
            if owner.is_right(entry.info, private=entry.private):
                continue
            why = _in_the_way(entry, owner)
            if why:
                raise Unsafe(entry.path, why)
            _give(entry, owner, account)
            changed.append(entry.path)
    except Unsafe as exc:
        raise OllamaError("store_unsafe", f"{shown(exc.path)} {exc.message}", path=exc.path) from None
    except OSError as exc:
        where = shown(str(exc.filename or models_dir))
        raise OllamaError("owner_not_changed", f"{where}: cannot set its owner: {exc.strerror}", path=where) from None
    return list(dict.fromkeys(changed))


def _create(path: str, account: Identity, root: str) -> bool:
    with Opened(path, root) as opened:
        todo = opened.missing
        for number, name in enumerate(todo):
            last = number == len(todo) - 1
            here = opened.path.rstrip("/") + "/" + name
            parent = os.fstat(opened.handle)
            # In a directory of the account the account creates it: what root creates there could be exchanged.
            if parent.st_uid == account.uid:
                with acting_as(account):
                    os.mkdir(name, 0o750, dir_fd=opened.handle)
                opened.enter(name, here)
                continue
            os.mkdir(name, 0o750 if last else 0o755, dir_fd=opened.handle)
            opened.enter(name, here)
            info = os.fstat(opened.handle)
            if info.st_uid != os.geteuid() or os.listdir(opened.handle):
                raise Unsafe(here, "was exchanged while it was created")
            os.fchmod(opened.handle, 0o750 if last else 0o755)
            if last:
                os.fchown(opened.handle, account.uid, account.gid)
        return bool(todo)


def _give(entry: Entry, owner: Owner, account: Identity) -> None:
    if entry.handle is not None:
        _set(entry.handle, entry, owner, account)
        return
    handle = os.open(os.path.basename(entry.path), _FILE, dir_fd=entry.parent)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode) or _in_the_way(Entry(entry.path, info, None, entry.parent), owner):
            raise Unsafe(entry.path, "was exchanged while its owner was set")
        _set(handle, entry, owner, account)
    finally:
        os.close(handle)


def _set(handle: int, entry: Entry, owner: Owner, account: Identity) -> None:
    info = os.fstat(handle)
    directory = stat.S_ISDIR(info.st_mode)
    mode = (stat.S_IMODE(info.st_mode) & 0o777 | (0o700 if directory else 0o600)) & ~0o022
    if entry.private:
        mode &= 0o700
    elif owner.shared:
        mode |= _group_bits(info)
    os.fchmod(handle, mode)
    os.fchown(handle, account.uid, account.gid)
    if not owner.is_right(os.fstat(handle), private=entry.private):
        raise OSError(errno.EOPNOTSUPP, "the file system does not keep owners or modes", entry.path)
