# SPDX-License-Identifier: GPL-3.0-or-later
"""An upstream registry with models, and a lock file of them."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.action.model_lock import write_lock
from ansible_collections.kaido.ollama.plugins.lookup.models_lock import LookupModule

from tests.standin.registry import Registry, make_model

HEX = "ab" * 32


DAY, NEXT_DAY = "2026-11-22", "2026-11-23"


class World:
    """An upstream registry with two models, and a lock file."""

    def __init__(self, tmp_path: Path) -> None:
        self.upstream_dir = tmp_path / "upstream"
        self.path = tmp_path / "models.lock.yml"
        self.digests = {name: self.publish(name, seed) for seed, name in enumerate(["a", "b:1b"])}
        self.upstream = Registry(self.upstream_dir)
        self.asked: list[tuple[str, bool]] = []

    def publish(self, name: str, seed: int, **more: t.Any) -> str:
        return "sha256:" + make_model(self.upstream_dir, name, size=40_000, seed=seed, **more)

    def lock(self, *models: t.Any, today: str = DAY, check: bool = False, **options: t.Any) -> t.Any:
        defaults = {"mirrors": [], "mirrors_trusted": False, "insecure": False, "registry_environment": {}}
        args = {"models": list(models), "hosts": None, "only_new": False, "path": str(self.path), **defaults, **options}
        return write_lock(args, today=today, check_mode=check)


def gathered(term: t.Any, inventory_dir: Path, models: t.Any = ()) -> dict[str, str]:
    [result] = LookupModule().run([term], {"inventory_dir": str(inventory_dir)}, models=list(models))
    return result
