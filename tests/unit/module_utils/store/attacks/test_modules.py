# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on the modules that read, repair, import and build: links, sizes and owners."""

from __future__ import annotations

import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._store.audit import audit
from ansible_collections.kaido.ollama.plugins.module_utils._store.layout import Blob
from ansible_collections.kaido.ollama.plugins.module_utils._store.state import Memory
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import (
    model,
    model_build,
    model_export,
    model_verify,
)

from tests.standin.registry import Registry
from tests.unit.conftest import RunModule
from tests.unit.module_utils.store.attacks.store import FIXTURES, SECRET, give_to_service, tree_of


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("planted", ["host/a/x", "host/a/x/latest"])
def test_c5_no_planted_tag_removes_files_outside_of_the_store(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, planted: str, repair: bool
) -> None:
    """The registry that the planted name belongs to answers 401, so the server pulls it."""
    with Registry(FIXTURES / "store-v1") as registry:
        registry.misbehave("", status=401)
        host = registry.host.replace(":", "%3A") if tree_of(models_dir).name == "manifests-v2" else registry.host
        path = tree_of(models_dir) / planted.replace("host", host)
        path.parent.mkdir(parents=True)
        path.symlink_to(world / "victim" / ("latest" if planted.endswith("latest") else ""))
        give_to_service(models_dir)
        result = run_module(model_verify, {**arguments, "repair": repair, "insecure": True})
    assert result["failed"]
    if planted == "host/a/x":
        assert result["failure"]["code"] == "store_unsafe"
        assert str(path) in result["msg"]
    assert SECRET not in json.dumps(result)


def test_c3_a_bundle_is_not_written_through_a_planted_link(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule
) -> None:
    bundle = world / "bundle"
    exported = {"models_dir": str(FIXTURES / "store-v1"), "dest": str(bundle)}
    assert not run_module(model_export, exported)["failed"]
    path = (
        tree_of(models_dir)
        / ("ollama.com" if "v2" in tree_of(models_dir).name else "registry.ollama.ai")
        / "library/tiny"
    )
    shutil.rmtree(path)
    path.symlink_to(world / "victim" / "library" / "tiny")
    give_to_service(models_dir)
    result = run_module(model, {**arguments, "name": "tiny", "source": str(bundle)})
    assert result["failure"]["code"] == "store_unsafe"
    assert f"{path} is a symbolic link" in result["msg"]


@pytest.mark.parametrize("module", [model, model_verify])
def test_h4_manifests_that_link_to_the_root_are_named(
    models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule, module: t.Any
) -> None:
    shutil.rmtree(tree_of(models_dir))
    for name in ("manifests", "manifests-v2"):
        (models_dir / name).symlink_to("/")
    give_to_service(models_dir)
    result = run_module(module, {**arguments, **({"name": "tiny"} if module is model else {})})
    assert result["failure"]["code"] == "store_unsafe"
    assert "is a symbolic link to /, which belongs to another account" in result["msg"]
    assert "remove the link" in result["msg"]


def test_trees_of_the_owner_on_another_disk_are_read(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule
) -> None:
    disk = world / "disk"
    disk.mkdir()
    for name in ("blobs", tree_of(models_dir).name):
        shutil.move(models_dir / name, disk / name)
        (models_dir / name).symlink_to(disk / name)
    for tag in disk.glob("manifests-v2/*/*/*/*"):
        # The relative links of the server lead into the directory beside the tree.
        assert tag.exists()
    give_to_service(disk)
    result = run_module(model_verify, arguments)
    assert not result["failed"], result
    assert "tiny:latest" in [row["name"] for row in result["models"]]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("_MAX_ENTRIES", "too many files; expected 20 or fewer"),
        ("_MAX_BLOBS", "too many blobs in manifests; expected 20 or fewer together"),
        ("_MAX_MANIFESTS", "manifests too large; expected 0 MiB or less together"),
    ],
)
def test_a_store_of_excessive_size_ends(
    models_dir: Path,
    arguments: dict[str, t.Any],
    run_module: RunModule,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    message: str,
) -> None:
    """Manifests of 4 MiB name 40 000 blobs each, of which every one takes memory, and a row where it is missing."""
    monkeypatch.setattr(f"ansible_collections.kaido.ollama.plugins.module_utils._store.files.{limit}", 20)
    name = tree_of(models_dir) / "host/a/b"
    name.mkdir(parents=True)
    layers = [{"digest": f"sha256:{number:064x}", "size": 1} for number in range(30)]
    (name / "latest").write_text(json.dumps({"layers": layers}))
    for number in range(20):
        (tree_of(models_dir) / f"host{number}").mkdir()
    give_to_service(models_dir)
    result = run_module(model_verify, arguments)
    assert result["failure"]["code"] == "store_unsafe"
    assert message in result["msg"]


def test_hash_threads_act_as_the_owner(
    world: Path, models_dir: Path, arguments: dict[str, t.Any], run_module: RunModule
) -> None:
    """Right content that only root can read, behind a link of the owner's, is no content for the owner's store."""
    shutil.move(models_dir / "blobs", world / "hidden")
    (models_dir / "blobs").symlink_to(world / "hidden")
    for item in (world / "hidden").iterdir():
        os.chown(item, 0, 0)
        item.chmod(0o600)
    os.chown(world / "hidden", 0, 0)
    (world / "hidden").chmod(0o755)
    result = run_module(model_verify, {**arguments, "mode": "full", "fail_on": []})
    assert result["models"]
    for row in result["models"]:
        assert row["problems"], row
        assert all("cannot be read" in text or "Permission denied" in text for text in row["problems"]), row


def test_a_sparse_blob_is_not_read(models_dir: Path) -> None:
    """Sixteen terabytes of zeros would keep a converge busy for hours."""
    store = Store(str(models_dir))
    entry = next(entry for entry in store.entries() if str(entry.name) == "tiny:latest")
    os.truncate(store.blob_path(entry.blobs[-1].digest), 1 << 40)
    blob = Blob(entry.blobs[-1].digest, 1 << 40)
    found = audit(store, [blob], Memory(str(models_dir / "none")))
    assert [damage.kind for damage in found.damage.values()] == ["content"]
    assert found.hashed_bytes == 0


@pytest.mark.parametrize("planted", ["link", "fifo", "linked directory"])
def test_a_build_reads_only_files_that_the_owner_of_the_file_can_read(
    world: Path, arguments: dict[str, t.Any], run_module: RunModule, planted: str
) -> None:
    """The server would be sent a file of root's as weights."""
    folder = world / "srv" / "weights"
    if planted == "linked directory":
        folder.symlink_to(world / "victim")
    else:
        folder.mkdir()
        if planted == "link":
            (folder / "latest").symlink_to(world / "victim" / "latest")
        else:
            os.mkfifo(folder / "latest")
    give_to_service(world / "srv")
    params = {**arguments, "name": "new", "from": str(folder / "latest"), "template": "x"}
    result = run_module(model_build, params)
    assert result["failure"]["code"] == "file_unreadable", result
    assert SECRET not in json.dumps(result)
