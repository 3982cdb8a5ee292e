# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of the file system of a host."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity

from tests.unit.module_utils.preflight.trees import BLOB, HOME, TAG, Tree
from tests.unit.modules.preflight.hosts import (
    MODELS,
)


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Tree:
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    tree = Tree(tmp_path)
    for path in (HOME, HOME + "/.ollama", MODELS, f"{MODELS}/blobs", f"{MODELS}/manifests"):
        tree.directory(path)
    for path in ("registry.ollama.ai", "registry.ollama.ai/library", "registry.ollama.ai/library/tiny"):
        tree.directory(f"{MODELS}/manifests/{path}")
    tree.directory("/srv/victim/sub", owner=Identity(0, 0), mode=0o700)
    tree.file("/srv/victim/secret", mode=0o600, owner=Identity(0, 0))
    tree.file(f"/srv/victim/{BLOB}", mode=0o600, owner=Identity(0, 0))
    tree.file(f"{MODELS}/{TAG}", json.dumps({"layers": [{"size": 5}]}))
    tree.file(f"{MODELS}/blobs/{BLOB}")
    tree.file(f"{HOME}/.ollama/id_ed25519", mode=0o600)
    tree.directory("/proc", owner=Identity(0, 0))
    tree.directory("/opt", mode=0o755, owner=Identity(0, 0))
    return tree
