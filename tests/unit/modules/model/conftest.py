# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the server and the registry."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._models import registry
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Source, look_up

from tests import standin
from tests.unit.modules.model.world import World


@pytest.fixture(params=["0.35.1", "0.40.2"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, run_module: t.Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    world = World(tmp_path, request.param, run_module)

    def local(source: Source, name: t.Any, **options: t.Any) -> t.Any:
        """Ask the upstream of this test instead of the public registry."""
        if source.host != "registry.ollama.ai":
            return look_up(source, name, **options)
        return look_up(Source(world.upstream.host, insecure=True), name, **options)

    monkeypatch.setattr(sources_module, "look_up", local)
    monkeypatch.setattr(registry, "sleep", lambda seconds: None)
    env = {"STANDIN_UPSTREAM": f"http://{world.upstream.host}", "STANDIN_TIME_SCALE": "0.01"}
    with world.upstream, standin.running(request.param, world.models_dir, env) as world.server:
        yield world


@pytest.fixture
def without_registries(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Only the server reaches the registry, as behind a proxy that only the server knows."""

    def closed(_source: Source, name: t.Any, **_options: t.Any) -> t.Any:
        return look_up(Source("127.0.0.1:1", insecure=True), name, lists=False)

    monkeypatch.setattr(sources_module, "look_up", closed)
    return world
