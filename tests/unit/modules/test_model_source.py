# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model with a bundle in the place of registries: no network, but the states, pins and aliases of pulls."""

from __future__ import annotations

import hashlib
import os
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import DETACH, PROGRESS_FILE, Progress
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle, bundle_import
from ansible_collections.kaido.ollama.plugins.module_utils._models import sources as sources_module
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model, model_export

from tests import standin
from tests.standin.registry import make_list, make_model
from tests.unit.conftest import RunModule

HEX = "ab" * 32


class World:
    """A bundle of two models in two forms, and a server with an empty store."""

    def __init__(self, folder: Path, version: str, run_module: RunModule) -> None:
        self.folder = folder
        self.source_dir = folder / "source"
        self.models_dir = folder / "models"
        self.models_dir.mkdir(mode=0o750)
        self.version = version
        self._run = run_module
        self.digests = {
            name: "sha256:" + make_model(self.source_dir, name, size=size, seed=seed)
            for seed, (name, size) in enumerate([("a", 40_000), ("kaido/b:q8", 90_000)])
        }
        for form in ("bundle", "bundle.tar"):
            self.export(form)
        self.server: standin.Running

    def export(self, form: str) -> None:
        made = self._run(model_export, {"models_dir": str(self.source_dir), "dest": str(self.folder / form)})
        assert not made["failed"], made

    def run(self, form: str = "bundle", *, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        defaults = {
            "api_url": self.server.url,
            "models_dir": str(self.models_dir),
            "state_dir": str(self.folder / "state"),
            "source": str(self.folder / form),
        }
        return self._run(model, {**defaults, **params}, check=check)

    def tags(self) -> dict[str, str]:
        return {row["name"]: "sha256:" + row["digest"] for row in Client(self.server.url).tags()}

    def written(self) -> list[str]:
        return sorted(path.name for path in self.models_dir.rglob("*") if not path.is_dir())


@pytest.fixture(params=["0.35.1", "0.40.2"])
def world(
    request: pytest.FixtureRequest, public_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    def forbidden(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("a registry was asked")

    monkeypatch.setattr(sources_module, "look_up", forbidden)
    monkeypatch.setattr(Client, "pull", forbidden)
    world = World(public_path, request.param, run_module)
    with standin.running(request.param, world.models_dir) as world.server:
        yield world


def damage(blobs: Path) -> Path:
    """Flip a bit of the largest blob."""
    blob = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    body = bytearray(blob.read_bytes())
    body[-1] ^= 1
    blob.write_bytes(body)
    return blob


@pytest.mark.parametrize("form", ["bundle", "bundle.tar"])
def test_present_is_predicted_then_imported_then_unchanged(world: World, form: str) -> None:
    models = ["a", {"name": "kaido/b:q8", "aliases": ["default-chat"]}]
    predicted = world.run(form, models=models, check=True)
    assert predicted["changed"]
    assert world.written() == []
    done = world.run(form, models=models, parallel=3)
    assert not done["failed"], done
    assert done["diff"] == predicted["diff"]
    assert done["diff"]["before"] == {"a:latest": None, "kaido/b:q8": None, "default-chat:latest": None}
    b = world.digests["kaido/b:q8"]
    assert world.tags() == {"a:latest": world.digests["a"], "kaido/b:q8": b, "default-chat:latest": b}
    assert {row["source"] for row in done["models"]} == {str(world.folder / form)}
    assert done["bytes_pulled"] == predicted["bytes_missing"] > 130_000
    assert (world.models_dir / "blobs").stat().st_uid == world.models_dir.stat().st_uid
    for check in (True, False):
        again = world.run(form, models=models, check=check)
        assert (again["changed"], again["hashed_bytes"]) == (False, 0)
        assert [row["source"] for row in again["models"]] == [None, None]
    assert not world.run(form, models=models, verify="full")["changed"]


def test_only_the_named_model_is_brought(world: World) -> None:
    world.run(name="a")
    assert list(world.tags()) == ["a:latest"]
    sizes = {path.stat().st_size for path in (world.models_dir / "blobs").iterdir()}
    assert 40_000 in sizes
    assert 90_000 not in sizes


def test_without_the_bundle_nothing_is_imported(world: World) -> None:
    world.run(name="A:latest")
    kept = world.run("gone", name="a", digest=world.digests["a"])
    assert (kept["failed"], kept["changed"]) == (False, False), kept
    failed = world.run("gone", models=["a", "kaido/b:q8"])
    assert failed["failure"]["code"] == "bundle_unreadable"
    assert str(world.folder / "gone") in failed["msg"]
    assert "\n" not in failed["msg"]


def test_another_bundle_counts_for_latest_and_for_a_pin(world: World) -> None:
    world.run(name="a")
    old = world.digests["a"]
    new = "sha256:" + make_model(world.source_dir, "a", size=41_000, seed=9)
    world.export("bundle")
    assert not world.run(name="a")["changed"]
    assert not world.run(name="a", state="latest", digest=old)["changed"]
    refused = world.run(name="a", digest=HEX)
    assert refused["failure"]["code"] == "digest_not_offered"
    assert all(text in refused["msg"] for text in (HEX[:12], new[7:19], str(world.folder / "bundle")))
    assert world.run(name="a", state="latest", check=True)["diff"]["after"] == {"a:latest": new}
    done = world.run(name="a", state="latest")
    assert done["models"][0]["actions"][0].startswith(f"updated from {world.folder / 'bundle'}")
    assert world.tags() == {"a:latest": new}
    assert not world.run(name="a", state="latest")["changed"]
    assert world.run("bundle.tar", name="a", digest=old)["changed"]
    assert world.tags() == {"a:latest": old}


def test_only_damaged_files_are_repaired_and_copied(world: World) -> None:
    world.run(models=["a", "kaido/b:q8"])
    blob = damage(world.models_dir / "blobs")
    done = world.run(models=["a", "kaido/b:q8"])
    assert [row["changed"] for row in done["models"]] == [False, True]
    assert done["bytes_pulled"] == blob.stat().st_size
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name[7:]


@pytest.mark.parametrize("harm", ["bit", "gone"])
@pytest.mark.parametrize("check", [True, False], ids=["check", "apply"])
def test_an_invalid_bundle_is_refused_before_anything_is_written(world: World, harm: str, check: bool) -> None:
    """Though what is damaged is not even of the model that is wanted."""
    make_model(world.models_dir, "old", size=10_000, generation=2 if world.version >= "0.40" else 1)
    before = world.written()
    if harm == "bit":
        damage(world.folder / "bundle/blobs")
    else:
        max((world.folder / "bundle/blobs").iterdir(), key=lambda path: path.stat().st_size).unlink()
    failed = world.run(models=["a", {"name": "old", "state": "absent"}], check=check)
    assert failed["failure"]["code"] == {"bit": "bundle_tampered", "gone": "bundle_incomplete"}[harm]
    assert "\n" not in failed["msg"]
    assert world.written() == before


def test_a_bundle_that_changes_while_it_is_copied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = bundle_import.compare

    def then_harm(*args: t.Any) -> t.Any:
        lack = compare(*args)
        damage(world.folder / "bundle/blobs")
        return lack

    monkeypatch.setattr(bundle_import, "compare", then_harm)
    failed = world.run(name="kaido/b:q8")
    assert failed["failure"]["code"] == "bundle_tampered"
    assert world.tags() == {}
    assert not [path for path in world.models_dir.iterdir() if path.name.startswith(".kaido-import")]


def test_what_the_bundle_does_not_have(world: World) -> None:
    failed = world.run(models=["a", "nope:1b"])
    assert failed["failure"]["code"] == "tag_missing"
    assert f"nope:1b: not found in the bundle {world.folder / 'bundle'}" in failed["msg"]
    assert world.written() == []


def test_a_different_store_is_detected(world: World) -> None:
    """The server has another one: what it does not list was not brought to it."""
    (world.folder / "other").mkdir()
    failed = world.run(name="a", models_dir=str(world.folder / "other"))
    assert failed["failure"]["code"] == "store_mismatch"


def test_a_full_disk_is_reported_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free_bytes", lambda self: 10_000)
    assert world.run(name="a")["failure"]["code"] == "disk_full"
    assert world.written() == []


def test_a_deadline_keeps_only_complete_blobs(world: World) -> None:
    failed = world.run(name="a", deadline=0.000001)
    assert failed["failure"]["code"] == "deadline_exceeded"
    assert world.tags() == {}
    for path in (world.models_dir / "blobs").iterdir():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name[7:]
    assert world.run(name="a")["changed"]


def test_check_mode_on_a_fresh_host(world: World) -> None:
    predicted = world.run(name="a", api_url="http://127.0.0.1:1", models_dir=str(world.folder / "none"), check=True)
    assert not predicted["failed"], predicted
    assert predicted["diff"]["after"] == {"a:latest": world.digests["a"]}
    assert not (world.folder / "none").exists()


def test_the_progress_of_a_copy_is_reported(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DETACH, "1")
        pending = world.run(name="a")
    assert (pending["pending"], pending["changed"], world.written()) == (True, False, [])
    lines: list[dict[str, t.Any]] = []
    update = Progress.update

    def listen(self: t.Any, name: str, size: int, event: t.Any) -> None:
        lines.append({"name": name, **event})
        update(self, name, size, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "update", listen)
        patch.setenv(PROGRESS_FILE, str(world.folder / "p.progress"))
        assert world.run(name="a")["changed"]
    assert max(line.get("completed", 0) for line in lines) == 40_000
    assert lines[-1] == {"name": "a:latest", "status": "success"}


def test_a_list_is_pinned_by_either_digest(world: World) -> None:
    """A server before 0.40 gets the variant, and the list's digest is remembered with it."""
    child = "sha256:" + make_model(world.source_dir, "m-l", size=40_000, seed=5, generation=2, runner="llamacpp")
    listed = "sha256:" + make_list(world.source_dir, "m", {"llamacpp": "m-l"})
    world.export("bundle")
    for pin in (listed, child):
        done = world.run(name="m", digest=pin)
        assert not done["failed"], done
        assert done["changed"] == (pin == listed)
    assert world.tags() == {"m:latest": child}
    assert not world.run(name="m", state="latest")["changed"]


def test_files_belong_to_the_owner_of_the_store(world: World) -> None:
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    for folder in world.models_dir.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in (world.models_dir, *world.models_dir.rglob("*")):
        os.lchown(path, 12345, 12346)
    world.run(name="a")
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in world.models_dir.rglob("*") if path.is_file()}
    assert owners == {(12345, 12346)}


def test_a_source_excludes_mirrors(world: World) -> None:
    failed = world.run(name="a", mirrors=["http://hecate:11480"])
    assert failed["failed"]
    assert "source|mirrors" in failed["msg"]


def test_its_failures_are_documented() -> None:
    codes = re.findall(r'"(bundle_[a-z]+)"', Path(bundle.__file__).read_text())
    assert set(codes) <= set(re.findall(r"V\(([a-z_]+)\)", model.DOCUMENTATION))
