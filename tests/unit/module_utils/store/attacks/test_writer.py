# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on what the writer places in a store."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.module_utils._store.writer import StoreWriter

from tests.unit.module_utils.store.attacks.store import SERVICE, give_to_service


def put(store: Store, member: str, body: bytes = b"body") -> list[int]:
    with StoreWriter(store) as writer:
        return writer.put(member, io.BytesIO(body), hashlib.sha256(body).hexdigest())


def test_what_is_written_belongs_to_the_owner_of_the_store(models_dir: Path) -> None:
    member = "manifests/registry.ollama.ai/library/new/latest"
    fingerprint = put(Store(str(models_dir)), member)
    info = (models_dir / member).stat()
    assert (info.st_uid, info.st_mode & 0o777) == (SERVICE, 0o640)
    assert fingerprint == [info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev, info.st_ctime_ns]
    folder = (models_dir / member).parent.stat()
    assert (folder.st_uid, folder.st_mode & 0o777) == (SERVICE, 0o750)
    assert not [item for item in models_dir.iterdir() if item.name.startswith(".")]


@pytest.mark.parametrize(
    "part", ["registry.ollama.ai", "registry.ollama.ai/library", "registry.ollama.ai/library/tiny"]
)
def test_the_writer_follows_no_link_below_the_trees(world: Path, models_dir: Path, part: str) -> None:
    path = models_dir / "manifests" / part
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(world / "victim")
    give_to_service(models_dir)
    with pytest.raises(OllamaError, match="is a symbolic link; expected a directory of the model store") as caught:
        put(Store(str(models_dir)), "manifests/registry.ollama.ai/library/tiny/latest")
    assert caught.value.code == "store_unsafe"


@pytest.mark.parametrize("top", ["manifests", "manifests-v2", "blobs"])
def test_the_writer_reaches_through_a_linked_tree_only_what_the_owner_can_write(
    world: Path, models_dir: Path, top: str
) -> None:
    shutil.rmtree(models_dir / top, ignore_errors=True)
    (models_dir / top).symlink_to(world / "victim")
    with pytest.raises(PermissionError):
        put(Store(str(models_dir)), f"{top}/latest")


def test_blobs_on_another_disk_work(models_dir: Path, public_path: Path) -> None:
    disk = public_path / "blobs"
    shutil.copytree(models_dir / "blobs", disk)
    assert disk.stat().st_dev != models_dir.stat().st_dev
    shutil.rmtree(models_dir / "blobs")
    (models_dir / "blobs").symlink_to(disk)
    give_to_service(disk)
    put(Store(str(models_dir)), "blobs/sha256-new")
    assert (disk / "sha256-new").read_text() == "body"
    assert not [item for item in disk.iterdir() if item.name.startswith(".")]


def test_a_link_that_is_swapped_in_beside_a_staged_file_is_not_followed(world: Path, models_dir: Path) -> None:
    """The attacker replaces everything in the staging directory while the content is being copied."""
    body = b"body"

    class Source(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            for stage in models_dir.glob(".kaido-import-*"):
                for item in stage.iterdir():
                    item.unlink()
                    item.symlink_to(world / "victim" / "latest")
                    os.lchown(item, SERVICE, SERVICE)
            return super().read(size)

    with StoreWriter(Store(str(models_dir))) as writer:
        writer.put("blobs/sha256-new", Source(body), hashlib.sha256(body).hexdigest())
    assert (models_dir / "blobs" / "sha256-new").is_symlink()


def test_wrong_content_leaves_nothing(models_dir: Path) -> None:
    before = sorted(models_dir.rglob("*"))
    with StoreWriter(Store(str(models_dir))) as writer, pytest.raises(OllamaError, match="changed since"):
        writer.put("blobs/sha256-new", io.BytesIO(b"other"), "0" * 64)
    assert sorted(models_dir.rglob("*")) == before


def test_what_an_interrupted_run_left_is_removed(models_dir: Path) -> None:
    (models_dir / ".kaido-import-old").mkdir()
    (models_dir / ".kaido-import-old" / "file").write_text("half")
    (models_dir / ".kaido-import-link").symlink_to(models_dir.parent)
    give_to_service(models_dir)
    put(Store(str(models_dir)), "blobs/sha256-new")
    assert [item.name for item in models_dir.iterdir() if item.name.startswith(".")] == [".kaido-import-link"]
