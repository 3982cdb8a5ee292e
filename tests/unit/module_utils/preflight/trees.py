# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's file system below a directory, with the store of an account; two real user IDs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    host_facts,
    ownership,
    survey,
)
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import uninstall as uninstall_module
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.host_facts import HostFacts
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.ownership import Owner
from ansible_collections.kaido.ollama.plugins.module_utils._preflight.uninstall import UninstallRequest

from tests.unit.modules.preflight.hosts import (
    MODELS,
    WANTED,
)

SERVICE = Identity(64101, 64101)
OTHER = Identity(64102, 64102)
HOME = "/usr/share/ollama"
INSTALL = "/opt/ollama"
BLOB = "sha256-" + "ab" * 32
TAG = "manifests/registry.ollama.ai/library/tiny/latest"
OWNER = Owner(SERVICE)


class Tree:
    """A host's file system below a directory, with the store of an account."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def give(self, path: str, owner: Identity = SERVICE) -> None:
        os.chown(self.at(path), owner.uid, owner.gid, follow_symlinks=False)

    def directory(self, path: str, mode: int = 0o750, owner: Identity = SERVICE) -> Path:
        if not self.at(path).exists():
            self.at(path).mkdir(parents=True)
        self.at(path).chmod(mode)
        self.give(path, owner)
        return self.at(path)

    def file(self, path: str, content: str = "x", mode: int = 0o640, owner: Identity = SERVICE) -> Path:
        self.at(path).write_text(content)
        self.at(path).chmod(mode)
        self.give(path, owner)
        return self.at(path)

    def link(self, path: str, target: str, owner: Identity = SERVICE) -> None:
        """Put a link in the place of whatever is there."""
        if self.at(path).is_dir():
            self.at(path).rename(str(self.at(path)) + ".before")
        elif self.at(path).exists():
            self.at(path).unlink()
        self.at(path).symlink_to(target)
        self.give(path, owner)

    def survey(self, owner: Owner = OWNER, models: str = MODELS) -> survey.Survey:
        return survey.survey(models, INSTALL, HOME, owner, str(self.root))

    def mend(self, owner: Owner = OWNER, models: str = MODELS) -> list[str]:
        return ownership.mend(HOME, models, owner, str(self.root))

    def victims(self) -> dict[str, tuple[int, int, int]]:
        """Return owner, group and mode of everything below /srv."""
        infos = {str(path): path.lstat() for path in [self.at("/srv"), *self.at("/srv").rglob("*")]}
        return {path: (info.st_uid, info.st_gid, info.st_mode) for path, info in infos.items()}

    def uninstall(self) -> tuple[uninstall_module.UninstallPlan, dict[str, str]]:
        wanted = UninstallRequest(remove_models=True)
        seen = uninstall_module.gather(wanted, str(self.root), {})
        plan = uninstall_module.plan(seen, wanted)
        late = uninstall_module.Removal(seen, wanted, str(self.root), lambda *_, check=True: None).apply(plan.steps)
        return plan, {**plan.kept, **late}


def gathered(tree: Tree, version: str = "0.40.2") -> HostFacts:
    return host_facts.gather(replace(WANTED, version=version), 11434, str(tree.root), {})
