# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of the registry and the lock file."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import Name
from ansible_collections.kaido.ollama.plugins.module_utils._models import lockfile, registry
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Offer, Source, look_up

from tests.unit.module_utils.models.lockfile.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)

    def local(source: Source, name: Name, *, lists: bool, **options: t.Any) -> Offer:
        """Ask the upstream of this test instead of the public registry."""
        world.asked.append((str(name), lists))
        if source.host != "registry.ollama.ai":
            return look_up(source, name, lists=lists, **options)
        return look_up(Source(world.upstream.host, insecure=True), name, lists=lists, **options)

    monkeypatch.setattr(lockfile, "look_up", local)
    monkeypatch.setattr(sources_module, "look_up", local)
    monkeypatch.setattr(registry, "sleep", lambda seconds: None)
    with world.upstream:
        yield world
