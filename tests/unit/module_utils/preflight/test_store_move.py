# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store moves with all of its models: linked or copied, continued after an interruption, and never as root."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity
from ansible_collections.kaido.ollama.plugins.module_utils._preflight import store_move
from ansible_collections.kaido.ollama.plugins.modules import store_move as module

from tests.unit.conftest import RunModule
from tests.unit.modules.preflight.hosts import CONVERGED, WANTED, examine, refusal

SERVICE = Identity(64101, 64101)
TAG = "manifests/registry.ollama.ai/library/tiny/latest"


def blob(content: bytes) -> str:
    return f"blobs/sha256-{hashlib.sha256(content).hexdigest()}"


class Stores:
    """Two directories of the service account."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.target = source, target
        for path in (source, target):
            path.mkdir()
        for content in (b"weights" * 1000, b"config"):
            self.write(blob(content), content)
        self.write(TAG, b'{"layers": []}')
        self.own()

    def write(self, name: str, content: bytes, store: Path | None = None) -> Path:
        path = (store or self.source) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.own()
        return path

    def own(self) -> None:
        for top in (self.source, self.target):
            for path in (top, *top.rglob("*")):
                os.chown(path, SERVICE.uid, SERVICE.gid, follow_symlinks=False)

    def names(self, store: Path) -> dict[str, bytes]:
        return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}

    def fill(self, **options: t.Any) -> store_move.Filled:
        return store_move.fill(str(self.source), str(self.target), **options)

    def find(self, used: str | None = None, root: str = "/") -> store_move.StoreMove | None:
        return store_move.find({"OLLAMA_MODELS": used or str(self.source)}, str(self.target), root)


@pytest.fixture(name="linked")
def linked_stores(public_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """Both on one file system."""
    monkeypatch.setattr(store_move, "STATE_PATH", str(public_path / "state" / "store-move.json"))
    return Stores(public_path / "old", public_path / "new")


@pytest.fixture(name="copied")
def copied_stores(public_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Stores]:
    """On two file systems."""
    monkeypatch.setattr(store_move, "STATE_PATH", str(public_path / "state" / "store-move.json"))
    other = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="kaido-"))
    other.chmod(0o755)
    assert other.stat().st_dev != public_path.stat().st_dev
    yield Stores(public_path / "old", other / "new")
    shutil.rmtree(other)


@pytest.fixture(name="stores", params=["linked", "copied"])
def any_stores(request: pytest.FixtureRequest) -> Stores:
    stores: Stores = request.getfixturevalue(request.param)
    return stores


# The backup of manifests


def test_manifests_are_backed_up_once(linked: Stores, public_path: Path, run_module: RunModule) -> None:
    target = public_path / "state/backup"
    given = {"source": str(linked.source), "target": str(target), "step": "backup"}
    before = linked.names(linked.source)
    assert run_module(module, given, check=True)["changed"]
    assert not target.exists()
    assert run_module(module, given)["files"] == 1
    assert linked.names(target) == {TAG: before[TAG]}
    assert ((target / TAG).stat().st_uid, (target / TAG).stat().st_mode & 0o777) == (0, 0o600)
    assert {path.stat().st_mode & 0o777 for path in (target.parent, target, (target / TAG).parent)} == {0o700}
    assert not run_module(module, given)["changed"]
    assert linked.names(linked.source) == before


def test_a_backup_has_nothing_but_manifests(linked: Stores, public_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account plants links to root's files, FIFOs, and files that fill the disk of root."""
    secret = public_path / "secret"
    secret.write_text("xyzzy")
    secret.chmod(0o600)
    folder = (linked.source / TAG).parent
    (folder / "link").symlink_to(secret)
    os.mkfifo(folder / "fifo")
    os.truncate(linked.write(f"{TAG}-sparse", b""), 1 << 40)
    (folder.parent / "outside").symlink_to(public_path)
    linked.own()
    target = public_path / "backup"
    assert store_move.back_up(str(linked.source), str(target)) == 1
    assert set(linked.names(target)) == {TAG}
    monkeypatch.setattr(store_move, "_MAX_BACKUP", 10)
    with pytest.raises(OllamaError, match="manifests too large") as caught:
        store_move.back_up(str(linked.source), str(target))
    assert caught.value.code == "store_unsafe"


def test_all_files_move_and_the_source_goes(stores: Stores) -> None:
    before = stores.names(stores.source)
    stores.fill()
    assert stores.names(stores.source) == before, "the server continues to use it"
    filled = stores.fill(partial=True)
    assert filled.files == 0
    store_move.switch(str(stores.source), str(stores.target), filled.damaged)
    removed, kept = store_move.finish(str(stores.source), str(stores.target))
    assert (removed, kept) == (len(before), [])
    assert stores.names(stores.target) == before
    assert not stores.source.exists()
    assert {path.stat().st_uid for path in stores.target.rglob("*")} == {SERVICE.uid}
    assert stores.find(used=str(stores.target)) is None, "a converged host has nothing to move"


def test_one_file_system_needs_no_copies(linked: Stores) -> None:
    assert linked.fill().copied == 0
    name = blob(b"config")
    assert (linked.source / name).stat().st_ino == (linked.target / name).stat().st_ino


def test_what_was_added_meanwhile_moves_too(stores: Stores) -> None:
    stores.fill()
    stores.write(blob(b"late"), b"late")
    stores.write(TAG, b'{"layers": [1]}')
    stores.write("blobs/sha256-" + "ab" * 32 + "-partial", b"half")
    assert stores.fill(partial=True).files >= 2
    assert stores.names(stores.target) == stores.names(stores.source)


def test_an_interrupted_copy_is_continued(copied: Stores) -> None:
    content = os.urandom(3 << 20)
    copied.write(blob(content), content)
    copied.write(blob(content) + ".tmp", content[: 1 << 20], copied.target)
    sizes = sum(len(data) for data in copied.names(copied.source).values())
    assert copied.fill().copied == sizes - (1 << 20)
    assert (copied.target / blob(content)).read_bytes() == content
    assert not list(copied.target.rglob("*.tmp"))


def test_an_interrupted_copy_of_something_else_is_started_again(copied: Stores) -> None:
    copied.write(blob(b"config") + ".tmp", b"x", copied.target)
    copied.fill()
    assert (copied.target / blob(b"config")).read_bytes() == b"config"


def test_a_damaged_blob_stays_where_it_is(copied: Stores) -> None:
    copied.write(blob(b"config"), b"garbage")
    filled = copied.fill(partial=True)
    assert filled.damaged == (blob(b"config"),)
    store_move.switch(str(copied.source), str(copied.target), filled.damaged)
    _removed, kept = store_move.finish(str(copied.source), str(copied.target))
    assert kept == [str(copied.source / blob(b"config"))]
    assert copied.names(copied.source) == {blob(b"config"): b"garbage"}
    assert copied.find(used=str(copied.target)) is None, "it does not make every run try again"


def test_nothing_is_removed_before_the_switch(stores: Stores) -> None:
    stores.fill()
    with pytest.raises(OllamaError) as caught:
        store_move.finish(str(stores.source), str(stores.target))
    assert caught.value.code == "store_move_incomplete"
    assert len(stores.names(stores.source)) == 3


def test_a_run_that_was_killed_after_the_switch_is_finished(stores: Stores) -> None:
    stores.fill(partial=True)
    store_move.switch(str(stores.source), str(stores.target), ())
    move = stores.find(used=str(stores.target))
    assert move is not None
    assert (move.switched, move.source) == (True, str(stores.source))
    assert "are removed" in move.reason
    # The server was started with the previous directory again: all steps are repeated.
    again = stores.find()
    assert again is not None
    assert not again.switched


def test_a_move_is_predicted(stores: Stores) -> None:
    move = stores.find()
    assert move is not None
    assert (move.files, move.switched) == (3, False)
    assert f"from {stores.source} to {stores.target}" in move.reason
    same = stores.source.stat().st_dev == stores.target.stat().st_dev
    assert (move.missing == 0) == same


def test_a_store_that_its_owner_cannot_reach_is_named(stores: Stores) -> None:
    closed = stores.source.parent / "closed"
    closed.mkdir()
    stores.source.rename(closed / "old")
    closed.chmod(0o700)
    with pytest.raises(OllamaError) as caught:
        stores.find(used=str(closed / "old"))
    assert caught.value.code == "store_unreadable"
    assert caught.value.message.startswith(f"{closed}/old: its owner cannot read the current store ({closed}/old/")
    closed.chmod(0o711)
    assert stores.find(used=str(closed / "old"))


def test_other_hosts_have_nothing_to_move(linked: Stores, public_path: Path) -> None:
    assert store_move.find(None, str(linked.target)) is None
    assert linked.find(used=str(linked.target)) is None
    assert linked.find(used=str(public_path / "missing")) is None
    (public_path / "alias").symlink_to(linked.target)
    assert linked.find(used=str(public_path / "alias")) is None
    shutil.rmtree(linked.source / "blobs")
    shutil.rmtree(linked.source / "manifests")
    assert linked.find() is None


def test_preflight_adds_the_step_and_refuses_a_full_disk() -> None:
    move = store_move.StoreMove("/old", "/new", files=3, bytes=5_000_000_000, missing=5_000_000_000, free=9 << 30)
    steps = examine(WANTED, replace(CONVERGED, move=move))
    assert list(steps) == ["move"]
    assert "3 files with 5.0 GB move from /old to /new" in steps["move"]
    error = refusal(WANTED, replace(CONVERGED, move=replace(move, free=1 << 30)))
    assert error.code == "disk_full"
    assert error.message.startswith("ollama_models_dir: invalid value '/new'; expected a file system with 5.0 GB free")


@pytest.mark.parametrize("place", ["new", "blobs-2", "new/manifests", ".."])
def test_a_store_moves_into_or_out_of_itself(linked: Stores, place: str) -> None:
    target = (linked.source / place).resolve()
    target.mkdir(parents=True, exist_ok=True)
    before = linked.names(linked.source)
    linked.own()
    assert store_move.find({"OLLAMA_MODELS": str(linked.source)}, str(target)) is not None
    os.chown(target, SERVICE.uid, SERVICE.gid)
    filled = store_move.fill(str(linked.source), str(target))
    store_move.switch(str(linked.source), str(target), filled.damaged)
    assert store_move.finish(str(linked.source), str(target)) == (3, [])
    assert linked.names(target) == before
    assert linked.source.exists() == (place != "..")


@pytest.mark.parametrize("place", ["blobs", "blobs/new", "manifests/registry.ollama.ai/new", "manifests-v2/x"])
@pytest.mark.parametrize("through_link", [False, True])
def test_a_store_does_not_move_among_its_own_files(linked: Stores, place: str, through_link: bool) -> None:
    """finish would take the new files for models of the old store, and remove them."""
    target = linked.source / place
    if through_link:
        target.parent.mkdir(parents=True, exist_ok=True)
        (linked.target / "link").symlink_to(target.parent)
        target = linked.target / "link" / target.name
    with pytest.raises(OllamaError, match="expected a directory outside of") as caught:
        store_move.find({"OLLAMA_MODELS": str(linked.source)}, str(target))
    assert caught.value.code == "value_invalid"


@pytest.fixture(name="disk")
def other_disk() -> t.Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="kaido-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("end", ["source", "target"])
def test_blobs_on_another_disk_are_copied_and_counted(linked: Stores, disk: Path, end: str) -> None:
    """An administrator's link in either store: what it leads to decides, not the directory of the store."""
    store = linked.source if end == "source" else linked.target
    names = linked.names(linked.source)
    for path in (linked.source / "blobs").iterdir() if end == "source" else ():
        shutil.move(str(path), disk)
    shutil.rmtree(store / "blobs", ignore_errors=True)
    (store / "blobs").symlink_to(disk)
    for path in (disk, *disk.iterdir()):
        os.chown(path, SERVICE.uid, SERVICE.gid)
    move = linked.find()
    assert move is not None
    assert move.missing == sum(len(content) for name, content in names.items() if name.startswith("blobs/"))
    assert linked.fill().copied == move.missing
    found = linked.names(linked.target) | {
        f"blobs/{p.name}": p.read_bytes() for p in (linked.target / "blobs").iterdir()
    }
    assert found == names


def test_a_disk_that_is_full_in_the_middle_loses_nothing(copied: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls, fsync = copied.names(copied.source), [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        copied.fill()
    assert copied.names(copied.source) == before
    assert copied.fill().files == 2
    assert copied.names(copied.target) == before


def test_root_follows_no_link_of_the_account(linked: Stores, public_path: Path) -> None:
    secret = public_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "latest").write_text("root's")
    folder = linked.source / TAG
    shutil.rmtree(folder.parent)
    folder.parent.symlink_to(secret)
    linked.own()
    linked.fill(partial=True)
    assert not (linked.target / TAG).exists()
    store_move.switch(str(linked.source), str(linked.target), ())
    store_move.finish(str(linked.source), str(linked.target))
    assert (secret / "latest").read_text() == "root's"


def test_directories_of_different_accounts_are_refused(linked: Stores) -> None:
    for path in (linked.target, *linked.target.rglob("*")):
        os.chown(path, 64102, 64102)
    with pytest.raises(OllamaError) as caught:
        linked.fill()
    assert caught.value.code == "store_unsafe"


def test_the_module(stores: Stores, run_module: RunModule) -> None:
    arguments = {"source": f"{stores.source}/", "target": str(stores.target)}
    assert run_module(module, {**arguments, "step": "fill"}, check=True)["changed"]
    assert stores.names(stores.target) == {}
    assert run_module(module, {**arguments, "step": "fill"})["files"] == 3
    assert not run_module(module, {**arguments, "step": "switch"})["changed"]
    assert json.loads(Path(store_move.STATE_PATH).read_text())["target"] == str(stores.target)
    assert run_module(module, {**arguments, "step": "finish"})["files"] == 3
    assert not Path(store_move.STATE_PATH).exists()
