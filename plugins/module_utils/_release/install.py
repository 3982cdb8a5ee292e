# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a release and switch to it.

No step that can fail changes the release in use; the link to it is switched last and atomically.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import typing as t
from dataclasses import dataclass

from .._core import fs
from .._core.errors import OllamaError
from . import adoption
from .directories import (
    check_owner,
    clean,
    clone,
    lock,
    mark_complete,
    readable_by_all,
    relabel,
    remove_downloads,
    set_aside,
    switch_link,
    unpack_path,
)
from .download import SPACE_FACTOR, Download
from .release import (
    MARKER,
    ReleaseRequest,
    State,
    binary,
    check_foreign,
    client_version,
    parse_version,
    plan,
    read_state,
    surplus,
)
from .unpack import Archive, unpack


@dataclass(frozen=True)
class Change:
    """The changes, or predicted changes, of a request on a host."""

    state: State
    """The releases before the change."""
    steps: dict[str, str]
    """The descriptions by step."""
    removed: list[str]
    received: int = 0
    """The number of downloaded bytes."""


def pending(request: ReleaseRequest) -> Change:
    """Return the predicted changes of a request.

    :raises OllamaError: ``installation_foreign``, ``checksum_unknown``.
    """
    state = read_state(request.install_dir, request.bin_dir)
    if request.activate:
        check_foreign(state, request.install_dir, request.bin_dir)
    return Change(state, plan(state, request), surplus(state, request))


def apply(request: ReleaseRequest, *, wait: float = 0) -> Change:
    """Change the host as requested. The state is read under the lock. A failure does not change the release in use.

    :param wait: the seconds to wait for another run.
    """
    check_owner(request.install_dir)
    with readable_by_all(), lock(request.install_dir, seconds=wait, progress=request.progress):
        clean(request)
        change = pending(request)
        received = _install(change.state, request) if "install" in change.steps else 0
        _switch(change, request)
        for version in change.removed:
            path = os.path.join(request.install_dir, "releases", version)
            if os.path.isdir(path):
                shutil.rmtree(set_aside(path))
    return Change(change.state, change.steps, change.removed, received)


def _switch(change: Change, request: ReleaseRequest) -> None:
    vendor = change.state.vendor if "adopt" in change.steps else None
    if vendor:
        adoption.keep(change.state, vendor, request, change.removed)
    if "activate" in change.steps:
        switch_link(os.path.join("releases", request.version), os.path.join(request.install_dir, "current"))
    if "link" in change.steps:
        switch_link(binary(request.install_dir), os.path.join(request.bin_dir, "ollama"))
    if vendor:
        adoption.remove_libraries(vendor)


def _install(state: State, request: ReleaseRequest) -> int:
    """Unpack the archives to a new directory, verify it and rename it; return the number of downloaded bytes."""
    archives = t.cast("t.Mapping[str, str]", request.archives)
    there = state.releases.get(request.version, {})
    # A variant that is added to an installed release requires only its own archive.
    base = there if there and there.items() < dict(archives).items() else {}
    received = 0
    with contextlib.ExitStack() as stack:
        files: list[Archive] = []
        for asset in archives:
            if asset not in base:
                reserve = int(sum(os.fstat(file.fileno()).st_size for _name, file in files) * (SPACE_FACTOR - 1))
                download = Download(request, asset, reserve)
                files.append((asset, stack.enter_context(download.run())))
                received += download.received
        request.progress.note(f"{request.version}: unpacking the release")
        beside = _prepare(request, files, archives, extends=bool(base))
    aside = set_aside(request.path) if os.path.lexists(request.path) else None
    os.rename(beside, request.path)
    fs.sync_directory(os.path.dirname(request.path))
    if aside:
        shutil.rmtree(aside)
    remove_downloads(request)
    relabel(request.path)
    return received


def _prepare(request: ReleaseRequest, files: list[Archive], archives: t.Mapping[str, str], *, extends: bool) -> str:
    """Unpack and verify a release in a separate directory, and return that directory; a failure removes it.

    :param extends: whether the archives are added to the installed release of the same version.
    """
    beside = unpack_path(request, request.version)
    try:
        if extends:
            clone(request.path, beside)
            os.unlink(os.path.join(beside, MARKER))
        else:
            os.makedirs(beside)
        unpack(files, beside)
        check_complete(beside, request.version)
        mark_complete(beside, request.version, archives)
    except (OllamaError, OSError) as exc:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(exc, OllamaError) and exc.code != "program_missing":
            remove_downloads(request)
        raise
    return beside


def check_complete(root: str, version: str) -> None:
    """Refuse an unpacked release that is incomplete or has a different version.

    :raises OllamaError: ``release_incomplete`` or ``version_mismatch``.
    """
    number = parse_version(version)
    needed = ["bin/ollama"]
    if number >= (0, 30, 0):
        needed.append("lib/ollama/llama-server")
    if (0, 30, 0) <= number < (0, 34, 0):
        needed.append("lib/ollama/llama-quantize")
    for name in needed:
        path = os.path.join(root, name)
        if not os.path.isfile(path) or not os.stat(path).st_mode & stat.S_IXUSR:
            raise OllamaError("release_incomplete", f"archive of {version}: program {name} is missing", missing=name)
    try:
        found = client_version(os.path.join(root, "bin", "ollama"))
    except OllamaError as exc:
        raise OllamaError("release_incomplete", f"bin/ollama of {version}: {exc.message}") from exc
    if found != version:
        raise OllamaError(
            "version_mismatch",
            f"archive of {version}: its program has version {found}; expected {version}",
            expected=version,
            actual=found,
        )
