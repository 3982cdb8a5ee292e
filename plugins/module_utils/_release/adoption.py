# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adopt an installation of Ollama's own script: its release is kept, and its files are removed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import os
import shutil

from .._core import fs
from .directories import clone, link_or_copy, mark_complete, set_aside, unpack_path
from .release import ReleaseRequest, State, Vendor


def keep(state: State, vendor: Vendor, request: ReleaseRequest, removed: list[str]) -> None:
    """Create a release from the installation, so that a rollback is possible. The running server keeps its files.

    :param removed: the versions that the request removes.
    """
    version = vendor.version
    if version is None or version in (*state.releases, *removed, request.version):
        return
    path = os.path.join(request.install_dir, "releases", version)
    beside = unpack_path(request, version)
    os.makedirs(os.path.join(beside, "bin"))
    link_or_copy(vendor.program, os.path.join(beside, "bin", "ollama"))
    if os.path.isdir(vendor.libraries):
        clone(vendor.libraries, os.path.join(beside, "lib", "ollama"))
    mark_complete(beside, version, {})
    if os.path.lexists(path):
        shutil.rmtree(set_aside(path))
    os.rename(beside, path)


def remove_libraries(vendor: Vendor) -> None:
    """Remove the libraries of the installation. The link to the release in use has replaced its program."""
    fs.remove(vendor.libraries)
