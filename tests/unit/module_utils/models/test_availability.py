# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that no source has are found before anything changes; a source that does not reply proves nothing."""

from __future__ import annotations

import socket
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._models import availability, registry
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._models.declaration import parse_models
from ansible_collections.kaido.ollama.plugins.module_utils._models.plan import worst
from ansible_collections.kaido.ollama.plugins.module_utils._models.registry import Source, look_up, parse_mirror

from tests.standin.registry import Registry, make_model

OTHER = "sha256:" + "ab" * 32
NOBODY = Source("127.0.0.1:1", insecure=True)


class World:
    """A host with an empty store, a public registry with model a, and a mirror with model m."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "models"
        self.store.mkdir(mode=0o755)
        self.digests = {
            name: "sha256:" + make_model(folder / name, name, size=40_000, seed=seed)
            for seed, name in enumerate(("a", "m"))
        }
        self.public, self.mirror = Registry(folder / "a"), Registry(folder / "m")
        self.public_source = Source(self.public.host, insecure=True)

    def refusal(self, models: t.Any, *, mirrors: bool = False, check: bool = False, **options: t.Any) -> str:
        """Return the message about the declared models, or nothing."""
        declared = parse_models(models, state="present", allow_cloud=False, **options)
        urls = [parse_mirror(f"http://{self.mirror.host}")] if mirrors else []
        try:
            availability.check(declared, str(self.store), urls, lists=False, environment={}, check_mode=check)
        except OllamaError as exc:
            return f"{exc.code}: {exc.message}"
        return ""


@pytest.fixture
def world(public_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(public_path)

    def local(source: Source, name: t.Any, **options: t.Any) -> t.Any:
        return look_up(world.public_source if source.host == "registry.ollama.ai" else source, name, **options)

    monkeypatch.setattr(sources_module, "look_up", local)
    monkeypatch.setattr(registry, "sleep", lambda _seconds: None)
    with world.public, world.mirror:
        yield world


def test_a_model_that_the_registry_has(world: World) -> None:
    assert world.refusal(["a"]) == ""
    assert world.refusal([{"name": "a", "digest": world.digests["a"]}]) == ""


def test_unknown_models_are_one_sentence_each(world: World) -> None:
    text = world.refusal(["a", "lama3", {"name": "x:1b"}])
    assert text.startswith("tag_missing: ollama_models[1]: lama3:latest at ")
    assert "; ollama_models[2]: x:1b at " in text
    assert "\n" not in text
    assert text.count("expected an existing name and tag") == 2
    assert "ollama_models[0]" not in text


def test_mirrors_and_the_registry_are_queried(world: World) -> None:
    assert world.refusal(["m", "a"], mirrors=True) == ""
    text = world.refusal(["x"], mirrors=True)
    assert text.startswith("tag_missing")
    assert world.mirror.host in text
    assert "registry.ollama.ai" in text or world.public.host in text


@pytest.mark.parametrize("locked", [True, False])
def test_a_pin_that_no_source_offers(world: World, locked: bool) -> None:
    models = ["a"] if locked else [{"name": "a", "digest": OTHER}]
    text = world.refusal(models, locked={"a": OTHER} if locked else {})
    assert text.startswith("digest_not_offered: ollama_models[0]: a:latest: pinned is abababababab, but ")
    assert "expected a digest that a source offers" in text


def test_a_model_on_the_host_needs_no_source(world: World) -> None:
    digest = "sha256:" + make_model(world.store, "local", size=40_000, seed=7)
    assert world.refusal([{"name": "LOCAL", "digest": digest}, {"name": "gone", "state": "absent"}]) == ""
    assert world.public.requests == []
    # Another pin is asked for.
    assert world.refusal([{"name": "local", "digest": OTHER}]).startswith("tag_missing: ollama_models[0]: local")


@pytest.mark.parametrize("status", [401, 403, 407, 429, 500, 502, 503])
@pytest.mark.parametrize("pin", [None, OTHER])
def test_a_registry_that_does_not_reply_proves_nothing(world: World, status: int, pin: str | None) -> None:
    world.public.misbehave("/manifests/", status=status)
    assert world.refusal([{"name": "x", "digest": pin}]) == ""
    # The mirror does not have it, but the registry may.
    assert world.refusal([{"name": "x", "digest": pin}], mirrors=True) == ""


def test_an_unreachable_registry_proves_nothing(world: World) -> None:
    world.public_source = NOBODY
    assert world.refusal(["x", "y"]) == ""
    assert world.refusal(["x", "y"], mirrors=True) == ""


def test_an_unreachable_mirror_proves_nothing(world: World) -> None:
    world.mirror.misbehave("/manifests/", status=503)
    assert world.refusal(["x"], mirrors=True) == ""


def test_a_login_page_proves_nothing(world: World) -> None:
    world.public.misbehave("/manifests/", status=200, body=b"<html>log in</html>")
    assert world.refusal(["x"]) == ""


def test_a_registry_that_stalls_costs_limited_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_LIMIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.public_source = Source(f"127.0.0.1:{silent.getsockname()[1]}", insecure=True)
        assert world.refusal(["x", "y"]) == ""


def test_a_bundle_without_the_model(world: World, tmp_path: Path) -> None:
    # A bundle that is missing is reported by the module model, which names the reason.
    assert world.refusal([{"name": "a", "source": str(tmp_path / "missing.tar")}]) == ""


def test_the_base_of_a_custom_model(world: World) -> None:
    custom = {"name": "mine", "from": "base:1b", "system": "x"}
    text = world.refusal([custom])
    assert text == (
        "model_missing: ollama_models[0].from: invalid value 'base:1b'; expected a model on this host or another "
        "element of ollama_models"
    )
    assert world.refusal([custom], check=True) == ""
    assert world.refusal([custom, "a"], check=True) == ""
    assert world.refusal([{**custom, "from": "a"}, "a"]) == ""
    assert world.refusal([{**custom, "from": "second"}, {"name": "a", "aliases": ["second"]}]) == ""
    make_model(world.store, "base:1b", size=40_000, seed=8)
    assert world.refusal([custom]) == ""
    assert "ollama_models[1]: x:latest" in world.refusal([{**custom, "from": "gone"}, "x"])


def test_a_fresh_host_has_no_store(world: World) -> None:
    world.store.rmdir()
    assert world.refusal(["a"]) == ""
    assert "tag_missing" in world.refusal(["x"])


def test_several_sources_are_one_short_sentence() -> None:
    errors = [
        OllamaError("registry_unreachable", "a:1b at registry.ollama.ai: cannot reach https://x: refused; set a proxy"),
        OllamaError("digest_not_offered", "a:1b: pinned is 111, but http://m1:1 offers 222"),
        OllamaError("digest_not_offered", "a:1b: pinned is 111, but http://m2:1 offers 333"),
    ]
    assert worst(errors).message == (
        "a:1b: pinned is 111, but http://m1:1 offers 222; registry.ollama.ai: not reachable; http://m2:1 offers 333"
    )
    assert worst(errors[:1]).message == errors[0].message
