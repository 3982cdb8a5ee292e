# SPDX-License-Identifier: GPL-3.0-or-later
"""A model store of a service account: attacks with two real user IDs, so these tests need root."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures"


SERVICE = 64101


SECRET = "xyzzy-plugh"


def give_to_service(*paths: Path) -> None:
    """Make the service account the owner of trees; links themselves change their owner, not their targets."""
    for path in paths:
        for folder, folders, files in os.walk(path):
            for name in [*folders, *files]:
                os.lchown(os.path.join(folder, name), SERVICE, SERVICE)
        os.lchown(path, SERVICE, SERVICE)


def snapshot(path: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return owner, group, mode and content of everything in a tree."""
    found = {}
    for item in [path, *sorted(path.rglob("*"))]:
        info = item.lstat()
        content = item.read_bytes() if item.is_file() else b""
        found[str(item)] = (info.st_uid, info.st_gid, info.st_mode, content)
    return found


def tree_of(models_dir: Path) -> Path:
    return next(models_dir.glob("manifests*"))
