# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on the export of a bundle: in the store and at the destination."""

from __future__ import annotations

import os
import shutil
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import acting_as
from ansible_collections.kaido.ollama.plugins.module_utils._models import bundle_writer
from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store

from tests.unit.module_utils.models.bundle.world import resum
from tests.unit.module_utils.models.bundle_attacks.host import PLACES, SECRET, SERVICE, Host, give, meanwhile, refused


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
@pytest.mark.parametrize("planted", ["link", "hard link", "fifo", "longer", "shorter"])
def test_a_blob_that_is_something_else(host: Host, planted: str, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H1: also where the store looked right a moment before; nothing of root's is ever in a file that others read."""
    blob = max((host.here / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    size = blob.stat().st_size
    host.secret.write_bytes(os.urandom(size))
    secret = host.secret.read_bytes()
    fill = bundle_writer._write_members

    def plant(*arguments: t.Any) -> None:
        if planted == "hard link":
            # Where the kernel does not protect hard links.
            blob.unlink()
            os.link(host.secret, blob)
        else:
            with acting_as(SERVICE):
                if planted in ("longer", "shorter"):
                    os.truncate(blob, size + (4096 if planted == "longer" else -4096))
                else:
                    blob.unlink()
                    blob.symlink_to(host.secret) if planted == "link" else os.mkfifo(blob)
        fill(*arguments)

    monkeypatch.setattr(bundle_writer, "_write_members", plant)
    result = host.export_to(dest)
    if planted == "longer":
        assert not result["failed"], "as many bytes as the manifest says are right"
    else:
        refused(result, "model_damaged")
        assert os.listdir(host.out) == []
    assert host.secret.read_bytes() == secret


@pytest.mark.parametrize("place", [*PLACES, "manifests/registry.ollama.ai/library/tiny/latest"])
def test_a_link_in_a_store_that_is_exported(host: Host, place: str) -> None:
    with acting_as(SERVICE):
        (host.here / place).rename(host.here / "aside")
        (host.here / place).symlink_to(host.victim if place != PLACES[-1] + "/latest" else host.secret)
    result = host.export_to("out/bundle.tar")
    if not result["failed"]:
        assert set(result["models"]) <= {"kaido/tiny2:q8"}
    shutil.rmtree(host.folder / "state", ignore_errors=True)
    for path in host.out.iterdir():
        assert SECRET[:100] not in path.read_bytes()
    host.untouched()


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_only_root_can_read_a_bundle_at_any_time(host: Host, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: set[tuple[bool, int]] = set()
    pour = bundle_writer._Hashing.read

    def watch(self: t.Any, size: int) -> bytes:
        [stage] = host.out.iterdir()
        modes.update((path.is_dir(), path.lstat().st_mode & 0o777) for path in (stage, *stage.rglob("*")))
        return pour(self, size)

    monkeypatch.setattr(bundle_writer._Hashing, "read", watch)
    before = os.umask(0)
    try:
        assert host.export_to(dest)["changed"]
    finally:
        os.umask(before)
    path = host.folder / dest
    modes.update((item.is_dir(), item.stat().st_mode & 0o777) for item in (path, *path.rglob("*")))
    assert modes == {(True, 0o700), (False, 0o600)}
    assert sorted(os.listdir(host.out)) == [path.name]


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
@pytest.mark.parametrize("planted", ["link", "dangling link", "part", "fifo"])
def test_a_planted_file_at_the_destination_of_a_bundle(host: Host, dest: str, planted: str) -> None:
    host.out.chmod(0o1777)
    path = host.folder / dest
    with acting_as(SERVICE):
        if planted == "part":
            Path(f"{path}.part").symlink_to(host.victim)
        elif planted == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(host.victim if planted == "link" else host.victim / "new")
    result = host.export_to(dest)
    if planted == "part":
        assert not result["failed"], result
    else:
        refused(result, "dest_taken")
    host.untouched()


def test_a_directory_whose_owner_renames_everything(host: Host) -> None:
    """An export into a directory of the service account: what it exchanges is not followed."""
    give(host.out)

    def swap() -> None:
        for item in host.out.glob(".kaido-export-*"):
            item.rename(host.out / "aside")
            item.symlink_to(host.victim)
            item.unlink()
            (host.out / "aside").rename(item)

    with meanwhile(swap):
        for number in range(8):
            result = host.export_to(f"out/bundle{number}{'.tar' if number % 2 else ''}")
            if result["failed"]:
                refused(result, "dest_unwritable", "dest_taken")
            host.untouched()


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_leftovers_of_a_killed_run_go(host: Host, dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(bundle_writer._Stage, "move_to", kill)
        patch.setattr(bundle_writer._Stage, "__exit__", lambda *_arguments: None)
        with pytest.raises(Killed):
            host.export_to(dest)
    [left] = os.listdir(host.out)
    planted = host.out / (left[:-4] + "theirs")
    planted.mkdir()
    (planted / "file").write_text("theirs")
    give(planted)
    assert host.export_to(dest)["changed"]
    assert sorted(os.listdir(host.out)) == sorted([planted.name, Path(dest).name])


@pytest.mark.parametrize("dest", ["out/bundle", "out/bundle.tar"])
def test_two_exports_to_one_place(host: Host, dest: str) -> None:
    """Both end well, one of them has written it, and it is complete."""
    store = Store(str(host.here))
    written: list[bool] = []
    go = threading.Barrier(4)

    def work() -> None:
        export = bundle_writer.collect(store, [], {})
        go.wait()
        path = str(host.folder / dest)
        written.append(
            bundle_writer.write(export, path, tar=dest.endswith(".tar"), state_dir=str(host.folder / "state"))
        )

    threads = [threading.Thread(target=work) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [False, False, False, True]
    assert os.listdir(host.out) == [Path(dest).name]
    assert host.import_from(dest)["changed"]


@pytest.mark.parametrize("more", ["letter", "blobs/letter", "manifests/letter", "releases/v1.2.3/x/letter"])
def test_a_directory_with_more_than_a_bundle_is_not_replaced(host: Host, more: str) -> None:
    host.export_to("out/bundle")
    letter = host.out / "bundle" / more
    letter.parent.mkdir(parents=True, exist_ok=True)
    letter.write_text("dear")
    resum(host.out / "bundle")
    refused(host.export_to("out/bundle", models=["tiny"]), "dest_taken")
    assert letter.read_text() == "dear"


def test_a_directory_that_is_exchanged_for_one_of_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the folder can rename what root has there; none of it is emptied."""
    give(host.out)
    kept = host.out / "kept"
    kept.mkdir()
    (kept / "letter").write_text("dear")
    real = os.mkdir

    def mkdir(path: t.Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        if str(path).startswith(".kaido-export-"):
            (host.out / path).rmdir()
            kept.rename(host.out / path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    refused(host.export_to("out/bundle"), "dest_unwritable")
    [left] = host.out.iterdir()
    assert (left / "letter").read_text() == "dear"
