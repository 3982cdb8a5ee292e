# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model store of a host, read as its owner, and whether a version of Ollama would convert it.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.host import is_mount_point
from .._core.owner import Identity, acting_as, owner_of, read_regular
from .._release import release as release_module
from . import ownership
from .host_request import HostRequest

FIRST_WITH_NEW_STORE = (0, 40, 0)
# Ollama 0.40 keeps the original next to the converted model, and requires another quarter of its size before it starts.
MIGRATION_FACTOR = 2.25
_NOBODY = Identity(65534, 65534)
_GENERATIONS = (("v2", "manifests-v2"), ("v1", "manifests"))
_MANIFEST_BYTES = 4 << 20
_MAX_MODEL_BYTES = 1 << 60


@dataclass(frozen=True)
class StoreFacts:
    """The current model store."""

    generation: str | None = None
    """v1, v2 or None."""
    largest: int = 0
    """The size of the largest model in bytes; determined only before a change to or from 0.40."""
    free: int = 0
    mounted: bool = True
    """Whether the directory that must be a mount point is one; true if none must be."""


def crosses(request: HostRequest, releases: release_module.State, generation: str | None) -> str | None:
    """Return ``up`` or ``down`` if the version of a host with a store changes to or from 0.40, or None. Pure."""
    new = release_module.parse_version(request.version) >= FIRST_WITH_NEW_STORE
    used = releases.used
    if used and (release_module.parse_version(used) >= FIRST_WITH_NEW_STORE) == new:
        return None
    if new and generation == "v1":
        return "up"
    return "down" if not new and generation == "v2" else None


def gather_store(request: HostRequest, releases: release_module.State, root: str) -> StoreFacts:
    path = os.path.join(root, request.models_dir.lstrip("/"))
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    required = request.models_mount_required
    point = required if isinstance(required, str) else request.models_dir
    largest = 0
    # The owner could replace any entry by a link, so the store is read with the owner's rights.
    with acting_as(_reader(request, root)):
        generation = next((name for name, part in _GENERATIONS if next(_tags(os.path.join(path, part)), None)), None)
        if crosses(request, releases, generation) == "up":
            largest = max(map(_model_size, _tags(os.path.join(path, "manifests"))), default=0)
    return StoreFacts(
        generation=generation,
        largest=largest,
        free=shutil.disk_usage(there).free,
        mounted=not required or is_mount_point(os.path.join(root, point.lstrip("/"))),
    )


def _reader(request: HostRequest, root: str) -> Identity:
    try:
        return owner_of(request.models_dir, ownership.STORE_DIRECTORIES, root)
    except OllamaError:
        # Every user may write to it.
        return _NOBODY


def _tags(tree: str) -> t.Iterator[str]:
    """Yield the files of manifests at HOST/NAMESPACE/MODEL/TAG; only links of an administrator are followed."""
    with contextlib.suppress(OSError):
        info = os.lstat(tree)
        if not stat.S_ISLNK(info.st_mode) or info.st_uid == 0:
            yield from _leaves(tree, 4, [ownership.MAX_ENTRIES])


def _leaves(path: str, depth: int, left: list[int]) -> t.Iterator[str]:
    try:
        with os.scandir(path) as found:
            items = [item for _number, item in zip(range(left[0]), found)]
    except OSError:
        return
    left[0] -= len(items)
    for item in items:
        if depth > 1 and item.is_dir(follow_symlinks=False):
            yield from _leaves(item.path, depth - 1, left)
        elif depth == 1 and (item.is_symlink() or item.is_file(follow_symlinks=False)):
            yield item.path


def _model_size(manifest: str) -> int:
    """Return the size of a model in bytes; 0 if the file is not a manifest."""
    try:
        layers = json.loads(read_regular(manifest, _MANIFEST_BYTES))["layers"]
        return min(sum(max(0, int(layer["size"])) for layer in layers), _MAX_MODEL_BYTES)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0
